/** Reading commits, and reading and moving references: the few questions asked of every repository. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type AttemptTrailers, trailersOf } from '../trailers.ts';
import type { Git, GitPlace } from './git.ts';

/** The commit a reference points to, or null. */
export async function resolveRef(git: Git, place: GitPlace, ref: string): Promise<string | null> {
  const loose = await readLoose(place, ref);
  if (loose !== null) return loose;
  const args = ['rev-parse', '--verify', '--quiet', '--end-of-options', `${ref}^{commit}`];
  const { code, stdout } = await git.run(place, args, { answers: [1] });
  return code === 0 ? stdout.trim() : null;
}

/**
 * Most of our references are a file with the name of a commit: reading it takes no process, and each
 * tool call asks for one. Of all others (packed, symbolic, kept in another format, not there) git knows.
 */
async function readLoose({ gitDir }: GitPlace, ref: string): Promise<string | null> {
  const text = await readFile(join(gitDir, ref), 'utf8').catch(() => '');
  return /^([0-9a-f]{40}|[0-9a-f]{64})\n$/.test(text) ? text.trim() : null;
}

/** Moves a reference if it still points to `from` (null: does not exist); atomic and durable. */
export async function moveRef(
  git: Git,
  place: GitPlace,
  ref: string,
  move: { readonly from: string | null; readonly to: string },
): Promise<void> {
  const from = move.from ?? '0'.repeat(move.to.length);
  await git.run(place, ['update-ref', ref, move.to, from]);
}

export interface CommitFacts {
  readonly tree: string;
  readonly parents: readonly string[];
  readonly message: string;
  readonly authorDate: string;
  readonly trailers: AttemptTrailers | null;
}

export async function readCommit(git: Git, place: GitPlace, sha: string): Promise<CommitFacts> {
  const format = '--format=%T%n%P%n%ad%n%B';
  const text = await git.text(place, ['show', '-s', '--date=raw', format, sha]);
  const [tree = '', parents = '', authorDate = '', ...body] = text.split('\n');
  const message = `${body.join('\n').trimEnd()}\n`;
  return {
    tree,
    parents: parents === '' ? [] : parents.split(' '),
    message,
    authorDate,
    trailers: trailersOf(message),
  };
}
