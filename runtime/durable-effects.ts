/**
 * Runs what machines want done: starts an effect when its key appears in `pending`, aborts it when
 * the key leaves, and tries again what may succeed later.
 *
 * E1  One key of one entity never runs twice at once; a key that comes back while its aborted run
 *     still winds down waits for it.
 * E2  At most `effectsMax` effects run at once; the others wait in the order in which they came.
 * E3  What an aborted run returns is dropped.
 * E4  A key that is still pending when its facts have been folded is run again after a pause: nothing
 *     that is wanted is forgotten.
 */
import type { ErrorCode } from '../protocol/error-codes.ts';
import { CodeGodError, toWireError, type WireError } from '../protocol/errors.ts';
import type { Clock } from './clock.ts';
import type { Logger } from './log.ts';

/**
 * Tries before it counts as failed of an effect that fails with a bug, ours or a peer's, or for want
 * of room on a disk: neither passes by waiting, and somebody has to be told.
 */
const BOUNDED_TRIES_MAX = 5;
const BOUNDED: ReadonlySet<ErrorCode> = new Set(['internal', 'disk_full']);
const PAUSE_MIN_MS = 250;
const PAUSE_MAX_MS = 10_000;
const STOP_MS = 5_000;

export interface EffectPorts<E, F> {
  perform(entity: string, key: string, effect: E, signal: AbortSignal): Promise<readonly F[]>;
  failed(entity: string, key: string, effect: E, error: WireError, at: number): readonly F[];
  /** Appends the facts unless the signal fired. Throws retryable errors where it may help. */
  settle(entity: string, facts: readonly F[], signal: AbortSignal): Promise<void>;
  /** What the entity wants done now; nothing where it is closed. */
  pending(entity: string): Readonly<Record<string, E>>;
}

export interface EffectRunnerOptions<E, F> extends EffectPorts<E, F> {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly effectsMax: number;
}

interface Run<E> {
  readonly entity: string;
  readonly key: string;
  /** As it was last seen in `pending`. */
  effect: E;
  readonly abort: AbortController;
  over: Promise<void>;
}

export class EffectRunner<E, F> {
  readonly #options: EffectRunnerOptions<E, F>;
  readonly #runs = new Map<string, Map<string, Run<E>>>();
  readonly #slots: Slots;

  constructor(options: EffectRunnerOptions<E, F>) {
    this.#options = options;
    this.#slots = new Slots(options.effectsMax);
  }

  /** Starts and aborts so that exactly what is pending runs. */
  reconcile(entity: string): void {
    const pending = this.#options.pending(entity);
    const runs = this.#runs.get(entity) ?? new Map<string, Run<E>>();
    for (const [key, run] of runs) {
      if (!Object.hasOwn(pending, key)) run.abort.abort(notWanted(entity, key));
    }
    for (const [key, effect] of Object.entries(pending)) {
      const run = runs.get(key);
      if (run === undefined)
        this.#start(runs, entity, key, effect); // E1
      else run.effect = effect;
    }
    if (runs.size > 0) this.#runs.set(entity, runs);
  }

  /** Aborts everything of an entity, or of all, and waits for it, at most 5 s. */
  async stop(entity?: string): Promise<void> {
    const groups = entity === undefined ? [...this.#runs.values()] : [this.#runs.get(entity)];
    const runs = groups.flatMap(group => [...(group?.values() ?? [])]);
    for (const run of runs) run.abort.abort(notWanted(run.entity, run.key));
    const { clock } = this.#options;
    await settledWithin(
      clock,
      STOP_MS,
      runs.map(run => run.over),
    );
  }

  #start(runs: Map<string, Run<E>>, entity: string, key: string, effect: E): void {
    const abort = new AbortController();
    const run: Run<E> = { entity, key, effect, abort, over: Promise.resolve() };
    runs.set(key, run);
    run.over = this.#drive(run).finally(() => {
      runs.delete(key);
      if (runs.size === 0 && this.#runs.get(entity) === runs) this.#runs.delete(entity);
      this.reconcile(entity);
    });
  }

  /** Runs one key until it is not wanted any more. Never rejects. */
  async #drive(run: Run<E>): Promise<void> {
    const { clock, logger } = this.#options;
    const { signal } = run.abort;
    let bounded = 0;
    for (let tries = 1; !signal.aborted; tries++) {
      let trouble: WireError | null = null;
      try {
        const facts = await this.#slots.use(
          () => this.#options.perform(...keyed(run), signal),
          signal,
        );
        await this.#settle(run, facts);
      } catch (error) {
        if (signal.aborted) return; // E3
        trouble = toWireError(error);
        if (BOUNDED.has(trouble.code)) bounded += 1;
        if (!mayRetry(error) || bounded >= BOUNDED_TRIES_MAX) await this.#giveUp(run, trouble);
      }
      if (signal.aborted) return;
      const pauseMs = growingPause(clock, tries);
      const { entity, key } = run;
      logger.warn('durable.effect_again', {
        entity,
        key,
        tries,
        pause_ms: pauseMs,
        error: trouble,
      });
      await asleep(clock, pauseMs, signal);
    }
  }

  /** Appends the facts however long the log cannot be reached. */
  async #settle(run: Run<E>, facts: readonly F[]): Promise<void> {
    const { clock } = this.#options;
    const { signal } = run.abort;
    for (let tries = 1; !signal.aborted; tries++) {
      try {
        return await this.#options.settle(run.entity, facts, signal);
      } catch (error) {
        if (!mayRetry(error) || toWireError(error).code === 'internal') throw error;
        await asleep(clock, growingPause(clock, tries), signal);
      }
    }
  }

  async #giveUp(run: Run<E>, error: WireError): Promise<void> {
    const { clock, logger } = this.#options;
    const { entity, key, effect } = run;
    logger.warn('durable.effect_failed', { entity, key, error });
    try {
      const facts = this.#options.failed(entity, key, effect, error, clock.now());
      await this.#settle(run, facts);
    } catch (second) {
      logger.error('durable.failure_unsaid', { entity, key, error: second });
    }
  }
}

const keyed = <E>({ entity, key, effect }: Run<E>) => [entity, key, effect] as const;

const notWanted = (entity: string, key: string): CodeGodError =>
  new CodeGodError('cancelled', `${key} of ${entity} is not wanted any more`);

/** An exception that is not ours is a bug: it is tried again too, but not for ever. */
const mayRetry = (error: unknown): boolean => !(error instanceof CodeGodError) || error.retryable;

export function growingPause(clock: Clock, tries: number): number {
  const longest = Math.min(PAUSE_MAX_MS, PAUSE_MIN_MS * 2 ** Math.min(tries - 1, 10));
  return Math.round(longest * (0.5 + clock.random() / 2));
}

/** Sleeps until the time is over or the signal fires, whichever is first. */
export async function asleep(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  // Being woken early is what the signal is for; the caller looks at it next.
  await clock.sleep(delayMs, signal).catch(() => {});
}

/** Waits until all have settled, but not longer. */
export async function settledWithin(
  clock: Clock,
  limitMs: number,
  promises: readonly Promise<unknown>[],
): Promise<void> {
  const limit = new AbortController();
  await Promise.race([Promise.allSettled(promises), asleep(clock, limitMs, limit.signal)]);
  limit.abort();
}

/** A bounded number of places, taken in order (E2). */
class Slots {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(count: number) {
    this.#free = count;
  }

  /** Who is not wanted any more leaves the line at once. */
  async use<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    await this.#take(signal);
    try {
      signal.throwIfAborted();
      return await work();
    } finally {
      this.#give();
    }
  }

  async #take(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#free > 0) {
      this.#free -= 1;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const leave = (): void => {
        this.#waiting.delete(enter);
        reject(signal.reason);
      };
      const enter = (): void => {
        signal.removeEventListener('abort', leave);
        resolve();
      };
      this.#waiting.add(enter);
      signal.addEventListener('abort', leave, { once: true });
    });
  }

  #give(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#free += 1;
      return;
    }
    this.#waiting.delete(next);
    next();
  }
}
