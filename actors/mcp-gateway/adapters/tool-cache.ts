/**
 * The tool lists of servers on the disk, by server and version, so that listing tools needs no
 * running server. A cache: deleting it costs one start per server.
 */

import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { LiveTool } from '../tool-definitions.ts';
import { isErrno } from './disk.ts';

export interface ToolCache {
  read(server: string, version: string): Promise<readonly LiveTool[] | null>;
  write(server: string, version: string, tools: readonly LiveTool[]): Promise<void>;
}

export function createToolCache(folder: string): ToolCache {
  const fileOf = (server: string, version: string) =>
    join(folder, `${server}@${version}`.replace(/[^A-Za-z0-9@._-]/g, '_').concat('.json'));
  return {
    async read(server, version) {
      try {
        const tools: unknown = JSON.parse(await readFile(fileOf(server, version), 'utf8'));
        return Array.isArray(tools) ? tools : null;
      } catch (error) {
        // Absent or torn: the list is asked for again and written anew.
        if (isErrno(error, 'ENOENT') || error instanceof SyntaxError) return null;
        throw error;
      }
    },
    async write(server, version, tools) {
      const file = fileOf(server, version);
      await mkdir(folder, { recursive: true });
      await writeFile(`${file}.new`, JSON.stringify(tools));
      await rename(`${file}.new`, file);
    },
  };
}
