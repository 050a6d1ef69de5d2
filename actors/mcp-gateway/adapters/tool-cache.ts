/**
 * The tool lists of servers on the disk, by server and version, so that listing tools needs no
 * running server. A cache: deleting it costs one start per server. One list per server: that of
 * another version goes.
 */

import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { LiveTool } from '../tool-definitions.ts';
import { isErrno } from './disk.ts';

export interface ToolCache {
  read(server: string, version: string): Promise<readonly LiveTool[] | null>;
  write(server: string, version: string, tools: readonly LiveTool[]): Promise<void>;
}

export function createToolCache(folder: string): ToolCache {
  const nameOf = (text: string): string => text.replace(/[^A-Za-z0-9@._-]/g, '_');
  const fileOf = (server: string, version: string): string =>
    join(folder, `${nameOf(`${server}@${version}`)}.json`);
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
      for (const name of await readdir(folder)) {
        const isOther = name.startsWith(`${nameOf(server)}@`) && name !== basename(file);
        if (isOther && name.endsWith('.json')) await rm(join(folder, name), { force: true });
      }
    },
  };
}
