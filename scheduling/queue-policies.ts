/**
 * Copies that rules want loaded though nobody asks for them now: `replicas_min` of a model.
 *
 * R1: nothing that is in use, wanted or kept goes for them, and none is loaded twice.
 */
import type { ModelPolicy } from '../protocol/policy.ts';
import { canonicalModelName } from './model-names.ts';
import { planOf } from './placement.ts';
import { decisionOf } from './placement-decision.ts';
import type { Offer } from './placement-offer.ts';
import { takes } from './placement-rank.ts';
import type { WantedLoad } from './queue.ts';
import { NOBODY, type Waiting } from './queue-state.ts';
import type { QueueView } from './queue-view.ts';

/** Of a kept copy for which the rule names none. */
const CONTEXT_TOKENS = 8_192;

/** What is missing, each with the best place for it. */
export function wantedLoads(view: QueueView): WantedLoad[] {
  return (view.state.options.policies ?? []).flatMap(policy => missingCopies(view, policy));
}

function missingCopies(view: QueueView, policy: ModelPolicy): WantedLoad[] {
  if (policy.replicas_min === 0) return [];
  const loads: WantedLoad[] = [];
  const key = canonicalModelName(policy.model);
  for (let copy = 0; copy < policy.replicas_min; copy += 1) {
    const waiting = wish(policy, copy, view.now);
    const candidates = view.candidatesFor(waiting, null);
    const ranked = candidates.ranked();
    const copies = ranked.filter(offer => offer.effort === 0).length;
    const best = ranked.find(isLoadable);
    if (copies >= policy.replicas_min || best === undefined || best.key !== key) break;
    const plan = planOf(best);
    const decision = decisionOf({
      ...{ request: candidates.request, candidates, taken: best, now: view.now },
      ranked: [best, ...ranked.filter(offer => offer !== best)],
    });
    view.begin(waiting, plan);
    loads.push({ id: waiting.job.id, model: policy.model, plan, decision });
  }
  return loads;
}

/** Into main memory only where there is nothing else: beside a card it would be slow for good. */
function isLoadable(offer: Offer): boolean {
  if (!takes(offer) || offer.effort === 0) return false;
  return offer.effort < 3 || (offer.effort === 4 && offer.state.room.kind === 'ram');
}

/** As a request that nobody sends. */
function wish(policy: ModelPolicy, copy: number, now: number): Waiting {
  return {
    job: {
      id: `policy:${policy.model}:${copy}:${now}`,
      share: 'policy',
      priority: policy.priority,
      arrived_at: now,
      request: {
        model: policy.model,
        context_tokens: policy.context_tokens ?? CONTEXT_TOKENS,
        ...{ remote: 'deny', avoid: [], refused: {}, kind: 'inference' },
        ...{ prompt_tokens: 0, output_tokens: 0 },
      },
    },
    ...{ rank: 0, turn: 0, declined: NOBODY },
  };
}
