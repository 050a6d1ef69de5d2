/**
 * One timer for all that is under way: each one is told of the beat, and counts the beats in which
 * nothing happened. Runs only while there is somebody to tell.
 */
import { INFER_ALIVE_MS } from '../../../protocol/inference.ts';
import type { Clock, TimerHandle } from '../../../runtime/clock.ts';

/** So short that a sign of life is never late for having waited for the beat. */
export const BEAT_MS = INFER_ALIVE_MS / 4;

export interface Beating {
  beat(): void;
}

export class Pulse {
  readonly #clock: Clock;
  readonly #beating = new Set<Beating>();
  readonly #beat = (): void => {
    for (const one of this.#beating) one.beat();
    this.#timer = this.#beating.size === 0 ? null : this.#clock.setTimeout(this.#beat, BEAT_MS);
  };
  #timer: TimerHandle | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(one: Beating): void {
    this.#beating.add(one);
    this.#timer ??= this.#clock.setTimeout(this.#beat, BEAT_MS);
  }

  /** The timer ends by itself at the next beat: setting one per request is what is spared here. */
  delete(one: Beating): void {
    this.#beating.delete(one);
  }
}
