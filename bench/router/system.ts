/**
 * A whole Code-God for the router benchmark: a bus server, a master, and per node a monitor and a
 * worker, each a process of its own as `codegod up` starts them, without gateway and supervisor.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { actorFlags } from '../../runtime/paths.ts';
import { freePort, startNats } from '../../test/nats-fixture.ts';
import { programOf } from '../../test/source-tree.ts';
import type { Backend } from './peers.ts';

const READY_MS = 60_000;
const POLL_MS = 100;

export interface BenchSystem {
  readonly host: string;
  readonly port: number;
  /** Of master, workers and monitors, for measuring what they use. */
  readonly pids: readonly number[];
  stop(): Promise<void>;
}

/** Resolves when the master leads and every node has been heard of with its models. */
export async function startSystem(backends: readonly Backend[]): Promise<BenchSystem> {
  const home = mkdtempSync(join(tmpdir(), 'codegod-bench-'));
  const nats = await startNats();
  const port = await freePort();
  const common = {
    CODEGOD_BUS_URL: nats.url,
    CODEGOD_BUS_MONITORING_URL: nats.monitorUrl,
    CODEGOD_LOG_LEVEL: 'warn',
    CODEGOD_HTTP_PORT: String(port),
  };
  const children: ChildProcess[] = [];
  const start = (node: string, actor: string, more: Record<string, string>): void => {
    const folder = join(home, node);
    mkdirSync(folder, { recursive: true });
    const log = openSync(join(folder, `${actor}.log`), 'a');
    const env = { ...process.env, ...common, ...more };
    children.push(
      spawn(process.execPath, [...actorFlags(actor), ...programOf(`actors/${actor}/main.ts`)], {
        env: { ...env, CODEGOD_HOME: folder, CODEGOD_NODE_NAME: node },
        stdio: ['ignore', log, log],
      }),
    );
  };
  for (const { name, host, port: enginePort, vramBytes, parallel } of backends) {
    const more = {
      CODEGOD_OLLAMA_HOST: `http://${host}:${enginePort}`,
      CODEGOD_NODE_GPUS: JSON.stringify([{ name: 'fake', vram_bytes: vramBytes }]),
      CODEGOD_OLLAMA_NUM_PARALLEL: String(parallel),
      CODEGOD_NODE_RESERVE_BYTES: '0',
      CODEGOD_NODE_OFFLOAD: 'deny',
    };
    start(name, 'resource-monitor', more);
    start(name, 'worker', more);
  }
  start(backends[0]?.name ?? 'a', 'master', {});
  const stop = async (): Promise<void> => {
    await Promise.all(children.map(end));
    await nats.stop();
    rmSync(home, { recursive: true, force: true });
  };
  try {
    await ready(`http://127.0.0.1:${port}`, backends.length);
  } catch (error) {
    const log = readFileSync(join(home, backends[0]?.name ?? 'a', 'master.log'), 'utf8');
    await stop();
    throw new Error(`the system is not ready: ${String(error)}\n${log.slice(-2_000)}`);
  }
  const pids = children.flatMap(({ pid }) => (pid === undefined ? [] : [pid]));
  return { host: '127.0.0.1', port, pids, stop };
}

async function ready(url: string, nodes: number): Promise<void> {
  for (let waited = 0; waited < READY_MS; waited += POLL_MS) {
    await sleep(POLL_MS);
    try {
      const response = await fetch(`${url}/nodes`);
      const { nodes: seen } = (await response.json()) as { nodes: readonly SeenNode[] };
      const complete = seen.filter(
        ({ runtime, capacity }) =>
          capacity !== null &&
          runtime?.state === 'ready' &&
          runtime.engines.some(({ name, models }) => name === 'ollama' && models.length > 0),
      );
      if (complete.length === nodes && (await fetch(`${url}/readyz`)).ok) return;
    } catch {
      // Not listening yet.
    }
  }
  throw new Error(`${nodes} nodes were not ready within ${READY_MS} ms`);
}

interface SeenNode {
  readonly capacity: object | null;
  readonly runtime: {
    readonly state: string;
    readonly engines: readonly { readonly name: string; readonly models: readonly object[] }[];
  } | null;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise<void>(resolve => child.once('exit', () => resolve()));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 12_000);
  await exited;
  clearTimeout(timer);
}
