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
  type Layers,
  layersOf,
  type Share,
  spread,
  stack,
  sum,
  withReserve,
} from './fit-layers.ts';
import { type MemoryNeed, type MemoryOptions, memoryNeed, reserveOf } from './memory.ts';

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
  /** What observed loads of this kind took beside their estimate (`residual.ts`). */
  readonly residual_bytes?: number;
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
  fitOptions: FitOptions,
): Fit {
  const residual = fitOptions.residual_bytes ?? 0;
  if (room.cards.length === 0) return fitHost(profile, options, room, residual);
  const need = memoryNeed(profile, options);
  const cards = inOrder(room.cards.filter(isKnown));
  const total = Math.max(0, need.total_bytes + residual);
  const base: Fit = { kind: 'none', cards: [], ram_bytes: 0, slowdown: 1, need, short_bytes: 0 };
  const hostFree = room.ram_free_bytes;
  const layers = layersOf(profile, need, residual);
  // Cards that share main memory take theirs from it too.
  const holds = (shares: readonly Share[]): boolean =>
    hostFree === null ||
    need.host_bytes + (room.unified ? sum(shares.map(share => share.bytes)) : 0) <= hostFree;
  const onCards = { ...base, ram_bytes: need.host_bytes };
  const one = cards.find(card => withReserve(total, layers.kept_free) <= card.free_bytes);
  if (one !== undefined) {
    const shares = [{ index: one.index, bytes: total }];
    if (holds(shares)) return { ...onCards, kind: 'single', cards: shares };
  } else {
    const shares = spreadOver(layers, cards);
    if (shares !== null && holds(shares)) return { ...onCards, kind: 'multi', cards: shares };
  }
  if (fitOptions.offload) {
    const spilled = room.unified ? null : spill(layers, need, cards, hostFree);
    if (spilled !== null) return { ...base, ...spilled };
    // What loads on cards took less says nothing of main memory.
    const onHost = fitHost(profile, options, room, Math.max(0, residual));
    if (onHost.kind === 'cpu') return onHost;
  }
  if (cards.length < room.cards.length || (fitOptions.offload && hostFree === null)) {
    return { ...base, kind: 'unknown' };
  }
  return { ...base, short_bytes: shortage(base, layers, cards, room, fitOptions) };
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

/** Wholly in main memory. */
function fitHost(profile: ModelProfile, options: MemoryOptions, room: Room, residual: number): Fit {
  const need = memoryNeed(profile, { ...options, backend: 'cpu' });
  const total = Math.max(0, need.total_bytes + residual);
  const wanted = withReserve(total);
  const free = room.ram_free_bytes;
  const none = { cards: [], slowdown: 1, need, ram_bytes: 0, short_bytes: 0 };
  if (free === null) return { ...none, kind: 'unknown' };
  if (wanted > free) return { ...none, kind: 'none', short_bytes: wanted - free };
  const slowdown = Math.max(1, ...room.cards.map(ratioOf));
  return { ...none, kind: 'cpu', ram_bytes: total, slowdown };
}

/** Bandwidth of a card over that of main memory: what a layer there costs. */
function ratioOf(card: CardRoom): number {
  if (card.bandwidth_bytes_per_s === null) return BANDWIDTH_RATIO;
  return Math.max(1, card.bandwidth_bytes_per_s / HOST_BANDWIDTH_BYTES_PER_S);
}

/** Over all cards of one sort, discrete ones first. */
function spreadOver(layers: Layers, cards: readonly KnownCard[]): readonly Share[] | null {
  for (const integrated of [false, true]) {
    const shares = spread(layers, byIndex(cards.filter(card => card.integrated === integrated)));
    if (shares !== null) return shares;
  }
  return null;
}

const byIndex = (cards: readonly KnownCard[]): readonly KnownCard[] =>
  [...cards].sort((left, right) => left.index - right.index);

/** As many layers on the cards as they hold, the others in main memory. */
function spill(
  layers: Layers,
  need: MemoryNeed,
  cards: readonly KnownCard[],
  ramFreeBytes: number | null,
): Pick<Fit, 'kind' | 'cards' | 'ram_bytes' | 'slowdown'> | null {
  if (ramFreeBytes === null) return null;
  const discrete = cards.filter(card => !card.integrated);
  const used = discrete.length > 0 ? discrete : cards;
  const { shares, left } = stack(layers, byIndex(used));
  if (shares.length === 0) return null;
  const spilled = sum(layers.bytes.slice(0, left));
  const ram = spilled + need.host_bytes + (left === 0 ? 0 : need.compute_bytes);
  if (withReserve(ram) > ramFreeBytes) return null;
  const fraction = spilled / sum(layers.bytes);
  const held = used.filter(card => shares.some(share => share.index === card.index));
  const ratio = Math.max(...held.map(ratioOf));
  const slowdown = fraction * ratio + 1 - fraction;
  return { kind: left === 0 ? 'multi' : 'partial', cards: shares, ram_bytes: ram, slowdown };
}

/** What is missing on the way that misses least. */
function shortage(
  { need }: Fit,
  layers: Layers,
  cards: readonly KnownCard[],
  room: Room,
  { offload }: FitOptions,
): number {
  const whole = sum(layers.bytes);
  const free = (all: readonly KnownCard[]): number => sum(all.map(card => card.free_bytes));
  const misses = [1, cards.length].map(
    count =>
      whole + count * layers.fixed + reserveOver(count, layers) - free(cards.slice(0, count)),
  );
  if (offload && room.ram_free_bytes !== null) {
    misses.push(withReserve(whole + layers.fixed) - room.ram_free_bytes);
  }
  const taken = need.host_bytes + (room.unified ? need.total_bytes : 0);
  const host = room.ram_free_bytes === null ? 0 : taken - room.ram_free_bytes;
  return Math.max(1, host, Math.min(...misses));
}

/** Kept free over so many cards together. */
function reserveOver(count: number, { bytes, fixed, kept_free }: Layers): number {
  return reserveOf(sum(bytes) + count * fixed, count * kept_free);
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
