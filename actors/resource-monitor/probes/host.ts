/**
 * CPU, memory and disk of this machine through `systeminformation`, which is asynchronous for these
 * (it is not used for GPUs: it loses zeros and blocks on drivers).
 */
import os from 'node:os';
import { cpu, currentLoad, fsSize, mem } from 'systeminformation';
import type { CapacityAdvert } from '../../../protocol/node.ts';
import type { Pulse } from '../ports.ts';

export interface HostFigures {
  readonly cpu: CapacityAdvert['cpu'];
  readonly ram: CapacityAdvert['ram'];
  readonly disk: CapacityAdvert['disk'];
}

let processor: { readonly model: string; readonly cores: number } | null = null;

/** @param dataDir the folder whose file system counts as this node's disk */
export async function probeHost(dataDir: string): Promise<HostFigures> {
  processor ??= await describeProcessor();
  const [memory, load, disks] = await Promise.all([mem(), currentLoad(), fsSize()]);
  const disk = disks
    .filter(candidate => isWithin(dataDir, candidate.mount))
    .sort((one, other) => other.mount.length - one.mount.length)[0];
  return {
    cpu: { ...processor, load: fraction(load.currentLoad) },
    ram: { total_bytes: memory.total, available_bytes: memory.available },
    disk: {
      total_bytes: disk === undefined ? null : Math.round(disk.size),
      free_bytes: disk === undefined ? null : Math.round(disk.available),
    },
  };
}

export async function probePulse(): Promise<Pulse> {
  const [memory, load] = await Promise.all([mem(), currentLoad()]);
  return { cpu_load: fraction(load.currentLoad), ram_available_bytes: memory.available };
}

async function describeProcessor() {
  const found = await cpu();
  const model = `${found.manufacturer} ${found.brand}`.trim();
  return { model: model === '' ? 'unknown' : model, cores: Math.max(1, os.cpus().length) };
}

function fraction(percent: number): number | null {
  return Number.isFinite(percent) ? Math.min(1, Math.max(0, percent / 100)) : null;
}

function isWithin(path: string, mount: string): boolean {
  return path === mount || path.startsWith(mount.endsWith('/') ? mount : `${mount}/`);
}
