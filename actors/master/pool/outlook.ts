/** What follows from decisions and adverts for those who wait and run, as pure functions. */
import { CodeGodError } from '../../../protocol/errors.ts';
import type { NodeId } from '../../../protocol/ids.ts';
import type { PlacementDecision } from '../../../protocol/node.ts';
import { ADVERT_TTL_MS } from '../../../protocol/streams.ts';
import type { NodeView } from '../../../scheduling/node-view.ts';
import type { PlacementPlan } from '../../../scheduling/placement.ts';
import type { Wait } from '../../../scheduling/queue.ts';
import type { Grant } from './grant.ts';

type Verdict = PlacementDecision['candidates'][number]['verdict'];

export function verdictOf(plan: PlacementPlan, decision: PlacementDecision): Verdict {
  const chosen = decision.candidates.find(
    ({ node, model, engine }) =>
      node === plan.node && model === plan.model && engine === plan.engine,
  );
  return chosen?.verdict ?? 'fits';
}

/**
 * Whether a request that no node can take is not worth keeping: where no node has the model, one
 * that is only restarted is waited for.
 */
export function isHopeless(decision: PlacementDecision, waitedMs: number): boolean {
  return decision.candidates.length > 0 || waitedMs >= ADVERT_TTL_MS;
}

/** The longest of those that wait; null where nobody knows. */
export function expectedWaitMs(waits: readonly (Wait | null)[]): number | null {
  let expected: number | null = null;
  for (const wait of waits) {
    const ms = wait?.expected_ms ?? null;
    if (ms !== null) expected = Math.max(expected ?? 0, ms);
  }
  return expected;
}

export function overloaded(reason: string, waitMs: number | null, waitMaxMs: number): CodeGodError {
  if (waitMs === null) return new CodeGodError('overloaded', reason);
  const retry_after_s = Math.ceil(Math.min(waitMaxMs, Math.max(1_000, waitMs)) / 1_000);
  const message = `${reason}; expect to wait ${retry_after_s} s`;
  return new CodeGodError('overloaded', message, { details: { retry_after_s } });
}

/** Those on nodes that are silent, or whose worker was started again since. */
export function lostGrants(
  running: Iterable<Grant>,
  views: readonly NodeView[],
): readonly { readonly grant: Grant; readonly reason: string }[] {
  const epochs = new Map<NodeId, number>();
  for (const { node, runtime } of views)
    if (runtime !== null) epochs.set(node, runtime.advert.epoch);
  return [...running].flatMap(grant => {
    const { node } = grant.plan;
    const epoch = epochs.get(node);
    if (epoch === grant.epoch) return [];
    return [
      { grant, reason: `${node} ${epoch === undefined ? 'is silent' : 'was started again'}` },
    ];
  });
}
