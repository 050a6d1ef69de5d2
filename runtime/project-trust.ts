/**
 * Which folders a person trusts to set what sends secrets or work elsewhere. Kept in the person's own
 * configuration folder, by the folder's real path and a hash of the files that hold its settings.
 *
 * T1  A changed file is not the one that was trusted: a model may have written it.
 * T2  The note is replaced in one step; one that cannot be read trusts nobody.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, realpathSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { Paths } from './paths.ts';
import { readIfThere } from './read-if-there.ts';

const Trusted = z.record(z.string().max(4_096), z.string().regex(/^[0-9a-f]{64}$/));
type Trusted = Readonly<Record<string, string>>;

/** The settings of one project folder, as text. */
export interface ProjectFiles {
  readonly folder: string;
  readonly dotEnv: string | null;
  readonly yaml: string | null;
}

export function isTrusted(paths: Paths, files: ProjectFiles): boolean {
  const folder = realFolder(files.folder);
  return folder !== null && readTrusted(paths)[folder] === hashOf(files);
}

export function trust(paths: Paths, files: ProjectFiles): void {
  const folder = realFolder(files.folder);
  if (folder !== null) writeTrusted(paths, { ...readTrusted(paths), [folder]: hashOf(files) });
}

export function distrust(paths: Paths, folder: string): void {
  const { [realFolder(folder) ?? folder]: _, ...others } = readTrusted(paths);
  writeTrusted(paths, others);
}

const trustFile = (paths: Paths): string => join(paths.config, 'trusted.json');

function readTrusted(paths: Paths): Trusted {
  const text = readIfThere(trustFile(paths));
  if (text === null) return {};
  try {
    return Trusted.parse(JSON.parse(text));
  } catch {
    return {}; // T2
  }
}

/** Without the folders that are gone, so that it does not grow for ever. */
function writeTrusted(paths: Paths, trusted: Trusted): void {
  const kept = Object.entries(trusted).filter(([folder]) => existsSync(folder));
  const draft = `${trustFile(paths)}.new`;
  mkdirSync(paths.config, { recursive: true, mode: 0o700 });
  writeFileSync(draft, `${JSON.stringify(Object.fromEntries(kept), null, 2)}\n`, { mode: 0o600 });
  renameSync(draft, trustFile(paths));
}

function realFolder(folder: string): string | null {
  try {
    return realpathSync(folder);
  } catch {
    return null; // The folder we stand in was removed.
  }
}

function hashOf({ dotEnv, yaml }: ProjectFiles): string {
  return createHash('sha256')
    .update(JSON.stringify([dotEnv, yaml]))
    .digest('hex');
}
