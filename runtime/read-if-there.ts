/** Files that may be missing. */
import { readFileSync } from 'node:fs';

/** The text of a small file; null where there is none. @throws what reading throws otherwise */
export function readIfThere(file: string): string | null {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
