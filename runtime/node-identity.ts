/**
 * Who this node is, kept on its disk: an id that stays, and per process name an epoch that grows
 * with each start, so that what a process said in an earlier life can be told apart.
 *
 * N1  The id, once kept, stays, even when the machine is renamed; processes that start at once agree
 *     on it.
 * N2  An epoch is on disk before it is used, and is greater than every one before it. Where its file
 *     is missing or damaged it goes on from the clock, which is greater than any count.
 */
import { link, mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { CodeGodError } from '../protocol/errors.ts';
import { NodeId } from '../protocol/ids.ts';
import type { Clock } from './clock.ts';

export interface NodeIdentity {
  readonly node: NodeId;
  readonly host: string;
  /** From 1; of this process name, on this node. */
  readonly epoch: number;
}

export interface NodeIdentityOptions {
  /** Where the files are kept; created where missing. */
  readonly directory: string;
  /** `worker`: each process name counts its own epochs. */
  readonly process: string;
  readonly clock: Clock;
  /** What the node is called where it has no id yet. */
  readonly name: string;
  /** True where somebody chose the name: then it goes before the kept id, and is not kept. */
  readonly configured: boolean;
}

/** @throws CodeGodError `config_invalid` where an id is configured or kept that is none. */
export async function openNodeIdentity(options: NodeIdentityOptions): Promise<NodeIdentity> {
  const { directory, clock } = options;
  await mkdir(directory, { recursive: true });
  const idPath = join(directory, 'node-id');
  const node = options.configured
    ? parseId(options.name, 'the configuration')
    : parseId((await read(idPath)) ?? (await keepId(idPath, options)), idPath);
  const epoch = await nextEpoch(join(directory, `epoch-${options.process}`), clock);
  return { node, host: hostname(), epoch };
}

/** The id that is kept here, or that the first start will keep. */
export async function presentNode(
  options: Pick<NodeIdentityOptions, 'directory' | 'name' | 'configured'>,
): Promise<NodeId> {
  if (options.configured) return parseId(options.name, 'the configuration');
  const path = join(options.directory, 'node-id');
  return parseId((await read(path)) ?? options.name, path);
}

/** The epoch of the last start of a process here; null where it has never started. */
export async function lastEpoch(directory: string, process: string): Promise<number | null> {
  const last = Number((await read(join(directory, `epoch-${process}`))) ?? 0);
  return Number.isSafeInteger(last) && last > 0 ? last : null;
}

function parseId(text: string, where: string): NodeId {
  const parsed = NodeId.safeParse(text.trim());
  if (parsed.success) return parsed.data;
  throw new CodeGodError('config_invalid', `the node id in ${where} is not one`, {
    hint: 'a node id has lower-case letters, digits and dashes, at most 63',
  });
}

/** Keeps the id unless another process was first; answers the one that is kept (N1). */
async function keepId(path: string, options: NodeIdentityOptions): Promise<string> {
  const id = options.name;
  const draft = `${path}.${options.process}.${process.pid}`;
  await writeSynced(draft, `${id}\n`);
  try {
    await link(draft, path);
    return id;
  } catch (error) {
    const kept = await read(path);
    if (kept === null) throw error;
    return kept;
  } finally {
    await rm(draft, { force: true });
  }
}

async function nextEpoch(path: string, clock: Clock): Promise<number> {
  const text = await read(path);
  const last = Number(text ?? 0);
  const known = Number.isSafeInteger(last) && last > 0;
  const epoch = known ? last + 1 : Math.max(1, Math.floor(clock.now() / 1_000));
  const draft = `${path}.${process.pid}`;
  await writeSynced(draft, `${epoch}\n`);
  await rename(draft, path);
  return epoch;
}

async function read(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
}

async function writeSynced(path: string, text: string): Promise<void> {
  const file = await open(path, 'w', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}
