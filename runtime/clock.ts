/**
 * The only owner of time and chance: a `Clock` is handed to whoever waits, times or rolls dice.
 *
 * `systemClock` is the world's. `SimulatedClock` stands still until it is advanced, and its random
 * numbers follow from a seed, so that a run can be repeated exactly.
 *
 * C1  Timers of one instant fire in the order in which they were set.
 * C2  Simulated time never goes back.
 */
import assert from 'node:assert/strict';
import { performance } from 'node:perf_hooks';
import { CodeGodError } from '../protocol/errors.ts';

export interface TimerHandle {
  readonly id: unknown;
}

export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Milliseconds since some fixed moment; never goes back. */
  monotonic(): number;
  setTimeout(fire: () => void, delayMs: number): TimerHandle;
  clearTimeout(handle: TimerHandle): void;
  /** Throws `cancelled` when the signal fires first. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
  /** A number in [0, 1). */
  random(): number;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  setTimeout: (fire, delayMs) => ({ id: setTimeout(fire, delayMs) }),
  clearTimeout: handle => clearTimeout(handle.id as NodeJS.Timeout),
  sleep: (delayMs, signal) => sleepOn(systemClock, delayMs, signal),
  random: () => Math.random(),
};

function sleepOn(clock: Clock, delayMs: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const cancel = (): void => {
      clock.clearTimeout(timer);
      reject(new CodeGodError('cancelled', 'a wait was cancelled', { cause: signal?.reason }));
    };
    const timer = clock.setTimeout(() => {
      signal?.removeEventListener('abort', cancel);
      resolve();
    }, delayMs);
    if (signal?.aborted) cancel();
    else signal?.addEventListener('abort', cancel, { once: true });
  });
}

interface SimulatedTimer extends TimerHandle {
  readonly id: number;
  readonly dueMs: number;
  readonly fire: () => void;
}

/** Less than this is how clocks are kept right, not a jump. */
const JUMP_MS = 1_000;

/**
 * Moments that were noted by the monotonic clock, told as milliseconds since the epoch by the wall
 * clock as it goes now: a clock that is put back or forward moves them along.
 */
export class WallMoments {
  readonly #clock: Pick<Clock, 'now' | 'monotonic'>;
  #offsetMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Pick<Clock, 'now' | 'monotonic'>) {
    this.#clock = clock;
  }

  at(monotonicMs: number): number {
    const offsetMs = this.#clock.now() - this.#clock.monotonic();
    if (Math.abs(offsetMs - this.#offsetMs) > JUMP_MS) this.#offsetMs = offsetMs;
    return Math.ceil(monotonicMs + this.#offsetMs);
  }
}

/**
 * The clock whose `now` goes on from what the wall clock said at first, by the monotonic clock: for
 * those who measure how long ago something was, and compare with nothing outside of the process.
 */
export function steadyClock(clock: Clock): Clock {
  const startAt = clock.now();
  const startMs = clock.monotonic();
  return {
    now: () => startAt + Math.floor(clock.monotonic() - startMs),
    monotonic: () => clock.monotonic(),
    setTimeout: (fire, delayMs) => clock.setTimeout(fire, delayMs),
    clearTimeout: handle => clock.clearTimeout(handle),
    sleep: (delayMs, signal) => clock.sleep(delayMs, signal),
    random: () => clock.random(),
  };
}

/** A clock that only moves when told to. */
export class SimulatedClock implements Clock {
  readonly #timers = new Map<number, SimulatedTimer>();
  #nowMs: number;
  /** How far the clock on the wall was put forward, or back. */
  #shiftMs = 0;
  readonly #startMs: number;
  #timersSet = 0;
  #randomState: number;

  constructor(options: { readonly seed?: number; readonly startMs?: number } = {}) {
    this.#startMs = options.startMs ?? Date.UTC(2026, 0, 1);
    this.#nowMs = this.#startMs;
    this.#randomState = (options.seed ?? 1) >>> 0;
  }

  now(): number {
    return this.#nowMs + this.#shiftMs;
  }

  monotonic(): number {
    return this.#nowMs - this.#startMs;
  }

  /** Puts the clock on the wall forward, or back: timers and the monotonic clock don't care. */
  shift(byMs: number): void {
    this.#shiftMs += byMs;
  }

  setTimeout(fire: () => void, delayMs: number): TimerHandle {
    this.#timersSet += 1;
    const timer = { id: this.#timersSet, dueMs: this.#nowMs + Math.max(0, delayMs), fire };
    this.#timers.set(timer.id, timer);
    return timer;
  }

  clearTimeout(handle: TimerHandle): void {
    this.#timers.delete(handle.id as number);
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return sleepOn(this, delayMs, signal);
  }

  /** mulberry32: small, well mixed, and the same on every machine. */
  random(): number {
    this.#randomState = (this.#randomState + 0x6d2b79f5) >>> 0;
    let mixed = this.#randomState;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  }

  /** How many timers wait. */
  get timersPending(): number {
    return this.#timers.size;
  }

  /** Milliseconds until the next timer, or null when none waits. */
  get nextDelayMs(): number | null {
    const next = this.#next();
    return next === null ? null : next.dueMs - this.#nowMs;
  }

  /**
   * Moves time on, firing what becomes due in order (C1). After each timer every promise that can
   * settle without time does so, so that timers set by awaiting code are seen too.
   */
  async advance(byMs: number): Promise<void> {
    assert(byMs >= 0, 'simulated time never goes back');
    const untilMs = this.#nowMs + byMs;
    await settle();
    for (let next = this.#next(); next !== null && next.dueMs <= untilMs; next = this.#next()) {
      this.#nowMs = Math.max(this.#nowMs, next.dueMs);
      this.#timers.delete(next.id);
      next.fire();
      await settle();
    }
    this.#nowMs = untilMs;
  }

  #next(): SimulatedTimer | null {
    let next: SimulatedTimer | null = null;
    for (const timer of this.#timers.values()) {
      if (next === null || timer.dueMs < next.dueMs) next = timer;
    }
    return next;
  }
}

/** Runs until the microtask queue is empty: a macrotask starts only then. */
const settle = (): Promise<void> => new Promise(resolve => setImmediate(resolve));
