/**
 * What each process holds of the cards of Linux graphics drivers, from `/proc/<pid>/fdinfo`.
 *
 * U1: one client counts once, however many descriptors of however many processes share it.
 * U2: a process whose descriptors may not be read, a bound that was reached, or a process table that
 *     shows a container alone: then this is not all, and `isAll` says so.
 * U3: a process that has had no such descriptor for a while is looked at every half minute only: most
 *     never have one, and browsers have thousands of others.
 */
import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { GpuProcess } from '../../../protocol/node.ts';
import { busAddress } from '../card.ts';
import { gpuProcess, seesAllProcesses } from './runtime-process.ts';
import type { ProbeSite } from './site.ts';
import { attribute } from './sysfs.ts';

const PROCESSES_MAX = 8_192;
const DESCRIPTORS_MAX = 65_536;
/** Processes looked at between two looks at the signal. */
const AT_ONCE = 8;
/** A runtime opens its card soon after it started. */
const LOOKS_MIN = 3;
const REST_MS = 30_000;

export interface DrmUse {
  readonly isAll: boolean;
  /** Processes on the card at `bus`, by what they hold in these of its memory regions. */
  processesOf(bus: string | null, regions: readonly string[]): GpuProcess[];
}

export interface DrmClient {
  readonly bus: string;
  readonly client: string;
  /** Bytes by region: `vram`, `gtt`, `vram0`. */
  readonly regions: ReadonlyMap<string, number>;
}

interface Holder extends DrmClient {
  readonly pid: number;
  readonly program: string | null;
}

interface Scan {
  readonly holders: Map<string, Holder>;
  isAll: boolean;
  descriptors: number;
}

/** A process without descriptors of cards. */
interface Bystander {
  /** How often in a row it was looked at. */
  readonly looks: number;
  readonly at: number;
  readonly isReadable: boolean;
}

/** Remembers between its scans who never holds anything. */
export function drmScanner(): (site: ProbeSite) => Promise<DrmUse> {
  let bystanders: ReadonlyMap<number, Bystander> = new Map();
  return async ({ root, now, signal }) => {
    const proc = join(root, '/proc');
    const scan: Scan = { holders: new Map(), isAll: await seesAllProcesses(root), descriptors: 0 };
    const pids = (await listed(proc, scan)).filter(name => /^[0-9]+$/.test(name)).map(Number);
    if (pids.length > PROCESSES_MAX) scan.isAll = false;
    const idle = new Map<number, Bystander>();
    const visit = async (pid: number): Promise<void> => {
      const known = bystanders.get(pid);
      const rests = known !== undefined && known.looks >= LOOKS_MIN && now - known.at < REST_MS;
      const seen = rests ? known : await look(proc, pid, scan, now, known);
      if (seen === null) return;
      idle.set(pid, seen);
      if (!seen.isReadable) scan.isAll = false;
    };
    const looked = pids.slice(0, PROCESSES_MAX);
    for (let index = 0; index < looked.length && !signal.aborted; index += AT_ONCE) {
      await Promise.all(looked.slice(index, index + AT_ONCE).map(visit));
    }
    bystanders = idle;
    const holders = [...scan.holders.values()];
    return {
      isAll: scan.isAll && !signal.aborted,
      processesOf: (bus, regions) => (bus === null ? [] : processes(holders, bus, regions)),
    };
  };
}

/** Notes what a process holds; null where it holds something. */
async function look(
  proc: string,
  pid: number,
  scan: Scan,
  now: number,
  known: Bystander | undefined,
): Promise<Bystander | null> {
  const folder = join(proc, String(pid));
  const reach = { isAll: true };
  let holdsNothing = true;
  for (const descriptor of await listed(join(folder, 'fd'), reach)) {
    scan.descriptors += 1;
    if (scan.descriptors > DESCRIPTORS_MAX) {
      reach.isAll = false;
      break;
    }
    const target = await orNull(readlink(join(folder, 'fd', descriptor)), reach);
    if (target === null || !/^\/dev\/(dri|accel)\//.test(target)) continue;
    holdsNothing = false;
    const info = await orNull(readFile(join(folder, 'fdinfo', descriptor), 'utf8'), reach);
    const client = info === null ? null : parseFdinfo(info);
    if (client === null) continue;
    const key = `${client.bus} ${client.client}`;
    if (scan.holders.has(key)) continue; // U1
    scan.holders.set(key, { ...client, pid, program: await attribute(join(folder, 'comm')) });
  }
  if (!reach.isAll) scan.isAll = false;
  return holdsNothing ? { looks: (known?.looks ?? 0) + 1, at: now, isReadable: reach.isAll } : null;
}

async function listed(folder: string, reach: { isAll: boolean }): Promise<readonly string[]> {
  return (await orNull(readdir(folder), reach)) ?? [];
}

/** Null for what is gone, since processes end; for what may not be read it is noted too (U2). */
async function orNull<T>(reading: Promise<T>, reach: { isAll: boolean }): Promise<T | null> {
  try {
    return await reading;
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT' && code !== 'ESRCH') reach.isAll = false;
    return null;
  }
}

/**
 * One descriptor's text. What is resident counts; drivers before that word wrote `drm-memory-`, and
 * some write the whole size alone.
 */
export function parseFdinfo(text: string): DrmClient | null {
  const fields = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [, key, value] = /^(drm-[^:\s]+):\s*(.*)$/.exec(line) ?? [];
    if (key !== undefined && value !== undefined) fields.set(key, value.trim());
  }
  const bus = busAddress(fields.get('drm-pdev'));
  const client = fields.get('drm-client-id');
  if (bus === null || client === undefined) return null;
  const regions = new Map<string, number>();
  for (const kind of ['drm-resident-', 'drm-memory-', 'drm-total-']) {
    for (const [key, value] of fields) {
      const region = key.startsWith(kind) ? key.slice(kind.length) : null;
      const bytes = size(value);
      if (region !== null && bytes !== null && !regions.has(region)) regions.set(region, bytes);
    }
  }
  return { bus, client, regions };
}

/** `65072580 KiB`, `16 MiB`; a bare number is bytes. */
function size(text: string): number | null {
  const [, amount, unit = ''] = /^([0-9]+)(?:\s+(KiB|MiB|GiB))?$/.exec(text) ?? [];
  if (amount === undefined) return null;
  const shift = ['', 'KiB', 'MiB', 'GiB'].indexOf(unit);
  return Number(amount) * 1024 ** shift;
}

function processes(
  holders: readonly Holder[],
  bus: string,
  regions: readonly string[],
): GpuProcess[] {
  const byPid = new Map<number, { program: string | null; bytes: number }>();
  for (const holder of holders) {
    if (holder.bus !== bus) continue;
    const held = regions.reduce((sum, region) => sum + (holder.regions.get(region) ?? 0), 0);
    const earlier = byPid.get(holder.pid)?.bytes ?? 0;
    byPid.set(holder.pid, { program: holder.program, bytes: earlier + held });
  }
  return [...byPid]
    .filter(([, { bytes }]) => bytes > 0)
    .map(([pid, { program, bytes }]) => gpuProcess(pid, program, bytes));
}
