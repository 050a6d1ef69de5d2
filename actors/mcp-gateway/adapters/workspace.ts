/**
 * The projects on this machine's disk: one git repository per build, one worktree per attempt.
 *
 * W1: one request at a time per build; builds do not wait for each other.
 * W2: every request may be repeated, also after a kill in its middle: it ends in the same state.
 * W3: what is half made lies under a name that nobody looks for until it is whole.
 */
import { mkdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CodeGodError } from '../../../protocol/errors.ts';
import { buildKey, type StampedBuild } from '../../../protocol/ids.ts';
import type {
  CommitReply,
  CommitRequest,
  CreateWorkspaceReply,
  CreateWorkspaceRequest,
  MergeReply,
  MergeRequest,
  OpenAttemptReply,
  OpenAttemptRequest,
  ReadFilesReply,
  ReadFilesRequest,
} from '../../../protocol/workspace.ts';
import { removeTree } from '../../../runtime/remove-tree.ts';
import { createKeyedQueue } from '../keyed-queue.ts';
import { isErrno, onDisk } from './disk.ts';
import type { Git } from './git.ts';
import { moveRef, resolveRef } from './git-refs.ts';
import type { CheckSyntax } from './syntax-check.ts';
import { type Archive, archiveProject } from './workspace-archive.ts';
import { commitAttempt } from './workspace-commit.ts';
import { SHOWN, showMain } from './workspace-folder.ts';
import { mergeAttempt } from './workspace-merge.ts';
import {
  type AttemptNames,
  attemptNames,
  attemptPlace,
  foldersOf,
  freeFolder,
  KEPT,
  MAIN,
  markProject,
  type Project,
  projectAt,
  projectFinder,
  type WorkspaceRoots,
  worktreesOf,
} from './workspace-place.ts';
import { readWorktree } from './workspace-read.ts';
import { tidyWorktree } from './workspace-tidy.ts';

export interface Workspaces {
  create(request: CreateWorkspaceRequest): Promise<CreateWorkspaceReply>;
  open(request: OpenAttemptRequest): Promise<OpenAttemptReply>;
  read(request: ReadFilesRequest): Promise<ReadFilesReply>;
  commit(request: CommitRequest): Promise<CommitReply>;
  merge(request: MergeRequest): Promise<MergeReply>;
  /** Writes the files of main into `target`, an existing empty folder; answers main's commit. */
  checkout(build: StampedBuild, target: string): Promise<string>;
  /** A tar.gz of a clean clone in the scratch folder; the caller removes it. */
  archive(build: StampedBuild): Promise<Archive>;
  /** Removes all attempts of a build, in its turn; `around` says whether, and what goes with them. */
  finish(build: StampedBuild, around?: (drop: () => Promise<void>) => Promise<void>): Promise<void>;
  /** The names of what has worktrees. */
  kept(): Promise<readonly string[]>;
  /** Forgets a build altogether, its project included. */
  remove(build: StampedBuild): Promise<void>;
  /** The open worktree of an attempt, or null. */
  worktree(request: OpenAttemptRequest): Promise<string | null>;
}

export function createWorkspaces(
  git: Git,
  roots: WorkspaceRoots,
  checkSyntax: CheckSyntax = parsesNothing,
): Workspaces {
  const queue = createKeyedQueue(); // W1
  const find = projectFinder(git, roots);
  const inTurn = <T>(build: StampedBuild, what: string, turn: () => Promise<T>): Promise<T> =>
    queue.run(buildKey(build), () => onDisk(what, turn));
  const withProject = <T>(
    build: StampedBuild,
    what: string,
    turn: (project: Project) => Promise<T>,
  ) =>
    inTurn(build, what, async () => {
      const project = await find(build);
      if (project !== null) return await turn(project);
      throw new CodeGodError('not_found', `there is no workspace for ${build.build}`);
    });
  return {
    create: request =>
      inTurn(request, 'creating a workspace', async () => {
        const present = await find(request);
        if (present === null) return await createProject(git, roots, request);
        return { path: present.path, head: await headOf(git, present) };
      }),
    open: request =>
      withProject(request, 'opening a worktree', project =>
        openForTurn(git, project, { names: attemptNames(roots, request), request, checkSyntax }),
      ),
    read: request =>
      withProject(request, 'reading files', async project => {
        const names = await requireOpen(git, project, attemptNames(roots, request));
        return readWorktree(names.path, request.paths, request.bytes_max);
      }),
    commit: request =>
      withProject(request, 'committing', project =>
        commitAttempt(git, project, attemptNames(roots, request), { request, checkSyntax }),
      ),
    merge: request =>
      withProject(request, 'merging', project =>
        mergeAttempt(git, project, attemptNames(roots, request), request),
      ),
    checkout: (build, target) =>
      withProject(build, 'checking out', project => exportMain(git, project, target)),
    archive: build =>
      withProject(build, 'archiving', project => archiveProject(git, roots, project)),
    finish: (build, around = drop => drop()) =>
      inTurn(build, 'finishing', () =>
        around(async () => dropAttempts(git, roots, await find(build), build)),
      ),
    kept: () => foldersOf(roots.worktrees),
    remove: build =>
      inTurn(build, 'removing a workspace', async () =>
        removeProject(roots, build, await find(build)),
      ),
    async worktree(request) {
      const project = await find(request);
      const names = attemptNames(roots, request);
      if (project === null || !(await isOpen(git, project, names))) return null;
      return names.path;
    },
  };
}

const parsesNothing: CheckSyntax = async () => ({ error: null, broken: [], unchecked: [] });

async function createProject(
  git: Git,
  roots: WorkspaceRoots,
  request: CreateWorkspaceRequest,
): Promise<CreateWorkspaceReply> {
  const half = join(roots.scratch, `create-${buildKey(request)}`); // W3
  const whole = await freeFolder(roots, request.name, request);
  await removeTree(half);
  await mkdir(half, { recursive: true });
  await mkdir(roots.projects, { recursive: true });
  const project = projectAt(half);
  await git.run(null, ['init', '--quiet', '--template=', '--initial-branch=main', half]);
  const tree = await git.text(project.bare, ['mktree'], { input: '' });
  const head = await git.text(project.bare, ['commit-tree', '-F', '-', tree], {
    input: `Start ${request.name}\n\nBuild: ${request.build}\n`,
  });
  await moveRef(git, project.bare, MAIN, { from: null, to: head });
  await git.run(project.checkout, ['read-tree', head]);
  await markProject(git, project, request);
  await rename(half, whole);
  return { path: whole, head };
}

async function headOf(git: Git, project: Project): Promise<string> {
  const head = await resolveRef(git, project.bare, MAIN);
  if (head === null) throw new CodeGodError('internal', `${project.path} has no main branch`);
  return head;
}

async function openAttempt(
  git: Git,
  project: Project,
  names: AttemptNames,
): Promise<OpenAttemptReply> {
  const opened = await resolveRef(git, project.bare, names.base);
  if (opened !== null) return { path: names.path, base: opened };
  // Whatever a kill left of this worktree goes first: without its base reference it is not whole.
  await removeWorktree(project, names);
  const base = await headOf(git, project);
  await addWorktree(git, project, names, base);
  await moveRef(git, project.bare, names.base, { from: null, to: base }); // W3
  return { path: names.path, base };
}

async function addWorktree(git: Git, project: Project, names: AttemptNames, base: string) {
  await mkdir(join(names.path, '..'), { recursive: true });
  const branch = names.branch.slice('refs/heads/'.length);
  await git.run(project.checkout, [
    ...['worktree', 'add', '--quiet', '--force', '-B', branch],
    ...[names.path, base],
  ]);
}

interface Turn {
  readonly names: AttemptNames;
  readonly request: OpenAttemptRequest;
  readonly checkSyntax: CheckSyntax;
}

async function openForTurn(git: Git, project: Project, turn: Turn): Promise<OpenAttemptReply> {
  const { names, request, checkSyntax } = turn;
  const opened = await openAttempt(git, project, names);
  if (request.turn === undefined || request.turn < 2) return opened;
  const { base } = opened;
  await tidyWorktree(git, project, names, {
    ...{ base, checkSyntax, turn: request.turn, owns: request.owns ?? [] },
    remake: async () => {
      await removeWorktree(project, names);
      await addWorktree(git, project, names, base);
    },
  });
  return opened;
}

async function isOpen(git: Git, project: Project, names: AttemptNames): Promise<boolean> {
  return (await resolveRef(git, project.bare, names.base)) !== null;
}

async function requireOpen(git: Git, project: Project, names: AttemptNames): Promise<AttemptNames> {
  if (await isOpen(git, project, names)) return names;
  throw new CodeGodError('not_found', `attempt ${names.leaf} has no worktree`, {
    hint: 'open the attempt first',
  });
}

async function removeWorktree(project: Project, names: AttemptNames): Promise<void> {
  await removeTree(names.path);
  await removeTree(attemptPlace(project, names).gitDir);
}

async function exportMain(git: Git, project: Project, target: string): Promise<string> {
  const head = await headOf(git, project);
  const indexFile = `${target}.index`;
  const place = { gitDir: project.bare.gitDir, workTree: target, indexFile };
  try {
    await git.run(place, ['read-tree', head]);
    await git.run(place, ['checkout-index', '--all', '--quiet', '--force']);
  } finally {
    await rm(indexFile, { force: true });
  }
  return head;
}

/** The worktrees go last: as long as they are there, it is known that there is something to drop. */
async function dropAttempts(
  git: Git,
  roots: WorkspaceRoots,
  project: Project | null,
  build: StampedBuild,
) {
  const worktrees = worktreesOf(roots, build);
  if (project !== null) {
    await dropReferences(git, project);
    await removeAdministration(project, worktrees);
  }
  await removeTree(worktrees);
  // A person may have moved the project away, or removed it.
  if (project !== null) await showMain(git, project);
}

async function dropReferences(git: Git, project: Project): Promise<void> {
  const args = ['for-each-ref', '--format=%(refname)', 'refs/codegod', 'refs/heads/attempt'];
  const listed = (await git.text(project.bare, args)).split('\n');
  const doomed = listed.filter(ref => ref !== '' && ref !== SHOWN && !ref.startsWith(KEPT));
  const input = doomed.map(ref => `delete ${ref}\n`).join('');
  await git.run(project.bare, ['update-ref', '--stdin'], { input });
}

/** What git notes of the worktrees of attempts; those of a person lie elsewhere. */
async function removeAdministration(project: Project, worktrees: string): Promise<void> {
  const folder = join(project.bare.gitDir, 'worktrees');
  for (const name of await foldersOf(folder)) {
    const place = await readFile(join(folder, name, 'gitdir'), 'utf8').catch((error: unknown) => {
      // Half made by a git that was killed.
      if (isErrno(error, 'ENOENT')) return worktrees;
      throw error;
    });
    if (place.startsWith(worktrees)) await removeTree(join(folder, name));
  }
}

async function removeProject(
  roots: WorkspaceRoots,
  build: StampedBuild,
  project: Project | null,
): Promise<void> {
  await removeTree(worktreesOf(roots, build));
  if (project === null) return;
  const doomed = join(roots.scratch, `remove-${buildKey(build)}`);
  await mkdir(roots.scratch, { recursive: true });
  await removeTree(doomed);
  await rename(project.path, doomed); // W3
  await removeTree(doomed);
}
