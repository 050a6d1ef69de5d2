/**
 * Judges one node and model for a request.
 *
 * O1: what an offer takes it has: a loaded copy, or room by `fit()` after its victims are gone.
 * O2: a copy that is loaded, or being loaded, with at least the context asked for is used as it is;
 *     a larger request has it loaded once more, in the larger tier, when nobody is at work on it.
 * O3: where a node cannot take it now but could once others are done, the offer waits.
 */
import { tierOf } from './fit.ts';
import { profileOf } from './node-need.ts';
import { bytesOf, type Resident } from './node-resident.ts';
import type { PlacementRequest } from './placement.ts';
import { Loading } from './placement-loading.ts';
import { takenBy } from './placement-need.ts';
import type { Entry, NodeState } from './placement-node.ts';
import {
  isFull,
  type Offer,
  OLLAMA_ONLY,
  offerOf,
  slotsTaken,
  type Terms,
  ZERO,
} from './placement-offer.ts';
import { scoreOf, serviceOf } from './placement-score.ts';

/** Until an attempt somewhere ends, where nothing is known of them. */
const SLOT_WAIT_MS = 1_000;

export function judge(
  request: PlacementRequest,
  state: NodeState,
  entry: Entry,
  terms: Terms,
): Offer {
  if (entry.engine.name !== OLLAMA_ONLY) return unloadedEngine(request, state, entry);
  const resident = state.room.residents.find(({ key }) => key === entry.key);
  const profile = profileOf(entry.model);
  const wanted = tierOf(request.context_tokens, profile);
  if (resident !== undefined && serves(resident, wanted, state, entry)) {
    return copyOffer(request, state, entry, resident, wanted);
  }
  return new Loading(request, state, entry, terms, resident ?? null).offer();
}

/** O2. A copy of unknown context, on its way, is taken to be what its bytes are enough for. */
function serves(resident: Resident, wanted: number, state: NodeState, entry: Entry): boolean {
  if (resident.state === 'unloading') return false;
  if (resident.context_tokens !== null) return resident.context_tokens >= wanted;
  if (resident.state === 'loaded') return true;
  const { need, residual } = takenBy(state, entry, wanted);
  return bytesOf(resident) >= need.total_bytes + residual;
}

const FITS = { verdict: 'fits', refusal: null, when: 'takes' } as const;
const WAITS = { verdict: 'busy', when: 'waits' } as const;

/** Engines that hold no memory of ours: the scaffold, and models outside the house. */
function unloadedEngine(request: PlacementRequest, state: NodeState, entry: Entry): Offer {
  const isBusy = isFull(request, state);
  const waitMs = isBusy ? SLOT_WAIT_MS : 0;
  return offerOf(state, entry, isBusy ? slotsTaken(state) : FITS, {
    effort: 1,
    context_tokens: request.context_tokens,
    score: scoreOf({ ...ZERO, wait_ms: waitMs }),
  });
}

/** A copy that is there, or nearly. */
function copyOffer(
  request: PlacementRequest,
  state: NodeState,
  entry: Entry,
  resident: Resident,
  wanted: number,
): Offer {
  const room = state.room.room;
  const service = serviceOf(request, entry.model, { room, cards: resident.cards, slowdown: 1 });
  const serviceMs = service.prefill_ms + service.decode_ms;
  const excess = resident.in_flight - resident.slots + 1;
  const closed = state.closed.has(entry.key);
  const isBusy = isFull(request, state) || closed;
  // An attempt shares a copy with others: it only waits longer for its turns.
  const queueMs = excess > 0 ? (excess * serviceMs) / resident.slots : 0;
  const holdsUp = isBusy || (request.kind === 'inference' && excess > 0);
  const waitMs = holdsUp ? Math.max(queueMs, serviceMs / 2) : queueMs;
  const loading = resident.state === 'loading';
  const slots = closed
    ? { ...WAITS, refusal: 'others have waited too long for its memory' }
    : isFull(request, state)
      ? slotsTaken(state)
      : { ...WAITS, refusal: `its ${resident.slots} slots are taken` };
  const verdict = loading ? 'loading' : 'loaded';
  return offerOf(state, entry, holdsUp ? slots : { verdict, refusal: null, when: 'takes' }, {
    effort: 0,
    context_tokens: resident.context_tokens ?? wanted,
    // What loading it again would take, should it be gone by then.
    need_bytes: bytesOf(resident),
    gpus: resident.cards.map(({ index }) => index),
    slots: resident.slots,
    in_flight: resident.in_flight,
    score: scoreOf({
      ...service,
      wait_ms: waitMs,
      load_ms: loading ? resident.reload_ms / 2 : 0,
      evict_ms: 0,
    }),
  });
}
