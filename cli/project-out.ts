/**
 * A finished project, brought from the object store into a folder of the user's.
 *
 * O1  Nothing is ever overwritten: a folder with something in it is left alone.
 * O2  Nothing is ever half there: the project is unpacked beside its place and moved in one step.
 */
import { createHash } from 'node:crypto';
import { createWriteStream, existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { mkdtemp, readdir, rename } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ArtifactReference } from '../protocol/text.ts';
import type { Bus } from '../runtime/bus.ts';
import { removeTree } from '../runtime/remove-tree.ts';
import { runProgram } from '../runtime/run-program.ts';
import { CliError } from './exit-code.ts';

const UNPACK_TIMEOUT_MS = 120_000;

/** Asked before a build starts. Throws CliError where the project would not find its place (O1). */
export function checkTarget(folder: string, name: string | undefined): void {
  const root = resolve(folder);
  if (existsSync(root) && !statSync(root).isDirectory()) {
    throw new CliError('usage', `${root} is not a folder`, 'name another one with --out');
  }
  if (name !== undefined && !isFree(join(root, name))) throw taken(join(root, name));
}

/**
 * Unpacks the archive into `folder/name` and answers that path; `folder/name-<build>` where the
 * name, unknown before, turns out to be taken.
 */
export async function unpackProject(
  bus: Bus,
  archive: ArtifactReference,
  target: { readonly folder: string; readonly name: string; readonly build: string },
): Promise<string> {
  const root = resolve(target.folder);
  mkdirSync(root, { recursive: true });
  const names = [target.name, `${target.name}-${target.build}`];
  const path = names.map(name => join(root, name)).find(isFree);
  if (path === undefined) throw taken(join(root, target.name));
  const scratch = await mkdtemp(join(root, '.codegod-'));
  try {
    const file = join(scratch, 'project.tar.gz');
    await download(bus, archive, file);
    const unpacked = join(scratch, 'unpacked');
    mkdirSync(unpacked);
    const tar = await runProgram('tar', ['-xzf', file, '--no-same-owner', '-C', unpacked], {
      timeoutMs: UNPACK_TIMEOUT_MS,
    });
    if (tar.failure !== null) throw new CliError('internal', `tar: ${tar.failure}`);
    const [project, ...others] = await readdir(unpacked);
    if (project === undefined || others.length > 0) {
      throw new CliError('internal', 'the archive does not hold exactly one project');
    }
    // Onto an empty folder of that name, too (O2).
    await rename(join(unpacked, project), path);
    return path;
  } finally {
    await removeTree(scratch);
  }
}

/** Writes an artifact to a file. Throws where its bytes are not those it should have. */
export async function download(bus: Bus, archive: ArtifactReference, file: string): Promise<void> {
  const data = await bus.objects(archive.bucket).get(archive.name);
  if (data === null) {
    throw new CliError('not_found', `the archive ${archive.name} is no longer kept`);
  }
  const hash = createHash('sha256');
  const measured = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of data) {
      hash.update(chunk);
      yield chunk;
    }
  };
  await pipeline(Readable.from(measured()), createWriteStream(file));
  const sha256 = hash.digest('hex');
  if (sha256 !== archive.sha256) {
    throw new CliError('internal', `the archive is damaged: its SHA-256 is ${sha256}`);
  }
}

const isFree = (path: string): boolean =>
  !existsSync(path) || (statSync(path).isDirectory() && readdirSync(path).length === 0);

const taken = (path: string): CliError =>
  new CliError('usage', `${path} is not empty`, 'choose another --out or another --name');
