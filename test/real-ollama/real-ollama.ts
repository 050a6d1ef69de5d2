/**
 * Real `ollama serve` processes with small models, for tests: each has a port and an environment of
 * its own, so several of them are several nodes. The program and the models are kept in
 * `${XDG_CACHE_HOME:-~/.cache}/codegod-test/ollama`; with CI=true they are made where missing
 * (minutes, see build.sh), elsewhere the tests that need them are skipped, aloud.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { freePort } from '../nats-fixture.ts';
import { sourcePath } from '../source-tree.ts';
import { writeModelGguf } from './model-gguf.ts';
import { type TestModel, TINY } from './test-models.ts';

const BUILD_MS = 900_000;
const READY_MS = 20_000;
const STOP_MS = 5_000;
export const TINY_MODEL = 'tiny:latest';

/** Part of the name of the models' directory: another one whenever the same shape makes another file. */
const FILES_VERSION = 3;

export interface RealOllamaOptions {
  /** By default the tiny one alone. */
  readonly models?: readonly TestModel[];
  /** Such as OLLAMA_NUM_PARALLEL. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface RealOllama {
  readonly host: string;
  readonly pid: number;
  /** SIGKILL. */
  kill(): Promise<void>;
  stop(): Promise<void>;
}

interface Environment extends Readonly<Record<string, string>> {
  readonly OLLAMA_MODELS: string;
}

export type RealOllamaResult =
  | { readonly kind: 'running'; readonly ollama: RealOllama }
  | { readonly kind: 'skipped'; readonly reason: string };

/** Starts a server of its own; its models directory is shared by all tests that use the same models. */
export async function startRealOllama(options: RealOllamaOptions = {}): Promise<RealOllamaResult> {
  const { models = [TINY], env = {} } = options;
  const reason = await findRealOllama();
  if (reason !== null) return { kind: 'skipped', reason };
  const cache = cacheDirectory();
  const binary = join(cache, 'ollama');
  const home = await mkdtemp(join(tmpdir(), 'codegod-ollama-'));
  const port = await freePort();
  const content = JSON.stringify([FILES_VERSION, models]);
  const hash = createHash('sha256').update(content).digest('hex').slice(0, 12);
  const environment = {
    PATH: process.env['PATH'] ?? '',
    HOME: home,
    OLLAMA_HOST: `127.0.0.1:${port}`,
    OLLAMA_MODELS: join(cache, `models-${hash}`),
    ...env,
  };
  if (!existsSync(environment.OLLAMA_MODELS)) {
    await createModels(models, { binary, environment, cache, port });
  }
  const server = await serve(binary, environment, port);
  return {
    kind: 'running',
    ollama: {
      host: `http://127.0.0.1:${port}`,
      pid: server.pid ?? -1,
      kill: () => end(server, 'SIGKILL'),
      async stop() {
        await end(server, 'SIGTERM');
        await rm(home, { recursive: true, force: true });
      },
    },
  };
}

/** The official program; it is there where a server was started. */
export const realOllamaProgram = (): string => join(cacheDirectory(), 'ollama');

/** Null where there is one, if need be a new one; otherwise why there is none. */
export async function findRealOllama(): Promise<string | null> {
  const cache = cacheDirectory();
  return existsSync(join(cache, 'ollama')) ? null : await build(cache);
}

function cacheDirectory(): string {
  const caches = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache');
  return join(caches, 'codegod-test/ollama');
}

/** Null where the program was built, otherwise why there is none. */
async function build(cache: string): Promise<string | null> {
  const script = sourcePath('test/real-ollama/build.sh');
  if (process.env['CI'] !== 'true') {
    return `no ${join(cache, 'ollama')}: run ${script} once (minutes), or set CI=true`;
  }
  try {
    await promisify(execFile)('sh', [script, cache], { timeout: BUILD_MS, maxBuffer: 16 << 20 });
    return null;
  } catch (error) {
    const { stderr } = error as { readonly stderr?: string };
    return `building ollama failed: ${(stderr ?? String(error)).trim().slice(-400)}`;
  }
}

interface Workshop {
  readonly binary: string;
  readonly environment: Environment;
  readonly cache: string;
  readonly port: number;
}

/** Made in a directory of its own and moved into place whole. */
async function createModels(models: readonly TestModel[], workshop: Workshop): Promise<void> {
  const { binary, environment, cache, port } = workshop;
  const draft = await mkdtemp(join(cache, 'models-draft-'));
  await mkdir(join(draft, 'models'));
  const env: Environment = { ...environment, OLLAMA_MODELS: join(draft, 'models') };
  const server = await serve(binary, env, port);
  try {
    for (const { name, shape, template } of models) {
      writeModelGguf(join(draft, `${name}.gguf`), shape);
      // One thread: several wait for each other by spinning, which takes seconds on a busy machine.
      const lines = [`FROM ./${name}.gguf`, 'PARAMETER num_thread 1'];
      if (template !== '') lines.push(`TEMPLATE """${template}"""`, 'PARAMETER stop <|im_end|>');
      await writeFile(join(draft, 'Modelfile'), `${lines.join('\n')}\n`);
      const options = { cwd: draft, env, timeout: READY_MS };
      await promisify(execFile)(binary, ['create', name, '-f', 'Modelfile'], options);
    }
  } finally {
    await end(server, 'SIGTERM');
  }
  try {
    await rename(join(draft, 'models'), environment.OLLAMA_MODELS);
  } catch (error) {
    // Another test was first: its models are as good.
    if (!existsSync(environment.OLLAMA_MODELS)) throw error;
  }
  await rm(draft, { recursive: true, force: true });
}

async function serve(
  binary: string,
  env: Readonly<Record<string, string>>,
  port: number,
): Promise<ChildProcess> {
  // A group of its own: a server that is killed leaves its runner behind.
  const server = spawn(binary, ['serve'], { env, stdio: 'ignore', detached: true });
  const killWithTest = (): void => signalGroup(server, 'SIGKILL');
  process.once('exit', killWithTest);
  server.once('exit', () => process.removeListener('exit', killWithTest));
  const untilMs = Date.now() + READY_MS;
  while (Date.now() < untilMs && server.exitCode === null) {
    if (await answers(port)) return server;
    await sleep(50);
  }
  await end(server, 'SIGKILL');
  throw new Error('ollama serve did not become ready');
}

async function answers(port: number): Promise<boolean> {
  try {
    const url = `http://127.0.0.1:${port}/api/version`;
    return (await fetch(url, { signal: AbortSignal.timeout(1_000) })).ok;
  } catch {
    return false;
  }
}

async function end(server: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (server.exitCode === null && server.signalCode === null) {
    const exited = new Promise<void>(resolve => server.once('exit', () => resolve()));
    server.kill(signal);
    const timer = setTimeout(() => server.kill('SIGKILL'), STOP_MS);
    await exited;
    clearTimeout(timer);
  }
  signalGroup(server, 'SIGKILL');
}

function signalGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch (error) {
    // Nobody is left in the group: that is what was wanted.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
