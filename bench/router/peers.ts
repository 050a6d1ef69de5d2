/**
 * Everything that can stand in front of the same engines: nothing at all, this product, and other
 * routers. Of each: how it is started, and the path, headers and dialect of a request through it.
 *
 * P1: every peer is set up as its own pages advise for this use: no request log, no rate limit, no
 *     short header timeout, so that nothing but its work is measured.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../../test/nats-fixture.ts';
import { startSystem } from './system.ts';

const START_MS = 240_000;
const POLL_MS = 200;

/** One engine: a fake node or a real Ollama. */
export interface Backend {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly vramBytes: number;
  readonly models: readonly string[];
  /** Its OLLAMA_NUM_PARALLEL. */
  readonly parallel: number;
}

export interface Door {
  readonly host: string;
  readonly port: number;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
}

export interface RunningPeer {
  readonly door: Door;
  stop(): Promise<void>;
}

export interface Peer {
  readonly name: string;
  /** Whether it chooses among several engines; a proxy for one host cannot run the agent trace. */
  readonly routes: boolean;
  /** Why it cannot be run here, or null. */
  missing(): string | null;
  start(backends: readonly Backend[]): Promise<RunningPeer>;
}

/** Paths of programs that are not ours, as given on the command line. */
export interface Programs {
  readonly olla?: string | undefined;
  readonly llamaSwap?: string | undefined;
  readonly litellm?: string | undefined;
  /** A folder with `node_modules/@portkey-ai/gateway`. */
  readonly portkey?: string | undefined;
}

const JSON_HEADERS = { 'content-type': 'application/json' };

export const peers = (programs: Programs): readonly Peer[] => [
  direct(),
  ours('codegod', '/api/chat'),
  ours('codegod-openai', '/v1/chat/completions'),
  olla(programs.olla),
  llamaSwap(programs.llamaSwap),
  litellm(programs.litellm),
  portkey(programs.portkey),
];

function direct(): Peer {
  return {
    name: 'direct',
    routes: false,
    missing: () => null,
    async start([backend]) {
      if (backend === undefined) throw new Error('no engine');
      const { host, port } = backend;
      const door = { host, port, path: '/api/chat', headers: JSON_HEADERS };
      return { door, stop: async () => {} };
    },
  };
}

function ours(name: string, path: string): Peer {
  return {
    name,
    routes: true,
    missing: () => null,
    async start(backends) {
      const system = await startSystem(backends);
      const door = { host: system.host, port: system.port, path, headers: JSON_HEADERS };
      return { door, stop: system.stop };
    },
  };
}

function olla(program: string | undefined): Peer {
  const config = (port: number, backends: readonly Backend[]): string =>
    JSON.stringify({
      server: {
        host: '127.0.0.1',
        port,
        request_logging: false,
        rate_limits: {
          global_requests_per_minute: 1e8,
          per_ip_requests_per_minute: 1e8,
          health_requests_per_minute: 1e8,
          burst_size: 1e6,
        },
      },
      proxy: {
        engine: 'olla',
        profile: 'auto',
        load_balancer: 'least-connections',
        response_header_timeout: '600s',
      },
      discovery: {
        type: 'static',
        refresh_interval: '30s',
        static: {
          endpoints: backends.map(({ name, host, port: enginePort }) => ({
            url: `http://${host}:${enginePort}`,
            name,
            type: 'ollama',
            priority: 100,
            model_url: '/api/tags',
            health_check_url: '/',
            check_interval: '2s',
            check_timeout: '1s',
          })),
        },
      },
      logging: { level: 'error' },
    });
  return {
    name: 'olla',
    routes: true,
    missing: () => absence(program, '--olla'),
    start: backends =>
      startProgram({
        name: 'olla',
        file: 'config.yaml', // JSON is YAML.
        config: port => config(port, backends),
        command: (_port, file) => [program ?? '', '--config', file],
        door: { path: '/olla/ollama/api/chat', headers: JSON_HEADERS },
        probe: '/internal/health',
      }),
  };
}

function llamaSwap(program: string | undefined): Peer {
  return {
    name: 'llama-swap',
    routes: false,
    missing: () => absence(program, '--llama-swap'),
    start: ([backend]) =>
      startProgram({
        name: 'llama-swap',
        file: 'config.yaml',
        config: () =>
          JSON.stringify({
            logLevel: 'error',
            models: Object.fromEntries(
              (backend?.models ?? []).map(model => [
                model,
                {
                  cmd: 'sleep 100000',
                  proxy: `http://${backend?.host}:${backend?.port}`,
                  checkEndpoint: '/',
                  concurrencyLimit: 1_000,
                },
              ]),
            ),
          }),
        command: (port, file) => [program ?? '', '--config', file, '--listen', `127.0.0.1:${port}`],
        door: { path: '/v1/chat/completions', headers: JSON_HEADERS },
        probe: '/health',
      }),
  };
}

const LITELLM_KEY = 'sk-bench';

function litellm(program: string | undefined): Peer {
  return {
    name: 'litellm',
    routes: true,
    missing: () => absence(program, '--litellm'),
    start: backends =>
      startProgram({
        name: 'litellm',
        file: 'config.yaml',
        config: () =>
          JSON.stringify({
            model_list: backends.flatMap(({ host, port, models }) =>
              models.map(model => ({
                model_name: model,
                litellm_params: {
                  model: `ollama_chat/${model}`,
                  api_base: `http://${host}:${port}`,
                },
              })),
            ),
            router_settings: { routing_strategy: 'least-busy' },
            litellm_settings: { telemetry: false, drop_params: true, request_timeout: 600 },
          }),
        command: (port, file) => [
          ...[program ?? '', '--config', file, '--host', '127.0.0.1'],
          ...['--port', String(port), '--num_workers', '2'],
        ],
        env: { LITELLM_MASTER_KEY: LITELLM_KEY, LITELLM_LOG: 'ERROR' },
        door: {
          path: '/v1/chat/completions',
          headers: { ...JSON_HEADERS, authorization: `Bearer ${LITELLM_KEY}` },
        },
        probe: '/health/liveliness',
      }),
  };
}

function portkey(folder: string | undefined): Peer {
  const script = join(folder ?? '', 'node_modules/@portkey-ai/gateway/build/start-server.js');
  return {
    name: 'portkey',
    routes: true,
    missing: () => absence(folder === undefined ? undefined : script, '--portkey'),
    start: backends =>
      startProgram({
        name: 'portkey',
        file: 'unused',
        config: () => '',
        command: port => [process.execPath, script, `--port=${port}`, '--headless'],
        door: {
          path: '/v1/chat/completions',
          headers: {
            ...JSON_HEADERS,
            'x-portkey-config': JSON.stringify({
              strategy: { mode: 'loadbalance' },
              targets: backends.map(({ host, port }) => ({
                provider: 'ollama',
                custom_host: `http://${host}:${port}`,
                weight: 1,
              })),
            }),
          },
        },
        probe: '/',
      }),
  };
}

function absence(path: string | undefined, flag: string): string | null {
  if (path === undefined) return `not given (${flag} PATH)`;
  return existsSync(path) ? null : `${path} does not exist`;
}

interface ProgramOptions {
  readonly name: string;
  readonly file: string;
  readonly config: (port: number) => string;
  readonly command: (port: number, file: string) => readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly door: Pick<Door, 'path' | 'headers'>;
  /** A path that answers once it listens. */
  readonly probe: string;
}

async function startProgram(options: ProgramOptions): Promise<RunningPeer> {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), `codegod-bench-${options.name}-`));
  const file = join(folder, options.file);
  writeFileSync(file, options.config(port));
  const [program = '', ...args] = options.command(port, file);
  const env = { ...process.env, ...options.env };
  const child = spawn(program, args, { cwd: folder, env, stdio: 'ignore', detached: true });
  const stop = async (): Promise<void> => {
    await endGroup(child);
    rmSync(folder, { recursive: true, force: true });
  };
  for (let waited = 0; waited < START_MS; waited += POLL_MS) {
    await sleep(POLL_MS);
    if (child.exitCode !== null) break;
    if (await answers(`http://127.0.0.1:${port}${options.probe}`)) {
      return { door: { host: '127.0.0.1', port, ...options.door }, stop };
    }
  }
  await stop();
  throw new Error(`${options.name} did not start`);
}

async function answers(url: string): Promise<boolean> {
  try {
    return (await fetch(url, { signal: AbortSignal.timeout(1_000) })).status < 500;
  } catch {
    return false; // Not listening yet.
  }
}

async function endGroup(child: ChildProcess): Promise<void> {
  if (child.pid === undefined) return;
  const exited = new Promise<void>(resolve => child.once('exit', () => resolve()));
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error; // It has ended by itself.
  }
  if (child.exitCode === null && child.signalCode === null) await exited;
}
