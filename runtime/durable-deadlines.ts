/**
 * The deadlines of all entities of a host, under one timer.
 *
 * T1  A deadline fires once; set to another moment it fires again, also under the same key.
 * T2  How far away a deadline is follows from the clock on the wall when it is set; after that the
 *     monotonic clock counts: one that is put back holds nothing up, one put forward ends nothing.
 */
import type { Clock, TimerHandle } from './clock.ts';

type Deadlines = Readonly<Record<string, number>>;
type OnDue = (entity: string, key: string, at: number) => void;

/** Timers cannot wait for longer than some weeks. */
const LOOK_AGAIN_MS = 60_000;

interface Watched {
  readonly deadlines: Deadlines;
  /** Key → the moment that has fired already (T1). */
  readonly fired: Map<string, number>;
  /** Key → when its moment comes, by the monotonic clock (T2). */
  readonly due: Map<string, { readonly at: number; readonly atMs: number }>;
}

export class DeadlineTimer {
  readonly #clock: Clock;
  readonly #onDue: OnDue;
  readonly #watched = new Map<string, Watched>();
  #timer: TimerHandle | null = null;

  constructor(clock: Clock, onDue: OnDue) {
    this.#clock = clock;
    this.#onDue = onDue;
  }

  set(entity: string, deadlines: Deadlines): void {
    const watched = this.#watched.get(entity);
    if (watched?.deadlines === deadlines) return;
    const { fired, due } = watched ?? { fired: new Map(), due: new Map() };
    this.#watched.set(entity, { deadlines, fired, due });
    for (const known of [fired, due]) {
      for (const key of known.keys()) if (!(key in deadlines)) known.delete(key);
    }
    for (const [key, at] of Object.entries(deadlines)) {
      if (due.get(key)?.at === at) continue;
      due.set(key, { at, atMs: this.#clock.monotonic() + (at - this.#clock.now()) });
    }
    this.#arm();
  }

  remove(entity: string): void {
    if (this.#watched.delete(entity)) this.#arm();
  }

  #arm(): void {
    if (this.#timer !== null) this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
    let nextMs = Number.POSITIVE_INFINITY;
    for (const { atMs } of this.#waiting()) nextMs = Math.min(nextMs, atMs);
    if (nextMs === Number.POSITIVE_INFINITY) return;
    const delayMs = Math.min(Math.max(0, nextMs - this.#clock.monotonic()), LOOK_AGAIN_MS);
    this.#timer = this.#clock.setTimeout(() => this.#fireDue(), delayMs);
  }

  #fireDue(): void {
    const nowMs = this.#clock.monotonic();
    const over = [...this.#waiting()].filter(({ atMs }) => atMs <= nowMs);
    for (const { entity, key, at } of over) {
      this.#watched.get(entity)?.fired.set(key, at);
      this.#onDue(entity, key, at);
    }
    this.#arm();
  }

  *#waiting(): Iterable<Waiting> {
    for (const [entity, { fired, due }] of this.#watched) {
      for (const [key, { at, atMs }] of due) {
        if (fired.get(key) !== at) yield { entity, key, at, atMs };
      }
    }
  }
}

interface Waiting {
  readonly entity: string;
  readonly key: string;
  readonly at: number;
  readonly atMs: number;
}
