/** One thing at a time, in the order of the calls; what waits is bounded. */
import { CodeGodError } from '../protocol/errors.ts';

export class Turns {
  /** The end of what runs or waits. Never rejects. */
  tail: Promise<unknown> = Promise.resolve();
  readonly #max: number;
  readonly #named: string;
  #waiting = 0;

  /** `named`: what is waited for, as an error says it. */
  constructor(max: number, named: string) {
    this.#max = max;
    this.#named = named;
  }

  /**
   * Runs after everything that was asked for before.
   * @throws CodeGodError `overloaded` where too many wait.
   */
  run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#waiting >= this.#max) {
      const message = `${this.#waiting} wait for ${this.#named} already`;
      return Promise.reject(new CodeGodError('overloaded', message));
    }
    this.#waiting += 1;
    const turn = this.tail.then(work).finally(() => {
      this.#waiting -= 1;
    });
    // The next turn comes whether this one succeeded or not; its caller is told.
    this.tail = turn.catch(() => {});
    return turn;
  }
}
