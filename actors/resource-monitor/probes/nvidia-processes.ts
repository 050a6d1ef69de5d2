/** The processes that compute on NVIDIA cards, as `nvidia-smi --query-compute-apps` lists them. */
import type { GpuProcess } from '../../../protocol/node.ts';
import { gpuProcess } from './runtime-process.ts';

export const processQuery: readonly string[] = [
  '--query-compute-apps=gpu_uuid,pid,process_name,used_memory',
  '--format=csv,noheader,nounits',
];

const MIB = 1024 * 1024;

export interface NvidiaProcess {
  /** Of the card it computes on. */
  readonly uuid: string;
  readonly process: GpuProcess;
}

/** Memory in MiB, or `[N/A]` where the driver does not tell. Null for anything but such a list. */
export function parseProcesses(output: string): NvidiaProcess[] | null {
  const found: NvidiaProcess[] = [];
  for (const line of output.split('\n').filter(text => text.trim() !== '')) {
    // Commas may stand in a program's path, nowhere else.
    const [uuid = '', pid = '', ...rest] = line.split(',').map(part => part.trim());
    if (uuid === '' || !/^[0-9]+$/.test(pid) || rest.length < 2) {
      return /^no running processes/i.test(line) ? [] : null;
    }
    const memory = rest.at(-1) ?? '';
    const program = line.slice(line.indexOf(',', line.indexOf(',') + 1) + 1, line.lastIndexOf(','));
    const bytes = /^[0-9]+$/.test(memory) ? Number(memory) * MIB : null;
    found.push({ uuid, process: gpuProcess(Number(pid), program.trim(), bytes) });
  }
  return found;
}
