/**
 * Lock files that a killed git left behind.
 *
 * R1: a lock is removed only after git complained about it, and only when it is older than any call
 *     of ours needs to write one; so a git that still runs keeps its lock.
 */
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isErrno } from './disk.ts';

/** Our calls hold a lock for milliseconds: objects are written before it is taken. */
export const LOCK_STALE_MS = 3_000;

export function complainsOfLock(stderr: string): boolean {
  const couldNotCreate = stderr.includes('Unable to create ') && stderr.includes('.lock');
  return couldNotCreate || /\.lock['"]?: File exists|cannot lock ref/.test(stderr);
}

/** Removes the stale locks of a git directory, worktrees included; answers how many. */
export async function removeStaleLocks(gitDir: string, now: number): Promise<number> {
  let removed = 0;
  for (const lock of await locksIn(gitDir)) {
    const found = await stat(lock).catch((error: unknown) => {
      if (isErrno(error, 'ENOENT')) return null;
      throw error;
    });
    if (found === null || now - found.mtimeMs <= LOCK_STALE_MS) continue;
    await rm(lock, { force: true });
    removed += 1;
  }
  return removed;
}

async function locksIn(gitDir: string): Promise<string[]> {
  const locks: string[] = [];
  const entries = await readdir(gitDir, { withFileTypes: true }).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  });
  for (const entry of entries) {
    const path = join(gitDir, entry.name);
    if (entry.isFile() && entry.name.endsWith('.lock')) locks.push(path);
    if (entry.isDirectory() && entry.name !== 'objects') locks.push(...(await locksIn(path)));
  }
  return locks;
}
