/** A full disk, said in one way wherever it strikes: in a file call of ours or in a program we run. */
import { existsSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { CodeGodError } from '../../../protocol/errors.ts';

/** A disk with less than this counts as full where a program says that it cannot write. */
const FULL_BYTES = 64 * 1024;

export function diskFull(during: string, cause: unknown): CodeGodError {
  return new CodeGodError('disk_full', `the disk has no room left (${during})`, { cause });
}

/** Runs file work; a file system that is full or over quota becomes `disk_full`. */
export async function onDisk<T>(during: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (isErrno(error, 'ENOSPC') || isErrno(error, 'EDQUOT')) throw diskFull(during, error);
    throw error;
  }
}

/**
 * Whether the disk of a folder, or of the nearest one above it that exists, has no room: programs
 * do not always say why they fail.
 */
export function isFull(folder: string): boolean {
  if (!existsSync(folder)) return isFull(dirname(folder));
  const { bavail, bsize } = statfsSync(folder);
  return bavail * bsize < FULL_BYTES;
}

export function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
