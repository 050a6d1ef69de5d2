/**
 * A process that can be killed at any of its looks at the world, without killing the test: from its
 * death on nothing that it waits for ever comes back.
 */
import type { Journal } from '../runtime/journal.ts';

/** Kills a process at its n-th look at the world: right before the work or right after it. */
export class Mortality {
  #stepsLeft: number;
  readonly #when: 'before' | 'after';
  readonly dead: Promise<void>;
  #die: () => void = () => {};
  #isDead = false;

  constructor(stepsLeft: number, when: 'before' | 'after') {
    this.#stepsLeft = stepsLeft;
    this.#when = when;
    this.dead = new Promise(resolve => {
      this.#die = resolve;
    });
  }

  /** From the death on nothing ever comes back, as in a killed process. */
  async step<T>(work: () => Promise<T>): Promise<T> {
    if (this.#isDead) return await never();
    this.#stepsLeft -= 1;
    const isLast = this.#stepsLeft <= 0;
    if (isLast) this.#isDead = true;
    if (isLast && this.#when === 'before') return await this.#end();
    const result = await work();
    return isLast ? await this.#end() : this.#isDead ? await never() : result;
  }

  journal(journal: Journal): Journal {
    const step = <T>(work: () => Promise<T>): Promise<T> => this.step(work);
    return {
      get: key => step(() => journal.get(key)),
      put: (key, value) => step(() => journal.put(key, value)),
      batch: operations => step(() => journal.batch(operations)),
      async *entries(prefix, after) {
        for await (const entry of journal.entries(prefix, after))
          yield await step(async () => entry);
      },
      async *keys(prefix, after) {
        for await (const key of journal.keys(prefix, after)) yield await step(async () => key);
      },
      close: () => step(() => journal.close()),
    };
  }

  async #end(): Promise<never> {
    this.#die();
    return await never();
  }
}

const never = (): Promise<never> => new Promise(() => {});
