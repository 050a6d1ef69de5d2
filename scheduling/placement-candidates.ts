/**
 * All offers for one request, and their order. Only models that can matter are judged: the one that
 * is named, or for each node the largest that it could take.
 */
import type { ModelPolicy } from '../protocol/policy.ts';
import type { EngineName } from '../protocol/task.ts';
import { RECENCY_STEP_MS } from './eviction.ts';
import { withReserve } from './fit-layers.ts';
import { canonicalModelName } from './model-names.ts';
import type { NodeView } from './node-view.ts';
import { houseLoads } from './observed-loads.ts';
import type { PlacementContext, PlacementRequest } from './placement.ts';
import { type Copies, copiesOf } from './placement-copies.ts';
import { judge } from './placement-judge.ts';
import { takenBy } from './placement-need.ts';
import {
  absenceOf,
  type Entry,
  exclusionOf,
  isCapable,
  meantBy,
  type NodeState,
  nodeStateOf,
} from './placement-node.ts';
import { type Offer, offerOf, type Terms, type Verdict } from './placement-offer.ts';
import { compareOffers, compareText, rankMs, takes } from './placement-rank.ts';

/** Models used less long ago than this are not evicted for a second copy of another. */
const REPLICA_IDLE_MS = 30_000;
/** The last copy of a model stays for so much longer. */
export const LAST_COPY_FACTOR = 10;
/** Where the walk through a node's models begins, by state and kind of request. */
const firsts = new WeakMap<NodeState, Map<string, number>>();
const FIRSTS_MAX = 64;
const NOTHING: ReadonlySet<string> = new Set();

/**
 * Judgements of one wish under the same rules, by place of the node: used again where the state of
 * the node is the same. Losing it changes nothing.
 */
export interface Memo {
  readonly offers: (Offer | undefined)[];
  step: number;
  isCopied: boolean;
  doubled: ReadonlySet<string>;
}

export const newMemo = (): Memo => ({
  ...{ offers: [], step: -1, isCopied: false },
  doubled: NOTHING,
});

export class Candidates {
  readonly request: PlacementRequest;
  /** The canonical name of the model that is asked for, aliases and usual misspellings followed. */
  readonly key: string | null;
  readonly nodes: readonly NodeView[];
  readonly #now: number;
  readonly #context: PlacementContext;
  readonly #states: readonly NodeState[];
  readonly #copies: Copies;
  readonly #policies: ReadonlyMap<string, ModelPolicy>;
  readonly #terms: Terms;
  /** Where it would be a second copy of a model that is loaded already. */
  readonly #copyTerms: Terms;
  readonly #step: number;
  readonly #memo: Memo | undefined;
  readonly #hasRules: boolean;
  readonly #judged = new Map<Entry, Offer>();
  /** Models that may be meant, and what became of them. */
  readonly #seen: Offer[] = [];
  #able: readonly Offer[] | null = null;

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
    this.key = meantBy(request, context.aliases, nodes);
    this.#states = context.states ?? statesOf(nodes);
    this.#copies = copiesOf(this.#states);
    this.#memo = context.memo;
    this.#hasRules =
      request.exclude !== undefined ||
      request.nodes !== undefined ||
      request.selector !== undefined ||
      (context.policies ?? []).length > 0;
    this.#terms = {
      ...{ now, residency_ms: context.residency_ms ?? 0 },
      ...{ spare_used_ms: 0, spare_last_ms: 0, doubled: this.#copies.doubled },
    };
    this.#copyTerms = {
      ...this.#terms,
      spare_used_ms: context.replica_idle_ms ?? REPLICA_IDLE_MS,
      spare_last_ms: context.last_copy_idle_ms ?? REPLICA_IDLE_MS * LAST_COPY_FACTOR,
    };
    this.#step = Math.floor(now / RECENCY_STEP_MS);
    this.#policies = new Map(
      (context.policies ?? []).map(policy => [canonicalModelName(policy.model), policy]),
    );
  }

  /** What could take the request now or later, in no order. */
  able(): readonly Offer[] {
    this.#able ??= this.#choose().filter(offer => offer.when !== 'never');
    return this.#able;
  }

  /** The best first. */
  ranked(): readonly Offer[] {
    return this.able()
      .map(offer => ({ offer, rank: this.#rankMs(offer) }))
      .sort((left, right) => left.rank - right.rank || compareOffers(left.offer, right.offer))
      .map(({ offer }) => offer);
  }

  /** All that was looked at, in no order. */
  seen(): readonly Offer[] {
    this.able();
    return this.#seen;
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
    // What is away comes back: it is waited for (P4).
    const known = [...local, ...remote].filter(offer => offer.verdict !== 'excluded');
    if (known.length > 0) return known;
    return this.request.needs_model === true ? [] : this.#ofEngines('scaffold');
  }

  /** Whoever has the model, however it stands there. */
  #named(key: string): readonly Offer[] {
    const { remote } = this.request;
    const offers: Offer[] = [];
    const memo = this.key === null ? undefined : this.#freshMemo(key);
    for (const [place, state] of this.#states.entries()) {
      const known = memo?.offers[place];
      if (known !== undefined && this.#stillHolds(known, state)) {
        offers.push(known);
        this.#seen.push(known);
        continue;
      }
      const entries = state.entries.get(key) ?? [];
      for (const entry of entries) {
        if (!isCapable(this.request, entry.model)) continue;
        if (remote === 'deny' && isOutside(entry.engine.name)) continue;
        const offer = this.#judge(state, entry);
        offers.push(offer);
        if (memo !== undefined && entries.length === 1) memo.offers[place] = offer;
      }
    }
    return offers;
  }

  /** Without what time, or a copy elsewhere, may have changed. */
  #freshMemo(key: string): Memo | undefined {
    const memo = this.#memo;
    if (memo === undefined || this.#hasRules) return undefined;
    const isCopied = this.#isCopied(key);
    const { doubled } = this.#terms;
    if (memo.isCopied !== isCopied) memo.offers.length = 0;
    else if (memo.step !== this.#step || memo.doubled !== doubled) {
      for (const [place, offer] of memo.offers.entries()) {
        if (offer?.timed === true) memo.offers[place] = undefined;
      }
    }
    memo.step = this.#step;
    memo.isCopied = isCopied;
    memo.doubled = doubled;
    return memo;
  }

  #stillHolds(offer: Offer, state: NodeState): boolean {
    return (
      offer.state === state &&
      (!offer.timed || !state.timed) &&
      offer.verdict !== 'not_ready' &&
      offer.verdict !== 'refused' &&
      this.request.refused[state.node] === undefined &&
      this.absence(state) === null
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
    const { good, any, waits } = this.#largestOf();
    const key = (good ?? any ?? waits)?.key;
    if (key !== undefined) return this.#named(key).filter(offer => offer.engine === 'ollama');
    return this.#states.flatMap(state => {
      const entry = state.bySize.findLast(({ model }) => isCapable(this.request, model));
      return entry === undefined ? [] : [this.#judge(state, entry)];
    });
  }

  /**
   * From the largest model of all nodes down to the first that some node takes on its cards. The
   * first that is taken otherwise, or later, counts where there is none.
   */
  #largestOf(): Found {
    const found: Found = { good: null, any: null, waits: null };
    const walks = this.#states.map(state => ({ state, next: this.#firstOf(state) }));
    for (;;) {
      let largest: (typeof walks)[number] | null = null;
      let entry: Entry | undefined;
      for (const walk of walks) {
        const candidate = walk.state.bySize[walk.next];
        if (candidate === undefined || (entry !== undefined && !isLarger(candidate, entry)))
          continue;
        largest = walk;
        entry = candidate;
      }
      if (largest === null || entry === undefined) return found;
      const offer = this.#judge(largest.state, entry);
      if (offer.when === 'waits') found.waits ??= offer;
      if (takes(offer)) found.any ??= offer;
      if (takes(offer) && offer.verdict !== 'partial' && offer.verdict !== 'cpu') {
        found.good = offer;
        return found;
      }
      largest.next = this.#isHopeless(largest.state, offer)
        ? largest.state.bySize.length
        : this.#nextOf(largest.state, largest.next + 1);
    }
  }

  /** The same for every request of one kind: remembered with the state. */
  #firstOf(state: NodeState): number {
    const { capability, context_tokens } = this.request;
    const kind = `${context_tokens} ${capability}`;
    const known = firsts.get(state) ?? new Map<string, number>();
    firsts.set(state, known);
    const first = known.get(kind) ?? this.#nextOf(state, 0);
    if (known.size >= FIRSTS_MAX) known.clear();
    known.set(kind, first);
    return first;
  }

  /** The next model of the node that is not certain to be too large. */
  #nextOf(state: NodeState, from: number): number {
    const { bySize, bound_bytes, room } = state;
    for (let next = from; next < bySize.length; next += 1) {
      const entry = bySize[next];
      if (entry === undefined) break;
      if (!isCapable(this.request, entry.model)) continue;
      const isTooLarge = bound_bytes !== null && this.#leastOf(state, entry) > bound_bytes;
      if (!isTooLarge || room.residents.some(({ key }) => key === entry.key)) return next;
    }
    return bySize.length;
  }

  /** Loading it takes at least so much; a part may lie in main memory where that is allowed. */
  #leastOf(state: NodeState, entry: Entry): number {
    if (entry.least_bytes > (state.bound_bytes ?? 0)) return entry.least_bytes;
    const { need, residual } = takenBy(state, entry, this.request.context_tokens);
    return withReserve(need.total_bytes + residual, need.kept_free_bytes);
  }

  /** Smaller models fare no better there. */
  #isHopeless(state: NodeState, offer: Offer): boolean {
    if (!isAvailable(offer) || offer.verdict === 'refused') return offer.verdict !== 'excluded';
    if (offer.when === 'waits') return offer.verdict === 'busy' && offer.effort !== 0;
    return takes(offer) && state.room.residents.length === 0 && offer.verdict === 'cpu';
  }

  #judge(state: NodeState, entry: Entry): Offer {
    // Where a model is named, each of its entries is asked for once.
    const known = this.key === null ? this.#judged.get(entry) : undefined;
    if (known !== undefined) return known;
    const offer = this.#judgeAnew(state, entry);
    if (this.key === null) this.#judged.set(entry, offer);
    this.#seen.push(offer);
    return offer;
  }

  #judgeAnew(state: NodeState, entry: Entry): Offer {
    const { engine, key } = entry;
    const absent =
      this.absence(state) ??
      (engine.available ? null : (engine.reason ?? `${engine.name} does not answer`));
    if (absent !== null) return offerOf(state, entry, never('not_ready', absent));
    if (this.#hasRules) {
      const excluded = exclusionOf(this.request, state.view, this.#policies.get(key));
      if (excluded !== null) return offerOf(state, entry, never('excluded', excluded));
    }
    const refusal = this.request.refused[state.node];
    if (refusal !== undefined) return offerOf(state, entry, never('refused', refusal));
    return this.#judgement(state, entry);
  }

  #judgement(state: NodeState, entry: Entry): Offer {
    const terms = this.#isCopied(entry.key) ? this.#copyTerms : this.#terms;
    return judge(this.request, state, entry, terms);
  }

  /** Whether some node has it loaded, or is loading it: another copy would be a second one. */
  #isCopied(key: string): boolean {
    return this.#copies.held.has(key);
  }

  #rankMs(offer: Offer): number {
    return rankMs(offer, this.request, 0, this.#context.waited_ms ?? 0);
  }
}

const never = (verdict: Verdict, refusal: string) => ({ verdict, refusal, when: 'never' }) as const;

interface Found {
  good: Offer | null;
  any: Offer | null;
  waits: Offer | null;
}

const isLarger = (left: Entry, right: Entry): boolean =>
  left.model.size_bytes > right.model.size_bytes ||
  (left.model.size_bytes === right.model.size_bytes && left.key < right.key);

/** In the order of their names, whatever order they come in (P2). */
export const statesOf = (nodes: readonly NodeView[]): readonly NodeState[] => {
  const sorted = [...nodes].sort((left, right) => compareText(left.node, right.node));
  const house = houseLoads(sorted);
  return sorted.map(view => nodeStateOf(view, house));
};

export const isOutside = (engine: EngineName): boolean =>
  engine === 'anthropic' || engine === 'openai';
const isAvailable = (offer: Offer): boolean =>
  offer.verdict !== 'not_ready' && offer.verdict !== 'excluded';

/** Of the largest model among them, by name where two are equal; null where there is none. */
function largest(offers: readonly Offer[]): readonly Offer[] | null {
  const [best] = [...offers].sort(
    (left, right) => right.size_bytes - left.size_bytes || compareText(left.key, right.key),
  );
  return best === undefined ? null : offers.filter(offer => offer.key === best.key);
}
