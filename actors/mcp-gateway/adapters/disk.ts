/** A full disk, said in one way wherever it strikes: in a file call of ours or in a program we run. */
import { CodeGodError } from '../../../protocol/errors.ts';

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

export function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
