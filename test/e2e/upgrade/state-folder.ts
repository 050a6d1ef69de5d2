/**
 * The state folder that an earlier release left behind, packed beside this file: how it is unpacked,
 * and where. Journals, facts and git worktrees hold absolute paths, so it comes back to where it was
 * made; one test at a time may have it there.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { sourcePath } from '../../source-tree.ts';

/** What was under way when everything was killed. */
export interface LeftBuilds {
  /** Some of its tasks are on main, others are at work. */
  readonly merged: string;
  /** In the middle of an attempt: a turn is answered, some of its calls are made. */
  readonly calling: string;
  /** Waits for its turn: its request is a fact, nothing else. */
  readonly queued: string;
  /** Its request lies on the bus, and no master has seen it. */
  readonly unseen: string;
}

/** Not below the usual folder for temporary files, which differs from machine to machine. */
export const HOME = '/tmp/codegod-upgrade/home';
export const BUILDS_FILE = `${HOME}/builds.json`;
const LOCK = '/tmp/codegod-upgrade/lock';
const LOCK_TRIES = 600;
const LOCK_PAUSE_MS = 500;

export const packedState = (commit: string): string =>
  sourcePath('test', 'e2e', 'upgrade', `state-${commit}.tar.gz`);

/** Unpacks the folder and answers what is in it. `release` is called at the end, in every case. */
export async function unpackState(commit: string): Promise<LeftBuilds> {
  await takeHome();
  mkdirSync(HOME, { recursive: true, mode: 0o700 });
  execFileSync('tar', ['-xzf', packedState(commit), '--no-same-owner', '-C', HOME]);
  return JSON.parse(readFileSync(BUILDS_FILE, 'utf8')) as LeftBuilds;
}

/** Waits until nobody else has the place, and empties it. */
export async function takeHome(): Promise<void> {
  mkdirSync(dirname(LOCK), { recursive: true, mode: 0o700 });
  for (let tries = 1; ; tries++) {
    try {
      writeFileSync(LOCK, String(process.pid), { flag: 'wx' });
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      if (tries === LOCK_TRIES)
        throw new Error(`${LOCK} is held by another test`, { cause: error });
      if (holderIsGone()) rmSync(LOCK, { force: true });
      else await sleep(LOCK_PAUSE_MS);
    }
  }
  rmSync(HOME, { recursive: true, force: true });
}

export function releaseHome(): void {
  rmSync(HOME, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  rmSync(LOCK, { force: true });
}

function holderIsGone(): boolean {
  if (!existsSync(LOCK)) return false;
  const pid = Number(readFileSync(LOCK, 'utf8'));
  return pid > 0 && !existsSync(`/proc/${pid}`);
}
