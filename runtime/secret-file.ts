/** A secret of ours in a private file, made once, by whoever is first. */
import { linkSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { CodeGodError } from '../protocol/errors.ts';
import { readIfThere } from './read-if-there.ts';

/** The secret in a file; null where there is no such file. */
export const readSecret = (file: string): string | null => readIfThere(file)?.trim() ?? null;

/** The same, made where there is none. Only its owner may read it. */
export function ensureSecret(file: string, make: () => string): string {
  const known = readSecret(file);
  if (known !== null) return known;
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const draft = `${file}.${process.pid}`;
  writeFileSync(draft, `${make()}\n`, { mode: 0o600 });
  try {
    linkSync(draft, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error; // Another was first.
  } finally {
    rmSync(draft, { force: true });
  }
  const made = readSecret(file);
  if (made !== null) return made;
  throw new CodeGodError('config_invalid', `${file} was removed while it was made`);
}
