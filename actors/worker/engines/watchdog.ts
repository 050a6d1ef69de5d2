/**
 * A signal that fires when the caller's does, or when what is expected next does not come in time.
 */
import { CodeGodError } from '../../../protocol/errors.ts';
import type { Clock, TimerHandle } from '../../../runtime/clock.ts';

export class Watchdog {
  readonly #clock: Clock;
  readonly #abort = new AbortController();
  readonly #outer: AbortSignal;
  readonly #cancel = (): void => this.#abort.abort(this.#outer.reason);
  #timer: TimerHandle | null = null;
  #late: CodeGodError | null = null;

  constructor(clock: Clock, signal: AbortSignal) {
    this.#clock = clock;
    this.#outer = signal;
    if (signal.aborted) this.#cancel();
    else signal.addEventListener('abort', this.#cancel, { once: true });
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** From now on the next thing must come within this time. */
  expect(withinMs: number, otherwise: string): void {
    if (this.#timer !== null) this.#clock.clearTimeout(this.#timer);
    this.#timer = this.#clock.setTimeout(() => {
      this.#late = new CodeGodError('timeout', `${otherwise} (${withinMs} ms)`);
      this.#abort.abort(this.#late);
    }, withinMs);
  }

  /** What an error means: the timeout, where that is what ended the work. */
  reason(error: unknown): unknown {
    return this.#late ?? error;
  }

  /** Nothing is expected any more. What is still open under the signal is closed. */
  stop(): void {
    if (this.#timer !== null) this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
    this.#outer.removeEventListener('abort', this.#cancel);
    this.#abort.abort(new CodeGodError('cancelled', 'over'));
  }
}
