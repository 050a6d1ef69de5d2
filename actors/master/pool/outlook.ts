/** What a decision says beside where to go: under which verdict, and whether waiting is of any use. */
import type { PlacementDecision } from '../../../protocol/node.ts';
import { ADVERT_TTL_MS } from '../../../protocol/streams.ts';
import type { PlacementPlan } from '../../../scheduling/placement.ts';

type Verdict = PlacementDecision['candidates'][number]['verdict'];

/** Verdicts that change by themselves. */
const PASSING: readonly Verdict[] = ['not_ready', 'refused', 'busy', 'loading'];

export function verdictOf(plan: PlacementPlan, decision: PlacementDecision): Verdict {
  const chosen = decision.candidates.find(
    ({ node, model, engine }) =>
      node === plan.node && model === plan.model && engine === plan.engine,
  );
  return chosen?.verdict ?? 'fits';
}

/**
 * Whether nothing but a person can change that the request finds no place. Where no node has the
 * model, one that is only restarted is waited for.
 */
export function isHopeless(decision: PlacementDecision, waitedMs: number): boolean {
  if (decision.candidates.some(({ verdict }) => PASSING.includes(verdict))) return false;
  return decision.candidates.length > 0 || waitedMs >= ADVERT_TTL_MS;
}
