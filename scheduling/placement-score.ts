/**
 * How long a request would take on a node: wait, load, reading the prompt, writing the answer; and
 * what the models that go for it are worth. Measured figures where there are any, else predicted
 * from memory bandwidth, which is what writing tokens is bound by.
 *
 * T1: every term is finite and at least 0, whatever an advert says.
 */
import type { ModelAdvert } from '../protocol/node.ts';
import type { Room } from './fit.ts';
import { loadMsOf } from './node-resident.ts';
import type { PlacementRequest } from './placement.ts';

export interface Score {
  readonly wait_ms: number;
  readonly load_ms: number;
  readonly prefill_ms: number;
  readonly decode_ms: number;
  readonly evict_ms: number;
  readonly total_ms: number;
}

/** Until the memory of an unloaded model is measurably back. */
export const UNLOAD_MS = 1_000;
/** A card that nobody knows: a middling one of the last years. */
const CARD_BANDWIDTH_BYTES_PER_S = 300e9;
const HOST_BANDWIDTH_BYTES_PER_S = 50e9;
/** Of the data sheet's bandwidth, what engines reach. */
const BANDWIDTH_EFFICIENCY = 0.65;
/** Reading works on many tokens at once: so many times faster than writing. */
const PREFILL_FACTOR = { card: 30, host: 6 } as const;
const PROMPT_TOKENS = 1_000;
const OUTPUT_TOKENS = 400;
const RATE_MIN = 0.01;

/** Time to read and write, without waiting and loading. */
export function serviceOf(
  request: PlacementRequest,
  model: ModelAdvert,
  place: {
    readonly room: Room;
    readonly cards: readonly { readonly index: number }[];
    readonly slowdown: number;
  },
): { readonly prefill_ms: number; readonly decode_ms: number } {
  const onCard = place.cards.length > 0;
  const predicted =
    (BANDWIDTH_EFFICIENCY * bandwidthOf(place.room, place.cards)) / Math.max(1, model.size_bytes);
  const write = model.output_tokens_per_s ?? predicted;
  const factor = onCard ? PREFILL_FACTOR.card : PREFILL_FACTOR.host;
  const read = model.prompt_tokens_per_s ?? predicted * factor;
  const prompt = request.prompt_tokens ?? PROMPT_TOKENS;
  const output = request.capability === 'embedding' ? 0 : (request.output_tokens ?? OUTPUT_TOKENS);
  return {
    prefill_ms: (prompt / Math.max(RATE_MIN, read)) * 1_000 * place.slowdown,
    decode_ms: (output / Math.max(RATE_MIN, write)) * 1_000 * place.slowdown,
  };
}

/** Over several cards a token passes them one after another: the slowest is counted. */
function bandwidthOf(room: Room, cards: readonly { readonly index: number }[]): number {
  if (cards.length === 0) return HOST_BANDWIDTH_BYTES_PER_S;
  let least = Number.POSITIVE_INFINITY;
  for (const { index } of cards) {
    const card = room.cards.find(candidate => candidate.index === index);
    const bandwidth = card?.bandwidth_bytes_per_s ?? CARD_BANDWIDTH_BYTES_PER_S;
    least = Math.min(least, bandwidth > 0 ? bandwidth : CARD_BANDWIDTH_BYTES_PER_S);
  }
  return least;
}

/** Unloading the victims and loading the model, behind `queued_ms` of other loads on the node. */
export function loadingMs(model: ModelAdvert, victims: number, queued_ms: number): number {
  return queued_ms + loadMsOf(model) + (victims > 0 ? UNLOAD_MS : 0);
}

export function scoreOf(terms: Omit<Score, 'total_ms'>): Score {
  const { wait_ms, load_ms, prefill_ms, decode_ms, evict_ms } = terms;
  const total_ms = wait_ms + load_ms + prefill_ms + decode_ms + evict_ms;
  return { wait_ms, load_ms, prefill_ms, decode_ms, evict_ms, total_ms };
}
