/**
 * A whole system for a test, run as a user runs it: the command line, a home of its own, the real
 * bus server, the four actors. What it shares with the machine is the installed Python environments.
 */
import { type ChildProcessWithoutNullStreams, execFile, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readSystem } from '../../cli/supervisor/system-record.ts';
import { BUILD_ENDS, BuildSummary } from '../../protocol/build.ts';
import type { Bus, BusMessage } from '../../runtime/bus.ts';
import { systemClock } from '../../runtime/clock.ts';
import { connectNats } from '../../runtime/nats-bus.ts';
import { ownerKeyFile } from '../../runtime/nats-server/users.ts';
import { pathsFor } from '../../runtime/paths.ts';
import { programOf } from '../source-tree.ts';

const OUTPUT_BYTES_MAX = 32 * 1024 * 1024;
const COMMAND_MS = 180_000;
const POLL_MS = 50;

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface SystemStatus {
  readonly running: boolean;
  readonly state: string;
  readonly supervisor_pid: number | null;
  readonly bus: {
    readonly url: string | null;
    readonly pid: number | null;
    readonly restarts: number;
  };
  readonly http: { readonly url: string | null };
  readonly actors: readonly {
    readonly name: string;
    readonly pid: number | null;
    readonly state: string;
    readonly restarts: number;
  }[];
}

/** What is heard on a subject, from now on. */
export interface Wiretap {
  readonly heard: readonly BusMessage[];
  /** The first message. */
  readonly first: Promise<BusMessage>;
  close(): Promise<void>;
}

export class TestSystem {
  readonly home: string;
  readonly env: NodeJS.ProcessEnv;
  /** The HTTP door, whether it is open or not. */
  readonly http: string;
  readonly busUrl: string;

  readonly #commandLine: readonly [string, ...string[]];

  private constructor(
    home: string,
    env: NodeJS.ProcessEnv,
    commandLine: readonly [string, ...string[]],
  ) {
    this.#commandLine = commandLine;
    this.home = home;
    this.env = env;
    this.http = `http://127.0.0.1:${env['CODEGOD_HTTP_PORT']}`;
    this.busUrl = `nats://127.0.0.1:${env['CODEGOD_BUS_PORT']}`;
  }

  /**
   * @param settings environment variables on top, such as `CODEGOD_SCAFFOLD_PACE_MS`
   * @param node the Node that runs it all
   * @param place a home that is there already, and another checkout to run
   */
  static async create(
    settings: Readonly<Record<string, string>> = {},
    node = process.execPath,
    place: { readonly home?: string; readonly program?: readonly string[] } = {},
  ): Promise<TestSystem> {
    const home = place.home ?? mkdtempSync(join(tmpdir(), 'codegod-e2e-'));
    shareEnvironments(home);
    const [httpPort, busPort, monitoringPort] = await freePorts(3);
    const env = {
      ...process.env,
      CODEGOD_HOME: home,
      CODEGOD_HTTP_PORT: String(httpPort),
      CODEGOD_BUS_PORT: String(busPort),
      CODEGOD_BUS_MONITORING_PORT: String(monitoringPort),
      NO_COLOR: '1',
      ...settings,
    };
    return new TestSystem(home, env, [node, ...(place.program ?? programOf('cli/main.ts'))]);
  }

  /** Runs one command to its end; a non-zero exit is a result, not an exception. */
  run(args: readonly string[], options: { readonly cwd?: string } = {}): Promise<CommandResult> {
    const [program, ...before] = this.#commandLine;
    return new Promise(resolve => {
      execFile(
        program,
        [...before, ...args],
        {
          env: this.env,
          cwd: options.cwd ?? this.home,
          timeout: COMMAND_MS,
          maxBuffer: OUTPUT_BYTES_MAX,
        },
        (error, stdout, stderr) => {
          const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 1;
          resolve({ code, stdout, stderr });
        },
      );
    });
  }

  /** Starts one command and leaves it running: it is the caller's to end. */
  start(...args: readonly string[]): ChildProcessWithoutNullStreams {
    const [program, ...before] = this.#commandLine;
    return spawn(program, [...before, ...args], { env: this.env, cwd: this.home });
  }

  /** Runs a command that must succeed. */
  async ok(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(args);
    if (code !== 0) {
      throw new Error(
        `codegod ${args.join(' ')}: exit ${code}\n${stderr}\n${stdout}\n${this.logs()}`,
      );
    }
    return stdout;
  }

  async json(...args: readonly string[]): Promise<unknown> {
    return JSON.parse(await this.ok(...args, '--json'));
  }

  async status(): Promise<SystemStatus> {
    return JSON.parse((await this.run(['status', '--json'])).stdout) as SystemStatus;
  }

  /** The process of an actor, or of the bus, as the supervisor has noted it. */
  pidOf(name: string): number {
    const record = readSystem(pathsFor(this.env, this.home).state);
    const pid =
      name === 'bus' ? record?.bus.pid : record?.actors.find(one => one.name === name)?.pid;
    if (typeof pid !== 'number') throw new Error(`${name} has no process`);
    return pid;
  }

  /** A client of the system's own bus; the caller closes it. */
  bus(): Promise<Bus> {
    const seed = readFileSync(ownerKeyFile(pathsFor(this.env, this.home).config), 'utf8').trim();
    const credentials = { nkeySeed: seed };
    return connectNats({ servers: [this.busUrl], name: 'e2e', clock: systemClock, credentials });
  }

  /** Listens on a subject as its owner can. */
  async wiretap(subject: string): Promise<Wiretap> {
    const bus = await this.bus();
    const heard: BusMessage[] = [];
    const first = new Promise<BusMessage>(resolve => {
      bus.subscribe(subject, message => {
        heard.push(message);
        resolve(message);
      });
    });
    await bus.rtt();
    return { heard, first, close: () => bus.close() };
  }

  /** Hands a build in at the HTTP door, which takes less time than a command, and answers its id. */
  async begin(prompt: string, wishes: Readonly<Record<string, unknown>> = {}): Promise<string> {
    const answer = await fetch(`${this.http}/build`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt, ...wishes }),
    });
    const text = await answer.text();
    if (answer.status !== 202) throw new Error(`POST /build: ${answer.status} ${text}`);
    return (JSON.parse(text) as { id: string }).id;
  }

  async show(id: string): Promise<BuildSummary> {
    return BuildSummary.parse(await this.json('show', id));
  }

  /** The build at its end. */
  async ended(id: string, limitMs = 120_000): Promise<BuildSummary> {
    return await this.until(id, ({ state }) => BUILD_ENDS.includes(state), limitMs);
  }

  /** The build once it is as wanted. It is asked for at the HTTP door, which may be away for a while. */
  async until(
    id: string,
    wanted: (summary: BuildSummary) => boolean,
    limitMs = 120_000,
  ): Promise<BuildSummary> {
    let last: BuildSummary | null = null;
    const look = async (): Promise<boolean> => {
      last = (await this.#summary(id)) ?? last;
      return last !== null && wanted(last);
    };
    try {
      await eventually(look, limitMs);
    } catch (error) {
      throw new Error(`${id} is not as wanted: ${storyOf(last)}\n${this.logs()}`, { cause: error });
    }
    return BuildSummary.parse(last);
  }

  /** Null while nobody answers. */
  async #summary(id: string): Promise<BuildSummary | null> {
    try {
      const answer = await fetch(`${this.http}/builds/${id}`, {
        signal: AbortSignal.timeout(5_000),
      });
      return answer.ok ? BuildSummary.parse(await answer.json()) : null;
    } catch (error) {
      if (error instanceof TypeError || error instanceof DOMException) return null;
      throw error;
    }
  }

  /** Every process of this home that lives, known by its command line, environment or folder. */
  processes(): readonly number[] {
    return readdirSync('/proc')
      .filter(name => /^\d+$/.test(name) && Number(name) !== process.pid)
      .filter(name => belongsTo(`/proc/${name}`, this.home))
      .map(Number);
  }

  /** Processes for the message of a failed test. */
  describe(pids: readonly number[]): string {
    const words = (pid: number): string => {
      const file = `/proc/${pid}/cmdline`;
      return existsSync(file) ? readFileSync(file, 'utf8').replaceAll('\0', ' ') : 'gone';
    };
    return pids.map(pid => `${pid}: ${words(pid)}`).join('; ');
  }

  /** The end of every log of this home, for the message of a failed test. */
  logs(): string {
    const folder = join(pathsFor(this.env, this.home).state, 'log');
    return ['supervisor', 'master', 'worker', 'mcp-gateway', 'resource-monitor', 'nats-server']
      .map(name => [name, join(folder, `${name}.log`)] as const)
      .filter(([, path]) => existsSync(path))
      .map(([name, path]) => `--- ${name}\n${readFileSync(path, 'utf8').slice(-3_000)}`)
      .join('\n');
  }

  /** The log lines of one actor, oldest first. */
  logLines(actor: string): readonly Record<string, unknown>[] {
    const path = join(pathsFor(this.env, this.home).state, 'log', `${actor}.log`);
    return readFileSync(path, 'utf8')
      .split('\n')
      .flatMap(line => (line.startsWith('{') ? [JSON.parse(line) as Record<string, unknown>] : []));
  }

  async stop(): Promise<void> {
    await this.run(['down']);
    rmSync(this.home, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }
}

/** Polls until the condition holds; for what tells nobody that it has changed. */
export async function eventually(
  condition: () => boolean | Promise<boolean>,
  limitMs: number,
): Promise<void> {
  const until = Date.now() + limitMs;
  while (!(await condition())) {
    if (Date.now() > until) throw new Error(`not within ${limitMs} ms`);
    await sleep(POLL_MS);
  }
}

function storyOf(summary: BuildSummary | null): string {
  if (summary === null) return 'never shown';
  const { state, waiting, error, tasks } = summary;
  return JSON.stringify({ state, waiting, error, tasks: tasks.map(task => [task.id, task.state]) });
}

function belongsTo(folder: string, home: string): boolean {
  try {
    const words = ['cmdline', 'environ'].map(file => readFileSync(join(folder, file), 'utf8'));
    return words.join('\0').includes(home) || realpathSync(join(folder, 'cwd')).startsWith(home);
  } catch (error) {
    // It has ended meanwhile, is a zombie, or is of another user.
    const { code } = error as NodeJS.ErrnoException;
    if (code !== undefined && ['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes(code)) return false;
    throw error;
  }
}

/** Environments are found by the hash of their lock file, so they can be shared between homes. */
export function shareEnvironments(home: string): void {
  const usual = join(pathsFor(process.env, process.cwd()).data, 'environments');
  mkdirSync(usual, { recursive: true, mode: 0o700 });
  mkdirSync(join(home, 'data'), { recursive: true, mode: 0o700 });
  symlinkSync(usual, join(home, 'data', 'environments'));
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(Array.from({ length: count }, listen));
  const ports = servers.map(server => (server.address() as { port: number }).port);
  await Promise.all(servers.map(server => new Promise(resolve => server.close(resolve))));
  return ports;
}

function listen() {
  return new Promise<ReturnType<typeof createServer>>((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => resolve(server));
  });
}
