/**
 * A real nats-server for a test: its own ports, its own store directory, synced to disk. A test file
 * starts one server and stops it in `after`.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { testServerBinary } from '../runtime/nats-server/test-server.ts';

const READY_MS = 10_000;
const STOP_MS = 5_000;

export interface NatsFixtureOptions {
  /** Configuration to append, such as an `authorization` block. */
  readonly config?: string;
  /** Overrides of the defaults; `sync: 'default'` leaves `sync_interval` out. */
  readonly sync?: 'always' | 'default';
  readonly maxPayloadBytes?: number;
}

export interface NatsFixture {
  readonly url: string;
  readonly port: number;
  readonly monitorUrl: string;
  readonly storeDirectory: string;
  /** The process id of the running server. */
  readonly pid: number;
  /** SIGKILL: no goodbye to clients, nothing flushed. */
  kill9(): Promise<void>;
  /** Starts the server again on the same ports and store, with another `sync` or room if given. */
  restart(sync?: 'always' | 'default', maxFileStore?: string): Promise<void>;
  /** Ends the server and removes its directory. */
  stop(): Promise<void>;
}

export async function startNats(options: NatsFixtureOptions = {}): Promise<NatsFixture> {
  const directory = await mkdtemp(join(tmpdir(), 'codegod-nats-'));
  const [port, monitorPort] = await Promise.all([freePort(), freePort()]);
  const storeDirectory = join(directory, 'store');
  const configFile = join(directory, 'nats.conf');
  const configure = (sync: NatsFixtureOptions['sync'], maxFileStore = '1G'): Promise<void> =>
    writeFile(
      configFile,
      [
        `listen: 127.0.0.1:${port}`,
        `http: 127.0.0.1:${monitorPort}`,
        `jetstream { store_dir: ${JSON.stringify(storeDirectory)}, max_file_store: ${maxFileStore}, ${sync === 'default' ? '' : 'sync_interval: always'} }`,
        `max_payload: ${options.maxPayloadBytes ?? 1_048_576}`,
        options.config ?? '',
      ].join('\n'),
    );
  await configure(options.sync);
  const binary = await testServerBinary();
  const monitorUrl = `http://127.0.0.1:${monitorPort}`;
  const logFile = join(directory, 'nats.log');
  const start = (): Promise<ChildProcess> => run(binary, configFile, logFile, monitorUrl);
  let server = await start();
  return {
    url: `nats://127.0.0.1:${port}`,
    port,
    monitorUrl,
    storeDirectory,
    get pid() {
      return server.pid ?? -1;
    },
    async kill9() {
      await end(server, 'SIGKILL');
    },
    async restart(sync = options.sync, maxFileStore = undefined) {
      await end(server, 'SIGKILL');
      await configure(sync, maxFileStore);
      server = await start();
    },
    async stop() {
      await end(server, 'SIGTERM');
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** A port that was free a moment ago, on loopback. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}

async function run(
  binary: string,
  configFile: string,
  logFile: string,
  monitorUrl: string,
): Promise<ChildProcess> {
  const server = spawn(binary, ['-c', configFile, '-l', logFile], { stdio: 'ignore' });
  const killWithTest = (): void => {
    server.kill('SIGKILL');
  };
  process.once('exit', killWithTest);
  server.once('exit', () => process.removeListener('exit', killWithTest));
  const deadlineMs = Date.now() + READY_MS;
  while (Date.now() < deadlineMs && server.exitCode === null) {
    if (await isHealthy(monitorUrl)) return server;
    await sleep(20);
  }
  await end(server, 'SIGKILL');
  const log = await readFile(logFile, 'utf8').catch(() => 'no log');
  throw new Error(`nats-server did not become ready:\n${log.slice(-4_000)}`);
}

async function isHealthy(monitorUrl: string): Promise<boolean> {
  try {
    const response = await fetch(`${monitorUrl}/healthz`, { signal: AbortSignal.timeout(1_000) });
    return response.ok;
  } catch {
    return false;
  }
}

async function end(server: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  const exited = new Promise<void>(resolve => server.once('exit', () => resolve()));
  server.kill(signal);
  const timer = setTimeout(() => server.kill('SIGKILL'), STOP_MS);
  await exited;
  clearTimeout(timer);
}
