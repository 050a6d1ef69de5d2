/**
 * Text of a worktree's files for a prompt: exact paths and globs, in the order of asking.
 *
 * F1: never leaves the worktree: links are not followed, `.git` is not listed.
 * F2: bounded: files, bytes per file and bytes in total.
 */
import { lstat, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { decodeText } from '../../../protocol/codec.ts';
import { pathsOutside } from '../../../protocol/owned-paths.ts';
import type { ReadFilesReply } from '../../../protocol/workspace.ts';
import { isErrno } from './disk.ts';

const FILES_MAX = 128;
const LISTED_MAX = 5_000;

/** Missing and binary files are left out; `bytesMax` bounds the whole answer. */
export async function readWorktree(
  root: string,
  globs: readonly string[],
  bytesMax: number,
): Promise<ReadFilesReply> {
  const all = await listFiles(root);
  const paths = globs.flatMap(glob => {
    const outside = new Set(pathsOutside(all, [glob]));
    return all.filter(path => !outside.has(path));
  });
  const files: ReadFilesReply['files'] = [];
  let room = bytesMax;
  for (const path of [...new Set(paths)].slice(0, FILES_MAX)) {
    if (room <= 0) break; // F2
    const { bytes, size } = await readHead(join(root, path), room);
    const text = decodeText(wholeCharacters(bytes, size));
    if (text === null || text.includes('\0')) continue;
    room -= bytes.byteLength;
    files.push({ path, text, truncated: size > bytes.byteLength });
  }
  return { files };
}

/** Relative paths of all plain files, sorted; links and `.git` left out (F1). */
export async function listFiles(root: string): Promise<string[]> {
  const found: string[] = [];
  const walk = async (folder: string): Promise<void> => {
    const entries = await readdir(join(root, folder), { withFileTypes: true });
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      if (found.length >= LISTED_MAX) return;
      if (entry.name.toLowerCase() === '.git') continue;
      const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
      if (entry.isFile()) found.push(path);
      if (entry.isDirectory()) await walk(path);
    }
  };
  await walk('');
  return found;
}

async function readHead(path: string, bytesMax: number) {
  const facts = await lstat(path).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return null; // Removed since it was listed.
    throw error;
  });
  if (facts === null || !facts.isFile()) return { bytes: new Uint8Array(), size: 0 };
  const file = await open(path, 'r');
  try {
    const buffer = new Uint8Array(Math.min(facts.size, bytesMax));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
    return { bytes: buffer.subarray(0, bytesRead), size: facts.size };
  } finally {
    await file.close();
  }
}

/** Where a file was cut, drops the torn UTF-8 character at its end. */
function wholeCharacters(bytes: Uint8Array, size: number): Uint8Array {
  if (size <= bytes.byteLength) return bytes;
  let end = bytes.byteLength;
  while (end > 0 && bytes.byteLength - end < 4 && ((bytes[end - 1] ?? 0) & 0xc0) === 0x80) end--;
  return bytes.subarray(0, Math.max(0, end - 1));
}
