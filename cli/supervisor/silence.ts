/**
 * Notices a process that runs and does nothing: stopped, caught in a loop, deadlocked. It is asked
 * again and again whether it is there, and is silent when it has answered none of many questions.
 *
 * Q1  Questions are counted, not hours: a machine that slept has asked nothing meanwhile, whatever
 *     its clocks say.
 * Q2  When we were held up ourselves, so was everybody: the count begins anew.
 */

/** Of a running process, in ms: six unanswered questions, half a minute, and it is replaced. */
export const ASK_EVERY_MS = 5_000;
const UNANSWERED_MAX = 6;

export class Silence {
  readonly #askEveryMs: number;
  #unanswered = 0;
  #askedAt: number | null = null;

  constructor(askEveryMs: number) {
    this.#askEveryMs = askEveryMs;
  }

  /** For a person. */
  get reason(): string {
    return `it did not answer for ${(UNANSWERED_MAX * this.#askEveryMs) / 1_000} s`;
  }

  /** An answer, to whichever question. */
  answered(): void {
    this.#unanswered = 0;
  }

  /** Called at its pace, before the next question; true where it was silent for too long. */
  isTooLong(monotonicMs: number): boolean {
    const wasHeldUp = this.#askedAt !== null && monotonicMs - this.#askedAt > 2 * this.#askEveryMs; // Q2
    if (wasHeldUp) this.#unanswered = 0;
    this.#askedAt = monotonicMs;
    this.#unanswered += 1;
    return this.#unanswered > UNANSWERED_MAX;
  }
}
