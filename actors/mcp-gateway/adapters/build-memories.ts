/** The files in which the memory servers of builds keep what they remember: one per build. */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';

export interface BuildMemories {
  /** For the servers of a build: what `{memory}` stands for. */
  placesOf(build: string): Readonly<Record<string, string>>;
  remove(build: string): Promise<void>;
  /** The names of those that are there. */
  kept(): Promise<readonly string[]>;
}

/** `build` is the key of a build: no slash and no dot can stand in it. */
export async function openBuildMemories(folder: string): Promise<BuildMemories> {
  await mkdir(folder, { recursive: true });
  const fileOf = (build: string): string => join(folder, `${build}.jsonl`);
  return {
    placesOf: build => ({ memory: fileOf(build) }),
    remove: build => rm(fileOf(build), { force: true }),
    kept: async () => (await readdir(folder)).map(file => basename(file, '.jsonl')),
  };
}
