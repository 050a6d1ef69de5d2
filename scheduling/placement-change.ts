/**
 * What would make a placement come out otherwise: the last sentence of every explanation. Each names
 * something that a person can do, with its effect.
 */
import { gib } from './memory.ts';
import { bytesOf } from './node-resident.ts';
import type { Outcome } from './placement-decision.ts';
import type { Offer } from './placement-offer.ts';
import { freeOf, takes } from './placement-rank.ts';
import { closestOf, pullableName } from './placement-reason.ts';

const VICTIMS_SHOWN_MAX = 4;

/** Null where nothing would. */
export function wouldChange(outcome: Outcome): string | null {
  const { taken, ranked } = outcome;
  if (taken !== null) return otherwise(taken, ranked);
  return (
    rules(outcome) ?? unloading(outcome) ?? waiting(outcome) ?? pulling(outcome) ?? adding(outcome)
  );
}

/** Something was chosen: how much slower it would have to be for the second best. */
function otherwise(taken: Offer, ranked: readonly Offer[]): string | null {
  const second = ranked.find(offer => offer.node !== taken.node || offer.model !== taken.model);
  if (second === undefined) return null;
  const seconds = Math.max(0, second.score.total_ms - taken.score.total_ms) / 1_000;
  return `${second.model} on ${second.node} is expected ${seconds.toFixed(1)} s later; it would be chosen if ${taken.node} were busy for longer than that`;
}

/** A rule alone is in the way. */
function rules({ candidates, request }: Outcome): string | null {
  const excluded = candidates.seen().filter(offer => offer.verdict === 'excluded');
  if (excluded.length === 0) return null;
  const freed = candidates.withoutRules().ranked().find(takes);
  const was = excluded.find(offer => offer.node === freed?.node);
  if (freed === undefined || was === undefined) return null;
  const labels = Object.entries(request.selector ?? {}).map(
    ([label, value]) => `${label}=${value}`,
  );
  const isSelector = was.refusal?.startsWith('the selector') === true;
  const what = isSelector
    ? `drop the selector ${labels.join(', ')}`
    : `lift the rule (${was.refusal})`;
  return `${what}: ${freed.node} could take ${freed.model}`;
}

/** Models in use or kept are in the way. */
function unloading({ candidates }: Outcome): string | null {
  const blocked = candidates
    .seen()
    .filter(offer => offer.verdict === 'does_not_fit' && offer.blockers.length > 0)
    .sort(
      (left, right) =>
        left.blockers.length - right.blockers.length || (left.node < right.node ? -1 : 1),
    );
  const best = blocked.find(offer => offer.when === 'waits') ?? null;
  if (best === null) return null;
  const names = best.blockers.slice(0, VICTIMS_SHOWN_MAX).map(({ model }) => model);
  const freed = best.blockers.reduce((sum, blocker) => sum + bytesOf(blocker), 0);
  return `unload ${names.join(', ')} on ${best.node}: that frees ${gib(freed)}`;
}

function waiting({ ranked }: Outcome): string | null {
  const best = ranked.find(offer => offer.when === 'waits');
  if (best === undefined) return null;
  return `a free slot on ${best.node}, expected in ${(best.score.wait_ms / 1_000).toFixed(0)} s`;
}

/** Nobody has the model: the node with most room could. */
function pulling({ candidates }: Outcome): string | null {
  const model = pullableName(candidates);
  if (model === null || candidates.seen().some(offer => offer.verdict !== 'not_ready')) return null;
  const roomy = candidates
    .states()
    .filter(state => candidates.absence(state) === null && state.bySize.length >= 0)
    .filter(state =>
      state.view.runtime?.advert.engines.some(
        ({ name, available }) => name === 'ollama' && available,
      ),
    )
    .sort((left, right) => (right.bound_bytes ?? 0) - (left.bound_bytes ?? 0))[0];
  if (roomy === undefined) return null;
  const room = roomy.bound_bytes === null ? '' : `, where ${gib(roomy.bound_bytes)} can be had`;
  return `pull it: \`codegod models pull ${model} --nodes ${roomy.node}\`${room}`;
}

function adding({ candidates }: Outcome): string | null {
  const closest = closestOf(candidates.seen());
  if (closest === null || closest.fit === null) return null;
  const { need, short_bytes } = closest.fit;
  const room = gib(need.total_bytes + need.reserve_bytes);
  const offload =
    closest.state.view.runtime?.advert.offload === true || freeOf(closest) <= 0
      ? ''
      : `, or let ${closest.node} use main memory (\`node.offload\`)`;
  return `add a node with ${room} free, free ${gib(short_bytes)} on ${closest.node}${offload}`;
}
