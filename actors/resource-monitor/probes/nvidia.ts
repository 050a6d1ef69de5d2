/**
 * NVIDIA cards through `nvidia-smi`, asynchronously and with a time limit, so that a hanging driver
 * never holds up the event loop.
 *
 * N1: a field that is empty, `[N/A]` or not a number is unknown (null), never 0; a real 0 stays 0.
 * N2: where a card has no memory of its own (`[N/A]`: GB10, GH200, Jetson) it shares the host's:
 *     the figures are those of the host's memory and `unified` is set.
 */
import { execa } from 'execa';
import type { GpuAdvert } from '../../../protocol/node.ts';

const FIELDS =
  'index,uuid,name,memory.total,memory.used,memory.free,utilization.gpu,temperature.gpu,power.draw';
const MIB = 1024 * 1024;
const TIMEOUT_MS = 5_000;
const OUTPUT_BYTES_MAX = 256 * 1024;

export type GpuProbe =
  | { readonly kind: 'found'; readonly gpus: readonly GpuAdvert[] }
  | { readonly kind: 'absent' }
  | { readonly kind: 'unknown'; readonly reason: string };

export interface HostMemory {
  readonly total_bytes: number;
  readonly available_bytes: number;
}

export interface NvidiaOptions {
  /** Name or path of the tool. */
  readonly command?: string;
  readonly host: HostMemory;
  readonly now: number;
  readonly signal: AbortSignal;
}

export async function probeNvidia(options: NvidiaOptions): Promise<GpuProbe> {
  const result = await execa(
    options.command ?? 'nvidia-smi',
    [`--query-gpu=${FIELDS}`, '--format=csv,noheader,nounits'],
    {
      reject: false,
      timeout: TIMEOUT_MS,
      killSignal: 'SIGKILL',
      cancelSignal: options.signal,
      maxBuffer: OUTPUT_BYTES_MAX,
      stdin: 'ignore',
    },
  );
  if (result.code === 'ENOENT') return { kind: 'absent' };
  if (result.timedOut) return { kind: 'unknown', reason: `nvidia-smi took over ${TIMEOUT_MS} ms` };
  if (result.failed) {
    const said = `${result.stderr}\n${result.stdout}`.trim().split('\n')[0] ?? '';
    return { kind: 'unknown', reason: `nvidia-smi failed: ${said.slice(0, 300)}` };
  }
  return parseNvidia(result.stdout, options.host, options.now);
}

/** The output of `nvidia-smi` (MiB, percent, °C, W) as adverts. */
export function parseNvidia(output: string, host: HostMemory, now: number): GpuProbe {
  const lines = output.split('\n').filter(line => line.trim() !== '');
  if (/^no devices were found/i.test(lines[0] ?? '')) return { kind: 'found', gpus: [] };
  const gpus: GpuAdvert[] = [];
  for (const line of lines) {
    const gpu = parseLine(line, host, now);
    if (gpu === null) {
      return { kind: 'unknown', reason: `nvidia-smi said: ${line.slice(0, 300)}` };
    }
    gpus.push(gpu);
  }
  return { kind: 'found', gpus };
}

function parseLine(line: string, host: HostMemory, now: number): GpuAdvert | null {
  const cells = line.split(',').map(cell => cell.trim());
  const index = figure(cells[0]);
  const name = cells[2];
  if (cells.length !== 9 || index === null || name === undefined || name === '') return null;
  const total = mebibytes(cells[3]);
  const unified = total === null;
  const utilization = figure(cells[6]);
  return {
    index,
    uuid: cells[1] === undefined || cells[1] === '' ? null : cells[1],
    name,
    vendor: 'nvidia',
    total_bytes: unified ? host.total_bytes : total,
    used_bytes: unified ? host.total_bytes - host.available_bytes : mebibytes(cells[4]),
    free_bytes: unified ? host.available_bytes : mebibytes(cells[5]),
    unified,
    utilization: utilization === null ? null : Math.min(1, utilization / 100),
    temperature_c: figure(cells[7]),
    power_w: figure(cells[8]),
    source: 'nvidia-smi',
    measured_at: now,
  };
}

function figure(cell: string | undefined): number | null {
  if (cell === undefined || !/^[0-9]+(\.[0-9]+)?$/.test(cell)) return null;
  return Number(cell);
}

function mebibytes(cell: string | undefined): number | null {
  const value = figure(cell);
  return value === null ? null : Math.round(value * MIB);
}
