/** What this node's decisions depend on, as it is now. */
import type { Situation } from './admission.ts';
import type { ModelCopies } from './model-copies.ts';
import type { Resident } from './residents.ts';

/**
 * What the memory holds is looked at only where it is asked for: most requests are for what is loaded. A class, since an accessor in a literal gives every
 * single object a shape of its own.
 */
export class SituationNow implements Situation {
  readonly node: Situation['node'];
  readonly now: number;
  readonly ready: boolean;
  readonly slots: number;
  readonly capacity: Situation['capacity'];
  readonly engines: Situation['engines'];
  readonly offload: boolean;
  readonly aliases: Situation['aliases'];
  readonly #copies: ModelCopies;

  constructor(copies: ModelCopies, rest: Omit<Situation, 'residents'>) {
    this.node = rest.node;
    this.now = rest.now;
    this.ready = rest.ready;
    this.slots = rest.slots;
    this.capacity = rest.capacity;
    this.engines = rest.engines;
    this.offload = rest.offload;
    this.aliases = rest.aliases;
    this.#copies = copies;
  }

  get residents(): readonly Resident[] {
    return this.#copies.residents();
  }
}
