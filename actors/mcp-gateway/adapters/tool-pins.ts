/**
 * What the tools of a server looked like when they were first used, on the disk. A server whose
 * version nobody pins can change what a tool says and takes after a person has looked at it; such a
 * tool is withheld until the person has looked again.
 *
 * P1: a pin is written before the tool is offered.
 * P2: a pin that cannot be read withholds nothing and is written anew; it is said.
 */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { definitionDigest, type ToolList } from '../tool-definitions.ts';
import { isErrno } from './disk.ts';

export interface ToolPins {
  /** The list without the tools that are not what they were, each of them named. */
  held(server: string, list: ToolList): Promise<ToolList>;
}

/** Digest by the tool's name. */
const Pins = z.record(z.string(), z.string());
type Pins = z.infer<typeof Pins>;

export function createToolPins(folder: string): ToolPins {
  return {
    async held(server, list) {
      const file = join(folder, `${server}.json`);
      const pins = await readPins(file);
      const changed = list.tools.filter(tool => {
        const pinned = pins.known[tool.name];
        return pinned !== undefined && pinned !== definitionDigest(tool);
      });
      const first = list.tools.map(tool => [tool.name, definitionDigest(tool)] as const);
      const all: Pins = { ...Object.fromEntries(first), ...pins.known };
      await mkdir(folder, { recursive: true });
      await writeFile(`${file}.new`, JSON.stringify(all, null, 2));
      await rename(`${file}.new`, file); // P1
      return {
        tools: list.tools.filter(tool => !changed.includes(tool)),
        remarks: [
          ...list.remarks,
          ...pins.remarks,
          ...changed.map(
            ({ name }) =>
              `the tool ${name} is withheld: it is not what it was when it was first used; ` +
              `look at it, and remove ${file} to take it as it is now`,
          ),
        ],
      };
    },
  };
}

async function readPins(file: string): Promise<{ known: Pins; remarks: readonly string[] }> {
  try {
    return { known: Pins.parse(JSON.parse(await readFile(file, 'utf8'))), remarks: [] };
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return { known: {}, remarks: [] };
    if (!(error instanceof SyntaxError || error instanceof z.ZodError)) throw error;
    return { known: {}, remarks: [`${file} could not be read and is written anew`] }; // P2
  }
}
