/**
 * Loading a model on a node: on which cards, in place of which others, with which context.
 *
 * L1: what is made has room by `fit()` once its victims are gone; the quick answer `#isEnough` is
 *     the same as that of `fit()`.
 * L2: nothing in use, wanted or kept is a victim; where only those are in the way, the offer waits.
 */
import { chooseVictims, type EvictionOptions, RECENCY_STEP_MS } from './eviction.ts';
import { type Fit, type FitOptions, fit, largestContext, type Room, tierOf } from './fit.ts';
import { withReserve } from './fit-layers.ts';
import { canonicalModelName } from './model-names.ts';
import { memoryOptionsOf, profileOf } from './node-need.ts';
import { bytesOf, bytesOnCard, type Resident } from './node-resident.ts';
import type { PlacementRequest } from './placement.ts';
import { type Taken, takenBy } from './placement-need.ts';
import type { Entry, NodeState } from './placement-node.ts';
import {
  isFull,
  type Offer,
  OLLAMA_ONLY,
  offerOf,
  slotsTaken,
  type Terms,
  type Verdict,
} from './placement-offer.ts';
import { loadingMs, scoreOf, serviceOf } from './placement-score.ts';

/** Of what stays free beside a model, the part that a larger context than needed may take. */
const SPARE_FRACTION = 0.5;

const aloneWith = ({ residual }: Taken): FitOptions => ({
  offload: false,
  residual_bytes: residual,
});

/** Loading the model: where, in place of what, with which context. */
export class Loading {
  readonly #request: PlacementRequest;
  readonly #state: NodeState;
  readonly #entry: Entry;
  readonly #eviction: EvictionOptions;
  /** A copy of the model that has too small a context; it goes in any case. */
  readonly #old: Resident | null;

  constructor(
    request: PlacementRequest,
    state: NodeState,
    entry: Entry,
    terms: Terms,
    old: Resident | null,
  ) {
    this.#request = request;
    this.#state = state;
    this.#entry = entry;
    this.#old = old;
    const { demanded } = state;
    const { doubled, spare_last_ms, spare_used_ms } = terms;
    const step = Math.floor(terms.now / RECENCY_STEP_MS) * RECENCY_STEP_MS;
    const prefers = (request.prefers ?? []).map(canonicalModelName);
    this.#eviction = {
      now: terms.now,
      residency_ms: terms.residency_ms,
      spared: ({ key, used_at }) =>
        key === entry.key ||
        demanded.has(key) ||
        (used_at !== null &&
          Math.max(0, step - used_at) < (doubled.has(key) ? spare_used_ms : spare_last_ms)),
      wanted: ({ key }) => prefers.includes(key),
      doubled,
    };
  }

  offer(): Offer {
    const old = this.#old;
    if (old !== null && (old.state !== 'loaded' || old.in_flight > 0 || old.leased || old.kept)) {
      return this.#blocked('its copy has a smaller context and is in use', [old]);
    }
    const gone = old === null ? [] : [old];
    if (this.#makesRoom(gone)) {
      return this.#made(this.#whole(gone), gone, 0, false);
    }
    const { residents } = this.#state.room;
    const more = chooseVictims(
      residents,
      victims => this.#makesRoom(gone, victims),
      this.#eviction,
    );
    if (more !== null) {
      const victims = [...gone, ...more.victims];
      return this.#made(this.#whole(victims), victims, more.cost_ms, true);
    }
    if (this.#state.view.runtime?.advert.offload === true) {
      const spilled = this.#fit(gone, true);
      if (spilled.kind === 'partial' || spilled.kind === 'cpu') {
        return this.#made(spilled, gone, 0, true);
      }
    }
    return this.#refused(gone);
  }

  #makesRoom(gone: readonly Resident[], victims: readonly Resident[] = []): boolean {
    const all = gone.length === 0 ? victims : [...gone, ...victims];
    return this.#needsPlace(all) === 0 && this.#isEnough(all);
  }

  /** How many models have to go because the engine holds no more at once. */
  #needsPlace(gone: readonly Resident[]): number {
    const max = this.#entry.engine.environment?.max_loaded_models ?? 0;
    if (max === 0) return 0;
    const held = this.#state.room.residents.filter(
      resident => resident.engine === OLLAMA_ONLY && !gone.includes(resident),
    );
    return Math.max(0, held.length + 1 - max);
  }

  /** `#isGood(#fit(gone))`, in the common cases without the work of it. */
  #isEnough(gone: readonly Resident[]): boolean {
    const { room } = this.#state.room;
    const wanted = this.#needed();
    if (room.unified) return this.#isGood(this.#fit(gone, false));
    let ram = room.ram_free_bytes;
    for (const resident of gone) {
      if (ram !== null) ram += room.cards.length > 0 ? resident.ram_bytes : bytesOf(resident);
    }
    if (room.cards.length === 0) return ram !== null && wanted <= ram;
    if (ram !== null && this.#asked().need.host_bytes > ram) return false;
    for (const card of room.cards) {
      if (card.free_bytes === null) continue;
      let free = card.free_bytes;
      for (const resident of gone) free += bytesOnCard(resident, card.index);
      if (wanted <= free) return true;
    }
    return room.cards.length > 1 && this.#isGood(this.#fit(gone, false));
  }

  /** Of the context asked for. */
  #asked(): Taken {
    return takenBy(this.#state, this.#entry, this.#request.context_tokens);
  }

  /** Of one card, or of main memory where there is no card; reserve and residual included. */
  #needed(): number {
    const { need, residual } = this.#asked();
    return withReserve(Math.max(0, need.total_bytes + residual), need.kept_free_bytes);
  }

  #isGood({ kind }: Fit): boolean {
    return kind === 'single' || kind === 'multi' || kind === 'cpu';
  }

  #fit(gone: readonly Resident[], offload: boolean): Fit {
    const { context_tokens } = this.#request;
    const options = memoryOptionsOf(this.#state, this.#entry, context_tokens);
    const fitOptions = { offload, residual_bytes: this.#asked().residual };
    return fit(profileOf(this.#entry.model), options, this.#state.room.without(gone), fitOptions);
  }

  /** @param timed whether it depends on how long models have been idle */
  #made(found: Fit, gone: readonly Resident[], evict_ms: number, timed: boolean): Offer {
    const { context, found: taken } = this.#largest(found, gone);
    const evicts = gone.some(resident => resident !== this.#old);
    const verdict: Verdict =
      taken.kind === 'partial'
        ? 'partial'
        : evicts
          ? 'evicts'
          : taken.kind === 'cpu'
            ? 'cpu'
            : 'fits';
    const effort = { fits: 1, evicts: 2, partial: 3, cpu: 4 }[verdict];
    const isBusy = isFull(this.#request, this.#state);
    const service = this.#service(taken);
    const outcome = isBusy
      ? slotsTaken(this.#state)
      : ({ verdict, refusal: null, when: 'takes' } as const);
    return offerOf(this.#state, this.#entry, outcome, {
      effort,
      timed,
      context_tokens: context,
      fit: taken,
      need_bytes: bytesOfFit(taken),
      gpus: taken.cards.map(({ index }) => index),
      evict: gone,
      score: scoreOf({
        ...service,
        wait_ms: isBusy ? (service.prefill_ms + service.decode_ms) / 2 : 0,
        load_ms: loadingMs(this.#entry.model, gone.length, this.#queuedLoadsMs()),
        evict_ms,
      }),
    });
  }

  /** Where the request allows it, the largest tier that costs nobody anything. */
  #largest(found: Fit, gone: readonly Resident[]): { context: number; found: Fit } {
    const profile = profileOf(this.#entry.model);
    const asked = tierOf(this.#request.context_tokens, profile);
    const most = this.#request.context_max ?? 0;
    if (most <= asked || (found.kind !== 'single' && found.kind !== 'cpu')) {
      return { context: asked, found };
    }
    const room = this.#state.room.without(gone);
    const index = found.cards[0]?.index;
    const spare = (bytes: number | null): number | null =>
      bytes === null ? null : bytes - Math.max(0, bytes - bytesOfFit(found)) * (1 - SPARE_FRACTION);
    const half: Room = {
      unified: room.unified,
      cards: room.cards
        .filter(card => card.index === index)
        .map(card => ({ ...card, free_bytes: spare(card.free_bytes) })),
      ram_free_bytes: room.cards.length > 0 ? room.ram_free_bytes : spare(room.ram_free_bytes),
    };
    const { context_tokens: _, ...options } = memoryOptionsOf(this.#state, this.#entry, asked);
    const largest = largestContext(profile, options, half, aloneWith(this.#asked()), 'tiers');
    const context = Math.min(largest ?? asked, tierOf(most, profile));
    if (context <= asked) return { context: asked, found };
    const alone = aloneWith(takenBy(this.#state, this.#entry, context));
    const larger = fit(profile, { ...options, context_tokens: context }, half, alone);
    return this.#isGood(larger) ? { context, found: larger } : { context: asked, found };
  }

  /** Loads of one node share its disk: this one comes after those on their way. */
  #queuedLoadsMs(): number {
    return this.#state.room.residents
      .filter(resident => resident.state === 'loading')
      .reduce((sum, resident) => sum + resident.reload_ms / 2, 0);
  }

  #service(found: Fit): { readonly prefill_ms: number; readonly decode_ms: number } {
    const room = this.#state.room.room;
    const { cards, slowdown } = found;
    return serviceOf(this.#request, this.#entry.model, { room, cards, slowdown });
  }

  /** O3: it would fit without those at work, or it never will. */
  #refused(gone: readonly Resident[]): Offer {
    const found = this.#shortage(gone);
    if (found.kind === 'unknown') {
      return this.#not('unknown_memory', found, [], 'never', null);
    }
    const others = this.#state.room.residents.filter(resident => resident !== this.#old);
    if (!this.#isEnough([...gone, ...others])) {
      return this.#not('does_not_fit', found, [], 'never', null);
    }
    const later = chooseVictims(others, victims => this.#makesRoom(gone, victims), {
      now: this.#eviction.now,
      busy: true,
    });
    if (later !== null) return this.#not('does_not_fit', found, later.victims, 'waits', null);
    return this.#not('does_not_fit', found, others, 'never', null);
  }

  /** `#fit(gone)` where it is known to fit: on the only card, if there is but one. */
  #whole(gone: readonly Resident[]): Fit {
    const { cards, unified } = this.#state.room.room;
    const [card] = cards;
    if (card === undefined || cards.length > 1 || unified) return this.#fit(gone, false);
    const { need, residual } = this.#asked();
    return {
      ...{ kind: 'single', ram_bytes: need.host_bytes, slowdown: 1, need, short_bytes: 0 },
      cards: [{ index: card.index, bytes: Math.max(0, need.total_bytes + residual) }],
    };
  }

  /** `#fit(gone)` where it is known not to fit: on one card that is a subtraction. */
  #shortage(gone: readonly Resident[]): Fit {
    const [card, ...rest] = this.#state.room.room.cards;
    const free = card?.free_bytes ?? null;
    const wanted = this.#needed();
    const { need } = this.#asked();
    const isPlain = rest.length === 0 && free !== null && !this.#state.room.room.unified;
    if (!isPlain || wanted <= free) return this.#fit(gone, false);
    return {
      ...{ kind: 'none', cards: [], ram_bytes: 0, slowdown: 1, need },
      short_bytes: Math.max(1, wanted - free),
    };
  }

  #blocked(refusal: string, blockers: readonly Resident[]): Offer {
    const found = this.#fit(blockers, false);
    return this.#not('busy', found, blockers, this.#isGood(found) ? 'waits' : 'never', refusal);
  }

  #not(
    verdict: Verdict,
    found: Fit,
    blockers: readonly Resident[],
    when: 'waits' | 'never',
    refusal: string | null,
  ): Offer {
    const service = this.#service(found);
    const workMs = service.prefill_ms + service.decode_ms;
    return offerOf(
      this.#state,
      this.#entry,
      { verdict, refusal, when },
      {
        timed: true,
        context_tokens: tierOf(this.#request.context_tokens, profileOf(this.#entry.model)),
        fit: found,
        need_bytes: Math.max(0, found.need.total_bytes + this.#asked().residual),
        blockers,
        score: scoreOf({
          ...service,
          wait_ms: workMs,
          load_ms: loadingMs(this.#entry.model, blockers.length, this.#queuedLoadsMs()),
          evict_ms: 0,
        }),
      },
    );
  }
}

/** On the cards together; in main memory where none is used. */
function bytesOfFit(found: Fit): number {
  if (found.cards.length === 0) return found.ram_bytes;
  return found.cards.reduce((sum, card) => sum + card.bytes, 0);
}
