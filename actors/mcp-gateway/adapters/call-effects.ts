/**
 * Whether a call whose result was lost has had its effect: looked up on the disk, never guessed.
 */

import { readFile, stat } from 'node:fs/promises';
import type { CatalogEntry } from '../catalog.ts';
import type { LiveTool } from '../tool-definitions.ts';
import type { ToolResult } from '../tool-result.ts';
import { isErrno } from './disk.ts';

/**
 * A tool without an effect: it may be repeated, and called outside of a build. What a server says of
 * itself counts only where we know the server; of the others a person says it.
 */
export function isReadOnly(entry: CatalogEntry, tool: LiveTool): boolean {
  if (entry.readOnly.includes(tool.name)) return true;
  return entry.origin.kind !== 'command' && tool.annotations?.['readOnlyHint'] === true;
}

/** The result the call would have had, where its effect is there; null where nobody can tell. */
export async function effectOf(
  server: string,
  tool: string,
  args: Readonly<Record<string, unknown>>,
): Promise<ToolResult | null> {
  const path = args['path'];
  if (server !== 'filesystem' || typeof path !== 'string') return null;
  const done =
    tool === 'write_file'
      ? (await textAt(path)) === args['content']
      : tool === 'create_directory' && (await isFolder(path));
  if (!done) return null;
  return { content: [{ type: 'text', text: `${tool} had been done before the interruption` }] };
}

async function textAt(path: string): Promise<string | null> {
  return orNull(readFile(path, 'utf8'));
}

async function isFolder(path: string): Promise<boolean> {
  return (await orNull(stat(path)))?.isDirectory() === true;
}

async function orNull<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EISDIR'].some(code => isErrno(error, code))) return null;
    throw error;
  }
}
