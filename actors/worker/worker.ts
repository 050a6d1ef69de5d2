/**
 * The worker, put together: engines and their inventory, the ledger of leases, the attempts, and what
 * it serves on the bus. `main.ts` gives it the real parts, tests give it others.
 *
 * W1: no lease, no work; and the node itself is the authority over its memory.
 * W2: what was under way when the process ended goes on when it starts again, before anything new.
 */
import type { NodeId } from '../../protocol/ids.ts';
import {
  type Acknowledgement,
  CancelRequest,
  type LifecycleState,
  ReleaseRequest,
  ReserveRequest,
  type RuntimeAdvert,
} from '../../protocol/node.ts';
import { nodeSubject } from '../../protocol/subjects.ts';
import type { EngineName } from '../../protocol/task.ts';
import type { Subscription } from '../../runtime/bus.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Journal } from '../../runtime/journal.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Messenger } from '../../runtime/messages.ts';
import type { Situation } from './admission.ts';
import { performAttempts } from './attempt-effects.ts';
import { Attempts } from './attempts.ts';
import type { Engine } from './engines/engine.ts';
import { startIntake } from './intake.ts';
import { Inventory } from './inventory.ts';
import { isAttempt, leaseAdvert } from './lease.ts';
import { LeaseBook } from './lease-book.ts';
import { ModelHost } from './model-host.ts';
import { NodeAdverts } from './node-adverts.ts';
import type { GatewayPort, ReportPort } from './ports.ts';

export interface WorkerParts {
  readonly messenger: Messenger;
  readonly clock: Clock;
  readonly log: Logger;
  readonly node: NodeId;
  readonly host: string;
  readonly epoch: number;
  readonly journal: Journal;
  readonly engines: readonly Engine[];
  readonly gateway: GatewayPort;
  readonly reports: ReportPort;
  readonly state: () => LifecycleState;
  /** Silence after which the bus delivers a task again. */
  readonly ackWaitMs: number;
}

/** Attempts at once per device that runs models: while one waits for tools the other generates. */
const SLOTS_PER_DEVICE = 2;
/** Attempts at once where nothing but the scaffold generates. */
const SLOTS_WITHOUT_DEVICE = 4;
const SWEEP_EVERY_MS = 5_000;
const PRUNE_EVERY_MS = 3_600_000;
const DONE: Acknowledgement = { ok: true };

export class Worker {
  readonly #parts: WorkerParts;
  readonly #inventory: Inventory;
  readonly #adverts: NodeAdverts;
  readonly #attempts: Attempts;
  readonly #leases: LeaseBook;
  readonly #models: ModelHost;
  readonly #over = new AbortController();
  #intake: Subscription | null = null;
  #served: readonly Subscription[] = [];
  #chores: Promise<void> = Promise.resolve();
  #draining = false;

  /** Resumes what was under way and begins to take work. */
  static async start(parts: WorkerParts): Promise<Worker> {
    let changed = (): void => {};
    const leases = await LeaseBook.open(parts.journal, parts.epoch, () => changed());
    const worker = new Worker(parts, leases);
    changed = () => worker.changed();
    await worker.#begin();
    return worker;
  }

  private constructor(parts: WorkerParts, leases: LeaseBook) {
    const { messenger, clock, log, node, journal, gateway, reports } = parts;
    this.#parts = parts;
    this.#leases = leases;
    const byName: Partial<Record<EngineName, Engine>> = {};
    for (const engine of parts.engines) byName[engine.name] = engine;
    this.#inventory = new Inventory({
      ...{ engines: parts.engines, clock, log },
      looked: (adverts, at) => this.#models.observe(adverts, at),
      changed: () => this.changed(),
    });
    this.#adverts = new NodeAdverts({
      bus: messenger.bus,
      node,
      clock,
      log,
      advert: () => this.#advert(),
    });
    this.#models = new ModelHost({
      ...{ engines: byName, leases, clock, log },
      situation: () => this.#situation(),
      measured: signal => this.#adverts.nextCapacity(signal),
      isKept: () => false,
      changed: () => this.changed(),
      moved: () => void this.#inventory.refresh(),
      loaded: () => {},
      spoke: () => {},
    });
    this.#attempts = new Attempts({
      journal,
      clock,
      log,
      perform: performAttempts({
        ...{ gateway, reports, clock, log },
        engines: byName,
        models: this.#models,
      }),
      begun: () => this.changed(),
      over: attempt => this.#leases.releaseAttempt(attempt),
    });
  }

  /** Something that the advert shows is not as it was. */
  changed(): void {
    this.#adverts.changed();
  }

  /** Takes no new work; what runs may end within the time. The rest goes on after the next start. */
  async drain(deadlineMs: number): Promise<void> {
    this.#draining = true;
    this.changed();
    const intake = this.#intake;
    this.#intake = null;
    await intake?.stop();
    await this.#attempts.idle(deadlineMs);
  }

  async stop(): Promise<void> {
    this.#over.abort();
    await this.#intake?.stop();
    await Promise.all(this.#served.map(subscription => subscription.stop()));
    await this.#chores;
    await this.#inventory.stop();
    this.#models.stop();
    await this.#attempts.stop();
    await this.#adverts.stop();
  }

  async #begin(): Promise<void> {
    const { messenger, node, log, reports, ackWaitMs } = this.#parts;
    await this.#inventory.start();
    await this.#attempts.resume(); // W2
    await this.#leases.sweep(this.#parts.clock.now(), holder => this.#isOpen(holder));
    this.#adverts.start();
    this.#served = this.#serve();
    this.#chores = this.#keepTidy();
    this.#intake = await startIntake({
      ...{ messenger, node, log, reports, ackWaitMs },
      knows: scope => this.#attempts.knows(scope),
      holdsLease: task => this.#leases.holds(task),
      take: task => this.#attempts.take(task),
    });
  }

  #serve(): Subscription[] {
    const { messenger, node, log } = this.#parts;
    return [
      messenger.serve(nodeSubject(node, 'reserve'), ReserveRequest, async request => {
        const reply = await this.#leases.reserve(request, this.#situation());
        const { build, task, attempt, model, bytes } = request;
        log.info('lease.decided', { build, task, attempt, model, bytes, ...reply });
        return reply;
      }),
      messenger.serve(nodeSubject(node, 'release'), ReleaseRequest, async ({ lease }) => {
        await this.#leases.release(lease);
        return DONE;
      }),
      messenger.serve(nodeSubject(node, 'cancel'), CancelRequest, async request => {
        await this.#attempts.cancel(request);
        return DONE;
      }),
    ];
  }

  /** Whether somebody is at work under the lease of this holder. */
  #isOpen(holder: string): boolean {
    return this.#attempts.open().has(holder) || this.#models.isAtWork(holder);
  }

  #situation(): Situation {
    return {
      residents: this.#models.residents(),
      node: this.#parts.node,
      now: this.#parts.clock.now(),
      ready: !this.#draining && this.#intake !== null,
      slots: this.#slots(),
      capacity: this.#adverts.capacity,
      engines: this.#inventory.adverts,
    };
  }

  #slots(): number {
    const models = this.#inventory.adverts.some(
      ({ name, available }) => available && name !== 'scaffold',
    );
    const devices = Math.max(1, this.#adverts.capacity?.gpus.length ?? 0);
    return models ? devices * SLOTS_PER_DEVICE : SLOTS_WITHOUT_DEVICE;
  }

  #advert(): RuntimeAdvert {
    const { node, epoch, host, clock } = this.#parts;
    const { leases } = this.#leases.ledger;
    return {
      ...{ node, epoch, host },
      state: this.#draining ? 'draining' : this.#parts.state(),
      at: clock.now(),
      engines: this.#inventory.adverts.map(engine => ({
        ...engine,
        models: engine.models.map(model => this.#models.described(engine.name, model)),
      })),
      leases: leases.map(leaseAdvert),
      slots: this.#slots(),
      slots_used: leases.filter(isAttempt).length,
    };
  }

  /** Takes back leases whose time is over; forgets old attempts. */
  async #keepTidy(): Promise<void> {
    const { clock, log } = this.#parts;
    const { signal } = this.#over;
    let pruneAtMs = clock.monotonic();
    while (!signal.aborted) {
      try {
        const expired = await this.#leases.sweep(clock.now(), holder => this.#isOpen(holder));
        for (const { lease, model } of expired) log.info('lease.expired', { lease, model });
        if (clock.monotonic() >= pruneAtMs) {
          await this.#attempts.prune();
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
