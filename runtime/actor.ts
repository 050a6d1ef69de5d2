/**
 * The life of an actor's process, the same for all four: configuration, bus, identity, service
 * discovery, then `starting → ready → draining → stopped`.
 *
 * A1  Nothing durable is done on a bus that does not sync to disk: the process says why and ends.
 * A2  The end is bounded: 10 s to drain, 5 s to stop, 5 s for the bus; whatever hangs is left.
 * A3  An actor does not outlive its supervisor: when the IPC channel closes it is gone in 3 s, so
 *     that its own children are gone in 5.
 * A4  Over the same channel it answers a supervisor that asks whether it is there, and tells what
 *     keeps it from its work: a bus that is away or refuses it.
 * A5  An exception nobody caught ends the process at once. Work survives in the log, not in memory.
 */
import type { ErrorCode } from '../protocol/error-codes.ts';
import { CodeGodError, toWireError } from '../protocol/errors.ts';
import type { NodeId } from '../protocol/ids.ts';
import type { LifecycleState } from '../protocol/node.ts';
import { announceService } from './actor-services.ts';
import type { Bus, BusEvent, Subscription } from './bus.ts';
import { type Clock, systemClock } from './clock.ts';
import { type Config, loadConfig } from './config.ts';
import { credentialsOf } from './credentials.ts';
import { requireAttested, verifyServer } from './durability.ts';
import { createLogger, type Logger } from './log.ts';
import { createMessenger, type Messenger } from './messages.ts';
import { createMetrics, type Metrics } from './metrics.ts';
import { connectNats } from './nats-bus.ts';
import { type NodeIdentity, openNodeIdentity } from './node-identity.ts';
import { ensurePaths, type Paths } from './paths.ts';
import { dropInherited } from './spawn.ts';

/** What the exit code of an actor says to its supervisor; as in sysexits.h where there is a word. */
export const ACTOR_EXIT = {
  /** Asked to stop, and stopped. */
  stopped: 0,
  /** The bus cannot be reached, or closed for good. Starting again later may help. */
  unavailable: 69,
  /** A bug, or a handler that said `fatal`. Starting again is right. */
  failed: 70,
  /** Wrong configuration or an undurable bus. Starting again is no use until somebody mends it. */
  misconfigured: 78,
  /** A second SIGTERM: ended without draining. */
  terminated: 143,
} as const;
type ActorExit = (typeof ACTOR_EXIT)[keyof typeof ACTOR_EXIT];

const DRAIN_MS = 10_000;
const STOP_MS = 5_000;
const ORPHAN_DRAIN_MS = 1_000;
const ORPHAN_EXIT_MS = 3_000;
const CONNECT_WAIT_MS = 15_000;
const CONNECT_PAUSE_MS = 250;
const VERIFIED_WITHIN_MS = 3_000;
/** After a start of another machine's bus, its own actors need a moment until they have looked. */
const ATTESTED_WAIT_MS = 10_000;

export interface ActorDefinition {
  readonly name: 'master' | 'worker' | 'mcp-gateway' | 'resource-monitor';
  /** Semantic version. */
  readonly version: string;
  /** A sentence for `nats micro info`. */
  readonly description?: string;
  /** False for an actor that keeps nothing; then any bus will do. Default true. */
  readonly durable?: boolean;
  /** Resolves once the actor does its work; what it throws ends the process. */
  start(context: ActorContext): Promise<RunningActor>;
}

export interface RunningActor {
  /** Told to the supervisor with `ready`: `{ http_url }`. */
  readonly details?: Readonly<Record<string, string>>;
  /** Takes no new work and lets what runs come to an end, in at most `deadline_ms`. */
  drain(deadline_ms: number): Promise<void>;
  /** Lets go of everything. What still runs is cut off and resumed by the next start. */
  stop(): Promise<void>;
}

export interface ActorContext {
  readonly config: Config;
  readonly paths: Paths;
  readonly clock: Clock;
  readonly log: Logger;
  readonly bus: Bus;
  readonly messenger: Messenger;
  readonly metrics: Metrics;
  readonly node: NodeId;
  readonly host: string;
  /** Grows with every start of this actor on this node. */
  readonly epoch: number;
  readonly version: string;
  state(): LifecycleState;
  /** Calls back at each change of state; answers the way to stop listening. */
  onState(listener: (state: LifecycleState) => void): () => void;
  /** Ends the process in order, with an exit code that has it started again. */
  fail(error: unknown): void;
}

/** Runs the actor until it is told to stop, then ends the process. For `main.ts` only. */
export async function runActor(definition: ActorDefinition): Promise<void> {
  dropInherited();
  const actor = new ActorProcess(definition);
  await actor.run();
}

class ActorProcess {
  readonly #definition: ActorDefinition;
  readonly #clock = systemClock;
  readonly #listeners = new Set<(state: LifecycleState) => void>();
  #log: Logger;
  #state: LifecycleState = 'starting';
  #bus: Bus | null = null;
  #service: Subscription | null = null;
  #running: RunningActor | null = null;
  #trouble: string | null = null;
  #ending = false;

  constructor(definition: ActorDefinition) {
    this.#definition = definition;
    this.#log = createLogger({ name: definition.name, level: 'info' });
  }

  async run(): Promise<void> {
    this.#watchProcess();
    try {
      this.#tellSupervisor({});
      const context = await this.#prepare();
      const running = await this.#definition.start(context);
      if (this.#ending) return void (await running.stop());
      this.#running = running;
      // Ready is who can be asked: the server has heard of every subject by then.
      await context.bus.rtt().catch((error: unknown) => {
        this.#log.warn('actor.not_heard', { error });
      });
      this.#enter('ready', running.details);
    } catch (error) {
      this.#log.error('actor.start_failed', { error });
      await this.#end(exitCodeOf(error), 0);
    }
  }

  /** Everything an actor stands on, in the order in which it is needed. */
  async #prepare(): Promise<ActorContext> {
    const { name, version, durable = true } = this.#definition;
    const config = loadConfig();
    ensurePaths(config.paths);
    const identity = await openNodeIdentity({
      directory: config.paths.state,
      process: name,
      clock: this.#clock,
      name: config.node.name,
      configured: config.origins['node.name'] !== 'default',
    });
    const { level } = config.log;
    this.#log = createLogger({ name, level, node: identity.node });
    this.#log.info('actor.starting', { version, pid: process.pid, epoch: identity.epoch });
    const bus = await this.#connect(config, identity);
    if (durable) await this.#requireDurable(bus, config);
    const messenger = createMessenger(bus, {
      source: `/node/${identity.node}/actor/${name}`,
      clock: this.#clock,
    });
    this.#announce(bus, messenger, identity);
    return {
      config,
      paths: config.paths,
      clock: this.#clock,
      log: this.#log,
      bus,
      messenger,
      metrics: createMetrics(name),
      ...identity,
      version,
      state: () => this.#state,
      onState: listener => {
        this.#listeners.add(listener);
        return () => void this.#listeners.delete(listener);
      },
      fail: error => this.#fail('actor.failed', { error }),
    };
  }

  /** The supervisor starts the bus first, but elsewhere they may start together: wait a little. */
  async #connect(config: Config, identity: NodeIdentity): Promise<Bus> {
    const { url = 'nats://127.0.0.1:4222', monitoring_url: monitorUrl, joined } = config.bus;
    const untilMs = this.#clock.monotonic() + CONNECT_WAIT_MS;
    const credentials = credentialsOf(config);
    for (;;) {
      try {
        const bus = await connectNats({
          servers: [url],
          name: `codegod-${this.#definition.name}-${identity.node}`,
          clock: this.#clock,
          ...(credentials === undefined ? {} : { credentials }),
          ...(monitorUrl === undefined ? {} : { monitorUrl }),
          isGuest: joined,
        });
        this.#bus = bus;
        bus.status(event => this.#onBusEvent(event));
        const { server_version: serverVersion } = bus.info();
        this.#log.info('bus.connected', { url, server_version: serverVersion });
        return bus;
      } catch (error) {
        const waits = error instanceof CodeGodError && error.code === 'bus_unavailable';
        if (!waits || this.#ending || this.#clock.monotonic() >= untilMs) throw error;
        await this.#clock.sleep(CONNECT_PAUSE_MS);
      }
    }
  }

  /** A1. Whoever can see the monitoring port looks again after each restart of the server. */
  async #requireDurable(bus: Bus, config: Config): Promise<void> {
    const { monitoring_url: monitorUrl, joined } = config.bus;
    if (monitorUrl === undefined) {
      return requireAttested(bus, this.#clock, joined ? ATTESTED_WAIT_MS : 0);
    }
    const { version } = this.#definition;
    await verifyServer(bus, version, this.#clock);
    bus.status(event => {
      if (event.type !== 'reconnected') return;
      void this.#verifyAgain(bus, version);
    });
  }

  /**
   * A server that came back is held to what was asked at the start. Its monitoring port may need a
   * moment; one that syncs no write, or of which nobody can tell, ends the process as it would have.
   */
  async #verifyAgain(bus: Bus, version: string): Promise<void> {
    const untilMs = this.#clock.monotonic() + VERIFIED_WITHIN_MS;
    for (;;) {
      try {
        return await verifyServer(bus, version, this.#clock);
      } catch (error) {
        this.#log.error('bus.not_verified', { error });
        // Away again: the next connection is looked at in its turn.
        if (toWireError(error).code !== 'durability_refused') return;
        if (this.#clock.monotonic() >= untilMs) {
          return void this.#end(ACTOR_EXIT.misconfigured, 0);
        }
        await this.#clock.sleep(CONNECT_PAUSE_MS);
      }
    }
  }

  #announce(bus: Bus, messenger: Messenger, identity: NodeIdentity): void {
    const { name, version, description = '' } = this.#definition;
    this.#service = announceService(
      bus,
      {
        name: `codegod-${name}`,
        id: `${identity.node}-${identity.epoch}`,
        version,
        description,
        started: new Date(this.#clock.now()).toISOString(),
      },
      {
        metadata: () => ({ node: identity.node, host: identity.host, state: this.#state }),
        endpoints: () => messenger.endpoints,
      },
    );
  }

  #onBusEvent(event: BusEvent): void {
    const { type, ...fields } = event;
    const log = event.type === 'reconnected' ? 'info' : 'warn';
    this.#log[event.type === 'error' ? 'error' : log](`bus.${type}`, fields);
    if (event.type === 'reconnected') this.#tellTrouble(null);
    if (event.type === 'disconnected') {
      this.#tellTrouble(`the bus at ${event.server} cannot be reached`);
    }
    if (event.type === 'refused') this.#tellTrouble(event.reason);
    if (event.type === 'handler_fatal') this.#fail('actor.handler_fatal', fields);
    if (event.type === 'closed' && !this.#ending) {
      void this.#end(ACTOR_EXIT.unavailable, 0);
    }
  }

  #watchProcess(): void {
    const terminate = (): void => {
      if (this.#ending) this.#exit(ACTOR_EXIT.terminated);
      else void this.#end(ACTOR_EXIT.stopped, DRAIN_MS);
    };
    process.on('SIGTERM', terminate);
    process.on('SIGINT', terminate);
    process.on('message', message => {
      if ((message as { type?: unknown } | null)?.type === 'ping') this.#send({ type: 'pong' }); // A4
    });
    process.on('disconnect', () => {
      this.#log.warn('actor.supervisor_gone');
      this.#clock.setTimeout(() => this.#exit(ACTOR_EXIT.stopped), ORPHAN_EXIT_MS); // A3
      void this.#end(ACTOR_EXIT.stopped, ORPHAN_DRAIN_MS);
    });
    const crash = (error: unknown): void => {
      this.#log.error('actor.crashed', { error }); // A5
      this.#exit(ACTOR_EXIT.failed);
    };
    process.on('uncaughtException', crash);
    process.on('unhandledRejection', crash);
  }

  #fail(event: string, fields: Readonly<Record<string, unknown>>): void {
    this.#log.error(event, fields);
    void this.#end(ACTOR_EXIT.failed, DRAIN_MS);
  }

  /** Drains, stops, disconnects and ends the process, each within its bound (A2). */
  async #end(code: ActorExit, drainMs: number): Promise<void> {
    if (this.#ending) return;
    this.#ending = true;
    const running = this.#running;
    if (running !== null) {
      this.#enter('draining');
      await this.#bounded('drain', drainMs, () => running.drain(drainMs));
      await this.#bounded('stop', STOP_MS, () => running.stop());
    }
    this.#enter('stopped');
    const service = this.#service;
    if (service !== null) await this.#bounded('unannounce', STOP_MS, () => service.stop());
    const bus = this.#bus;
    if (bus !== null) await this.#bounded('disconnect', STOP_MS, () => bus.close());
    this.#exit(code);
  }

  /** What fails or hangs at the end must not keep the rest from ending: it is said and left. */
  async #bounded(step: string, limitMs: number, work: () => Promise<void>): Promise<void> {
    const limit = new AbortController();
    const late = this.#clock.sleep(limitMs, limit.signal).then(
      () => this.#log.warn('actor.step_late', { step, limit_ms: limitMs }),
      () => {}, // The step ended in time and its alarm was called off.
    );
    const done = work().catch(error => this.#log.error('actor.step_failed', { step, error }));
    await Promise.race([done, late]);
    limit.abort();
  }

  #enter(state: LifecycleState, details: Readonly<Record<string, string>> = {}): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#log.info(`actor.${state}`, details);
    this.#tellSupervisor(details);
    for (const listener of this.#listeners) listener(state);
  }

  #tellSupervisor(details: Readonly<Record<string, string>>): void {
    const { name } = this.#definition;
    this.#send({ type: 'lifecycle', name, state: this.#state, ...details });
  }

  /** A4. */
  #tellTrouble(trouble: string | null): void {
    if (trouble === this.#trouble || this.#ending) return;
    this.#trouble = trouble;
    this.#send({ type: 'trouble', trouble });
  }

  #send(message: object): void {
    if (process.send === undefined || !process.connected) return;
    process.send(message, error => {
      // The channel may close under the message; `disconnect` tells that, and is acted on.
      if (error !== null) this.#log.debug('actor.supervisor_unreachable', { error });
    });
  }

  #exit(code: ActorExit): never {
    this.#log.info('actor.exit', { code });
    process.exit(code);
  }
}

const MISCONFIGURED: ReadonlySet<ErrorCode> = new Set([
  'config_invalid',
  'durability_refused',
  'unauthorized',
  'port_in_use',
  'dependency_missing',
]);

function exitCodeOf(error: unknown): ActorExit {
  const { code } = toWireError(error);
  if (code === 'bus_unavailable') return ACTOR_EXIT.unavailable;
  return MISCONFIGURED.has(code) ? ACTOR_EXIT.misconfigured : ACTOR_EXIT.failed;
}
