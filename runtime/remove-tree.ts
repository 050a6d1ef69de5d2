/**
 * Removes folders whose content is foreign: what a check, a tool or a model left behind.
 *
 * T1: it never throws: leftovers cost disk, not truth. What could not be removed is said, and tried
 *     again at the next start.
 * T2: a folder that nobody may write or enter is made so first; links are removed, never followed.
 * T3: names are looked up from a folder that is entered, never from the root: no depth of nesting is
 *     too long for a path.
 */
import { chmod, lstat, mkdir, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Logger } from './log.ts';

type Log = Pick<Logger, 'warn'>;

/** Nesting that is removed by its path; what lies deeper is lifted up first (T3). */
const DEPTH_MAX = 64;
const OWNER_ALL = 0o700;
/** Folders that are lifted out of one tree; far more than any test leaves on purpose. */
const LIFTED_MAX = 100_000;

/** Removes whatever lies at the path. */
export async function removeTree(path: string, log?: Log): Promise<void> {
  try {
    // What can be removed at once usually is all there is.
    await rm(path, { recursive: true, force: true });
  } catch {
    // Said by the second try, which makes folders writable and lifts deep ones.
    await removeByForce(path, log);
  }
}

/** Empties a folder of ours at the start: what cannot be removed lies beside it, out of the way. */
export async function emptyFolder(path: string, log: Log): Promise<void> {
  const aside = join(dirname(path), `.${basename(path)}-old`);
  await removeTree(aside, log);
  try {
    await mkdir(aside, { recursive: true });
    const entry = await lstat(path);
    if (entry.isDirectory()) await chmod(path, OWNER_ALL);
    await rename(path, join(aside, String(entry.ino)));
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) log.warn('leftovers.not_moved', { path, error });
  }
  await mkdir(path, { recursive: true });
  await removeTree(aside, log);
}

async function removeByForce(path: string, log?: Log): Promise<void> {
  const lifted = `${path}.lifted`;
  try {
    await mkdir(lifted, { recursive: true });
    const queue = [path];
    for (let count = 0; queue.length > 0 && count < LIFTED_MAX; count++) {
      const next = queue.shift() ?? '';
      await removeShallow(next, 0, async deep => {
        const place = join(lifted, String(count), String(queue.length));
        await mkdir(dirname(place), { recursive: true });
        await rename(deep, place);
        queue.push(place);
      });
    }
    await rm(lifted, { recursive: true, force: true });
  } catch (error) {
    log?.warn('leftovers.not_removed', { path, error }); // T1
  }
}

/** Removes a tree down to DEPTH_MAX; what lies deeper is handed to `lift`, which moves it away. */
async function removeShallow(
  path: string,
  depth: number,
  lift: (path: string) => Promise<void>,
): Promise<void> {
  const entry = await lstat(path).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return null;
    throw error;
  });
  if (entry === null) return;
  if (!entry.isDirectory()) return rm(path, { force: true });
  await chmod(path, OWNER_ALL); // T2
  for (const name of await readdir(path)) {
    const child = join(path, name);
    if (depth + 1 < DEPTH_MAX) await removeShallow(child, depth + 1, lift);
    else if ((await lstat(child)).isDirectory()) {
      await chmod(child, OWNER_ALL);
      await lift(child);
    } else await rm(child, { force: true });
  }
  await rm(path, { recursive: true, force: true });
}

const isErrno = (error: unknown, code: string): boolean =>
  error instanceof Error && 'code' in error && error.code === code;
