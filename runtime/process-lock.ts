/**
 * One worker at a time among processes of one machine: a lock file that names its holder.
 *
 * L1: the file appears with its content in one step (link), so a holder is always known.
 * L2: a holder that is dead, or whose process id was recycled, holds nothing.
 * L3: only the holder of the second, very short lock removes a dead holder's file, after looking
 *     again; so nobody removes the lock of somebody who has just taken it.
 */
import { randomUUID } from 'node:crypto';
import { linkSync, mkdirSync, unlinkSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { CodeGodError } from '../protocol/errors.ts';
import { systemClock } from './clock.ts';
import { isAlive, ownIdentity, type ProcessIdentity } from './process-identity.ts';
import { readIfThere } from './read-if-there.ts';

export interface LockOptions {
  /** How long to wait for another holder before giving up. */
  readonly waitMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Called once when another process holds the lock. */
  readonly onWait?: (holder: ProcessIdentity) => void;
}

const RETRY_MS = 50;

/** Runs `work` while holding `file`. Throws CodeGodError `timeout` when the lock stays taken. */
export async function withProcessLock<T>(
  file: string,
  options: LockOptions,
  work: () => Promise<T>,
): Promise<T> {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  await acquire(file, options);
  try {
    return await work();
  } finally {
    removeIfThere(file);
  }
}

async function acquire(file: string, options: LockOptions): Promise<void> {
  let announced = false;
  for (let waitedMs = 0; !tryLink(file); waitedMs += RETRY_MS) {
    const holder = readHolder(file);
    if (holder && !isAlive(holder)) {
      removeDead(file);
      continue;
    }
    if (waitedMs >= options.waitMs) {
      throw new CodeGodError('timeout', `${file} stays locked by process ${holder?.pid ?? '?'}`, {
        hint: `if no such process works for Code-God, remove ${file}`,
      });
    }
    if (holder && !announced) options.onWait?.(holder);
    announced ||= holder !== null;
    await systemClock.sleep(RETRY_MS, options.signal);
  }
}

/** L1. Returns false where somebody else holds the lock. */
function tryLink(file: string): boolean {
  const own = `${file}.${randomUUID()}`;
  writeFileSync(own, JSON.stringify(ownIdentity()), { mode: 0o600 });
  try {
    linkSync(own, file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    unlinkSync(own);
  }
}

/** L3. */
function removeDead(file: string): void {
  const breaker = `${file}.break`;
  if (!tryLink(breaker)) {
    const other = readHolder(breaker);
    if (other && !isAlive(other)) removeIfThere(breaker);
    return;
  }
  try {
    const holder = readHolder(file);
    if (holder && !isAlive(holder)) removeIfThere(file);
  } finally {
    removeIfThere(breaker);
  }
}

function readHolder(file: string): ProcessIdentity | null {
  const text = readIfThere(file);
  if (text === null) return null;
  try {
    const value = JSON.parse(text);
    return { pid: Number(value.pid), started: String(value.started) };
  } catch {
    // A disk that lost power may leave the name without its content: nobody holds that.
    return { pid: 0, started: '' };
  }
}

function removeIfThere(file: string): void {
  try {
    unlinkSync(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
