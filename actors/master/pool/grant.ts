/** What is asked of the pool, and what it gives. */
import type { CodeGodError } from '../../../protocol/errors.ts';
import { VICTIMS_MAX } from '../../../protocol/inference.ts';
import type { PlacementDecision } from '../../../protocol/node.ts';
import type { PlacementPlan, PlacementRequest } from '../../../scheduling/placement.ts';
import type { Job } from '../../../scheduling/queue-state.ts';

/** A request for a place. The same id again is the same request. */
export interface Asking {
  /** `b7.store.1` or `r-…` */
  readonly id: string;
  readonly share: string;
  readonly priority: number;
  readonly request: Omit<PlacementRequest, 'refused'>;
}

/** A place: given back exactly once, by `ended`, `cancelled`, `handedOver` or `again`. */
export interface Grant {
  readonly job: Job;
  readonly plan: PlacementPlan;
  readonly decision: PlacementDecision;
  readonly granted_at: number;
  readonly epoch: number;
  /** Set by whoever wants to know that the node is gone (O4). */
  lost: ((error: CodeGodError) => void) | null;
}

/** What the node is asked for: its own word for the need, and at most as many victims as it reads. */
export function termsOf({ engine, model, context_tokens, need_bytes, evict }: PlacementPlan) {
  const terms = { engine, model, context_tokens, bytes: need_bytes };
  return evict.length === 0 ? terms : { ...terms, evict: evict.slice(0, VICTIMS_MAX) };
}

/** As the queue knows it; `more` priority comes from the rule for its model. */
export const jobOf = (asking: Asking, more: number, arrived_at: number): Job => ({
  id: asking.id,
  share: asking.share,
  priority: asking.priority + more,
  arrived_at,
  request: { ...asking.request, refused: {} },
});
