/**
 * Where a model finds room on one host: on one card, over several, partly in main memory, wholly
 * there, or nowhere.
 *
 * F1: no card and no main memory is given more than it has free, reserve included.
 * F2: more free memory never makes a fit worse, and a larger context never makes it better.
 * F3: unknown memory is neither zero nor enough: where it alone could help, the answer is `unknown`.
 * F4: the card is the one the engine takes by itself: discrete before integrated, then the one with
 *     most free, then the first. What is booked is then where the bytes will be.
 * F5: every card that holds a part pays its own compute buffer and overhead.
 */
import type { ModelProfile } from '../protocol/model-profile.ts';
import {
  blockBytes,
  type MemoryNeed,
  type MemoryOptions,
  memoryNeed,
  reserveOf,
} from './memory.ts';

export interface CardRoom {
  readonly index: number;
  readonly total_bytes: number | null;
  readonly free_bytes: number | null;
  readonly bandwidth_bytes_per_s: number | null;
  readonly integrated: boolean;
}

export interface Room {
  readonly cards: readonly CardRoom[];
  readonly ram_free_bytes: number | null;
  /** Cards and processor share one memory. */
  readonly unified: boolean;
}

export interface FitOptions {
  /** Whether a part may lie in main memory beside a card. */
  readonly offload: boolean;
}

export type FitKind = 'single' | 'multi' | 'partial' | 'cpu' | 'none' | 'unknown';

export interface Fit {
  readonly kind: FitKind;
  readonly cards: readonly { readonly index: number; readonly bytes: number }[];
  readonly ram_bytes: number;
  /** Times slower than wholly on the cards of this host; 1 where it has none. */
  readonly slowdown: number;
  /** As if on one card, or in main memory where the host has no card. */
  readonly need: MemoryNeed;
  /** What is missing for the cheapest way to fit; 0 where it fits or nobody knows. */
  readonly short_bytes: number;
}

/** Contexts are taken in these sizes, so that requests share one loaded copy of a model. */
export const CONTEXT_TIERS: readonly number[] = [
  4_096, 8_192, 16_384, 32_768, 65_536, 131_072, 262_144,
];

/** Main memory, where nobody has measured it: two channels of DDR5. */
const HOST_BANDWIDTH_BYTES_PER_S = 64e9;
/** Card over main memory where the card is unknown; measured 4 (RTX 3050) to 12 (RTX 4090). */
const BANDWIDTH_RATIO = 8;
const CONTEXT_STEP = 256;
/** Searched up to here where the model does not say what it was made for. */
const CONTEXT_TOKENS_MAX = 1_048_576;

interface KnownCard extends CardRoom {
  readonly free_bytes: number;
}

export function fit(
  profile: ModelProfile,
  options: MemoryOptions,
  room: Room,
  { offload }: FitOptions,
): Fit {
  if (room.cards.length === 0) return fitHost(profile, options, room.ram_free_bytes, 1);
  const need = memoryNeed(profile, options);
  const cards = inOrder(room.cards.filter(isKnown));
  const host = room.unified ? need.total_bytes + need.host_bytes : need.host_bytes;
  const holdsHost = room.ram_free_bytes === null || host <= room.ram_free_bytes;
  const single = cards.find(card => need.total_bytes + need.reserve_bytes <= card.free_bytes);
  if (single !== undefined && holdsHost) {
    const taken = [{ index: single.index, bytes: need.total_bytes }];
    return {
      kind: 'single',
      cards: taken,
      ram_bytes: need.host_bytes,
      slowdown: 1,
      need,
      short_bytes: 0,
    };
  }
  const spread = holdsHost ? spreadOver(profile, need, cards) : null;
  if (spread !== null) return spread;
  if (offload && !room.unified) {
    const spilled = spill(profile, need, cards, room.ram_free_bytes);
    if (spilled !== null) return spilled;
    const ratio = Math.max(1, ...cards.map(ratioOf));
    const onHost = fitHost(profile, options, room.ram_free_bytes, ratio);
    if (onHost.kind === 'cpu') return onHost;
  }
  if (cards.length < room.cards.length || (offload && room.ram_free_bytes === null)) {
    return { kind: 'unknown', cards: [], ram_bytes: 0, slowdown: 1, need, short_bytes: 0 };
  }
  return {
    kind: 'none',
    cards: [],
    ram_bytes: 0,
    slowdown: 1,
    need,
    short_bytes: shortage(need, cards, room, host),
  };
}

function isKnown(card: CardRoom): card is KnownCard {
  return card.free_bytes !== null;
}

/** F4. */
function inOrder(cards: readonly KnownCard[]): readonly KnownCard[] {
  return [...cards].sort(
    (left, right) =>
      Number(left.integrated) - Number(right.integrated) ||
      right.free_bytes - left.free_bytes ||
      left.index - right.index,
  );
}

function ratioOf(card: CardRoom): number {
  if (card.bandwidth_bytes_per_s === null) return BANDWIDTH_RATIO;
  return Math.max(1, card.bandwidth_bytes_per_s / HOST_BANDWIDTH_BYTES_PER_S);
}

function shortage(need: MemoryNeed, cards: readonly KnownCard[], room: Room, host: number): number {
  const free = Math.max(0, ...cards.map(card => card.free_bytes));
  const onCard = need.total_bytes + need.reserve_bytes - free;
  const onHost = room.ram_free_bytes === null ? 0 : host - room.ram_free_bytes;
  return Math.max(1, onCard, onHost);
}

/** Wholly in main memory. */
function fitHost(
  profile: ModelProfile,
  options: MemoryOptions,
  freeBytes: number | null,
  slowdown: number,
): Fit {
  const need = memoryNeed(profile, { ...options, backend: 'cpu' });
  const wanted = need.total_bytes + need.reserve_bytes;
  const none = { cards: [], slowdown: 1, need, ram_bytes: 0, short_bytes: 0 };
  if (freeBytes === null) return { ...none, kind: 'unknown' };
  if (wanted > freeBytes) return { ...none, kind: 'none', short_bytes: wanted - freeBytes };
  return { ...none, kind: 'cpu', ram_bytes: need.total_bytes, slowdown };
}

/** A repeating block and its share of the cache; the output matrix comes after the last. */
interface Layers {
  readonly bytes: readonly number[];
  /** Beside the layers, on every card that holds any. */
  readonly fixed: number;
}

function layersOf(profile: ModelProfile, need: MemoryNeed): Layers {
  const count = Math.max(
    1,
    profile.blocks.reduce((sum, run) => sum + run.count, 0),
  );
  const cache = Math.ceil(need.kv_bytes / count);
  const blocks = profile.blocks.flatMap(run => Array<number>(run.count).fill(run.bytes + cache));
  return {
    bytes: [...blocks, need.weights_bytes - blockBytes(profile) + need.projector_bytes],
    fixed: need.compute_bytes + need.overhead_bytes,
  };
}

const withReserve = (bytes: number): number => bytes + reserveOf(bytes);

/** All cards of one kind, layers in proportion to what each has free, as engines split them. */
function spreadOver(
  profile: ModelProfile,
  need: MemoryNeed,
  cards: readonly KnownCard[],
): Fit | null {
  const { bytes, fixed } = layersOf(profile, need);
  for (const kind of [false, true]) {
    const usable = cards
      .filter(card => card.integrated === kind && card.free_bytes > withReserve(fixed))
      .sort((left, right) => left.index - right.index);
    if (usable.length < 2) continue;
    const taken = proportional(bytes, fixed, usable) ?? filled(bytes, fixed, usable);
    if (taken === null) continue;
    return {
      kind: 'multi',
      cards: taken,
      ram_bytes: need.host_bytes,
      slowdown: 1,
      need,
      short_bytes: 0,
    };
  }
  return null;
}

type Taken = { readonly index: number; readonly bytes: number };

function proportional(
  layers: readonly number[],
  fixed: number,
  cards: readonly KnownCard[],
): Taken[] | null {
  const free = cards.reduce((sum, card) => sum + card.free_bytes, 0);
  let before = 0;
  let start = 0;
  const taken: Taken[] = [];
  for (const card of cards) {
    before += card.free_bytes;
    const end = card === cards.at(-1) ? layers.length : Math.round((layers.length * before) / free);
    const part = layers.slice(start, end).reduce((sum, bytes) => sum + bytes, 0);
    start = end;
    if (part === 0) continue;
    if (withReserve(part + fixed) > card.free_bytes) return null;
    taken.push({ index: card.index, bytes: part + fixed });
  }
  return taken;
}

/** Each card as full as it gets, in their order. */
function filled(
  layers: readonly number[],
  fixed: number,
  cards: readonly KnownCard[],
): Taken[] | null {
  let next = 0;
  const taken: Taken[] = [];
  for (const card of cards) {
    let bytes = fixed;
    const start = next;
    while (next < layers.length && withReserve(bytes + (layers[next] ?? 0)) <= card.free_bytes) {
      bytes += layers[next] ?? 0;
      next += 1;
    }
    if (next > start) taken.push({ index: card.index, bytes });
  }
  return next === layers.length ? taken : null;
}

/** As many of the last layers as the cards hold; the first ones stay in main memory. */
function spill(
  profile: ModelProfile,
  need: MemoryNeed,
  cards: readonly KnownCard[],
  ramFreeBytes: number | null,
): Fit | null {
  if (ramFreeBytes === null) return null;
  const { bytes, fixed } = layersOf(profile, need);
  const usable = cards.filter(card => !card.integrated && card.free_bytes > withReserve(fixed));
  const used =
    usable.length > 0 ? usable : cards.filter(card => card.free_bytes > withReserve(fixed));
  let next = bytes.length;
  const taken: Taken[] = [];
  for (const card of used) {
    let held = fixed;
    const start = next;
    while (next > 0 && withReserve(held + (bytes[next - 1] ?? 0)) <= card.free_bytes) {
      next -= 1;
      held += bytes[next] ?? 0;
    }
    if (next < start) taken.push({ index: card.index, bytes: held });
  }
  if (taken.length === 0 || next === 0) return null;
  const left = bytes.slice(0, next).reduce((sum, part) => sum + part, 0);
  const ram = left + need.host_bytes + need.compute_bytes;
  if (withReserve(ram) > ramFreeBytes) return null;
  const all = bytes.reduce((sum, part) => sum + part, 0);
  const fraction = left / all;
  const ratio = Math.max(...used.map(ratioOf));
  const slowdown = fraction * ratio + 1 - fraction;
  return { kind: 'partial', cards: taken, ram_bytes: ram, slowdown, need, short_bytes: 0 };
}

/** Whether it runs as it should: on cards, or in main memory where the host has no card. */
function fits(found: Fit, room: Room, { offload }: FitOptions): boolean {
  if (found.kind === 'single' || found.kind === 'multi') return true;
  if (found.kind === 'cpu') return offload || room.cards.length === 0;
  return offload && found.kind === 'partial';
}

/**
 * The largest context that fits, or null where not even the smallest does.
 * @param steps `tiers`: one of CONTEXT_TIERS, or the model's own maximum; else a multiple in tokens
 */
export function largestContext(
  profile: ModelProfile,
  options: Omit<MemoryOptions, 'context_tokens'>,
  room: Room,
  fitOptions: FitOptions,
  steps: 'tiers' | number = CONTEXT_STEP,
): number | null {
  const max = profile.context_max > 0 ? profile.context_max : CONTEXT_TOKENS_MAX;
  const holds = (context_tokens: number): boolean =>
    fits(fit(profile, { ...options, context_tokens }, room, fitOptions), room, fitOptions);
  if (steps === 'tiers') {
    const tiers = [...CONTEXT_TIERS.filter(tier => tier < max), tierOf(max, profile)];
    return tiers.findLast(holds) ?? null;
  }
  if (holds(max)) return max;
  let low = 0;
  let high = Math.ceil(max / steps);
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (holds(middle * steps)) low = middle;
    else high = middle;
  }
  return low === 0 ? null : low * steps;
}

/** The smallest tier that holds so many tokens, within what the model was made for. */
export function tierOf(tokens: number, profile: Pick<ModelProfile, 'context_max'>): number {
  const largest = CONTEXT_TIERS.at(-1) ?? CONTEXT_STEP;
  const tier = CONTEXT_TIERS.find(size => size >= tokens) ?? Math.ceil(tokens / largest) * largest;
  return profile.context_max > 0 ? Math.min(tier, profile.context_max) : tier;
}
