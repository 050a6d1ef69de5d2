/** How much a folder takes on the disk, while somebody works in it. */
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';

const BLOCK_BYTES = 512;
/** Files without content take room too, and so does the way to a deep one. */
const ENTRY_BYTES = 256;

/** Counts until more than `enough` is found. What goes away or may not be read does not count. */
export async function folderBytes(folder: string, enough: number): Promise<number> {
  let bytes = 0;
  for (const folders = [folder]; folders.length > 0 && bytes <= enough; ) {
    const parent = folders.pop() ?? folder;
    const entries = await readdir(parent, { withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      const path = join(parent, entry.name);
      if (entry.isDirectory()) folders.push(path);
      const stats = await lstat(path).catch(() => null);
      bytes += ENTRY_BYTES + (stats === null ? 0 : stats.blocks * BLOCK_BYTES);
      if (bytes > enough) break;
    }
  }
  return bytes;
}
