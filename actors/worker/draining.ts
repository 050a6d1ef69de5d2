/**
 * Whether this node takes new work. That a person has asked it to drain is kept in the journal and
 * holds over restarts until it is taken back; that the process is ending is not.
 */
import type { Journal } from '../../runtime/journal.ts';
import { WORKER_KEYS } from '../../runtime/journal-keys.ts';
import type { Logger } from '../../runtime/log.ts';
import { Turns } from '../../runtime/turns.ts';

const KEY = WORKER_KEYS.drain;
const WAITING_MAX = 256;

export class Draining {
  readonly #journal: Journal;
  readonly #log: Logger;
  readonly #changed: () => void;
  readonly #turns = new Turns(WAITING_MAX, 'the drain');
  #asked: boolean;
  #ending = false;

  private constructor(journal: Journal, log: Logger, changed: () => void, asked: boolean) {
    this.#journal = journal;
    this.#log = log;
    this.#changed = changed;
    this.#asked = asked;
  }

  static async open(journal: Journal, log: Logger, changed: () => void): Promise<Draining> {
    return new Draining(journal, log, changed, (await journal.get(KEY)) === true);
  }

  /** By a person. */
  get asked(): boolean {
    return this.#asked;
  }

  get isOn(): boolean {
    return this.#asked || this.#ending;
  }

  /** On disk before it counts, and before it is answered: also one that is being written already. */
  set(asked: boolean): Promise<void> {
    return this.#turns.run(async () => {
      if (asked === this.#asked) return;
      await this.#journal.put(KEY, asked);
      this.#asked = asked;
      this.#log.info('worker.drain', { drain: asked });
      this.#changed();
    });
  }

  /** The process ends. */
  end(): void {
    this.#ending = true;
    this.#changed();
  }
}
