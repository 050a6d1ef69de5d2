/**
 * Starts our own bus server as a child, and stops it.
 *
 * S1: it is ready only when its own monitoring port says so, and only if it really syncs every
 *     write and stores where we said: somebody else's server on the same port is not ours.
 * S2: it does not outlive its supervisor: on Linux the kernel ends it with its parent, and elsewhere
 *     a start ends what an earlier supervisor left behind (orphan.ts).
 * S3: while it is not ready, what it waits for is told; a store that it cannot read is not waited for.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, statfsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { CodeGodError } from '../../protocol/errors.ts';
import { FILE_BYTES_MAX } from '../../protocol/streams.ts';
import { monitoringPage } from '../bus-monitoring.ts';
import { systemClock } from '../clock.ts';
import { envFor } from '../config.ts';
import { plainEnvironment } from '../config-environment.ts';
import { withProcessLock } from '../process-lock.ts';
import { runProgram } from '../run-program.ts';
import { readSecret } from '../secret-file.ts';
import { type ChildProcess, startProgram } from '../spawn.ts';
import { renderConfig, replaceFile } from './configure.ts';
import { claimFolder, serverFile, stopOrphan } from './orphan.ts';
import { choosePorts, type Ports, rememberPorts } from './ports.ts';
import { type Door, reloadUsers, writeUsers } from './users.ts';
import { readVarz } from './verify.ts';

export interface LaunchOptions {
  readonly binary: string;
  /** Absolute. Configuration, pid file, remembered ports of this server. One server per folder. */
  readonly configDir: string;
  /** Absolute. */
  readonly storeDir: string;
  /** Explicit ports are kept or refused; others are chosen and remembered. */
  readonly port?: number | undefined;
  readonly monitoringPort?: number | undefined;
  /** Where clients connect; default 127.0.0.1. */
  readonly host?: string | undefined;
  readonly token?: string | undefined;
  readonly serverName?: string | undefined;
  /** One line of the server's log. */
  readonly log: (line: string) => void;
  readonly readyTimeoutMs?: number | undefined;
  /** Told every few seconds while it is not ready: what it says of itself, and since when. */
  readonly waits?: ((why: string, waitedMs: number) => void) | undefined;
}

export interface ServerExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface RunningServer {
  readonly pid: number;
  /** For clients on this machine; without any credentials. */
  readonly url: string;
  readonly monitoringUrl: string;
  readonly exited: Promise<ServerExit>;
  /** Tells clients to leave, then stops; at most about 10 seconds. Safe to call twice. */
  stopLameDuck(): Promise<void>;
  /** Ends it at once. */
  kill(): void;
  /** Lets in who may come by now, and out who may not any more. */
  refreshUsers(): Promise<void>;
}

// Recovering a large store on a slow disk takes long; a server that cannot start exits by itself.
const READY_TIMEOUT_MS = 60_000;
const READY_POLL_MS = 20;
/** From then on it is asked more seldom: each question is a line of its log. */
const SLOW_AFTER_MS = 2_000;
const SLOW_POLL_MS = 500;
const TOLD_EVERY_MS = 5_000;
/** Of a server that says it is ready: a moment later it may have opened the stream after all. */
const DAMAGED_AFTER_MS = 3_000;
const WHY_LENGTH_MAX = 500;
const HAS_STARTED = /Server is ready/;
const IS_DAMAGED = /could not be recovered/;
const LOOPBACK = '127.0.0.1';
const LAME_DUCK_MS = 3_000;
const TERMINATE_MS = 6_000;
const PORT_RETRIES_MAX = 3;
const LAST_LINES_MAX = 20;
const FREE_SHARE = 0.75;
const MONITORING_SECRET = /^[0-9a-f]{32}$/;

/**
 * Starts the server and waits until it is ready. Throws CodeGodError: `conflict` when a living
 * supervisor runs one from this folder, `config_invalid`, `port_in_use`, `timeout`, or
 * `bus_unavailable` with the last lines of its log.
 */
export async function launchNatsServer(options: LaunchOptions): Promise<RunningServer> {
  for (const folder of [options.configDir, options.storeDir]) {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  }
  const lock = join(options.configDir, 'nats-server.lock');
  const waitMs = (options.readyTimeoutMs ?? READY_TIMEOUT_MS) + TERMINATE_MS;
  return await withProcessLock(lock, { waitMs }, () => launchAlone(options));
}

async function launchAlone(options: LaunchOptions): Promise<RunningServer> {
  await stopOrphan(options.configDir);
  claimFolder(options.configDir);
  const wishes = {
    port: options.port,
    monitoringPort: options.monitoringPort,
    host: options.host ?? LOOPBACK,
    file: serverFile(options.configDir, 'ports'),
  };
  const prefix = await parentDeathPrefix(options.binary);
  for (let attempt = 1; ; attempt++) {
    const ports = await choosePorts(wishes);
    const outcome = await start(options, ports, prefix);
    if (outcome.kind === 'ready') {
      rememberPorts(wishes.file, ports);
      return outcome.server;
    }
    if (outcome.isPortTaken && attempt < PORT_RETRIES_MAX) continue;
    throw outcome.error;
  }
}

type Outcome =
  | { readonly kind: 'ready'; readonly server: RunningServer }
  | { readonly kind: 'failed'; readonly isPortTaken: boolean; readonly error: CodeGodError };

async function start(
  options: LaunchOptions,
  ports: Ports,
  prefix: readonly string[],
): Promise<Outcome> {
  const { configDir, token, host: listenHost = LOOPBACK } = options;
  const configFile = serverFile(configDir, 'config');
  const door = { configDir, host: listenHost, token };
  const users = writeUsers(door, systemClock.now());
  const monitoringPath = `/${monitoringSecret(configDir)}`;
  const config = renderConfig({
    host: listenHost,
    port: ports.port,
    monitoringPort: ports.monitoring_port,
    monitoringPath,
    storeDir: options.storeDir,
    maxFileStoreBytes: roomFor(options.storeDir),
    pidFile: serverFile(configDir, 'pid'),
    serverName: options.serverName ?? 'codegod',
    usersFile: basename(serverFile(configDir, 'users')),
  });
  replaceFile(configFile, config);
  const [program = options.binary, ...args] = [...prefix, options.binary, '-c', configFile];
  const child = startProgram(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...plainEnvironment(), ...envFor(['GOMAXPROCS', 'GOMEMLIMIT', 'GOGC']) },
    // A group of its own: Ctrl-C is for the supervisor, which stops the bus last.
    detached: process.platform !== 'win32',
  });
  let isStarted = false;
  const hasStarted = (): boolean => isStarted;
  const lastLines = followLog(child, line => {
    isStarted ||= HAS_STARTED.test(line);
    options.log(line);
  });
  const exited = exitOf(child);
  const monitoringUrl = `http://${LOOPBACK}:${ports.monitoring_port}${monitoringPath}`;
  const isEverywhere = listenHost === '0.0.0.0' || listenHost === '::';
  const host = isEverywhere ? LOOPBACK : listenHost;
  const url = `nats://${host.includes(':') ? `[${host}]` : host}:${ports.port}`;

  const state = await waitUntilReady(monitoringUrl, ports, options, { exited, hasStarted });
  if (state.kind === 'ready' && child.pid !== undefined) {
    const addresses = { url, monitoringUrl };
    const server = runningServer(child, child.pid, addresses, exited, {
      door: { ...door, monitoringUrl },
      loaded: users,
    });
    return { kind: 'ready', server };
  }
  child.kill('SIGKILL');
  await exited;
  const said = lastLines.join('\n');
  if (state.kind === 'damaged')
    return { kind: 'failed', isPortTaken: false, error: damaged(options, state.why) };
  const isPortTaken = /address already in use|Only one usage of each socket/i.test(said);
  const error =
    state.kind === 'silent'
      ? new CodeGodError('timeout', `the bus server is not ready in time: ${state.why ?? said}`)
      : new CodeGodError(
          isPortTaken ? 'port_in_use' : 'bus_unavailable',
          `the bus server does not start: ${said}`,
        );
  return { kind: 'failed', isPortTaken, error };
}

/** S3 */
function damaged({ storeDir }: LaunchOptions, why: string): CodeGodError {
  const help =
    'bring back a copy of that folder, or move it away: then the list of builds is empty, and their projects stay';
  return new CodeGodError(
    'bus_unavailable',
    `the store of the bus in ${storeDir} is damaged: ${why}; ${help}`,
  );
}

/** What streams, buckets and archives are promised, and for all else most of what is free, as the server reckons it. */
function roomFor(storeDir: string): number {
  const { bavail, bsize } = statfsSync(storeDir);
  return FILE_BYTES_MAX + Math.floor(bavail * bsize * FREE_SHARE);
}

/**
 * Made once for a folder, so that a restarted server is found where its clients look for it. A note
 * that holds something else than we write is made anew.
 */
function monitoringSecret(configDir: string): string {
  const file = serverFile(configDir, 'monitoring');
  const known = readSecret(file);
  if (known !== null && MONITORING_SECRET.test(known)) return known;
  const made = randomBytes(16).toString('hex');
  replaceFile(file, `${made}\n`);
  return made;
}

type Readiness =
  | { readonly kind: 'ready' | 'exited' }
  | { readonly kind: 'silent'; readonly why: string | null }
  | { readonly kind: 'damaged'; readonly why: string };

/** S1, S3. Asks often, since a small store is ready within 20 ms. */
async function waitUntilReady(
  monitoringUrl: string,
  ports: Ports,
  options: LaunchOptions,
  child: { readonly exited: Promise<ServerExit>; readonly hasStarted: () => boolean },
): Promise<Readiness> {
  const began = systemClock.monotonic();
  const isOurs = async (): Promise<boolean> => {
    const varz = await readVarz(monitoringUrl);
    const config = varz?.jetstream?.config;
    return (
      varz?.port === ports.port &&
      config?.sync_always === true &&
      config.store_dir.startsWith(options.storeDir)
    );
  };
  let why: string | null = null;
  let tellAtMs = TOLD_EVERY_MS;
  let damagedAtMs = Number.POSITIVE_INFINITY;
  for (;;) {
    const waitedMs = systemClock.monotonic() - began;
    if (waitedMs >= (options.readyTimeoutMs ?? READY_TIMEOUT_MS)) return { kind: 'silent', why };
    const trouble = await troubleOf(monitoringUrl);
    if (trouble === null && (await isOurs())) return { kind: 'ready' };
    why = trouble?.why ?? why;
    const isDamaged = why !== null && IS_DAMAGED.test(why) && child.hasStarted();
    damagedAtMs = isDamaged
      ? Math.min(damagedAtMs, waitedMs + DAMAGED_AFTER_MS)
      : Number.POSITIVE_INFINITY;
    if (why !== null && waitedMs >= damagedAtMs) return { kind: 'damaged', why };
    if (waitedMs >= tellAtMs) {
      tellAtMs += TOLD_EVERY_MS;
      options.waits?.(why ?? 'it does not answer yet', waitedMs);
    }
    const pause = systemClock.sleep(waitedMs < SLOW_AFTER_MS ? READY_POLL_MS : SLOW_POLL_MS);
    if ((await Promise.race([child.exited, pause])) !== undefined) return { kind: 'exited' };
  }
}

/** What keeps the server from being ready, in its own words where it has some; null: nothing. */
async function troubleOf(monitoringUrl: string): Promise<{ readonly why: string | null } | null> {
  try {
    const response = await fetch(monitoringPage(monitoringUrl, 'healthz'), {
      signal: AbortSignal.timeout(2_000),
    });
    const said: unknown = await response.json();
    if (response.ok) return null;
    const { error } = said as { readonly error?: unknown };
    return { why: typeof error === 'string' ? error.slice(0, WHY_LENGTH_MAX) : null };
  } catch {
    return { why: null }; // Not listening yet.
  }
}

function runningServer(
  child: ChildProcess,
  pid: number,
  addresses: Pick<RunningServer, 'url' | 'monitoringUrl'>,
  exited: Promise<ServerExit>,
  users: { readonly door: Door; readonly loaded: string },
): RunningServer {
  let loaded: string | null = users.loaded;
  return {
    pid,
    ...addresses,
    exited,
    refreshUsers: async () => {
      loaded = await reloadUsers(users.door, systemClock.now(), loaded);
    },
    kill: () => {
      child.kill('SIGKILL');
    },
    stopLameDuck: async () => {
      const isWindows = process.platform === 'win32';
      if (!isWindows) child.kill('SIGUSR2');
      if (!isWindows && (await endsWithin(exited, LAME_DUCK_MS))) return;
      child.kill('SIGTERM');
      if (await endsWithin(exited, TERMINATE_MS)) return;
      child.kill('SIGKILL');
      await exited;
    },
  };
}

async function endsWithin(exited: Promise<ServerExit>, waitMs: number): Promise<boolean> {
  const cancel = new AbortController();
  const timeUp = systemClock.sleep(waitMs, cancel.signal).then(
    () => false,
    () => false,
  );
  const ended = await Promise.race([exited.then(() => true), timeUp]);
  cancel.abort();
  return ended;
}

/** Hands each line on; returns the (live) list of the last ones, for an error message. */
function followLog(child: ChildProcess, log: (line: string) => void): readonly string[] {
  const lastLines: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    if (!stream) continue;
    createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY }).on('line', line => {
      lastLines.push(line);
      if (lastLines.length > LAST_LINES_MAX) lastLines.shift();
      log(line);
    });
  }
  return lastLines;
}

function exitOf(child: ChildProcess): Promise<ServerExit> {
  return new Promise(resolve => {
    child.once('error', () => resolve({ code: null, signal: null }));
    // `close` comes after the last line of the log, which an error message quotes.
    child.once('close', (code, signal) => resolve({ code, signal }));
  });
}

/** S2: `setpriv` replaces itself by the server, so the child's pid is the server's. */
async function parentDeathPrefix(binary: string): Promise<readonly string[]> {
  if (process.platform !== 'linux') return [];
  const prefix = ['setpriv', '--pdeathsig', 'TERM', '--'] as const;
  const [program, ...args] = prefix;
  const probe = await runProgram(program, [...args, binary, '--version'], { timeoutMs: 5_000 });
  return probe.failure === null ? prefix : [];
}
