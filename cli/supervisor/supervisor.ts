/**
 * Owns the processes of one system: the bus server, where it is ours, and the actors. Each is a
 * live machine (child-machine.ts); this file starts them in order, notes every change in
 * system.json and stops them in order.
 *
 * S1  The bus comes first and goes last: actors drain over it.
 * S2  Every change is noted before anybody can be told of it.
 * S3  What an earlier, dead supervisor left running is stopped before anything is started.
 */
import { type AnyActorLogic, createActor } from 'xstate';
import { type Clock, systemClock } from '../../runtime/clock.ts';
import { identityOf, ownIdentity } from '../../runtime/process-identity.ts';
import { type ActorCommand, actorProcess } from './actor-process.ts';
import { BUS, type BusCommand, busProcess } from './bus-process.ts';
import {
  type ChildActor,
  type ChildPolicy,
  childMachine,
  childState,
  crashLooping,
  DEFAULT_POLICY,
} from './child-machine.ts';
import { trimLog } from './log-file.ts';
import { ASK_EVERY_MS } from './silence.ts';
import {
  type BusRecord,
  isUp,
  type ProcessRecord,
  type ProcessState,
  readSystem,
  removeSystem,
  type SystemRecord,
  supervisorLives,
  survivors,
  writeSystem,
} from './system-record.ts';

export type BusPlan =
  | { readonly kind: 'own'; readonly command: BusCommand }
  | { readonly kind: 'foreign'; readonly url: string; readonly monitoringUrl: string | null };

export interface SupervisorOptions {
  readonly stateFolder: string;
  readonly mode: SystemRecord['mode'];
  readonly bus: BusPlan;
  /** The actors, given the bus they meet on. */
  readonly actors: (bus: BusRecord) => readonly ActorCommand[];
  readonly policy?: Partial<ChildPolicy>;
  /** The pace at which running processes are asked whether they are there. */
  readonly askEveryMs?: number;
  readonly clock?: Clock;
  readonly onChange?: (record: SystemRecord) => void;
  /** Something that does not stop the supervisor but that somebody should know. */
  readonly onProblem?: (sentence: string) => void;
}

export interface Supervisor {
  record(): SystemRecord;
  /**
   * Resolves when everything is ready.
   * @throws Error naming the child that keeps dying, with its reason; or the signal's reason.
   */
  ready(signal?: AbortSignal): Promise<SystemRecord>;
  /** Drains and stops everything, then forgets the system. Bounded, idempotent. */
  stop(): Promise<void>;
}

/** A child died this often in a row before it was ever ready: starting the system has failed. */
const START_DEATHS_MAX = 3;
const TIDY_EVERY_MS = 5_000;
/** A bus server drains its clients for 3 s, stops within 6 s more, and is killed after that. */
const BUS_DRAIN_MS = 12_000;
/** Finding a port and recovering a large store. */
const BUS_START_MS = 120_000;

/** Starts supervising. The caller holds the lock of this home. */
export async function startSupervisor(options: SupervisorOptions): Promise<Supervisor> {
  const clock = options.clock ?? systemClock;
  await stopLeftovers(options.stateFolder, clock);
  const supervisor = new ProcessSupervisor(options, clock);
  supervisor.start();
  return supervisor;
}

class ProcessSupervisor implements Supervisor {
  readonly #options: SupervisorOptions;
  readonly #clock: Clock;
  readonly #policy: ChildPolicy;
  readonly #startedAt: number;
  readonly #askEveryMs: number;
  readonly #bus: ChildActor | null;
  readonly #pidsStarted = new Map<number, string | null>();
  readonly #states = new Map<string, { readonly state: ProcessState; readonly since: number }>();
  readonly #listeners = new Set<() => void>();
  readonly #tidier: NodeJS.Timeout;
  #actors: ReadonlyMap<string, ChildActor> = new Map();
  #isUnwritten = false;
  #isStopping = false;
  #stopped: Promise<void> | null = null;

  constructor(options: SupervisorOptions, clock: Clock) {
    this.#options = options;
    this.#clock = clock;
    this.#policy = { ...DEFAULT_POLICY, ...options.policy };
    this.#startedAt = clock.now();
    this.#askEveryMs = options.askEveryMs ?? ASK_EVERY_MS;
    const busPolicy = { start_ms: BUS_START_MS, drain_ms: BUS_DRAIN_MS };
    this.#bus =
      options.bus.kind === 'own'
        ? this.#child(
            busProcess(options.bus.command, this.#askEveryMs, options.onProblem),
            busPolicy,
          )
        : null;
    this.#tidier = setInterval(() => this.#tidy(), TIDY_EVERY_MS);
    this.#tidier.unref();
  }

  start(): void {
    this.#changed();
    this.#bus?.send({ type: 'child.start' });
    if (this.#bus === null) this.#startActors();
  }

  record(): SystemRecord {
    const bus = this.#busRecord();
    const actors = [...this.#actors].map(([name, child]) => this.#processRecord(name, child));
    const identity = ownIdentity();
    const httpUrl = this.#actors.get('master')?.getSnapshot().context.details['http_url'];
    return {
      supervisor_pid: identity.pid,
      supervisor_started: identity.started,
      mode: this.#options.mode,
      state: this.#isStopping ? 'stopping' : systemState(bus, actors),
      started_at: this.#startedAt,
      bus,
      http: { url: httpUrl ?? null },
      actors,
    };
  }

  ready(signal?: AbortSignal): Promise<SystemRecord> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const outcome = this.#startOutcome(signal);
        if (outcome === null) return;
        this.#listeners.delete(look);
        signal?.removeEventListener('abort', look);
        if (outcome instanceof Error) reject(outcome);
        else resolve(outcome);
      };
      this.#listeners.add(look);
      signal?.addEventListener('abort', look);
      look();
    });
  }

  /** The ready system, or why it will not become one; null while that is open. */
  #startOutcome(signal: AbortSignal | undefined): SystemRecord | Error | null {
    if (signal?.aborted) return toError(signal.reason);
    const record = this.record();
    if (record.state === 'stopping') return new Error('the system is being stopped');
    if (isUp(record)) return record;
    const dying = [record.bus, ...record.actors].find(
      one => !isSteady(one) && one.restarts >= START_DEATHS_MAX,
    );
    return dying ? new Error(`${dying.name} keeps dying: ${dying.reason}`) : null;
  }

  stop(): Promise<void> {
    this.#isStopping = true;
    this.#stopped ??= this.#stopInOrder();
    return this.#stopped;
  }

  async #stopInOrder(): Promise<void> {
    this.#changed();
    await Promise.all([...this.#actors.values()].map(stopChild)); // S1
    if (this.#bus !== null) await stopChild(this.#bus);
    clearInterval(this.#tidier);
    removeSystem(this.#options.stateFolder);
  }

  #startActors(): void {
    const bus = this.#busRecord();
    if (bus.url === null || this.#actors.size > 0 || this.#isStopping) return;
    const commands = this.#options.actors(bus);
    this.#actors = new Map(
      commands.map(command => [command.name, this.#child(actorProcess(command, this.#askEveryMs))]),
    );
    for (const child of this.#actors.values()) child.send({ type: 'child.start' });
  }

  #child(process: AnyActorLogic, policy: Partial<ChildPolicy> = {}): ChildActor {
    const machine = childMachine.provide({ actors: { process: process as never } });
    const child = createActor(machine, {
      input: { ...this.#policy, ...policy },
      clock: {
        setTimeout: (fire: () => void, delayMs: number) => this.#clock.setTimeout(fire, delayMs),
        clearTimeout: handle => this.#clock.clearTimeout(handle),
      },
    });
    child.start();
    child.subscribe(() => {
      this.#changed();
      if (child === this.#bus) this.#startActors();
    });
    return child;
  }

  /** S2. */
  #changed(): void {
    const record = this.record();
    try {
      writeSystem(this.#options.stateFolder, record);
      this.#isUnwritten = false;
    } catch (error) {
      // A full disk must not end the supervision of what runs.
      if (!this.#isUnwritten) {
        this.#options.onProblem?.(`system.json cannot be written: ${toError(error).message}`);
      }
      this.#isUnwritten = true;
    }
    this.#options.onChange?.(record);
    for (const listener of [...this.#listeners]) listener();
  }

  #busRecord(): BusRecord {
    if (this.#bus === null) {
      const plan = this.#options.bus;
      const url = plan.kind === 'foreign' ? plan.url : null;
      const monitoringUrl = plan.kind === 'foreign' ? plan.monitoringUrl : null;
      return { ...this.#foreignBus(), url, monitoring_url: monitoringUrl };
    }
    const details = this.#bus.getSnapshot().context.details;
    return {
      ...this.#processRecord(BUS, this.#bus),
      url: details['url'] ?? null,
      monitoring_url: details['monitoring_url'] ?? null,
    };
  }

  /** Told by the actors: of a bus elsewhere nobody here sees more than they. */
  #foreignBus(): ProcessRecord {
    const troubles = [...this.#actors.values()].map(child => child.getSnapshot().context.trouble);
    const isAway = troubles.length > 0 && troubles.every(trouble => trouble !== null);
    const state = isAway ? 'degraded' : 'ready';
    const reason = isAway ? (troubles[0] ?? null) : null;
    return { ...FOREIGN_BUS, state, reason, since: this.#sinceOf(FOREIGN_BUS.name, state) };
  }

  #processRecord(name: string, child: ChildActor): ProcessRecord {
    const snapshot = child.getSnapshot();
    const { pid, restarts, reason, trouble, details } = snapshot.context;
    const state = processState(snapshot);
    const bounds = details['sandbox_bounds'];
    return {
      name,
      ...(bounds === undefined ? {} : { sandbox_bounds: bounds }),
      pid,
      pid_started: pid === null ? null : this.#startOf(pid),
      state,
      restarts,
      reason: trouble ?? reason,
      since: this.#sinceOf(name, state),
    };
  }

  #sinceOf(name: string, state: ProcessState): number {
    const known = this.#states.get(name);
    if (known?.state === state) return known.since;
    const since = this.#clock.now();
    this.#states.set(name, { state, since });
    return since;
  }

  /** Remembered, since a record is written often and a process starts once. */
  #startOf(pid: number): string | null {
    const known = this.#pidsStarted.get(pid);
    if (known !== undefined) return known;
    const started = identityOf(pid)?.started ?? null;
    this.#pidsStarted.set(pid, started);
    return started;
  }

  #tidy(): void {
    if (this.#isUnwritten) this.#changed();
    for (const name of [BUS, ...this.#actors.keys()]) trimLog(this.#options.stateFolder, name);
  }
}

const FOREIGN_BUS: ProcessRecord = {
  name: 'bus',
  pid: null,
  pid_started: null,
  state: 'ready',
  restarts: 0,
  reason: null,
};

const toError = (reason: unknown): Error =>
  reason instanceof Error ? reason : new Error(String(reason));

function systemState(bus: ProcessRecord, actors: readonly ProcessRecord[]): SystemRecord['state'] {
  const all = [bus, ...actors];
  if (actors.length > 0 && all.every(one => one.state === 'ready')) return 'ready';
  const isBad = all.some(({ state }) => state === 'crash_loop' || state === 'degraded');
  return isBad ? 'degraded' : 'starting';
}

const isSteady = ({ state }: ProcessRecord): boolean => state === 'ready' || state === 'degraded';

function processState(snapshot: ReturnType<ChildActor['getSnapshot']>): ProcessState {
  const state = childState(snapshot);
  if (state === 'running') return snapshot.context.trouble === null ? 'ready' : 'degraded';
  if (state === 'stopping') return 'draining';
  if (state === 'cold' || state === 'stopped') return state;
  return crashLooping(snapshot.context) ? 'crash_loop' : state;
}

function stopChild(child: ChildActor): Promise<void> {
  return new Promise(resolve => {
    const look = (): void => {
      if (childState(child.getSnapshot()) !== 'stopped') return;
      subscription.unsubscribe();
      child.stop();
      resolve();
    };
    const subscription = child.subscribe(look);
    child.send({ type: 'child.stop' });
    look();
  });
}

/** How long an actor that has lost its supervisor may take to end by itself. */
const LEFTOVER_DRAIN_MS = 6_000;
const LEFTOVER_POLL_MS = 50;

/** S3. Answers the names of what was stopped. */
export async function stopLeftovers(stateFolder: string, clock: Clock): Promise<string[]> {
  const record = readSystem(stateFolder);
  if (record === null || supervisorLives(record)) return [];
  const names = survivors(record).map(one => one.name);
  for (const [signal, waitMs] of [
    ['SIGTERM', LEFTOVER_DRAIN_MS],
    ['SIGKILL', LEFTOVER_DRAIN_MS],
  ] as const) {
    for (const one of survivors(record)) if (one.pid !== null) signalProcess(one.pid, signal);
    const deadline = clock.monotonic() + waitMs;
    while (survivors(record).length > 0 && clock.monotonic() < deadline) {
      await clock.sleep(LEFTOVER_POLL_MS);
    }
  }
  removeSystem(stateFolder);
  return names;
}

export function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error; // ESRCH: already gone.
  }
}
