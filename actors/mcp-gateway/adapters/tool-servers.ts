/**
 * All tool servers of this gateway: each under its own supervision machine, started when needed.
 *
 * V1: one bad server does not touch the others: own machine, own process group, own failures.
 * V2: at most `startsMax` servers start at once.
 * V3: what a server remembers of a build stays with it: a server that remembers runs once per build.
 * V4: a call waits for a server that starts or pauses, but through one failure only; then it fails
 *     with the reason and the server's last words.
 */
import { createHash } from 'node:crypto';
import { type Actor, type AnyEventObject, createActor, fromCallback, waitFor } from 'xstate';
import { CodeGodError } from '../../../protocol/errors.ts';
import type { ToolServerStatus } from '../../../protocol/mcp.ts';
import type { ToolServerState } from '../../../protocol/node.ts';
import type { Clock } from '../../../runtime/clock.ts';
import type { Logger } from '../../../runtime/log.ts';
import type { CatalogEntry } from '../catalog.ts';
import { seccompFilter } from '../seccomp-filter.ts';
import {
  SERVER_TIMINGS,
  type ServerEvent,
  type ServerTimings,
  serverMachine,
} from '../server-machine.ts';
import { createSlots, type Slots } from '../slots.ts';
import type { LiveTool, ToolList } from '../tool-definitions.ts';
import { confined } from './confine.ts';
import { type Located, locateServer, type ServerHost } from './locate-server.ts';
import {
  type CallLimits,
  connect,
  HANDSHAKE_MS,
  type ServerConnection,
} from './server-connection.ts';
import type { ToolCache } from './tool-cache.ts';
import type { ToolPins } from './tool-pins.ts';

export interface ToolServers {
  readonly names: readonly string[];
  entry(server: string): CatalogEntry | undefined;
  /** The live or cached tool list; starts the server where neither is there. */
  tools(server: string, limits: CallLimits): Promise<readonly LiveTool[]>;
  /**
   * Runs one tool, starting the server first where needed.
   * @throws CodeGodError `server_down` before anything was fired, RpcFailure after.
   */
  call(server: string, tool: string, args: object, limits: BuildLimits): Promise<unknown>;
  status(): Promise<ToolServerStatus[]>;
  /** Ends the pauses of a server, so that the next call tries at once. */
  reset(server: string): void;
  /** Ends the servers that a build had for itself. */
  forget(build: string): Promise<void>;
  close(): Promise<void>;
}

export interface BuildLimits extends CallLimits {
  /** The key of the build that calls; absent for a call outside of any. */
  readonly build?: string | undefined;
}

export interface ToolServersOptions {
  readonly entries: readonly CatalogEntry[];
  readonly host: ServerHost;
  /** What `{name}` stands for in the servers of one build, where that differs. */
  readonly placesOf: (build: string) => Readonly<Record<string, string>>;
  readonly cache: ToolCache;
  readonly pins: ToolPins;
  readonly clock: Clock;
  readonly log: Logger;
  readonly timings?: ServerTimings;
  readonly startsMax?: number;
  readonly handshakeMs?: number;
}

export function createToolServers(options: ToolServersOptions): ToolServers {
  const starts = createSlots(options.startsMax ?? 2);
  const servers = new Map(
    options.entries.map(entry => [entry.name, new SupervisedServer(entry, options, starts)]),
  );
  const serverOf = (name: string): SupervisedServer => {
    const server = servers.get(name);
    if (server === undefined) throw new CodeGodError('unknown_server', `no server named ${name}`);
    return server;
  };
  const ofBuilds = new Map<string, Map<string, SupervisedServer>>();
  /** V3. */
  const instanceOf = (name: string, build: string | undefined): SupervisedServer => {
    const common = serverOf(name);
    if (build === undefined || !common.entry.perBuild) return common;
    const own = ofBuilds.get(build) ?? new Map<string, SupervisedServer>();
    ofBuilds.set(build, own);
    const known = own.get(name);
    if (known !== undefined) return known;
    const { host, placesOf } = options;
    const places = { ...host.places, ...placesOf(build) };
    const made = new SupervisedServer(
      common.entry,
      { ...options, host: { ...host, places } },
      starts,
    );
    own.set(name, made);
    return made;
  };
  return {
    names: [...servers.keys()],
    entry: name => servers.get(name)?.entry,
    tools: (name, limits) => serverOf(name).tools(limits),
    call: (name, tool, args, limits) => instanceOf(name, limits.build).call(tool, args, limits),
    status: () => Promise.all([...servers.values()].map(server => server.status())),
    reset: name => serverOf(name).reset(),
    forget: async build => {
      const own = ofBuilds.get(build);
      ofBuilds.delete(build);
      await Promise.all([...(own?.values() ?? [])].map(server => server.close()));
    },
    close: async () => {
      const all = [servers, ...ofBuilds.values()].flatMap(group => [...group.values()]);
      await Promise.all(all.map(server => server.close()));
    },
  };
}

class SupervisedServer {
  readonly entry: CatalogEntry;
  readonly #options: ToolServersOptions;
  readonly #starts: Slots;
  readonly #actor: Actor<typeof serverMachine>;
  #connection: ServerConnection | null = null;
  #tools: readonly LiveTool[] | null = null;
  #remarks: readonly string[] = [];

  constructor(entry: CatalogEntry, options: ToolServersOptions, starts: Slots) {
    this.entry = entry;
    this.#options = options;
    this.#starts = starts;
    const machine = serverMachine.provide({ actors: { connection: this.#connector() } });
    const { clock } = options;
    this.#actor = createActor(machine, {
      input: { name: entry.name, timings: options.timings ?? SERVER_TIMINGS },
      clock: {
        setTimeout: (fire, delayMs) => clock.setTimeout(fire, delayMs),
        clearTimeout: handle => clock.clearTimeout(handle),
      },
    });
    this.#actor.start();
    let before = this.state;
    this.#actor.subscribe(() => {
      if (this.state === before) return;
      before = this.state;
      const { reason } = this.#actor.getSnapshot().context;
      options.log.info('server.state', { server: entry.name, state: before, reason });
    });
  }

  get state(): ToolServerState {
    const { value } = this.#actor.getSnapshot();
    return typeof value === 'string' ? value : value.alive;
  }

  async tools(limits: CallLimits): Promise<readonly LiveTool[]> {
    if (this.#tools !== null) return this.#tools;
    const located = await locateServer(this.entry, this.#options.host);
    if (located.kind === 'missing') {
      throw new CodeGodError('server_down', located.reason, { hint: located.fix });
    }
    this.#tools ??= await this.#options.cache.read(this.entry.name, cacheVersion(located));
    if (this.#tools === null) await this.#acquire(limits);
    return this.#tools ?? [];
  }

  async call(tool: string, args: object, limits: CallLimits): Promise<unknown> {
    const deadline = this.#options.clock.monotonic() + limits.timeoutMs;
    const connection = await this.#acquire(limits);
    this.#send({ type: 'call.began' });
    try {
      const timeoutMs = Math.max(1, deadline - this.#options.clock.monotonic());
      return await connection.call(tool, args, { ...limits, timeoutMs });
    } finally {
      this.#send({ type: 'call.ended' });
    }
  }

  async status(): Promise<ToolServerStatus> {
    const { context } = this.#actor.getSnapshot();
    const located = await locateServer(this.entry, this.#options.host);
    const missing = located.kind === 'missing';
    const running = ['starting', 'ready', 'idle', 'stopping'].includes(this.state);
    const cached = missing
      ? null
      : await this.#options.cache.read(this.entry.name, cacheVersion(located));
    return {
      name: this.entry.name,
      description: this.entry.description,
      state: missing && !running ? 'missing' : this.state,
      package: located.package,
      version: missing ? null : located.version,
      pid: running ? context.pid : null,
      tools: (this.#tools ?? cached ?? []).map(tool => tool.name),
      restarts: context.restarts,
      reason: missing ? located.reason : context.reason,
      fix: missing ? located.fix : context.fix,
      remarks: [...this.#remarks],
    };
  }

  reset(): void {
    this.#send({ type: 'server.reset' });
  }

  async close(): Promise<void> {
    this.#send({ type: 'server.stop' });
    const connection = this.#connection;
    if (connection !== null) await connection.rpc.close('the gateway stops');
    this.#actor.stop();
  }

  #send(event: ServerEvent): void {
    this.#actor.send(event);
  }

  /** V4. */
  async #acquire(limits: CallLimits): Promise<ServerConnection> {
    const { clock } = this.#options;
    const deadline = clock.monotonic() + limits.timeoutMs;
    let failures = 0;
    for (;;) {
      if (this.#connection !== null && ['ready', 'idle'].includes(this.state)) {
        return this.#connection;
      }
      const { state } = this;
      if (state === 'crash_loop' || state === 'missing') throw this.#down();
      if (state === 'backoff') failures += 1;
      if (failures > 1) throw this.#down();
      this.#send({ type: 'server.wanted' });
      const left = deadline - clock.monotonic();
      if (left <= 0) throw this.#down();
      await this.#stateAfter(this.state, left, limits.signal);
    }
  }

  /** Resolves when the state is another one or the time is over; rejects when cancelled. */
  async #stateAfter(
    state: ToolServerState,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<void> {
    const over = new AbortController();
    const timer = this.#options.clock.setTimeout(() => over.abort(), timeoutMs);
    const signals = signal === undefined ? [over.signal] : [over.signal, signal];
    try {
      await waitFor(this.#actor, () => this.state !== state, {
        timeout: Number.POSITIVE_INFINITY,
        signal: AbortSignal.any(signals),
      });
    } catch (error) {
      if (signal?.aborted === true) throw new CodeGodError('cancelled', 'the caller cancelled');
      if (!over.signal.aborted) throw error;
    } finally {
      this.#options.clock.clearTimeout(timer);
    }
  }

  #down(): CodeGodError {
    const { reason, fix } = this.#actor.getSnapshot().context;
    const words: Partial<Record<ToolServerState, string>> = {
      crash_loop: 'crashes again and again',
      missing: 'is not installed',
      starting: 'did not start in time',
    };
    const what = words[this.state] ?? 'is being restarted';
    const why = reason === null ? '' : `: ${reason}`;
    return new CodeGodError('server_down', `the ${this.entry.name} server ${what}${why}`, {
      ...(fix === null ? {} : { hint: fix }),
    });
  }

  #connector() {
    return fromCallback<AnyEventObject, { readonly name: string }>(({ sendBack, receive }) => {
      const end = new AbortController();
      receive(event => {
        if (event.type === 'server.stop') end.abort('idle');
      });
      void this.#live(event => sendBack(event), end.signal);
      return () => end.abort('stopped');
    });
  }

  /** Where a lock file pins the package, it pins what its tools are; elsewhere we do. */
  async #offered({ tools, remarks }: ServerConnection): Promise<ToolList> {
    const list = { tools, remarks };
    const { name, origin } = this.entry;
    return origin.kind === 'command' ? await this.#options.pins.held(name, list) : list;
  }

  /** The whole life of one process, told as events; never rejects. */
  async #live(tell: (event: ServerEvent) => void, end: AbortSignal): Promise<void> {
    const { clock, host, cache, log, handshakeMs = HANDSHAKE_MS } = this.#options;
    const { name } = this.entry;
    const exited = (reason: string): void =>
      tell({ type: 'server.exited', at: clock.now(), jitter: clock.random(), reason });
    const release = await this.#starts.take();
    try {
      const located = await locateServer(this.entry, host);
      if (located.kind === 'missing') {
        tell({ type: 'server.missing', reason: located.reason, fix: located.fix });
        return;
      }
      if (end.aborted) return exited('was not started any more');
      const filter = filterOf(this.entry);
      const command = confined(host.confiner, located.program, { filter, lenient: true });
      const program = { ...located.program, ...command };
      const { rpc, ready } = connect(program, clock, handshakeMs);
      tell({ type: 'server.started', pid: rpc.pid });
      const stop = (): void => void rpc.close(String(end.reason));
      if (end.aborted) stop();
      else end.addEventListener('abort', stop, { once: true });
      await ready.then(
        async connection => {
          const { tools, remarks } = await this.#offered(connection);
          this.#connection = connection;
          this.#tools = tools;
          this.#remarks = remarks;
          for (const remark of remarks) log.warn('server.remark', { server: name, remark });
          await cache.write(name, cacheVersion(located), tools);
          tell({ type: 'server.ready' });
        },
        // What went wrong is told by the end of the process, below.
        (error: unknown) => log.warn('server.handshake_failed', { server: name, error }),
      );
      release();
      const { reason, errorTail } = await rpc.ended;
      this.#connection = null;
      exited(errorTail === '' ? reason : `${reason}; it said: ${errorTail.trim().slice(-1_500)}`);
    } catch (error) {
      this.#connection = null;
      exited(error instanceof Error ? error.message : String(error));
    } finally {
      release();
    }
  }
}

/** Nobody keeps the sum of a tool server's memory, so it may be where it likes. */
function filterOf({ systemCalls }: CatalogEntry): Uint8Array | null {
  if (systemCalls === 'all') return null;
  const namespaces = systemCalls === 'namespaces';
  return seccompFilter(process.arch, { hidesMemory: true, namespaces });
}

/** What the tool list depends on: the version where there is one, else the whole command. */
function cacheVersion(located: Extract<Located, { kind: 'found' }>): string {
  if (located.version !== null) return located.version;
  const { program, args } = located.program;
  return createHash('sha256')
    .update(JSON.stringify([program, args]))
    .digest('hex')
    .slice(0, 12);
}
