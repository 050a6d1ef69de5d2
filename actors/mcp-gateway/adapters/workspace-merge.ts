/**
 * Bringing an attempt's commit onto main, as a linear history, without a work tree: the new tree is
 * computed from objects, and one atomic reference update makes it true.
 *
 * M1: before `update-ref` nothing has happened, after it everything has; showing main in the folder is
 *     a step that may be repeated.
 * M2: main carries at most one commit per (task, attempt); its trailers are the idempotency key.
 * M3: an attempt older than the newest merged one of its task is refused.
 * M4: what a person's uncommitted work holds up is kept beyond the end of the build.
 */
import { CodeGodError } from '../../../protocol/errors.ts';
import type { MergeReply, MergeRequest } from '../../../protocol/workspace.ts';
import { trailersOf } from '../trailers.ts';
import type { Git, GitPlace } from './git.ts';
import { type CommitFacts, readCommit, resolveRef } from './git-refs.ts';
import { followsMain, requireRoom, SHOWN, showMain, unshownParent } from './workspace-folder.ts';
import { type AttemptNames, MAIN, type Project } from './workspace-place.ts';

const CONFLICTS_MAX = 256;

/**
 * @throws CodeGodError `conflict` without a commit to merge, or with a person's work in the way;
 *   `stale_attempt`, `disk_full`.
 */
export async function mergeAttempt(
  git: Git,
  project: Project,
  names: AttemptNames,
  request: MergeRequest,
): Promise<MergeReply> {
  const merged = await mergedAttempts(git, project.bare, request);
  const present = merged.get(request.attempt); // M2
  if (present !== undefined) {
    await showMain(git, project, await unshownParent(git, project));
    return { merged: true, commit: present };
  }
  const newest = Math.max(0, ...merged.keys());
  if (newest > request.attempt) {
    // M3
    throw new CodeGodError('stale_attempt', `attempt ${newest} of ${request.task} is on main`);
  }
  const head = await resolveRef(git, project.bare, MAIN);
  const tip =
    (await resolveRef(git, project.bare, names.branch)) ??
    (await resolveRef(git, project.bare, names.kept));
  if (head === null) throw new CodeGodError('internal', `${project.path} has no main branch`);
  if (tip === null) throw new CodeGodError('conflict', `attempt ${names.leaf} has no commit`);
  const source = await readCommit(git, project.bare, tip);
  requireOwnCommit(source, request, names);
  const onto = await rebased(git, project.bare, { head, tip, source });
  if (onto.kind === 'conflict') return { merged: false, conflicts: onto.files };
  const move = { head, to: onto.commit, build: request.build };
  const follows = await followsMain(git, project);
  if (follows) {
    try {
      await requireRoom(git, project, move);
    } catch (error) {
      await git.run(project.bare, ['update-ref', names.kept, tip]); // M4
      throw error;
    }
  }
  await moveMain(git, project, names, { ...move, follows });
  await showMain(git, project);
  return { merged: true, commit: onto.commit };
}

/** M1: all of it or nothing. */
async function moveMain(
  git: Git,
  project: Project,
  names: AttemptNames,
  move: { readonly head: string; readonly to: string; readonly follows: boolean },
): Promise<void> {
  const { bare } = project;
  const lines = [`update ${MAIN} ${move.to} ${move.head}`];
  const isNoted = (await resolveRef(git, bare, SHOWN)) !== null;
  if (move.follows && !isNoted) lines.push(`create ${SHOWN} ${move.head}`);
  if ((await resolveRef(git, bare, names.kept)) !== null) lines.push(`delete ${names.kept}`);
  const input = lines.map(line => `${line}\n`).join('');
  await git.run(bare, ['update-ref', '--stdin'], { input });
}

/** The commits of this task on main, by attempt. */
async function mergedAttempts(git: Git, place: GitPlace, request: MergeRequest) {
  const log = await git.text(place, ['log', '-z', '--format=%H%n%B', MAIN]);
  const found = new Map<number, string>();
  for (const entry of log.split('\0')) {
    const sha = entry.slice(0, entry.indexOf('\n'));
    const trailers = trailersOf(entry.slice(sha.length + 1));
    if (trailers === null || trailers.task !== request.task) continue;
    if (trailers.build === request.build) found.set(trailers.attempt, sha);
  }
  return found;
}

function requireOwnCommit(source: CommitFacts, request: MergeRequest, names: AttemptNames): void {
  const { trailers, parents } = source;
  const own =
    parents.length === 1 &&
    trailers?.build === request.build &&
    trailers.task === request.task &&
    trailers.attempt === request.attempt;
  if (!own) {
    throw new CodeGodError('conflict', `attempt ${names.leaf} is not committed yet`, {
      hint: 'commit the attempt first',
    });
  }
}

type Rebased =
  | { readonly kind: 'ready'; readonly commit: string }
  | { readonly kind: 'conflict'; readonly files: string[] };

async function rebased(
  git: Git,
  place: GitPlace,
  from: { readonly head: string; readonly tip: string; readonly source: CommitFacts },
): Promise<Rebased> {
  const { head, tip, source } = from;
  if (source.parents[0] === head) return { kind: 'ready', commit: tip };
  const args = ['merge-tree', '--write-tree', '--name-only', '-z', '--no-messages', head, tip];
  const { code, stdout } = await git.run(place, args, { answers: [1] });
  const [tree = '', ...files] = stdout.split('\0').filter(field => field !== '');
  if (code === 1) {
    return { kind: 'conflict', files: [...new Set(files)].slice(0, CONFLICTS_MAX) };
  }
  const commit = await git.text(place, ['commit-tree', '-p', head, '-F', '-', tree], {
    input: source.message,
  });
  return { kind: 'ready', commit };
}
