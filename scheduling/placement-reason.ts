/**
 * Placement in sentences: why a node was chosen, and, where none was, what would change it.
 */
import { gib } from './memory.ts';
import { nearestName, sameModel } from './model-names.ts';
import type { Offer, PlacementRequest } from './placement.ts';

/** Why the best of the ranked offers is the best. */
export function chosenReason(best: Offer, ranked: readonly Offer[]): string {
  const others = ranked.length - 1;
  const rest = others === 0 ? '' : `; ${count(others, 'other node')} could take it too`;
  if (best.engine === 'scaffold') {
    return `scaffold on ${best.node}: no model is installed; \`ollama pull qwen2.5-coder:7b\` for real generation${rest}`;
  }
  return `${best.model} on ${best.node}: ${best.reason}${rest}`;
}

/** A funnel from all nodes to none, ending with what would help. */
export function waitingReason(
  request: PlacementRequest,
  nodeCount: number,
  offers: readonly Offer[],
  tier: readonly Offer[],
): string {
  if (nodeCount === 0) return 'no node has been heard of; start a worker with `codegod up`';
  const ready = offers.filter(offer => offer.verdict !== 'not_ready');
  if (ready.length === 0) {
    const why = [...new Set(offers.map(offer => `${offer.node}: ${offer.reason}`))];
    const detail = why.length === 0 ? 'none runs a worker' : why.slice(0, 4).join('; ');
    return `of ${count(nodeCount, 'node')} none is ready (${detail})`;
  }
  const refused = tier.filter(offer => offer.verdict === 'refused');
  const busy = tier.filter(offer => offer.verdict === 'busy');
  if (busy.length > 0) {
    const nodes = namesOf(busy);
    return `${nodes} could run ${busy[0]?.model} but ${busy.length === 1 ? 'is' : 'are'} busy; it goes on when a slot is free`;
  }
  if (request.model !== null && tier.every(offer => offer.verdict === 'not_ready')) {
    return missingModel(request.model, ready, offers);
  }
  if (refused.length > 0) {
    return `${namesOf(refused)} declined: ${refused[0]?.reason}; it is asked again shortly`;
  }
  return nothingFits(request, tier);
}

function missingModel(model: string, ready: readonly Offer[], offers: readonly Offer[]): string {
  const elsewhere = offers.find(offer => sameModel(offer.model, model));
  if (elsewhere !== undefined && elsewhere.verdict !== 'not_ready') {
    return `${elsewhere.model} runs outside the house, which is not allowed; \`--fallback allow\` would allow it`;
  }
  if (elsewhere !== undefined) {
    return `only ${elsewhere.node} has ${model}, and it is not ready: ${elsewhere.reason}`;
  }
  const installed = ready.filter(offer => offer.model !== '').map(offer => offer.model);
  const nearest = nearestName(model, installed);
  const hint = nearest === null ? '' : `; the nearest name is ${nearest}`;
  return `no ready node has the model ${model}${hint}; \`ollama pull ${model}\` would bring it`;
}

function nothingFits(request: PlacementRequest, tier: readonly Offer[]): string {
  const unknown = tier.filter(offer => offer.verdict === 'unknown_memory');
  const short = tier
    .filter(offer => offer.verdict === 'does_not_fit')
    .map(offer => ({ offer, missing: offer.need_bytes - Math.max(0, offer.free_bytes ?? 0) }))
    .sort((left, right) => left.missing - right.missing);
  const closest = short[0];
  const model = request.model ?? 'any installed model';
  if (closest === undefined) {
    if (unknown.length > 0) {
      return `${namesOf(unknown)} may hold ${model}, but the free memory there is unknown; declare it in the configuration`;
    }
    return 'no model may be used; install one with `ollama pull qwen2.5-coder:7b`';
  }
  const { offer, missing } = closest;
  const unload =
    offer.evictable.length === 0
      ? ''
      : ` beyond what unloading ${offer.evictable.join(', ')} gives`;
  return (
    `no node can hold ${model}: the closest is ${offer.node}, where ${offer.model} ${offer.reason}; ` +
    `free ${gib(missing)} more there${unload}, add a node or choose a smaller model`
  );
}

const namesOf = (offers: readonly Offer[]): string =>
  [...new Set(offers.map(offer => offer.node))].sort().slice(0, 4).join(', ');

const count = (amount: number, noun: string): string =>
  `${amount} ${noun}${amount === 1 ? '' : 's'}`;
