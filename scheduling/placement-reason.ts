/**
 * Placement in sentences: why a node was chosen or, as a funnel from all nodes to none, why not.
 */
import { gib } from './memory.ts';
import { nearestName, sameModel } from './model-names.ts';
import { bytesOf } from './node-resident.ts';
import { type Candidates, isOutside } from './placement-candidates.ts';
import type { Outcome } from './placement-decision.ts';
import type { NodeState } from './placement-node.ts';
import type { Offer } from './placement-offer.ts';
import { freeOf } from './placement-rank.ts';

const NAMES_MAX = 4;
/** Of what an engine says of its own absence. */
const REASON_MAX = 200;

/** What is to be said of one candidate. */
export function offerReason(offer: Offer): string {
  if (offer.refusal !== null) return offer.refusal;
  const memory = offer.state.room.kind === 'gpu' ? 'GPU memory' : 'memory';
  const free = gib(Math.max(0, freeOf(offer)));
  switch (offer.verdict) {
    case 'loaded':
      return 'the model is loaded';
    case 'loading':
      return 'the model is being loaded';
    case 'fits':
      if (offer.engine === 'scaffold') return 'needs no model';
      if (offer.engine !== 'ollama') return 'runs outside the house';
      return offer.evict.length > 0
        ? `is loaded again with a context of ${offer.context_tokens}`
        : `needs ${gib(offer.need_bytes)} of ${free} free ${memory}`;
    case 'evicts':
      return `fits after unloading ${offer.evict.map(({ model }) => model).join(', ')}`;
    case 'partial': {
      const slowdown = (offer.fit?.slowdown ?? 1).toFixed(1);
      return `${gib(offer.fit?.ram_bytes ?? 0)} of it in main memory, ${slowdown} times slower`;
    }
    case 'cpu':
      return `needs ${gib(offer.need_bytes)} of main memory, without a card`;
    case 'unknown_memory':
      return `nobody knows how much ${memory} is free; declare it in the configuration`;
    default:
      return `needs ${gib(offer.need_bytes)}, ${free} of ${memory} free${inTheWay(offer)}`;
  }
}

function inTheWay({ blockers }: Offer): string {
  if (blockers.length === 0) return '';
  const names = blockers.map(blocker => `${blocker.model} (${gib(bytesOf(blocker))})`);
  return `; ${names.slice(0, NAMES_MAX).join(', ')} ${isAre(blockers.length)} in use there`;
}

/** Why the best of the ranked offers is the best. */
export function chosenReason(best: Offer, ranked: readonly Offer[]): string {
  const others = new Set(ranked.map(offer => offer.node)).size - 1;
  const rest = others === 0 ? '' : `; ${count(others, 'other node')} could take it too`;
  if (best.engine === 'scaffold') {
    const silent = silentEngine([best.state]);
    const why = silent === null ? '' : ` (${silent})`;
    return `scaffold on ${best.node}: no model is installed${why}; \`ollama pull qwen2.5-coder:7b\` for real generation${rest}`;
  }
  return `${best.model} on ${best.node}: ${offerReason(best)}${rest}`;
}

/** From all nodes to none. */
export function waitingReason(outcome: Outcome): string {
  const { candidates, request } = outcome;
  const { nodes } = candidates;
  if (nodes.length === 0) return 'no node has been heard of; start a worker with `codegod up`';
  const offers = candidates.seen();
  const ready = candidates.states().filter(state => candidates.absence(state) === null);
  if (ready.length === 0) return noneReady(outcome);
  const model = request.model;
  const having = offers.filter(offer => offer.verdict !== 'not_ready');
  const allowed = having.filter(offer => offer.verdict !== 'excluded');
  const funnel =
    nodes.length === 1
      ? ''
      : `of ${nodes.length} nodes ${ready.length} ready, ` +
        `${nodesOf(having).length} with ${model ?? 'a model'}, ${nodesOf(allowed).length} allowed: `;
  return `${funnel}${whyNone(outcome, offers, having, allowed)}`;
}

function noneReady({ candidates }: Outcome): string {
  const why = candidates.states().flatMap(state => {
    const absence = candidates.absence(state);
    return absence === null || state.view.runtime === null ? [] : [`${state.node}: ${absence}`];
  });
  const detail = why.length === 0 ? 'none runs a worker' : why.slice(0, NAMES_MAX).join('; ');
  return `of ${count(candidates.nodes.length, 'node')} none is ready (${detail})`;
}

function whyNone(
  outcome: Outcome,
  offers: readonly Offer[],
  having: readonly Offer[],
  allowed: readonly Offer[],
): string {
  const { request, ranked } = outcome;
  if (ranked[0] !== undefined) return waitsFor(ranked[0], ranked);
  if (having.length === 0) return missingModel(outcome, offers);
  const [excluded] = having;
  if (allowed.length === 0 && excluded !== undefined) {
    return `no node may take it: on ${excluded.node} ${offerReason(excluded)}`;
  }
  const refused = allowed.filter(offer => offer.verdict === 'refused');
  if (refused[0] !== undefined) {
    return `${namesOf(refused)} declined: ${offerReason(refused[0])}; it is asked again shortly`;
  }
  return nothingFits(request.model ?? 'any installed model', allowed);
}

function waitsFor(best: Offer, ranked: readonly Offer[]): string {
  const ready = ranked.filter(offer => offer.when === 'takes');
  const rest =
    ready.length === 0 ? '' : `; sooner done than ${namesOf(ready)}, which could load it`;
  if (best.verdict !== 'busy') {
    const names = best.blockers.slice(0, NAMES_MAX).map(({ model }) => model);
    return `${best.model} waits on ${best.node}: ${offerReason(best)}; it goes on when ${names.join(', ')} can go${rest}`;
  }
  const busy = ranked.filter(offer => offer.verdict === 'busy');
  const names = namesOf(busy);
  const are = isAre(nodesOf(busy).length);
  return `${names} could run ${best.model} but ${are} busy (${offerReason(best)}); it goes on when a slot is free${rest}`;
}

function missingModel({ request, candidates }: Outcome, offers: readonly Offer[]): string {
  const gone = offers.find(offer => offer.verdict === 'not_ready' && !isOutside(offer.engine));
  const entries = candidates.states().flatMap(state => [...state.entries.values()].flat());
  const outside = entries.find(
    ({ engine, key }) => isOutside(engine.name) && key === candidates.key,
  );
  if (outside !== undefined && request.remote === 'deny') {
    return `${outside.model.name} runs outside the house, which is not allowed; \`--fallback allow\` would allow it`;
  }
  const away = awayRuntimes(offers, candidates);
  if (away !== null) return awayReason(away, request.model);
  if (gone !== undefined && request.model !== null) {
    return `only ${gone.node} has ${request.model}, and it is not ready: ${offerReason(gone)}`;
  }
  if (gone !== undefined) return `${gone.node} is not ready: ${offerReason(gone)}`;
  if (request.model === null) {
    const silent = silentEngine(candidates.states());
    const why = silent === null ? '' : ` (${silent})`;
    if (request.needs_model === true) return modelGone(request.prefers ?? [], why);
    return `no model may be used${why}; install one with \`ollama pull qwen2.5-coder:7b\``;
  }
  const able = entries.find(entry => entry.key === candidates.key);
  if (able !== undefined) {
    return `${able.model.name} can't do what is asked for (${request.capability ?? 'completion'})`;
  }
  const installed = entries.map(({ model }) => model.name);
  const nearest = nearestName(request.model, installed);
  const hint =
    nearest === null || sameModel(nearest, request.model) ? '' : `; the nearest name is ${nearest}`;
  const name = pullableName(candidates) ?? request.model;
  return `no ready node has the model ${request.model}${hint}; \`ollama pull ${name}\` would bring it`;
}

/** Why an engine of one of the nodes is not there, where one says so. */
function silentEngine(states: readonly NodeState[]): string | null {
  const engines = states.flatMap(state => state.view.runtime?.advert.engines ?? []);
  return engines.find(({ available, reason }) => !available && reason !== null)?.reason ?? null;
}

interface Away {
  readonly nodes: readonly string[];
  /** When the first of them answered last, by its own clock; null where it was never seen. */
  readonly since: number | null;
  readonly reason: string | null;
}

/** Nodes that are ready themselves and whose model runtime does not answer; null where none is. */
function awayRuntimes(offers: readonly Offer[], candidates: Candidates): Away | null {
  const found = offers.flatMap(({ state, engine: name }) => {
    const engine = state.view.runtime?.advert.engines.find(one => one.name === name);
    const isAway = engine?.available === false && candidates.absence(state) === null;
    return isAway ? [{ node: state.node, engine }] : [];
  });
  const [first] = found;
  if (first === undefined) return null;
  const { away_since: since = null, reason } = first.engine;
  return { nodes: [...new Set(found.map(({ node }) => node))].sort(), since, reason };
}

function awayReason({ nodes, since, reason }: Away, model: string | null): string {
  const where = nodes.slice(0, NAMES_MAX).join(', ');
  const when = since === null ? '' : ` since ${new Date(since).toTimeString().slice(0, 5)}`;
  const why = reason === null ? '' : ` (${reason.slice(0, REASON_MAX)})`;
  const silent = `the model runtime on ${where} does not answer${when}${why}; it goes on when it does`;
  return model === null ? silent : `only ${where} has ${model}: ${silent}`;
}

function modelGone(used: readonly string[], why: string): string {
  const what = used.length === 0 ? 'a model' : used.slice(0, NAMES_MAX).join(', ');
  return `no node that is heard of has a model${why}; the build works with ${what} and goes on when one is there`;
}

/** As a registry is likeliest to know it. */
export function pullableName({ request, key }: Candidates): string | null {
  const { model } = request;
  return model === null || key === null || sameModel(model, key) ? model : key;
}

function nothingFits(model: string, offers: readonly Offer[]): string {
  const closest = closestOf(offers);
  if (closest === null) {
    const unknown = offers.filter(offer => offer.verdict === 'unknown_memory');
    return `${namesOf(unknown)} may hold ${model}, but the free memory there is unknown; declare it in the configuration`;
  }
  const evictable = closest.state.room.evictable ?? [];
  const unload =
    evictable.length === 0 ? '' : ` beyond what unloading ${evictable.join(', ')} gives`;
  return (
    `no node can hold ${model}: the closest is ${closest.node}, where ${closest.model} ${offerReason(closest)}; ` +
    `free ${gib(closest.fit?.short_bytes ?? 0)} more there${unload}, add a node or choose a smaller model`
  );
}

/** Of those that do not fit, the one that lacks least. */
export function closestOf(offers: readonly Offer[]): Offer | null {
  const short = offers.filter(offer => offer.verdict === 'does_not_fit' && offer.fit !== null);
  short.sort((left, right) => (left.fit?.short_bytes ?? 0) - (right.fit?.short_bytes ?? 0));
  return short[0] ?? null;
}

const nodesOf = (offers: readonly Offer[]): readonly string[] =>
  [...new Set(offers.map(offer => offer.node))].sort();

export const namesOf = (offers: readonly Offer[]): string =>
  nodesOf(offers).slice(0, NAMES_MAX).join(', ');

const isAre = (amount: number): string => (amount === 1 ? 'is' : 'are');

const count = (amount: number, noun: string): string =>
  `${amount} ${noun}${amount === 1 ? '' : 's'}`;
