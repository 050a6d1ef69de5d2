/**
 * A placement as it is kept and shown: every candidate with its verdict and terms, the parts of the
 * memory it needs, the second best, the reason, and what would change it.
 */
import type { PlacementCandidate, PlacementDecision } from '../protocol/node.ts';
import type { MemoryNeed } from './memory.ts';
import { residualOf } from './observed-loads.ts';
import type { PlacementRequest } from './placement.ts';
import type { Candidates } from './placement-candidates.ts';
import { wouldChange } from './placement-change.ts';
import type { Offer } from './placement-offer.ts';
import { compareText } from './placement-rank.ts';
import { chosenReason, offerReason, waitingReason } from './placement-reason.ts';
import type { Correction } from './residual.ts';

/** Candidates kept in a decision; the best come first. */
const CANDIDATES_MAX = 128;
const EVICT_SHOWN_MAX = 64;
const SENTENCE_MAX = 1_024;

export interface Outcome {
  readonly request: PlacementRequest;
  readonly candidates: Candidates;
  /** What could take it now or later, the best first. */
  readonly ranked: readonly Offer[];
  /** The first of them, where it takes it now. */
  readonly taken: Offer | null;
  readonly now: number;
}

export function decisionOf(outcome: Outcome): PlacementDecision {
  const { candidates, ranked, taken, now } = outcome;
  const seen = [...candidates.seen()].sort(compareShown);
  const shown = [...new Set([...ranked, ...seen])];
  const runnerUp = taken === null ? null : (ranked[1] ?? null);
  const reason = taken === null ? waitingReason(outcome) : chosenReason(taken, ranked);
  const nearest = taken ?? shown.find(offer => offer.fit !== null) ?? null;
  const need = nearest?.fit?.need;
  const change = wouldChange(outcome);
  return {
    at: now,
    chosen: taken === null ? null : nameOf(taken),
    reason: sentence(reason),
    candidates: shown.slice(0, CANDIDATES_MAX).map(candidateOf),
    ...(need === undefined
      ? {}
      : {
          need: {
            weights_bytes: need.weights_bytes,
            kv_bytes: need.kv_bytes,
            compute_bytes: need.compute_bytes,
            projector_bytes: need.projector_bytes,
            overhead_bytes: need.overhead_bytes,
            ...correctionOf(nearest, need),
          },
        }),
    runner_up: runnerUp === null ? null : nameOf(runnerUp),
    ...(change === null ? {} : { would_change: sentence(change) }),
  };
}

const nameOf = ({ node, engine, model }: Offer) => ({ node, engine, model });

const sentence = (text: string): string =>
  text.length <= SENTENCE_MAX ? text : `${text.slice(0, SENTENCE_MAX - 1)}…`;

/** Estimate and measurement stay apart: what was learnt is told beside the parts. */
function correctionOf(offer: Offer | null, need: MemoryNeed): Correction {
  const entry = offer?.state.entries
    .get(offer.key)
    ?.find(({ engine }) => engine.name === offer.engine);
  if (offer === null || entry === undefined) return { residual_bytes: 0, source: 'estimate' };
  const { backend, residuals } = offer.state;
  return residualOf({ ...entry, backend }, residuals, need);
}

/** Offers are judged once and shown in many decisions. */
const candidates = new WeakMap<Offer, PlacementCandidate>();

function candidateOf(offer: Offer): PlacementCandidate {
  const known = candidates.get(offer) ?? newCandidate(offer);
  candidates.set(offer, known);
  return known;
}

function newCandidate(offer: Offer): PlacementCandidate {
  const room = offer.state.room;
  return {
    node: offer.node,
    engine: offer.engine,
    model: offer.model,
    verdict: offer.verdict,
    need_bytes: offer.need_bytes,
    free_bytes: offer.engine === 'ollama' ? freeBytes(room?.free_bytes ?? null) : null,
    reason: sentence(offerReason(offer)),
    context_tokens: offer.context_tokens,
    gpus: [...offer.gpus],
    evict: offer.evict.slice(0, EVICT_SHOWN_MAX).map(victim => victim.model),
    reserved_bytes: room?.reserved_bytes ?? 0,
    foreign_bytes: room?.foreign_bytes ?? null,
    ...(offer.when === 'never' ? {} : { score: { ...offer.score } }),
  };
}

/** Where more was promised than there is, nothing is free. */
const freeBytes = (bytes: number | null): number | null =>
  bytes === null ? null : Math.max(0, bytes);

function compareShown(left: Offer, right: Offer): number {
  return (
    left.effort - right.effort ||
    right.size_bytes - left.size_bytes ||
    compareText(left.node, right.node) ||
    compareText(left.model, right.model)
  );
}
