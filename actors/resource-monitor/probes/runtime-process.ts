/**
 * Which processes on a card are model runtimes of this node, and what everybody else holds.
 *
 * R1: foreign use is known only where every process is: one unnamed or unmeasured process, or a
 *     process table that shows a container alone, and it is null.
 */
import { readlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { GpuProcess } from '../../../protocol/node.ts';
import type { Card } from '../card.ts';

/** Ollama, its runners of all ages, and the programs of llama.cpp. */
const RUNTIME = /^(ollama|ollama[-_].+|llama-.+|llama_cpp.*|llama-?box|ggml-.+|rpc-server)$/i;

/** The inode of the first process namespace is a constant of the Linux kernel. */
const HOST_NAMESPACE = 'pid:[4026531836]';

/** @param program a path or bare name, as a driver or `/proc/<pid>/comm` says it; null: unnamed */
export function gpuProcess(pid: number, program: string | null, bytes: number | null): GpuProcess {
  const name = program === null ? null : baseName(program);
  return { pid, name: name ?? 'unknown', bytes, runtime: name !== null && RUNTIME.test(name) };
}

function baseName(program: string): string | null {
  const name = program.trim().split(/[/\\]/).at(-1) ?? '';
  // `[Not Found]`, `[Insufficient Permissions]`: a process of another namespace or user.
  return name === '' || name.startsWith('[') ? null : name.replace(/\.exe$/i, '');
}

/**
 * The card with its processes, and with what programs other than model runtimes hold of it.
 * @param areAll whether `processes` is everything that can hold memory of this card
 */
export function withProcesses(card: Card, processes: readonly GpuProcess[], areAll: boolean): Card {
  const isKnown =
    areAll &&
    card.used_bytes !== null &&
    processes.every(({ bytes, name }) => bytes !== null && name !== 'unknown');
  const ours = processes
    .filter(process => process.runtime)
    .reduce((sum, process) => sum + (process.bytes ?? 0), 0);
  return {
    ...card,
    processes,
    foreign_bytes: isKnown ? Math.max(0, (card.used_bytes ?? 0) - ours) : null, // R1
  };
}

/** Whether this process sees the processes of the whole machine, and not of its container alone. */
export async function seesAllProcesses(root: string): Promise<boolean> {
  if (process.platform !== 'linux') return true;
  try {
    return (await readlink(join(root, '/proc/self/ns/pid'))) === HOST_NAMESPACE;
  } catch {
    return false; // Without /proc nobody can tell, which is what false says.
  }
}
