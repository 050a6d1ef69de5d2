/**
 * One attempt, one commit: whatever the tools left in the worktree becomes a single commit on top of
 * the base, with the trailers that make everything after it idempotent.
 *
 * C1: built from the files, through an index of its own; what tools did to branches, HEAD or the
 *     index does not matter.
 * C2: nothing is committed when a changed path is not owned, or is a link or a nested repository.
 * C4: nothing is committed that does not parse, as far as somebody here can parse it.
 * C5: files that git itself refuses, such as for an encoding that .gitattributes claims they have, are
 *     the answer's fault, told in git's words.
 * C3: the same files give the same commit: repeating is answered with what is there.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CodeGodError } from '../../../protocol/errors.ts';
import { pathsOutside } from '../../../protocol/owned-paths.ts';
import type { CommitReply, CommitRequest } from '../../../protocol/workspace.ts';
import { type AttemptTrailers, attemptMessage } from '../trailers.ts';
import { type Git, GitFailure, type GitPlace } from './git.ts';
import { moveRef, readCommit, resolveRef } from './git-refs.ts';
import type { CheckSyntax } from './syntax-check.ts';
import { type AttemptNames, attemptPlace, type Project } from './workspace-place.ts';

export const FILE_MODES = new Set(['100644', '100755', '000000']);
const LISTED_MAX = 50;

export interface Change {
  readonly path: string;
  readonly mode: string;
}

export interface CommitOptions {
  readonly request: CommitRequest;
  readonly checkSyntax: CheckSyntax;
}

/**
 * @throws CodeGodError `answer_invalid` for files that do not parse or that git refuses, `not_found` without an open worktree, `outside_owned`, `denied` for a link,
 *   `nothing_changed`, `disk_full`; each is handled by the worker.
 */
export async function commitAttempt(
  git: Git,
  project: Project,
  names: AttemptNames,
  { request, checkSyntax }: CommitOptions,
): Promise<CommitReply> {
  const base = await resolveRef(git, project.bare, names.base);
  if (base === null) {
    throw new CodeGodError('not_found', `attempt ${names.leaf} has no worktree`, {
      hint: 'open the attempt first',
    });
  }
  const tree = await treeOfFiles(git, project, names, base);
  const changes = await changesBetween(git, project.bare, base, tree);
  refuseForeign(changes, request.owns);
  const files = changes.map(change => change.path);
  const trailers = { ...request, model: request.model };
  const present = await presentCommit(git, project.bare, { names, base, tree, trailers });
  const { error, unchecked } =
    present === null
      ? await checkSyntax(plainPaths(changes), folder =>
          exportPaths(git, project, { tree, paths: plainPaths(changes), folder }),
        )
      : PARSED;
  if (error !== null) throw new CodeGodError('answer_invalid', `does not parse:\n${error}`); // C4
  const commit = present ?? (await newCommit(git, project.bare, { base, tree, request }));
  if (present === null) {
    const from = await resolveRef(git, project.bare, names.branch);
    await moveRef(git, project.bare, names.branch, { from, to: commit });
  }
  await settleWorktree(git, attemptPlace(project, names), names);
  const named = unchecked.slice(0, LISTED_MAX);
  return named.length === 0 ? { commit, files } : { commit, files, unchecked: named };
}

const PARSED = { error: null, broken: [], unchecked: [] } as const;
const DELETED = '000000';

export const plainPaths = (changes: readonly Change[]): string[] =>
  changes.filter(change => change.mode !== DELETED).map(change => change.path);

interface Export {
  readonly tree: string;
  readonly paths: readonly string[];
  readonly folder: string;
}

/** The given files of a tree, and its package.json files: they say what kind of module a file is. */
export async function exportPaths(git: Git, project: Project, { tree, paths, folder }: Export) {
  const indexFile = `${folder}.index`;
  const place = { gitDir: project.bare.gitDir, workTree: folder, indexFile };
  try {
    await git.run(place, ['read-tree', tree]);
    const manifests = await git.text(place, ['ls-files', '-z', '--', '*package.json']);
    const wanted = new Set([...paths, ...manifests.split('\0').filter(isManifest).slice(0, 64)]);
    const input = [...wanted].map(path => `${path}\0`).join('');
    const args = ['checkout-index', '--quiet', '--force', '-z', '--stdin'];
    await git.run(place, args, { input });
  } finally {
    await rm(indexFile, { force: true });
  }
}

const isManifest = (path: string): boolean => /(?:^|\/)package\.json$/.test(path);

export async function treeOfFiles(git: Git, project: Project, names: AttemptNames, base: string) {
  const indexFile = join(project.bare.gitDir, 'worktrees', names.leaf, 'codegod-index');
  await rm(indexFile, { force: true });
  await rm(`${indexFile}.lock`, { force: true });
  const place: GitPlace = { ...attemptPlace(project, names), indexFile };
  try {
    await git.run(place, ['read-tree', base]);
    await git.run(place, ['add', '--all', '--', '.']).catch((error: unknown) => {
      throw refusedByGit(error, names.path) ?? error;
    });
    return await git.text(place, ['write-tree']);
  } finally {
    await rm(indexFile, { force: true });
  }
}

/** What git says of files, and never of its own store or of the machine. */
const OF_FILES =
  /encod|byte order mark|invalid path|commit checked out|name too long|adding files failed/i;
const OF_THE_MACHINE = /permission|unable to (write|create)|corrupt|bad object|no space|quota/i;
const GIT_WORDS_MAX = 1_000;

/** C5; null where it is no refusal of what was written. */
function refusedByGit(error: unknown, folder: string): CodeGodError | null {
  if (!(error instanceof GitFailure)) return null;
  const { stderr } = error;
  if (!OF_FILES.test(stderr) || OF_THE_MACHINE.test(stderr)) return null;
  const lines = stderr.split('\n').map(line => line.trim().replaceAll(`${folder}/`, ''));
  const words = [...new Set(lines)].filter(line => /^(fatal|error): /.test(line)).join('; ');
  const advice = /encod|byte order/i.test(stderr)
    ? '\nLeave `working-tree-encoding` out of .gitattributes: all files are UTF-8.'
    : '';
  const message = `cannot be committed: git says ${words.slice(0, GIT_WORDS_MAX)}${advice}`;
  return new CodeGodError('answer_invalid', message, { cause: error });
}

export async function changesBetween(git: Git, place: GitPlace, base: string, tree: string) {
  const args = ['diff-tree', '-r', '-z', '--raw', '--no-renames', base, tree];
  const fields = (await git.text(place, args)).split('\0');
  const changes: Change[] = [];
  for (let index = 0; index + 1 < fields.length; index += 2) {
    const mode = fields[index]?.split(' ')[1] ?? '';
    changes.push({ mode, path: fields[index + 1] ?? '' });
  }
  return changes;
}

function refuseForeign(changes: readonly Change[], owns: readonly string[]): void {
  if (changes.length === 0) {
    throw new CodeGodError('nothing_changed', 'the attempt changed no file', {
      hint: 'write at least one of the owned files; what .gitignore names does not count',
    });
  }
  const paths = changes.map(change => change.path);
  const outside = pathsOutside(paths, owns); // C2
  if (outside.length > 0) {
    const named = outside.slice(0, LISTED_MAX).join(', ');
    throw new CodeGodError('outside_owned', `the task does not own ${named}`, {
      hint: `it owns ${owns.slice(0, LISTED_MAX).join(', ')}`,
      details: { paths: outside.slice(0, LISTED_MAX), owns: owns.slice(0, LISTED_MAX) },
    });
  }
  const odd = changes.filter(change => !FILE_MODES.has(change.mode)).map(change => change.path);
  if (odd.length > 0) {
    throw new CodeGodError('denied', `not a plain file: ${odd.slice(0, LISTED_MAX).join(', ')}`);
  }
}

interface Wanted {
  readonly names: AttemptNames;
  readonly base: string;
  readonly tree: string;
  readonly trailers: AttemptTrailers;
}

/** C3: the commit on the attempt's branch, if it is the one that would be made. */
async function presentCommit(git: Git, place: GitPlace, wanted: Wanted): Promise<string | null> {
  const tip = await resolveRef(git, place, wanted.names.branch);
  if (tip === null) return null;
  const { tree, parents, trailers } = await readCommit(git, place, tip);
  const same =
    tree === wanted.tree &&
    parents.length === 1 &&
    parents[0] === wanted.base &&
    trailers?.build === wanted.trailers.build &&
    trailers.task === wanted.trailers.task &&
    trailers.attempt === wanted.trailers.attempt;
  return same ? tip : null;
}

async function newCommit(
  git: Git,
  place: GitPlace,
  wanted: { readonly base: string; readonly tree: string; readonly request: CommitRequest },
): Promise<string> {
  const { base, tree, request } = wanted;
  const input = attemptMessage(request.title, request);
  return git.text(place, ['commit-tree', '-p', base, '-F', '-', tree], { input });
}

/** Lets HEAD and the index of the worktree agree with the commit; may be repeated at any time. */
async function settleWorktree(git: Git, place: GitPlace, names: AttemptNames): Promise<void> {
  await git.run(place, ['symbolic-ref', 'HEAD', names.branch]);
  await git.run(place, ['read-tree', '--reset', names.branch]);
}
