/** What follows from decisions and adverts for those who wait and run, as pure functions. */
import { CodeGodError, type WireError } from '../../../protocol/errors.ts';
import type { NodeId } from '../../../protocol/ids.ts';
import type { PlacementDecision } from '../../../protocol/node.ts';
import { ADVERT_TTL_MS } from '../../../protocol/streams.ts';
import { canonicalModelName } from '../../../scheduling/model-names.ts';
import type { NodeView } from '../../../scheduling/node-view.ts';
import type { PlacementPlan } from '../../../scheduling/placement.ts';
import type { Wait } from '../../../scheduling/queue.ts';
import type { QueueState } from '../../../scheduling/queue-state.ts';
import type { Grant } from './grant.ts';

type Verdict = PlacementDecision['candidates'][number]['verdict'];

export function verdictOf(plan: PlacementPlan, decision: PlacementDecision): Verdict {
  const chosen = decision.candidates.find(
    ({ node, model, engine }) =>
      node === plan.node && model === plan.model && engine === plan.engine,
  );
  return chosen?.verdict ?? 'fits';
}

/** How long a node that went away with the only copies of a model may take to come back. */
export const RETURN_MS = ADVERT_TTL_MS;

/** Canonical names of models that some worker has now. */
export function heldModels(views: readonly NodeView[]): ReadonlySet<string> {
  const engines = views.flatMap(({ runtime }) => runtime?.advert.engines ?? []);
  return new Set(
    engines.flatMap(({ models }) => models.map(({ name }) => canonicalModelName(name))),
  );
}

/** The account to who waited for a model whose nodes went away. */
export function vanished(model: string | null, reason: string): CodeGodError {
  const what = model === null ? 'no node with a model' : `no node that has ${model}`;
  const message = `${what} has answered for ${RETURN_MS / 1_000} s: ${reason}`;
  return new CodeGodError('no_capacity', message, {
    hint: '`codegod nodes` lists those there are',
  });
}

export const endOf = ({ code }: WireError): 'cancelled' | 'failed' =>
  code === 'cancelled' ? 'cancelled' : 'failed';

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

/** Which life of each worker is heard of, and when its advert was seen. */
export type Lives = ReadonlyMap<NodeId, { readonly epoch: number; readonly seen_at: number }>;

export function livesOf(views: readonly NodeView[]): Lives {
  return new Map(
    views.flatMap(({ node, runtime }) =>
      runtime === null
        ? []
        : [[node, { epoch: runtime.advert.epoch, seen_at: runtime.seen_at }] as const],
    ),
  );
}

/** Those on nodes that are silent, or whose worker was started again since. */
export function lostGrants(
  running: Iterable<Grant>,
  lives: Lives,
): readonly { readonly grant: Grant; readonly reason: string }[] {
  return [...running].flatMap(grant => {
    const { node } = grant.plan;
    const epoch = lives.get(node)?.epoch;
    if (epoch === grant.epoch) return [];
    return [
      { grant, reason: `${node} ${epoch === undefined ? 'is silent' : 'was started again'}` },
    ];
  });
}

/** As if it had never run: what an advert shows of it, the advert's node says itself. */
export function forgotten(state: QueueState, id: string): QueueState {
  const running = new Map(state.running);
  running.delete(id);
  return { ...state, running };
}
