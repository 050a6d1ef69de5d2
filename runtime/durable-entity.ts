/**
 * Entities of a durable host: where each stands, how it comes back from snapshot and log, and the
 * order in which things are done for it.
 *
 * Y1  One thing at a time per entity, in the order of the calls; what waits is bounded.
 * Y2  A snapshot that does not fit its log is dropped and the log replayed; but a log that ends
 *     before its own snapshot has lost facts, and that is `log_corrupt`.
 * Y3  What a machine throws is said as `internal`, naming the entity.
 */
import type { AnyMachineSnapshot, AnyStateMachine, ContextFrom } from 'xstate';
import { CodeGodError, toWireError } from '../protocol/errors.ts';
import type { EffectOf, FactOf, MachineFold } from './durable-fold.ts';
import type { Snapshot, SnapshotStore } from './durable-snapshots.ts';
import { type FactLog, LOG_START, type LogPosition } from './fact-log.ts';
import type { Logger } from './log.ts';
import { Turns } from './turns.ts';

/** Submissions of one entity that may wait for each other. */
const WAITING_MAX = 1_024;

export class Entity<M extends AnyStateMachine> {
  readonly id: string;
  snapshot: AnyMachineSnapshot;
  position: LogPosition;
  /** Hash of the first fact: which log this is. */
  origin: string | null;
  /** An append ended without an answer: look before the next one. */
  uncertain = false;
  closed = false;
  factsSinceSnapshot = 0;
  readonly #turns: Turns;

  constructor(id: string, snapshot: AnyMachineSnapshot, from: Snapshot | null) {
    this.id = id;
    this.snapshot = snapshot;
    this.position = from?.position ?? LOG_START;
    this.origin = from?.origin ?? null;
    this.#turns = new Turns(WAITING_MAX, id);
  }

  /** The end of what runs or waits for this entity. Never rejects. */
  get tail(): Promise<unknown> {
    return this.#turns.tail;
  }

  get context(): ContextFrom<M> {
    return this.snapshot.context;
  }

  get pending(): Readonly<Record<string, EffectOf<M>>> {
    return this.snapshot.context.pending;
  }

  get deadlines(): Readonly<Record<string, number>> {
    return this.snapshot.context.deadlines;
  }

  adopt(next: AnyMachineSnapshot, position: LogPosition): void {
    this.snapshot = next;
    this.position = position;
    if (position.bseq === 1) this.origin = position.hash;
    this.factsSinceSnapshot += 1;
  }

  /** Runs after everything that was asked for this entity before (Y1). */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    return this.#turns.run(work);
  }
}

export interface EntitiesOptions<M extends AnyStateMachine> {
  readonly fold: MachineFold<M>;
  readonly log: FactLog<FactOf<M>>;
  readonly snapshots: SnapshotStore;
  readonly logger: Logger;
}

/** Brings entities back and keeps them up with their logs. */
export class Entities<M extends AnyStateMachine> {
  readonly #options: EntitiesOptions<M>;

  constructor(options: EntitiesOptions<M>) {
    this.#options = options;
  }

  /** From the snapshot where it fits its log, else from the start (Y2). */
  async recover(id: string): Promise<Entity<M>> {
    const { logger, snapshots } = this.#options;
    const snapshot = await snapshots.load(id);
    if (snapshot !== null) {
      try {
        return await this.#replay(id, snapshot);
      } catch (error) {
        if (!isBroken(error)) throw error;
        logger.warn('durable.snapshot_dropped', { entity: id, error });
      }
    }
    const entity = await this.#replay(id, null);
    const { bseq } = entity.position;
    if (snapshot?.origin !== entity.origin || snapshot.position.bseq <= bseq) return entity;
    throw new CodeGodError(
      'log_corrupt',
      `the log of ${id} ends at fact ${bseq}, but fact ${snapshot.position.bseq} was in it`,
      {
        hint: 'restore the log from a backup; or remove the snapshots to go on without those facts',
        details: { entity: id, bseq },
      },
    );
  }

  /** Folds what stands in the log after the entity's position; tells each fact. */
  async readOn(entity: Entity<M>, onFact: (fact: FactOf<M>) => void = () => {}): Promise<void> {
    for await (const { fact, position } of this.#options.log.read(entity.id, entity.position)) {
      entity.adopt(this.step(entity, fact), position);
      onFact(fact);
    }
    entity.uncertain = false;
  }

  /** The state after a fact, which is not adopted yet. @throws CodeGodError `internal` (Y3). */
  step(entity: Entity<M>, fact: FactOf<M>): AnyMachineSnapshot {
    return guarded(entity.id, () => this.#options.fold.step(entity.snapshot, fact));
  }

  async keepSnapshot(entity: Entity<M>): Promise<void> {
    const { fold, snapshots } = this.#options;
    const { id, position, origin, factsSinceSnapshot } = entity;
    if (factsSinceSnapshot === 0 || origin === null) return;
    const state = fold.freeze(entity.snapshot);
    const kept = await snapshots.keep(id, { position, origin, state });
    if (kept) entity.factsSinceSnapshot = 0;
  }

  async #replay(id: string, from: Snapshot | null): Promise<Entity<M>> {
    const { fold } = this.#options;
    const start = guarded(id, () => (from === null ? fold.initial(id) : fold.thaw(from.state)));
    const entity = new Entity<M>(id, start, from);
    await this.readOn(entity);
    return entity;
  }
}

/** Whether an entity with this error must be set aside: trying again would not mend it. */
export function isBroken(error: unknown): boolean {
  const { code } = toWireError(error);
  return code === 'log_corrupt' || code === 'internal';
}

function guarded<T>(id: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    const detail = cause instanceof Error ? cause.message : String(cause);
    throw new CodeGodError('internal', `the machine of ${id} failed: ${detail}`, { cause });
  }
}
