/**
 * CPU, memory and disk of this machine. `systeminformation` tells of processor and memory (it is not
 * used for GPUs: it loses zeros and blocks on drivers).
 *
 * H1: memory is known always: where the finer figure does not come in time, the operating system's
 *     coarser one stands in, under its own name.
 */
import { statfs } from 'node:fs/promises';
import os from 'node:os';
import { cpu, mem } from 'systeminformation';
import type { CapacityAdvert } from '../../../protocol/node.ts';
import type { Clock } from '../../../runtime/clock.ts';
import type { Pulse } from '../ports.ts';
import type { CpuLoad } from './cpu-load.ts';

export interface HostFigures {
  readonly cpu: CapacityAdvert['cpu'];
  readonly ram: CapacityAdvert['ram'];
  readonly disk: CapacityAdvert['disk'];
}

const WAIT_MS = 3_000;
const SOURCE = 'systeminformation';

let processor: { readonly model: string; readonly cores: number } | null = null;

/** @param dataDir the folder whose file system counts as this node's disk */
export async function probeHost(
  dataDir: string,
  cpuLoad: CpuLoad,
  clock: Clock,
): Promise<HostFigures> {
  processor ??= await inTime(describeProcessor(), clock);
  const [memory, load, disk] = await Promise.all([
    inTime(mem(), clock),
    inTime(cpuLoad.read(clock.monotonic()), clock),
    inTime(statfs(dataDir), clock),
  ]);
  const measured_at = clock.now();
  const measured = { source: SOURCE, measured_at };
  return {
    cpu: {
      ...(processor ?? { model: 'unknown', cores: cores() }),
      load,
      ...measured,
    },
    ram:
      memory === null
        ? { total_bytes: os.totalmem(), available_bytes: os.freemem(), source: 'os', measured_at }
        : { total_bytes: memory.total, available_bytes: memory.available, ...measured },
    disk: {
      total_bytes: disk === null ? null : disk.blocks * disk.bsize,
      free_bytes: disk === null ? null : disk.bavail * disk.bsize,
      source: 'statfs',
      measured_at,
    },
  };
}

export async function probePulse(cpuLoad: CpuLoad, clock: Clock): Promise<Pulse> {
  const [memory, cpu_load] = await Promise.all([
    inTime(mem(), clock),
    inTime(cpuLoad.read(clock.monotonic()), clock),
  ]);
  return {
    cpu_load,
    ram_available_bytes: memory?.available ?? os.freemem(),
  };
}

/** Null for what fails or does not come: the figure is unknown, the others are not. */
async function inTime<T>(work: Promise<T>, clock: Clock): Promise<T | null> {
  const done = new AbortController();
  const late = clock.sleep(WAIT_MS, done.signal).then(
    () => null,
    () => null, // Called off: the answer came.
  );
  try {
    return await Promise.race([work.catch(() => null), late]);
  } finally {
    done.abort();
  }
}

async function describeProcessor() {
  const found = await cpu();
  const model = `${found.manufacturer} ${found.brand}`.trim();
  return { model: model === '' ? 'unknown' : model, cores: cores() };
}

const cores = (): number => Math.max(1, os.cpus().length);
