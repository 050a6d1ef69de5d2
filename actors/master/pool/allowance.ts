/**
 * So much per minute: an allowance that fills up steadily. It may be overdrawn, because the price of
 * an answer is known only at its end; then nothing is given until it has filled up again.
 */

const MINUTE_MS = 60_000;

export class Allowance {
  readonly #perMinute: number;
  #level: number;
  #at: number;

  /** `now` by a clock that never goes back, here and below. */
  constructor(perMinute: number, now: number) {
    this.#perMinute = perMinute;
    this.#level = perMinute;
    this.#at = now;
  }

  /** How long until there is one again; 0 for now. */
  waitMs(now: number): number {
    this.#fill(now);
    return this.#level >= 1 ? 0 : ((1 - this.#level) / this.#perMinute) * MINUTE_MS;
  }

  take(amount: number, now: number): void {
    this.#fill(now);
    this.#level -= amount;
  }

  #fill(now: number): void {
    const gained = ((now - this.#at) / MINUTE_MS) * this.#perMinute;
    this.#level = Math.min(this.#perMinute, this.#level + gained);
    this.#at = now;
  }
}
