/**
 * One request for a place, from its arrival until it runs: what it asks for, and which nodes have
 * declined it meanwhile.
 *
 * T1: a node that declined counts again as soon as it says something new of itself; one on which the
 *     request failed does not.
 */
import type { NodeId } from '../../../protocol/ids.ts';
import type { NodeView } from '../../../scheduling/node-view.ts';
import type { PlacementRequest } from '../../../scheduling/placement.ts';

export interface TicketInput {
  /** `b7.store.1` or `r-…`; the same id again is the same request. */
  readonly id: string;
  readonly share: string;
  readonly priority: number;
  readonly request: Omit<PlacementRequest, 'refused'>;
  /** Whether it is refused where the queue is full; builds are bounded elsewhere. */
  readonly bounded: boolean;
}

interface Refusal {
  readonly reason: string;
  /** The advert that turned out wrong; null: the node is not asked again. */
  readonly seen_at: number | null;
}

export class Ticket {
  readonly id: string;
  readonly share: string;
  readonly priority: number;
  readonly bounded: boolean;
  readonly arrived_at: number;
  readonly #request: PlacementRequest;
  readonly #refusals = new Map<NodeId, Refusal>();

  constructor(input: TicketInput, arrivedAt: number) {
    this.id = input.id;
    this.share = input.share;
    this.priority = input.priority;
    this.bounded = input.bounded;
    this.arrived_at = arrivedAt;
    this.#request = { ...input.request, refused: {} };
  }

  get model(): string | null {
    return this.#request.model;
  }

  /** Nodes on which it failed. */
  get failedOn(): readonly NodeId[] {
    return [...this.#refusals].flatMap(([node, { seen_at }]) => (seen_at === null ? [node] : []));
  }

  refusedBy(node: NodeId, reason: string, seenAt: number | null): void {
    this.#refusals.set(node, { reason, seen_at: seenAt });
  }

  /** T1 */
  request(nodes: readonly NodeView[]): PlacementRequest {
    if (this.#refusals.size === 0) return this.#request;
    const refused: Record<string, string> = {};
    for (const [node, { reason, seen_at }] of this.#refusals) {
      const view = nodes.find(candidate => candidate.node === node);
      const isNews = seen_at !== null && (view?.runtime?.seen_at ?? 0) > seen_at;
      if (isNews) this.#refusals.delete(node);
      else refused[node] = reason;
    }
    return { ...this.#request, refused };
  }
}
