/** A real Ollama on a machine of a test's network. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { startRealOllama } from '../real-ollama/real-ollama.ts';
import type { Machine } from './pool-world.ts';

export interface OllamaFiles {
  readonly binary: string;
  /** With the model `tiny`. */
  readonly models: string;
}

/** Where the program and the models lie, as a server that was just started tells; or why there is none. */
export async function findOllama(): Promise<OllamaFiles | string> {
  const started = await startRealOllama();
  if (started.kind === 'skipped') return started.reason;
  const { pid } = started.ollama;
  const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
  await started.ollama.stop();
  const name = 'OLLAMA_MODELS=';
  const models = environment.find(line => line.startsWith(name))?.slice(name.length);
  if (models === undefined) throw new Error('the server of the tests has no folder of models');
  return { binary: join(models, '..', 'ollama'), models };
}

/** It ends with the machine. */
export function serveOllama(machine: Machine, { binary, models }: OllamaFiles): void {
  const [program, args] = machine.net.command(binary, ['serve']);
  const env = {
    PATH: process.env['PATH'] ?? '',
    HOME: machine.home,
    OLLAMA_MODELS: models,
    OLLAMA_HOST: '127.0.0.1:11434',
  };
  spawn(program, args, { env, stdio: 'ignore', detached: true }).unref();
}
