/**
 * Reports that count for nothing: of attempts that are over, were given to another node, or cannot be
 * read. A few of them are usual. A node that sends them by the hundred is named, once a minute, and
 * its single ones no more.
 */
import type { NodeId } from '../../../protocol/ids.ts';
import { NODES_MAX } from '../../../protocol/limits.ts';
import type { Clock } from '../../../runtime/clock.ts';
import type { Logger } from '../../../runtime/log.ts';

const MINUTE_MS = 60_000;
const MANY = 100;

interface Minute {
  readonly begun: number;
  count: number;
}

export class Misreports {
  readonly #clock: Clock;
  readonly #log: Logger;
  /** By node, in the order in which their minutes began. */
  readonly #minutes = new Map<NodeId, Minute>();

  constructor(options: { readonly clock: Clock; readonly log: Logger }) {
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /** Counts one; answers whether it is worth a line of its own. */
  note(node: NodeId): boolean {
    const minute = this.#minuteOf(node) ?? this.#begin(node);
    minute.count += 1;
    if (minute.count === MANY) this.#log.warn('node.floods', { node, reports: minute.count });
    return minute.count < MANY;
  }

  /** How many in this minute, of a node that floods; null for all others. */
  flood(node: NodeId): number | null {
    const count = this.#minuteOf(node)?.count ?? 0;
    return count < MANY ? null : count;
  }

  #minuteOf(node: NodeId): Minute | null {
    const minute = this.#minutes.get(node);
    return minute === undefined || this.#clock.now() - minute.begun > MINUTE_MS ? null : minute;
  }

  #begin(node: NodeId): Minute {
    const minute = { begun: this.#clock.now(), count: 0 };
    this.#minutes.delete(node);
    this.#minutes.set(node, minute);
    const [oldest] = this.#minutes.keys();
    if (this.#minutes.size > NODES_MAX && oldest !== undefined) this.#minutes.delete(oldest);
    return minute;
  }
}
