/** The engines behind every contestant: fake nodes, each a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { freePort } from '../../test/nats-fixture.ts';
import { programOf } from '../../test/source-tree.ts';
import type { Backend } from './peers.ts';

export interface EngineOptions {
  readonly name: string;
  readonly vramBytes: number;
  /** As `bench/fake-node/main.ts` takes them: `big:32b,size=20GiB,load=1s,decode=200`. */
  readonly models: readonly string[];
  readonly parallel: number;
}

/** What a fake node counts; see `bench/fake-node/README.md`. */
export interface EngineStats {
  readonly loads: number;
  readonly requests: number;
}

export interface Engine extends Backend {
  stats(): Promise<EngineStats>;
  /** Gives all memory back, so that the next contestant starts as the first one did. */
  clear(): Promise<void>;
  stop(): Promise<void>;
}

export async function startEngine(options: EngineOptions): Promise<Engine> {
  const port = await freePort();
  const child = spawn(
    process.execPath,
    [
      ...programOf('bench/fake-node/main.ts'),
      ...['--port', String(port), '--vram', String(options.vramBytes)],
      ...options.models.flatMap(model => ['--model', model]),
    ],
    {
      env: {
        ...process.env,
        OLLAMA_NUM_PARALLEL: String(options.parallel),
        // What clients of the OpenAI path get, who cannot ask for a context.
        OLLAMA_CONTEXT_LENGTH: '4096',
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  await once(createInterface({ input: child.stdout }), 'line');
  const url = `http://127.0.0.1:${port}`;
  const names = options.models.map(model => model.split(',', 1)[0] ?? model);
  return {
    ...{ name: options.name, host: '127.0.0.1', port, models: names },
    parallel: options.parallel,
    vramBytes: options.vramBytes,
    stats: async () => (await (await fetch(`${url}/_fake/stats`)).json()) as EngineStats,
    async clear() {
      for (const model of names) {
        const body = JSON.stringify({ model, messages: [], keep_alive: 0, stream: false });
        await (await fetch(`${url}/api/chat`, { method: 'POST', body })).arrayBuffer();
      }
    },
    stop: () => end(child),
  };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}
