/**
 * One timer for thousands of deadlines: asks, idle waits, acknowledgement ticks.
 *
 * Deadlines are rounded up to ticks of 20 ms and kept in one set per tick; a single clock timer
 * waits for the earliest set. Setting and cancelling a deadline costs one set operation each.
 */
import type { Clock, TimerHandle } from './clock.ts';

const TICK_MS = 20;

export interface Deadline {
  cancel(): void;
}

class Entry implements Deadline {
  readonly fire: () => void;
  readonly #set: Set<Entry>;

  constructor(set: Set<Entry>, fire: () => void) {
    this.#set = set;
    this.fire = fire;
    set.add(this);
  }

  cancel(): void {
    this.#set.delete(this);
  }

  /** True once, and not after `cancel`. */
  take(): boolean {
    return this.#set.delete(this);
  }
}

export class TimerWheel {
  readonly #clock: Clock;
  readonly #ticks = new Map<number, Set<Entry>>();
  #timer: TimerHandle | null = null;
  #armedTick = Number.POSITIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Calls `fire` once, not before `delayMs` and at most one tick later; never twice. */
  after(delayMs: number, fire: () => void): Deadline {
    const tick = Math.ceil((this.#clock.monotonic() + delayMs) / TICK_MS);
    let set = this.#ticks.get(tick);
    if (set === undefined) {
      set = new Set();
      this.#ticks.set(tick, set);
      if (tick < this.#armedTick) this.#arm(tick);
    }
    return new Entry(set, fire);
  }

  /** Forgets every deadline without firing it. */
  stop(): void {
    if (this.#timer !== null) this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
    this.#armedTick = Number.POSITIVE_INFINITY;
    this.#ticks.clear();
  }

  #arm(tick: number): void {
    if (this.#timer !== null) this.#clock.clearTimeout(this.#timer);
    this.#armedTick = tick;
    const delayMs = Math.max(0, tick * TICK_MS - this.#clock.monotonic());
    this.#timer = this.#clock.setTimeout(() => this.#turn(), Math.ceil(delayMs));
  }

  #turn(): void {
    this.#timer = null;
    this.#armedTick = Number.POSITIVE_INFINITY;
    const nowMs = this.#clock.monotonic();
    const due: number[] = [];
    let nextTick = Number.POSITIVE_INFINITY;
    for (const [tick, entries] of this.#ticks) {
      if (tick * TICK_MS <= nowMs) due.push(tick);
      else if (entries.size === 0) this.#ticks.delete(tick);
      else if (tick < nextTick) nextTick = tick;
    }
    if (nextTick < Number.POSITIVE_INFINITY) this.#arm(nextTick);
    for (const tick of due.sort((a, b) => a - b)) this.#fire(tick);
  }

  #fire(tick: number): void {
    const entries = [...(this.#ticks.get(tick) ?? [])];
    this.#ticks.delete(tick);
    for (const entry of entries) {
      if (entry.take()) entry.fire();
    }
  }
}
