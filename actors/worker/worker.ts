/**
 * The worker, put together: engines and their inventory, the ledger of leases, the models in memory,
 * the attempts, and what it serves on the bus. `main.ts` gives it the real parts, tests give it others.
 *
 * W1: no lease, no work; and the node itself is the authority over its memory.
 * W2: what was under way when the process ended goes on when it starts again, before anything new.
 */
import type { NodeId } from '../../protocol/ids.ts';
import {
  ATTEMPT_PROTOCOL,
  type CapacityAdvert,
  type EngineAdvert,
  type LifecycleState,
  type ModelAdvert,
  type RuntimeAdvert,
} from '../../protocol/node.ts';
import { BUCKETS } from '../../protocol/streams.ts';
import type { EngineName } from '../../protocol/task.ts';
import type { Subscription } from '../../runtime/bus.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Journal } from '../../runtime/journal.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Messenger } from '../../runtime/messages.ts';
import { capacityFor } from '../../scheduling/node-cards.ts';
import type { Situation } from './admission.ts';
import { performAttempts } from './attempt-effects.ts';
import { AttemptProgress } from './attempt-progress.ts';
import { Attempts } from './attempts.ts';
import { Draining } from './draining.ts';
import type { Engine } from './engines/engine.ts';
import { KEEP_ALIVE_S } from './engines/ollama-options.ts';
import { serveInferences } from './infer.ts';
import { startIntake } from './intake.ts';
import { Inventory } from './inventory.ts';
import { holderKey, isAttempt, type Lease, leaseAdvert } from './lease.ts';
import { LeaseBook } from './lease-book.ts';
import { ModelHost } from './model-host.ts';
import { ModelMeasures } from './model-measures.ts';
import { forgetModels } from './model-records.ts';
import { NodeAdverts } from './node-adverts.ts';
import { NodePolicies } from './node-policies.ts';
import { serveNodeVerbs } from './node-verbs.ts';
import type { GatewayPort, ReportPort } from './ports.ts';
import type { Relay } from './relay/relay.ts';
import { boundedAdvert, boundedLeases } from './runtime-advert.ts';
import { SituationNow } from './situation.ts';

export interface WorkerParts {
  readonly messenger: Messenger;
  readonly clock: Clock;
  readonly log: Logger;
  readonly node: NodeId;
  readonly host: string;
  readonly epoch: number;
  readonly journal: Journal;
  readonly engines: readonly Engine[];
  /** Of the engines that answer clients of the pool. */
  readonly relays?: Readonly<Partial<Record<EngineName, Relay>>>;
  readonly gateway: GatewayPort;
  readonly reports: ReportPort;
  readonly state: () => LifecycleState;
  /** Silence after which the bus delivers a task again. */
  readonly ackWaitMs: number;
  readonly settings?: Partial<WorkerSettings>;
  /** Told what is measured of this node's memory. */
  readonly onCapacity?: (capacity: NodeAdverts['capacity']) => void;
}

/** As configured. */
export interface WorkerSettings {
  readonly labels: Readonly<Record<string, string>>;
  readonly offload: boolean;
  readonly residencyMs: number;
  /** Seconds that a copy stays after a use; -1: for good. */
  readonly keepAliveS: number;
  /** As configured now. */
  readonly aliases: () => Readonly<Record<string, string>>;
}

const SETTINGS: WorkerSettings = {
  ...{ labels: {}, offload: true, residencyMs: 0, keepAliveS: KEEP_ALIVE_S },
  aliases: () => ({}),
};
/** Attempts at once per device that runs models: while one waits for tools the other generates. */
const SLOTS_PER_DEVICE = 2;
/** Attempts at once where nothing but the scaffold generates. */
const SLOTS_WITHOUT_DEVICE = 4;
const SWEEP_EVERY_MS = 5_000;
const PRUNE_EVERY_MS = 3_600_000;
const DRAIN_POLL_MS = 50;

interface Kept {
  readonly leases: LeaseBook;
  readonly measures: ModelMeasures;
  readonly draining: Draining;
}

export class Worker {
  readonly #parts: WorkerParts;
  readonly #settings: WorkerSettings;
  readonly #inventory: Inventory;
  readonly #adverts: NodeAdverts;
  readonly #policies: NodePolicies;
  readonly #attempts: Attempts;
  readonly #models: ModelHost;
  readonly #leases: LeaseBook;
  readonly #measures: ModelMeasures;
  readonly #draining: Draining;
  readonly #over = new AbortController();
  /** What the engines have, with what was measured of it here. */
  #engines: readonly EngineAdvert[] = [];
  #intake: Subscription | null = null;
  #served: readonly Subscription[] = [];
  #chores: Promise<void> = Promise.resolve();
  #profilesDropped = 0;

  /** Resumes what was under way and begins to take work. */
  static async start(parts: WorkerParts): Promise<Worker> {
    let changed = (): void => {};
    let used = (): void => {};
    const { journal, epoch, log, clock } = parts;
    const kept = {
      leases: await LeaseBook.open(journal, epoch, {
        changed: () => changed(),
        used: () => used(),
        unreadable: key => log.warn('worker.lease_unreadable', { key }),
      }),
      measures: await ModelMeasures.open({ journal, log, clock }),
      draining: await Draining.open(journal, log, () => changed()),
    };
    const worker = new Worker(parts, kept);
    changed = () => worker.changed();
    used = () => worker.#adverts.used();
    await worker.#begin();
    return worker;
  }

  private constructor(parts: WorkerParts, { leases, measures, draining }: Kept) {
    const { messenger, clock, log, node, journal, gateway, reports } = parts;
    const { bus } = messenger;
    this.#parts = parts;
    this.#settings = { ...SETTINGS, ...parts.settings };
    this.#leases = leases;
    this.#measures = measures;
    this.#draining = draining;
    const changed = (): void => this.changed();
    const engines: Partial<Record<EngineName, Engine>> = {};
    for (const engine of parts.engines) engines[engine.name] = engine;
    this.#inventory = new Inventory({
      ...{ engines: parts.engines, journal, clock, log, changed },
      looked: (adverts, beganMs) => {
        this.#describe();
        this.#models.copies.observe(adverts, beganMs);
      },
    });
    this.#adverts = new NodeAdverts({
      ...{ messenger, node, clock, log },
      advert: () => this.#advert(),
      measured: capacity => parts.onCapacity?.(capacity),
    });
    this.#policies = new NodePolicies({ bus, node, log, changed });
    this.#models = new ModelHost({
      ...{ engines, leases, clock, log, changed },
      used: () => this.#adverts.used(),
      situation: () => this.#situation(),
      measured: signal => this.#adverts.nextCapacity(signal),
      measureNow: signal => this.#adverts.measureNow(signal),
      isKept: model => this.#policies.keeps(model),
      keepAliveS: (model, wish) => this.#keepAliveS(model, wish),
      moved: () => void this.#inventory.refresh(),
      loaded: load => {
        measures.loaded(load);
        this.#describe();
      },
      // Shown with the next advert: nothing here depends on it.
      spoke: (model, measured) => measures.spoke(model, measured),
    });
    const progress = new AttemptProgress(clock);
    this.#attempts = new Attempts({
      ...{ journal, clock, log, progress },
      perform: performAttempts({
        ...{ gateway, reports, clock, log, engines, progress },
        models: this.#models,
      }),
      begun: changed,
      over: attempt => this.#leases.releaseAttempt(attempt),
    });
  }

  /** Something that the advert shows is not as it was. */
  changed(): void {
    this.#adverts.changed();
  }

  /**
   * Takes no new work; what runs may end within the time. Attempts that do not go on after the next
   * start; streams that do not are cut.
   */
  async drain(deadlineMs: number): Promise<void> {
    this.#draining.end();
    const intake = this.#intake;
    this.#intake = null;
    await intake?.stop();
    const { clock } = this.#parts;
    const untilMs = clock.monotonic() + deadlineMs;
    const isBusy = (): boolean => this.#attempts.open().size > 0 || this.#models.inferences > 0;
    while (isBusy() && clock.monotonic() < untilMs) await clock.sleep(DRAIN_POLL_MS);
  }

  async stop(): Promise<void> {
    this.#over.abort();
    await this.#intake?.stop();
    this.#models.stop();
    await Promise.all(this.#served.map(subscription => subscription.stop()));
    for (const relay of Object.values(this.#parts.relays ?? {})) relay.stop();
    await this.#chores;
    await this.#inventory.stop();
    await this.#attempts.stop();
    await this.#policies.stop();
    await this.#adverts.stop();
    await this.#measures.close();
  }

  async #begin(): Promise<void> {
    const { messenger, node, log, reports, ackWaitMs } = this.#parts;
    await this.#inventory.start();
    this.#policies.start();
    await this.#adverts.start();
    await this.#attempts.resume(); // W2
    await this.#leases.sweep(this.#parts.clock, holder => this.#isOpen(holder));
    this.#served = this.#serve();
    this.#chores = this.#keepTidy();
    this.#intake = await startIntake({
      ...{ messenger, node, log, reports, ackWaitMs },
      knows: scope => this.#attempts.knows(scope),
      holdsLease: task => this.#leases.holds(task),
      take: task => this.#attempts.take(task),
    });
    this.changed();
  }

  #serve(): Subscription[] {
    const { messenger, node, log, clock, relays = {} } = this.#parts;
    return [
      ...serveNodeVerbs({
        ...{ messenger, node, log, leases: this.#leases, attempts: this.#attempts },
        ...{ models: this.#models, draining: this.#draining },
        situation: () => this.#situation(),
      }),
      serveInferences({
        ...{ bus: messenger.bus, node, clock, log, relays, lender: this.#models },
        engines: () => this.#inventory.adverts,
        rates: {
          of: name => this.#measured(name)?.prompt_tokens_per_s ?? null,
          learn: (name, measured) => {
            const model = this.#installed(name);
            if (model !== undefined) this.#measures.spoke(model, measured);
          },
        },
      }),
    ];
  }

  /** By the engine's own spelling. */
  #installed(name: string): ModelAdvert | undefined {
    for (const { models } of this.#inventory.adverts) {
      const found = models.find(model => model.name === name);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #measured(name: string): Partial<ModelAdvert> | null {
    const model = this.#installed(name);
    return model === undefined ? null : this.#measures.of(model);
  }

  /** Whether somebody is at work under the lease of this holder. */
  #isOpen(holder: string): boolean {
    return this.#attempts.open().has(holder) || this.#models.isAtWork(holder);
  }

  #isAtWork(lease: Lease): boolean | undefined {
    return isAttempt(lease) ? this.#attempts.open().has(holderKey(lease)) : undefined;
  }

  #situation(): Situation {
    const { node, clock } = this.#parts;
    const { offload, aliases } = this.#settings;
    return new SituationNow(this.#models.copies, {
      ...{ node, now: clock.now(), offload, aliases: aliases() },
      ready: !this.#draining.isOn && this.#intake !== null,
      slots: this.#slots(),
      capacity: this.#capacity(),
      engines: this.#engines,
    });
  }

  /** Looks up anew what was measured of each model here. */
  #describe(): void {
    this.#engines = this.#inventory.adverts.map(engine => ({
      ...engine,
      models: engine.models.map(model => ({ ...model, ...this.#measures.of(model) })),
    }));
  }

  /**
   * What a rule keeps stays for good. Otherwise a client's wish counts, and the last one, as on an
   * Ollama; but no copy goes sooner than its time while others wait. Where the memory is needed, any
   * that is idle goes.
   */
  #keepAliveS(model: string, wish: number = this.#settings.keepAliveS): number {
    if (wish < 0 || this.#policies.keeps(model)) return -1;
    return Math.ceil(Math.max(wish, this.#settings.residencyMs / 1_000));
  }

  /** Of the cards that models can lie on. */
  #capacity(): CapacityAdvert | null {
    return capacityFor(this.#adverts.capacity, this.#engines);
  }

  #slots(): number {
    const models = this.#inventory.adverts.some(
      ({ name, available, models: known }) =>
        name !== 'scaffold' && (available || known.length > 0),
    );
    const devices = Math.max(1, this.#capacity()?.gpus.length ?? 0);
    return models ? devices * SLOTS_PER_DEVICE : SLOTS_WITHOUT_DEVICE;
  }

  #advert(): RuntimeAdvert {
    const { node, epoch, host, clock, log } = this.#parts;
    const { leases } = this.#leases.ledger;
    const { labels, offload } = this.#settings;
    this.#describe();
    const { advert, dropped } = boundedAdvert(
      {
        ...{ node, epoch, host, labels: { ...labels }, offload },
        state: this.#draining.isOn ? 'draining' : this.#parts.state(),
        at: clock.now(),
        engines: this.#engines.map(engine => ({
          ...engine,
          models: engine.models.map(model => this.#models.copies.described(engine.name, model)),
        })),
        leases: boundedLeases(leases.map(lease => leaseAdvert(lease, this.#isAtWork(lease)))),
        attempt_protocol: ATTEMPT_PROTOCOL,
        slots: this.#slots(),
        slots_used: leases.filter(isAttempt).length,
      },
      BUCKETS.node.max_value_bytes - ADVERT_MARGIN_BYTES,
    );
    if (dropped !== this.#profilesDropped) log.warn('worker.profiles_not_told', { dropped });
    this.#profilesDropped = dropped;
    return advert;
  }

  /** Takes back leases whose time is over; forgets old attempts. */
  async #keepTidy(): Promise<void> {
    const { clock, log, journal } = this.#parts;
    const { signal } = this.#over;
    let pruneAtMs = clock.monotonic();
    while (!signal.aborted) {
      try {
        const expired = await this.#leases.sweep(clock, holder => this.#isOpen(holder));
        for (const { lease, model } of expired) log.info('lease.expired', { lease, model });
        if (clock.monotonic() >= pruneAtMs) {
          await this.#attempts.prune();
          await forgetModels(journal, this.#inventory.adverts);
          pruneAtMs = clock.monotonic() + PRUNE_EVERY_MS;
        }
      } catch (error) {
        log.warn('worker.chore_failed', { error }); // The next round tries again.
      }
      // Woken early means that it is over, which the loop looks at next.
      await clock.sleep(SWEEP_EVERY_MS, signal).catch(() => undefined);
    }
  }
}

/** Beside the value itself, a message of the bucket carries its headers. */
const ADVERT_MARGIN_BYTES = 4_096;
