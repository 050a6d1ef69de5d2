/**
 * What the scheduler knows of a node: its adverts, and when they were seen by the clock of whoever
 * schedules. Clocks of other machines are not trusted.
 */
import type { NodeId } from '../protocol/ids.ts';
import type { CapacityAdvert, RuntimeAdvert } from '../protocol/node.ts';

export interface Seen<T> {
  readonly advert: T;
  /** Milliseconds since the epoch, by the clock of the receiver. */
  readonly seen_at: number;
}

export interface NodeView {
  readonly node: NodeId;
  readonly capacity: Seen<CapacityAdvert> | null;
  readonly runtime: Seen<RuntimeAdvert> | null;
}
