/**
 * The deadlines of all entities of a host, under one timer.
 *
 * T1  A deadline fires once; set to another moment it fires again, also under the same key.
 * T2  A clock that jumps is noticed within a minute.
 */
import type { Clock, TimerHandle } from './clock.ts';

type Deadlines = Readonly<Record<string, number>>;
type OnDue = (entity: string, key: string, at: number) => void;

const LOOK_AGAIN_MS = 60_000;

interface Watched {
  deadlines: Deadlines;
  /** Key → the moment that has fired already (T1). */
  readonly fired: Map<string, number>;
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
    if (watched === undefined) {
      this.#watched.set(entity, { deadlines, fired: new Map() });
    } else {
      watched.deadlines = deadlines;
      for (const key of watched.fired.keys()) if (!(key in deadlines)) watched.fired.delete(key);
    }
    this.#arm();
  }

  remove(entity: string): void {
    if (this.#watched.delete(entity)) this.#arm();
  }

  #arm(): void {
    if (this.#timer !== null) this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
    let nextAt = Number.POSITIVE_INFINITY;
    for (const [, , at] of this.#waiting()) nextAt = Math.min(nextAt, at);
    if (nextAt === Number.POSITIVE_INFINITY) return;
    const delayMs = Math.min(Math.max(0, nextAt - this.#clock.now()), LOOK_AGAIN_MS); // T2
    this.#timer = this.#clock.setTimeout(() => this.#fireDue(), delayMs);
  }

  #fireDue(): void {
    const now = this.#clock.now();
    const due = [...this.#waiting()].filter(([, , at]) => at <= now);
    for (const [entity, key, at] of due) {
      this.#watched.get(entity)?.fired.set(key, at);
      this.#onDue(entity, key, at);
    }
    this.#arm();
  }

  *#waiting(): Iterable<readonly [entity: string, key: string, at: number]> {
    for (const [entity, { deadlines, fired }] of this.#watched) {
      for (const [key, at] of Object.entries(deadlines)) {
        if (fired.get(key) !== at) yield [entity, key, at];
      }
    }
  }
}
