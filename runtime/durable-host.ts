/**
 * The durable host: keeps entities alive whose state is the fold of a pure machine over a log of
 * facts, and does for them what machines cannot: effects, deadlines, snapshots, recovery.
 *
 * H1  Facts first: a fact is in the log before it counts, and it counts before anything happens
 *     because of it.
 * H2  A fact is folded as its stored bytes say it, so that a replay comes to an equal state.
 * H3  One thing at a time per entity; entities do not wait for each other.
 * H4  After a crash whatever is still pending runs again under the same key. Effects are idempotent
 *     by key; the fact that takes a key out of `pending` is the last one its effect returns.
 * H5  A snapshot is a cache: a damaged, foreign or missing one costs a replay, no more. But a log
 *     that ends before its own snapshot has lost facts, and that is `log_corrupt`.
 * H6  What cannot be folded (a bug in a machine, a broken log) sets its own entity aside
 *     (quarantine) and no other. A live fact that the machine throws at never enters the log.
 */
import type { AnyMachineSnapshot, AnyStateMachine, ContextFrom, StateValue } from 'xstate';
import { decode, encode } from '../protocol/codec.ts';
import { CodeGodError, fromWireError, toWireError, type WireError } from '../protocol/errors.ts';
import type { Clock } from './clock.ts';
import { DeadlineTimer } from './durable-deadlines.ts';
import { asleep, EffectRunner, growingPause, settledWithin } from './durable-effects.ts';
import { type DurableContext, type EffectOf, type FactOf, MachineFold } from './durable-fold.ts';
import { type Migrations, type Snapshot, SnapshotStore } from './durable-snapshots.ts';
import { type AnyFact, type FactLog, LOG_START, type LogPosition } from './fact-log.ts';
import type { Journal } from './journal.ts';
import type { Logger } from './log.ts';

export interface DurableHostOptions<M extends AnyStateMachine> {
  /** Its context extends DurableContext; its events are facts. Gets `{ entity }` as input. */
  readonly machine: M;
  readonly log: FactLog<FactOf<M>>;
  /** Where snapshots are kept, under `snapshot/`. */
  readonly snapshots: Journal;
  /** Of the machine's states and context. */
  readonly schemaVersion: number;
  /** Version n → the function from n to n+1. Where one is missing the log is replayed. */
  readonly migrations: Migrations;
  readonly clock: Clock;
  readonly logger: Logger;
  /**
   * Does one thing, idempotent by key, and answers the facts that follow. The signal fires when the
   * key leaves `pending`; what is returned after that is dropped. Retryable errors are tried again
   * for as long as the key is pending, bugs five times; after all others comes `failed`.
   */
  perform(
    entity: string,
    key: string,
    effect: EffectOf<M>,
    signal: AbortSignal,
  ): Promise<readonly FactOf<M>[]>;
  /** The facts of an effect that cannot succeed. */
  failed(
    entity: string,
    key: string,
    effect: EffectOf<M>,
    error: WireError,
    at: number,
  ): readonly FactOf<M>[];
  /** The fact that a deadline has passed, at a moment no earlier than it. */
  onDeadline(key: string, at: number): FactOf<M>;
  /** Facts to append when an entity with a past is opened, before its effects go on. */
  resumed?(context: ContextFrom<M>): readonly FactOf<M>[];
  /** Somebody newer writes this entity's log; it has been closed here. */
  notLeader?(entity: string): void;
  /** Effects at work at once. Default 256. */
  readonly effectsMax?: number;
  /** Facts between two snapshots. Default 64. */
  readonly snapshotEvery?: number;
}

export type FactListener<F, C> = (
  entity: string,
  fact: F,
  context: C,
  position: LogPosition,
) => void;

export interface DurableState<C> {
  readonly value: StateValue;
  readonly context: C;
  readonly position: LogPosition;
}

export interface DurableHost<F, C> {
  /**
   * Brings an entity back, from its snapshot and the facts after it, or as new where it has none.
   * @throws CodeGodError `log_corrupt`, `internal` (both: quarantined), `bus_unavailable`.
   */
  open(entity: string): Promise<C>;
  /**
   * Appends a fact and folds it; resolves when it counts. Opens the entity where needed.
   * @throws CodeGodError as `open` does; `wrong_last_sequence` where somebody else leads;
   * `overloaded`; `cancelled` after `stop`. After `timeout` or `bus_unavailable` the fact may count.
   */
  submit(entity: string, fact: F): Promise<C>;
  context(entity: string): C | undefined;
  state(entity: string): DurableState<C> | undefined;
  entities(): readonly string[];
  /** Entities set aside, with the reason. `close` forgets it, so that `open` tries again. */
  quarantined(): ReadonlyMap<string, WireError>;
  /** Called after each new fact has been folded, not for replayed ones. */
  onFact(listener: FactListener<F, C>): () => void;
  close(entity: string): Promise<void>;
  /** Closes an entity and removes its snapshot. Its facts are the log's to remove. */
  forget(entity: string): Promise<void>;
  /** Aborts effects, without facts, and closes all; at most about 5 s. */
  stop(): Promise<void>;
}

const STOP_MS = 5_000;
/** Submissions of one entity that may wait for each other. */
const WAITING_MAX = 1_024;
/** Times a fenced predecessor may append between our reading and our append. */
const BEHIND_MAX = 8;

interface Entity {
  readonly id: string;
  snapshot: AnyMachineSnapshot;
  position: LogPosition;
  /** Hash of the first fact: which log this is. */
  origin: string | null;
  /** The end of what runs or waits for this entity (H3). */
  tail: Promise<unknown>;
  waiting: number;
  /** An append ended without an answer: look before the next one. */
  uncertain: boolean;
  factsSinceSnapshot: number;
  closed: boolean;
}

export function createDurableHost<M extends AnyStateMachine>(
  options: DurableHostOptions<M>,
): DurableHost<FactOf<M>, ContextFrom<M>> {
  return new Host(options);
}

class Host<M extends AnyStateMachine> implements DurableHost<FactOf<M>, ContextFrom<M>> {
  readonly #options: DurableHostOptions<M>;
  readonly #fold: MachineFold<M>;
  readonly #snapshots: SnapshotStore;
  readonly #effects: EffectRunner<EffectOf<M>, FactOf<M>>;
  readonly #deadlines: DeadlineTimer;
  readonly #entities = new Map<string, Entity>();
  readonly #opening = new Map<string, Promise<Entity>>();
  readonly #quarantined = new Map<string, WireError>();
  readonly #listeners = new Set<FactListener<FactOf<M>, ContextFrom<M>>>();
  readonly #stopping = new AbortController();

  constructor(options: DurableHostOptions<M>) {
    const { clock, logger, snapshots, schemaVersion, migrations, effectsMax = 256 } = options;
    this.#options = options;
    this.#fold = new MachineFold(options.machine);
    this.#snapshots = new SnapshotStore({ journal: snapshots, schemaVersion, migrations, logger });
    this.#deadlines = new DeadlineTimer(clock, (entity, key, at) => {
      void this.#deadlinePassed(entity, key, at);
    });
    this.#effects = new EffectRunner({
      clock,
      logger,
      effectsMax,
      perform: (...run) => options.perform(...run),
      failed: (...run) => options.failed(...run),
      settle: (entity, facts, signal) => this.#settle(entity, facts, signal),
      pending: entity => {
        const open = this.#entities.get(entity);
        return open === undefined ? {} : durable<EffectOf<M>>(open).pending;
      },
    });
  }

  async open(id: string): Promise<ContextFrom<M>> {
    return (await this.#opened(id)).snapshot.context;
  }

  async submit(id: string, fact: FactOf<M>): Promise<ContextFrom<M>> {
    const entity = await this.#opened(id);
    return await this.#inTurn(entity, async () => {
      await this.#append(entity, fact);
      return entity.snapshot.context;
    });
  }

  context(id: string): ContextFrom<M> | undefined {
    return this.#entities.get(id)?.snapshot.context;
  }

  state(id: string): DurableState<ContextFrom<M>> | undefined {
    const entity = this.#entities.get(id);
    if (entity === undefined) return undefined;
    const { value, context } = entity.snapshot;
    return { value, context, position: entity.position };
  }

  entities(): readonly string[] {
    return [...this.#entities.keys()];
  }

  quarantined(): ReadonlyMap<string, WireError> {
    return this.#quarantined;
  }

  onFact(listener: FactListener<FactOf<M>, ContextFrom<M>>): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  async close(id: string): Promise<void> {
    this.#quarantined.delete(id);
    const entity = this.#entities.get(id);
    if (entity === undefined) return;
    this.#release(entity);
    const { clock } = this.#options;
    await Promise.all([this.#effects.stop(id), settledWithin(clock, STOP_MS, [entity.tail])]);
    await this.#keepSnapshot(entity);
  }

  async forget(id: string): Promise<void> {
    await this.close(id);
    await this.#snapshots.remove(id);
  }

  async stop(): Promise<void> {
    this.#stopping.abort(stoppedError());
    await settledWithin(this.#options.clock, STOP_MS, [...this.#opening.values()]);
    await Promise.all(this.entities().map(id => this.close(id)));
  }

  async #opened(id: string): Promise<Entity> {
    if (this.#stopping.signal.aborted) throw stoppedError();
    const set = this.#quarantined.get(id);
    if (set !== undefined) throw fromWireError(set);
    const entity = this.#entities.get(id);
    if (entity !== undefined) return entity;
    let opening = this.#opening.get(id);
    if (opening === undefined) {
      opening = this.#bringBack(id).finally(() => this.#opening.delete(id));
      this.#opening.set(id, opening);
    }
    return await opening;
  }

  async #bringBack(id: string): Promise<Entity> {
    const { logger, resumed } = this.#options;
    let entity: Entity;
    try {
      entity = await this.#recover(id);
    } catch (error) {
      const { code } = toWireError(error);
      if (code === 'log_corrupt' || code === 'internal') this.#quarantine(id, error);
      throw error;
    }
    if (this.#stopping.signal.aborted) throw stoppedError();
    this.#entities.set(id, entity);
    if (entity.position.bseq > 0) {
      const { bseq } = entity.position;
      const pending = Object.keys(durable(entity).pending);
      logger.info('durable.resumed', { entity: id, bseq, pending });
      try {
        const facts = resumed?.(entity.snapshot.context) ?? [];
        await this.#inTurn(entity, async () => {
          for (const fact of facts) await this.#append(entity, fact);
        });
      } catch (error) {
        this.#release(entity);
        throw error;
      }
    }
    this.#followUp(entity);
    return entity;
  }

  /** From the snapshot where it fits its log, else from the start (H5). */
  async #recover(id: string): Promise<Entity> {
    const { logger } = this.#options;
    const snapshot = await this.#snapshots.load(id);
    if (snapshot !== null) {
      try {
        return await this.#replay(id, snapshot);
      } catch (error) {
        const { code, message } = toWireError(error);
        if (code !== 'log_corrupt' && code !== 'internal') throw error;
        logger.warn('durable.snapshot_dropped', { entity: id, reason: message });
      }
    }
    const entity = await this.#replay(id, null);
    const isCut =
      snapshot !== null &&
      snapshot.origin === entity.origin &&
      snapshot.position.bseq > entity.position.bseq;
    if (!isCut) return entity;
    const { bseq } = entity.position;
    throw new CodeGodError(
      'log_corrupt',
      `the log of ${id} ends at fact ${bseq}, but fact ${snapshot.position.bseq} was in it`,
      {
        hint: 'restore the log from a backup; or remove the snapshots to go on without those facts',
        details: { entity: id, bseq },
      },
    );
  }

  async #replay(id: string, from: Snapshot | null): Promise<Entity> {
    const entity: Entity = {
      id,
      snapshot: this.#folded(id, () =>
        from === null ? this.#fold.initial(id) : this.#fold.thaw(from.state),
      ),
      position: from?.position ?? LOG_START,
      origin: from?.origin ?? null,
      tail: Promise.resolve(),
      waiting: 0,
      uncertain: false,
      factsSinceSnapshot: 0,
      closed: false,
    };
    for await (const { fact, position } of this.#options.log.read(id, entity.position)) {
      this.#adopt(entity, this.#step(entity, fact), position);
    }
    return entity;
  }

  /** Runs after everything that was asked of this entity before (H3). */
  #inTurn<T>(entity: Entity, work: () => Promise<T>): Promise<T> {
    if (entity.waiting >= WAITING_MAX) {
      const message = `${entity.waiting} facts wait for ${entity.id}`;
      return Promise.reject(new CodeGodError('overloaded', message));
    }
    entity.waiting += 1;
    const turn = entity.tail.then(work).finally(() => {
      entity.waiting -= 1;
    });
    // The next turn comes whether this one succeeded or not.
    entity.tail = turn.catch(() => {});
    return turn;
  }

  /** One fact, all the way: computed, appended, adopted, acted on (H1). */
  async #append(entity: Entity, given: FactOf<M>): Promise<void> {
    const fact = decode(encode(given), undefined) as FactOf<M> & AnyFact; // H2
    for (let tries = 0; tries < BEHIND_MAX; tries++) {
      if (entity.closed) throw closedError(entity.id);
      if (entity.uncertain) await this.#catchUp(entity);
      const next = this.#stepOrQuarantine(entity, fact);
      const appended = await this.#tryAppend(entity, fact);
      if (appended === 'not_leader') throw this.#notLeader(entity);
      if (appended === 'behind') {
        await this.#catchUp(entity);
        continue;
      }
      this.#adopt(entity, next, appended);
      this.#announce(entity, fact);
      this.#followUp(entity);
      const { snapshotEvery = 64 } = this.#options;
      if (entity.factsSinceSnapshot >= snapshotEvery) await this.#keepSnapshot(entity);
      return;
    }
    throw new CodeGodError('overloaded', `others keep writing the log of ${entity.id}`);
  }

  async #tryAppend(
    entity: Entity,
    fact: FactOf<M>,
  ): Promise<LogPosition | 'behind' | 'not_leader'> {
    try {
      const outcome = await this.#options.log.append(entity.id, fact, entity.position);
      return outcome.kind === 'appended' ? outcome.position : outcome.kind;
    } catch (error) {
      const { code } = toWireError(error);
      if (code === 'log_corrupt') this.#quarantine(entity.id, error);
      else entity.uncertain = code !== 'too_large';
      throw error;
    }
  }

  /** Folds what stands in the log and was not known here. */
  async #catchUp(entity: Entity): Promise<void> {
    try {
      for await (const { fact, position } of this.#options.log.read(entity.id, entity.position)) {
        this.#adopt(entity, this.#step(entity, fact), position);
        this.#announce(entity, fact);
      }
    } catch (error) {
      const { code } = toWireError(error);
      if (code === 'log_corrupt' || code === 'internal') this.#quarantine(entity.id, error);
      throw error;
    }
    entity.uncertain = false;
    this.#followUp(entity);
  }

  #step(entity: Entity, fact: FactOf<M>): AnyMachineSnapshot {
    return this.#folded(entity.id, () => this.#fold.step(entity.snapshot, fact));
  }

  #stepOrQuarantine(entity: Entity, fact: FactOf<M>): AnyMachineSnapshot {
    try {
      return this.#step(entity, fact);
    } catch (error) {
      this.#quarantine(entity.id, error); // H6
      throw error;
    }
  }

  /** What a machine throws is a bug of the machine, said as `internal`. */
  #folded<T>(id: string, work: () => T): T {
    try {
      return work();
    } catch (cause) {
      const detail = cause instanceof Error ? cause.message : String(cause);
      throw new CodeGodError('internal', `the machine of ${id} failed: ${detail}`, { cause });
    }
  }

  #adopt(entity: Entity, next: AnyMachineSnapshot, position: LogPosition): void {
    entity.snapshot = next;
    entity.position = position;
    if (position.bseq === 1) entity.origin = position.hash;
    entity.factsSinceSnapshot += 1;
  }

  #announce(entity: Entity, fact: FactOf<M>): void {
    for (const listener of this.#listeners) {
      try {
        listener(entity.id, fact, entity.snapshot.context, entity.position);
      } catch (error) {
        this.#options.logger.error('durable.listener_failed', { entity: entity.id, error });
      }
    }
  }

  /** Lets effects and deadlines be what the context says. */
  #followUp(entity: Entity): void {
    if (entity.closed || this.#entities.get(entity.id) !== entity) return;
    this.#deadlines.set(entity.id, durable(entity).deadlines);
    this.#effects.reconcile(entity.id);
  }

  /** Appends the facts of an effect, unless it has been aborted. */
  async #settle(id: string, facts: readonly FactOf<M>[], signal: AbortSignal): Promise<void> {
    const entity = this.#entities.get(id);
    if (entity === undefined) return;
    await this.#inTurn(entity, async () => {
      if (signal.aborted) return;
      for (const fact of facts) await this.#append(entity, fact);
    });
  }

  async #deadlinePassed(id: string, key: string, at: number): Promise<void> {
    const { clock, logger, onDeadline } = this.#options;
    for (let tries = 1; ; tries++) {
      const entity = this.#entities.get(id);
      if (entity === undefined || durable(entity).deadlines[key] !== at) return;
      try {
        await this.#inTurn(entity, async () => {
          if (durable(entity).deadlines[key] !== at) return;
          await this.#append(entity, onDeadline(key, Math.max(at, clock.now())));
          if (durable(entity).deadlines[key] === at) {
            logger.warn('durable.deadline_ignored', { entity: id, key });
          }
        });
        return;
      } catch (error) {
        logger.warn('durable.deadline_delayed', { entity: id, key, error });
        if (!(error instanceof CodeGodError && error.retryable)) return;
        await asleep(clock, growingPause(clock, tries), this.#stopping.signal);
      }
    }
  }

  #quarantine(id: string, error: unknown): void {
    this.#quarantined.set(id, toWireError(error));
    this.#options.logger.error('durable.quarantined', { entity: id, error });
    const entity = this.#entities.get(id);
    if (entity !== undefined) this.#release(entity);
  }

  #notLeader(entity: Entity): CodeGodError {
    this.#options.logger.warn('durable.not_leader', { entity: entity.id });
    this.#release(entity);
    this.#options.notLeader?.(entity.id);
    return new CodeGodError('wrong_last_sequence', `another process leads ${entity.id} now`);
  }

  /** From here on nothing happens for the entity in this process. */
  #release(entity: Entity): void {
    entity.closed = true;
    if (this.#entities.get(entity.id) === entity) this.#entities.delete(entity.id);
    this.#deadlines.remove(entity.id);
    this.#effects.reconcile(entity.id);
  }

  async #keepSnapshot(entity: Entity): Promise<void> {
    const { id, position, origin, factsSinceSnapshot } = entity;
    if (factsSinceSnapshot === 0 || origin === null || this.#quarantined.has(id)) return;
    const state = this.#fold.freeze(entity.snapshot);
    const kept = await this.#snapshots.keep(id, { position, origin, state });
    if (kept) entity.factsSinceSnapshot = 0;
  }
}

/** The part of a context that concerns the host. */
const durable = <E>(entity: Entity): DurableContext<E> => entity.snapshot.context;

const stoppedError = (): CodeGodError => new CodeGodError('cancelled', 'the host is stopping');
const closedError = (id: string): CodeGodError => new CodeGodError('cancelled', `${id} is closed`);
