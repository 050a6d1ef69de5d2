/** A disk of limited size for a test, and filling it to the last byte. Only tests import this. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const mayMount = process.platform === 'linux' && process.getuid?.() === 0;

/** For the `skip` of a test. */
export const SKIP_UNLESS_MOUNTABLE =
  !mayMount && 'only root may mount a small disk: not tested here';

/** Lays an empty disk over the folder, which exists; whatever was in it is hidden. */
export function mountSmallDisk(folder: string, bytes: number): void {
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', folder]);
}

export function unmount(folder: string): void {
  execFileSync('umount', ['--lazy', folder]);
}

/** Leaves not a byte. */
export function fillDisk(folder: string): void {
  const file = openSync(ballast(folder), 'w');
  const block = Buffer.alloc(4_096, 1);
  try {
    for (;;) writeSync(file, block);
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
  } finally {
    closeSync(file);
  }
}

export function makeRoom(folder: string): void {
  rmSync(ballast(folder), { force: true });
}

const ballast = (folder: string): string => join(folder, 'ballast');
