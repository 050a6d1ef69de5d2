/**
 * All offers for one request, and their order. Only models that can matter are judged: the one that
 * is named, or for each node the largest that it could take.
 *
 * C1: an offer that needs a load ranks before a loaded copy only where it is clearly faster, so that
 *     small errors of estimates don't make models wander.
 */
import type { ModelPolicy } from '../protocol/policy.ts';
import type { EngineName } from '../protocol/task.ts';
import { canonicalModelName, resolveAlias } from './model-names.ts';
import type { NodeView } from './node-view.ts';
import type { PlacementContext, PlacementRequest } from './placement.ts';
import {
  absenceOf,
  type Entry,
  exclusionOf,
  isCapable,
  type NodeState,
  nodeStateOf,
} from './placement-node.ts';
import { judge, type Offer, offerOf } from './placement-offer.ts';

/** By how much a load has to be faster than a loaded copy (C1). */
const HYSTERESIS_FACTOR = 1.1;
const HYSTERESIS_MS = 500;
/** Weights take at least this part of their file's size. */
const SIZE_FRACTION_MIN = 0.5;

export class Candidates {
  readonly request: PlacementRequest;
  /** The canonical name of the model that is asked for, aliases followed. */
  readonly key: string | null;
  readonly nodes: readonly NodeView[];
  readonly #now: number;
  readonly #context: PlacementContext;
  readonly #states: readonly NodeState[];
  readonly #policies: ReadonlyMap<string, ModelPolicy>;
  readonly #judged = new Map<Entry, Offer>();
  /** Models that may be meant, and what became of them. */
  readonly #seen = new Set<Offer>();

  constructor(
    request: PlacementRequest,
    nodes: readonly NodeView[],
    now: number,
    context: PlacementContext,
  ) {
    this.request = request;
    this.nodes = nodes;
    this.#now = now;
    this.#context = context;
    this.key =
      request.model === null
        ? null
        : canonicalModelName(resolveAlias(request.model, context.aliases ?? {}));
    this.#states = [...nodes]
      .sort((left, right) => compareText(left.node, right.node))
      .map(view => nodeStateOf(view, context.news?.(view.node)));
    this.#policies = new Map(
      (context.policies ?? []).map(policy => [canonicalModelName(policy.model), policy]),
    );
  }

  /** The best first: what could take the request, now or later. */
  ranked(): readonly Offer[] {
    return this.#choose()
      .filter(offer => offer.when !== 'never')
      .sort((left, right) => this.#compare(left, right));
  }

  /** All that was looked at, in no order. */
  seen(): readonly Offer[] {
    return [...this.#seen];
  }

  states(): readonly NodeState[] {
    return this.#states;
  }

  absence(state: NodeState): string | null {
    return absenceOf(state.view, this.#now);
  }

  /** As if no selector, pin or rule kept the request from any node. */
  withoutRules(): Candidates {
    const { selector: _, nodes: _pins, exclude: _tried, ...request } = this.request;
    const { policies: _rules, ...context } = this.#context;
    return new Candidates(request, this.nodes, this.#now, context);
  }

  #choose(): readonly Offer[] {
    if (this.key !== null) return this.#named(this.key);
    const remote = this.request.remote === 'deny' ? [] : this.#ofEngines('anthropic', 'openai');
    if (this.request.remote === 'first' && remote.some(takes)) return remote;
    const local = this.#local();
    if (local.some(takes)) return local;
    const available = remote.filter(isAvailable);
    if (available.length > 0) return available;
    return local.some(isAvailable) ? local : this.#ofEngines('scaffold');
  }

  /** Whoever has the model, however it stands there. */
  #named(key: string): readonly Offer[] {
    const { remote } = this.request;
    return this.#states.flatMap(state =>
      (state.entries.get(key) ?? [])
        .filter(entry => isCapable(this.request, entry.model))
        .filter(entry => remote !== 'deny' || !isOutside(entry.engine.name))
        .map(entry => this.#judge(state, entry)),
    );
  }

  #ofEngines(...names: readonly string[]): readonly Offer[] {
    const offers: Offer[] = [];
    for (const state of this.#states) {
      for (const entries of state.entries.values()) {
        for (const entry of entries) {
          if (!names.includes(entry.engine.name) || !isCapable(this.request, entry.model)) continue;
          offers.push(this.#judge(state, entry));
        }
      }
    }
    return largest(offers.filter(takes)) ?? offers;
  }

  /** P6. */
  #local(): readonly Offer[] {
    const preferred = (this.request.prefers ?? []).flatMap(name => {
      const offers = this.#named(canonicalModelName(name));
      return offers.filter(offer => offer.when !== 'never' && offer.engine === 'ollama');
    });
    const kept = largest(preferred);
    if (kept !== null) return kept;
    const walks = this.#states.map(state => this.#walk(state));
    const onCards = walks.flatMap(({ good }) => (good === null ? [] : [good]));
    const anyhow = walks.flatMap(({ any }) => (any === null ? [] : [any]));
    const waiting = walks.flatMap(({ waits }) => (waits === null ? [] : [waits]));
    const best = largest(onCards) ?? largest(anyhow) ?? largest(waiting);
    const key = best?.[0]?.key;
    if (key !== undefined) return this.#named(key).filter(offer => offer.engine === 'ollama');
    return walks.flatMap(({ smallest }) => (smallest === null ? [] : [smallest]));
  }

  /** The largest models that the node could take: on cards, at all, later; and its smallest. */
  #walk(state: NodeState): Walk {
    const walk: Walk = { good: null, any: null, waits: null, smallest: null };
    for (const entry of state.bySize) {
      if (!isCapable(this.request, entry.model)) continue;
      const isLast = entry === state.bySize.at(-1);
      if (!isLast && this.#isTooLarge(state, entry)) continue;
      const offer = this.#judge(state, entry);
      walk.smallest = offer;
      if (offer.when === 'waits') walk.waits ??= offer;
      if (!takes(offer)) {
        if (offer.verdict === 'not_ready' || offer.verdict === 'excluded') return walk;
        continue;
      }
      walk.any ??= offer;
      if (offer.verdict === 'partial' || offer.verdict === 'cpu') continue;
      walk.good = offer;
      return walk;
    }
    return walk;
  }

  /** Sure not to fit, whatever is unloaded. */
  #isTooLarge(state: NodeState, entry: Entry): boolean {
    const bound = state.bound_bytes;
    if (bound === null || entry.model.size_bytes * SIZE_FRACTION_MIN <= bound) return false;
    return !state.room.residents.some(resident => resident.key === entry.key);
  }

  #judge(state: NodeState, entry: Entry): Offer {
    const known = this.#judged.get(entry);
    if (known !== undefined) return known;
    const offer = this.#judgeAnew(state, entry);
    this.#judged.set(entry, offer);
    this.#seen.add(offer);
    return offer;
  }

  #judgeAnew(state: NodeState, entry: Entry): Offer {
    const { engine, key } = entry;
    const absent =
      this.absence(state) ??
      (engine.available ? null : (engine.reason ?? `${engine.name} does not answer`));
    if (absent !== null) return offerOf(state, entry, 'not_ready', absent, 'never');
    const excluded = exclusionOf(this.request, state.view, this.#policies.get(key));
    if (excluded !== null) return offerOf(state, entry, 'excluded', excluded, 'never');
    const refusal = this.request.refused[state.node];
    if (refusal !== undefined) return offerOf(state, entry, 'refused', refusal, 'never');
    return judge(this.request, state, entry, this.#now, this.#context);
  }

  #compare(left: Offer, right: Offer): number {
    const avoided = (offer: Offer): number => Number(this.request.avoid.includes(offer.node));
    return (
      avoided(left) - avoided(right) ||
      rankMs(left) - rankMs(right) ||
      left.effort - right.effort ||
      freeOf(right) - freeOf(left) ||
      compareText(left.node, right.node)
    );
  }
}

interface Walk {
  good: Offer | null;
  any: Offer | null;
  waits: Offer | null;
  smallest: Offer | null;
}

export const takes = (offer: Offer): boolean => offer.when === 'takes';
export const isOutside = (engine: EngineName): boolean =>
  engine === 'anthropic' || engine === 'openai';
const isAvailable = (offer: Offer): boolean =>
  offer.verdict !== 'not_ready' && offer.verdict !== 'excluded';

/** C1. */
export function rankMs(offer: Offer): number {
  const { total_ms } = offer.score;
  return offer.effort === 0 ? total_ms : total_ms * HYSTERESIS_FACTOR + HYSTERESIS_MS;
}

export const freeOf = (offer: Offer): number => offer.state?.room.free_bytes ?? 0;

/** Of the largest model among them, by name where two are equal; null where there is none. */
function largest(offers: readonly Offer[]): readonly Offer[] | null {
  const [best] = [...offers].sort(
    (left, right) => right.size_bytes - left.size_bytes || compareText(left.key, right.key),
  );
  return best === undefined ? null : offers.filter(offer => offer.key === best.key);
}

export const compareText = (left: string, right: string): number =>
  left < right ? -1 : left > right ? 1 : 0;
