/**
 * What `nvidia-smi` would say of a fake node's cards, so that a whole Code-God node can be given
 * them: a script of that name, first in its PATH, asks the fake node.
 */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Memory } from './memory.ts';
import { MIB } from './sizes.ts';

const PID = 4_242;
const FOREIGN_PID = 1_717;

/** The answer to `--query-gpu=…` or `--query-compute-apps=…`; unknown fields are `[N/A]`. */
export function nvidiaSmi(memory: Memory, args: readonly string[]): string {
  const option = (name: string): string | undefined =>
    args.find(arg => arg.startsWith(`--${name}=`))?.slice(name.length + 3);
  const format = option('format') ?? 'csv';
  const gpus = option('query-gpu');
  const apps = option('query-compute-apps') ?? option('query-accounted-apps');
  const fields = (gpus ?? apps ?? 'index,name,memory.total').split(',').map(field => field.trim());
  const rows = apps === undefined ? gpuRows(memory) : appRows(memory);
  const units = !format.includes('nounits');
  const lines = rows.map(row => fields.map(field => cell(row[field], field, units)).join(', '));
  const header = format.includes('noheader') ? [] : [fields.join(', ')];
  return [...header, ...lines].map(line => `${line}\n`).join('');
}

type Row = Readonly<Record<string, string | number>>;

function cell(value: string | number | undefined, field: string, units: boolean): string {
  if (value === undefined) return '[N/A]';
  return units && /memory/.test(field) ? `${value} MiB` : String(value);
}

const mib = (bytes: number): number => Math.round(bytes / MIB);
const uuid = (index: number): string =>
  `GPU-00000000-fa4e-0000-0000-${String(index).padStart(12, '0')}`;

function gpuRows(memory: Memory): Row[] {
  return memory.cards.map(({ name, totalBytes }, index) => {
    const free = memory.driverFreeBytes(index);
    return {
      ...{ index, uuid: uuid(index), name, driver_version: '550.54.14', compute_cap: '8.6' },
      'memory.total': mib(totalBytes),
      'memory.free': mib(free),
      'memory.used': mib(totalBytes) - mib(free),
      'memory.reserved': 0,
      'utilization.gpu': 0,
      'temperature.gpu': 40,
      'power.draw': '20.00',
      ...{ pstate: 'P8', 'mig.mode.current': '[N/A]', compute_mode: 'Default' },
      'pci.bus_id': `00000000:0${index + 1}:00.0`,
    };
  });
}

function appRows(memory: Memory): Row[] {
  return memory.cards.flatMap(({ foreignBytes }, index) => {
    const row = (pid: number, process_name: string, bytes: number): Row[] =>
      bytes === 0
        ? []
        : [
            {
              gpu_uuid: uuid(index),
              pid,
              process_name,
              used_memory: mib(bytes),
              used_gpu_memory: mib(bytes),
            },
          ];
    const own = row(PID + index, '/usr/local/bin/ollama', memory.ownedBytes(index));
    return [...own, ...row(FOREIGN_PID + index, '/usr/bin/game', foreignBytes)];
  });
}

/** Writes the script into a directory, to be put first in a PATH. Returns its path. */
export function writeNvidiaSmi(directory: string, url: string): string {
  const path = join(directory, 'nvidia-smi');
  const ask = `fetch("${url}/_fake/nvidia-smi",{method:"POST",body:JSON.stringify({args:process.argv.slice(1)})})
.then(async r=>process.stdout.write(await r.text()),e=>{console.error(String(e));process.exitCode=9})`;
  mkdirSync(directory, { recursive: true });
  writeFileSync(path, `#!/bin/sh\nexec "${process.execPath}" -e '${ask}' -- "$@"\n`);
  chmodSync(path, 0o755);
  return path;
}
