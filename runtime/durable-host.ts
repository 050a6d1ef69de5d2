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
 * H7  Whether a fact fits is decided in the entity's turn, over all that stands in its log: what
 *     waited behind a fact that leaves no room for it is not appended.
 */
import type { AnyStateMachine, ContextFrom, StateValue } from 'xstate';
import { decode, encode } from '../protocol/codec.ts';
import { CodeGodError, fromWireError, toWireError, type WireError } from '../protocol/errors.ts';
import type { Clock } from './clock.ts';
import { DeadlineTimer } from './durable-deadlines.ts';
import { asleep, EffectRunner, growingPause, settledWithin } from './durable-effects.ts';
import { Entities, type Entity, isBroken } from './durable-entity.ts';
import { type EffectOf, type FactOf, MachineFold } from './durable-fold.ts';
import { type Migrations, SnapshotStore } from './durable-snapshots.ts';
import type { FactLog, LogPosition } from './fact-log.ts';
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
  /**
   * The fact that a deadline has passed, at this moment; or another one that takes the deadline away
   * or sets it to another moment.
   */
  onDeadline(key: string, at: number, entity: string): FactOf<M>;
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
  /**
   * As `submit`, of the fact that `choose` answers in the entity's turn, over its state then; null:
   * nothing is appended. What it throws is thrown, and nothing is appended either.
   */
  decide(entity: string, choose: (state: DurableState<C>) => F | null): Promise<C>;
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
  /**
   * Removes the snapshots of whatever is not open: caches of what is over, or of a log that is no
   * more. What is opened again is read from its facts.
   */
  forgetOthers(): Promise<void>;
  /** Aborts effects, without facts, and closes all; at most about 5 s. */
  stop(): Promise<void>;
}

const STOP_MS = 5_000;
/** Times a fenced predecessor may append between our reading and our append. */
const BEHIND_MAX = 8;
/** Times an entity is brought back for one fact that waits for it. */
const OPENED_MAX = 3;

export function createDurableHost<M extends AnyStateMachine>(
  options: DurableHostOptions<M>,
): DurableHost<FactOf<M>, ContextFrom<M>> {
  return new Host(options);
}

class Host<M extends AnyStateMachine> implements DurableHost<FactOf<M>, ContextFrom<M>> {
  readonly #options: DurableHostOptions<M>;
  readonly #store: Entities<M>;
  readonly #snapshots: SnapshotStore;
  readonly #effects: EffectRunner<EffectOf<M>, FactOf<M>>;
  readonly #deadlines: DeadlineTimer;
  readonly #entities = new Map<string, Entity<M>>();
  readonly #opening = new Map<string, Promise<Entity<M>>>();
  readonly #quarantined = new Map<string, WireError>();
  readonly #listeners = new Set<FactListener<FactOf<M>, ContextFrom<M>>>();
  readonly #stopping = new AbortController();

  constructor(options: DurableHostOptions<M>) {
    const { clock, log, logger, schemaVersion, migrations, effectsMax = 256 } = options;
    this.#options = options;
    const fold = new MachineFold(options.machine);
    const journal = options.snapshots;
    this.#snapshots = new SnapshotStore({ journal, schemaVersion, migrations, logger });
    this.#store = new Entities({ fold, log, logger, snapshots: this.#snapshots });
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
      pending: entity => this.#entities.get(entity)?.pending ?? {},
    });
  }

  async open(id: string): Promise<ContextFrom<M>> {
    return (await this.#opened(id)).context;
  }

  submit(id: string, fact: FactOf<M>): Promise<ContextFrom<M>> {
    return this.decide(id, () => fact);
  }

  async decide(
    id: string,
    choose: (state: DurableState<ContextFrom<M>>) => FactOf<M> | null,
  ): Promise<ContextFrom<M>> {
    for (let tries = 1; ; tries++) {
      const entity = await this.#opened(id);
      const isAppended = await entity.inTurn(async () => {
        // Closed by what it waited for: brought back, and decided over what it is now.
        if (entity.closed && tries < OPENED_MAX) return false;
        await this.#append(entity, () => choose(stateOf(entity)));
        return true;
      });
      if (isAppended) return entity.context;
    }
  }

  context(id: string): ContextFrom<M> | undefined {
    return this.#entities.get(id)?.context;
  }

  state(id: string): DurableState<ContextFrom<M>> | undefined {
    const entity = this.#entities.get(id);
    return entity === undefined ? undefined : stateOf(entity);
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
    await this.#store.keepSnapshot(entity);
  }

  async forget(id: string): Promise<void> {
    await this.close(id);
    await this.#snapshots.remove(id);
  }

  forgetOthers(): Promise<void> {
    return this.#snapshots.removeOthers(entity => this.#entities.has(entity));
  }

  async stop(): Promise<void> {
    this.#stopping.abort(stoppedError());
    await settledWithin(this.#options.clock, STOP_MS, [...this.#opening.values()]);
    await Promise.all(this.entities().map(id => this.close(id)));
  }

  async #opened(id: string): Promise<Entity<M>> {
    if (this.#stopping.signal.aborted) throw stoppedError();
    const reason = this.#quarantined.get(id);
    if (reason !== undefined) throw fromWireError(reason);
    const entity = this.#entities.get(id);
    if (entity !== undefined) return entity;
    let opening = this.#opening.get(id);
    if (opening === undefined) {
      opening = this.#bringBack(id).finally(() => this.#opening.delete(id));
      this.#opening.set(id, opening);
    }
    return await opening;
  }

  async #bringBack(id: string): Promise<Entity<M>> {
    let entity: Entity<M>;
    try {
      entity = await this.#store.recover(id);
    } catch (error) {
      if (isBroken(error)) this.#quarantine(id, error);
      throw error;
    }
    if (this.#stopping.signal.aborted) throw stoppedError();
    this.#entities.set(id, entity);
    if (entity.position.bseq > 0) await this.#resume(entity);
    this.#followUp(entity);
    return entity;
  }

  /** Says what is to be said on resuming, before anything goes on. */
  async #resume(entity: Entity<M>): Promise<void> {
    const { logger, resumed } = this.#options;
    const { bseq } = entity.position;
    logger.info('durable.resumed', {
      entity: entity.id,
      bseq,
      pending: Object.keys(entity.pending),
    });
    try {
      const facts = resumed?.(entity.context) ?? [];
      await entity.inTurn(async () => {
        for (const fact of facts) await this.#append(entity, () => fact);
      });
    } catch (error) {
      this.#release(entity);
      throw error;
    }
  }

  /** One fact, all the way: chosen (H7), computed, appended, adopted, acted on (H1). */
  async #append(entity: Entity<M>, choose: () => FactOf<M> | null): Promise<void> {
    for (let tries = 0; tries < BEHIND_MAX; tries++) {
      if (entity.closed) throw closedError(entity.id);
      if (entity.uncertain) await this.#catchUp(entity);
      const chosen = choose();
      if (chosen === null) return;
      const fact = decode(encode(chosen), undefined) as FactOf<M>; // H2
      const next = this.#orQuarantine(entity, () => this.#store.step(entity, fact)); // H6
      const appended = await this.#tryAppend(entity, fact);
      if (appended === 'not_leader') throw this.#notLeader(entity);
      if (appended === 'behind') {
        await this.#catchUp(entity);
        continue;
      }
      entity.adopt(next, appended);
      this.#announce(entity, fact);
      this.#followUp(entity);
      const { snapshotEvery = 64 } = this.#options;
      if (entity.factsSinceSnapshot >= snapshotEvery) await this.#store.keepSnapshot(entity);
      return;
    }
    throw new CodeGodError('overloaded', `others keep writing the log of ${entity.id}`);
  }

  async #tryAppend(
    entity: Entity<M>,
    fact: FactOf<M>,
  ): Promise<LogPosition | 'behind' | 'not_leader'> {
    try {
      const outcome = await this.#options.log.append(entity.id, fact, entity.position);
      return outcome.kind === 'appended' ? outcome.position : outcome.kind;
    } catch (error) {
      const { code } = toWireError(error);
      if (code === 'log_corrupt') this.#quarantine(entity.id, error);
      entity.uncertain = code !== 'too_large';
      throw error;
    }
  }

  /** Folds what stands in the log and was not known here. */
  async #catchUp(entity: Entity<M>): Promise<void> {
    try {
      await this.#store.readOn(entity, fact => this.#announce(entity, fact));
    } catch (error) {
      if (isBroken(error)) this.#quarantine(entity.id, error);
      throw error;
    }
    this.#followUp(entity);
  }

  #orQuarantine<T>(entity: Entity<M>, work: () => T): T {
    try {
      return work();
    } catch (error) {
      this.#quarantine(entity.id, error);
      throw error;
    }
  }

  #announce(entity: Entity<M>, fact: FactOf<M>): void {
    for (const listener of this.#listeners) {
      try {
        listener(entity.id, fact, entity.context, entity.position);
      } catch (error) {
        this.#options.logger.error('durable.listener_failed', { entity: entity.id, error });
      }
    }
  }

  /** Lets effects and deadlines be what the context says. */
  #followUp(entity: Entity<M>): void {
    if (entity.closed || this.#entities.get(entity.id) !== entity) return;
    this.#deadlines.set(entity.id, entity.deadlines);
    this.#effects.reconcile(entity.id);
  }

  /** Appends the facts of an effect, unless it has been aborted. */
  async #settle(id: string, facts: readonly FactOf<M>[], signal: AbortSignal): Promise<void> {
    await this.#entities.get(id)?.inTurn(async () => {
      const entity = this.#entities.get(id);
      if (signal.aborted || entity === undefined) return;
      for (const fact of facts) await this.#append(entity, () => (signal.aborted ? null : fact));
    });
  }

  async #deadlinePassed(id: string, key: string, at: number): Promise<void> {
    const { clock, logger } = this.#options;
    for (let tries = 1; ; tries++) {
      const entity = this.#entities.get(id);
      if (entity?.deadlines[key] !== at) return;
      try {
        return await entity.inTurn(() => this.#sayPassed(entity, key, at));
      } catch (error) {
        logger.warn('durable.deadline_delayed', { entity: id, key, error });
        if (!(error instanceof CodeGodError && error.retryable)) return;
        await asleep(clock, growingPause(clock, tries), this.#stopping.signal);
      }
    }
  }

  async #sayPassed(entity: Entity<M>, key: string, at: number): Promise<void> {
    const { clock, logger, onDeadline } = this.#options;
    const isSet = (): boolean => entity.deadlines[key] === at;
    await this.#append(entity, () => (isSet() ? onDeadline(key, clock.now(), entity.id) : null));
    if (entity.deadlines[key] !== at) return;
    logger.warn('durable.deadline_ignored', { entity: entity.id, key });
  }

  #quarantine(id: string, error: unknown): void {
    this.#quarantined.set(id, toWireError(error));
    this.#options.logger.error('durable.quarantined', { entity: id, error });
    const entity = this.#entities.get(id);
    if (entity !== undefined) this.#release(entity);
  }

  #notLeader(entity: Entity<M>): CodeGodError {
    this.#options.logger.warn('durable.not_leader', { entity: entity.id });
    this.#release(entity);
    this.#options.notLeader?.(entity.id);
    return new CodeGodError('wrong_last_sequence', `another process leads ${entity.id} now`);
  }

  /** From here on nothing happens for the entity in this process. */
  #release(entity: Entity<M>): void {
    entity.closed = true;
    if (this.#entities.get(entity.id) === entity) this.#entities.delete(entity.id);
    this.#deadlines.remove(entity.id);
    this.#effects.reconcile(entity.id);
  }
}

const stateOf = <M extends AnyStateMachine>(entity: Entity<M>): DurableState<ContextFrom<M>> => {
  const { position, context, snapshot } = entity;
  return { value: snapshot.value, context, position };
};

const stoppedError = (): CodeGodError => new CodeGodError('cancelled', 'the host is stopping');
const closedError = (id: string): CodeGodError => new CodeGodError('cancelled', `${id} is closed`);
