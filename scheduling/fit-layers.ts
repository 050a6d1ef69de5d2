/**
 * Which card holds which layers of a model, and what is left over for main memory.
 *
 * Layers are dealt out whole and in their order; the output matrix comes after the last of them, and
 * where not all find room the first ones stay behind, as llama.cpp does it. The cache goes with its
 * layer. Every card that holds any pays the compute buffer and the overhead besides, and keeps its
 * own reserve free.
 */
import type { ModelProfile } from '../protocol/model-profile.ts';
import { blockBytes, type MemoryNeed, reserveOf } from './memory.ts';

export interface Share {
  readonly index: number;
  readonly bytes: number;
}

export interface Shelf {
  readonly index: number;
  readonly free_bytes: number;
}

export interface Layers {
  readonly bytes: readonly number[];
  /** Beside the layers, on every card that holds any. */
  readonly fixed: number;
  /** Besides, on a card of a model that lies partly in main memory. */
  readonly copied: number;
  /** What the engine leaves free on every card, whatever the estimate is. */
  readonly kept_free: number;
}

export const withReserve = (bytes: number, keptFreeBytes = 0): number =>
  bytes + reserveOf(bytes, keptFreeBytes);

export function layersOf(profile: ModelProfile, need: MemoryNeed, residualBytes: number): Layers {
  const count = profile.blocks.reduce((sum, run) => sum + run.count, 0);
  const cache = Math.ceil(need.kv_bytes / Math.max(1, count));
  const blocks = profile.blocks.flatMap(run => Array<number>(run.count).fill(run.bytes + cache));
  const output = need.weights_bytes - blockBytes(profile) + need.projector_bytes + residualBytes;
  return {
    bytes: [...blocks, Math.max(0, output)],
    fixed: need.compute_bytes + need.overhead_bytes,
    copied: profile.largest_tensor_bytes ?? largestTensorOf(profile),
    kept_free: need.kept_free_bytes,
  };
}

/** Of a profile that does not say: a third of its largest block, as experts and feed-forward are. */
function largestTensorOf({ blocks }: ModelProfile): number {
  return Math.ceil(Math.max(0, ...blocks.map(run => run.bytes)) / 3);
}

/** All layers over all cards, or null where that cannot be. */
export function spread(layers: Layers, cards: readonly Shelf[]): readonly Share[] | null {
  const usable = cards.filter(
    card => card.free_bytes > withReserve(layers.fixed, layers.kept_free),
  );
  if (usable.length === 0) return null;
  const shares = proportional(layers, usable);
  if (shares !== null) return shares;
  const packed = stack(layers, usable);
  return packed.left === 0 ? packed.shares : null;
}

/** In proportion to what is free, as engines do by themselves. */
function proportional(layers: Layers, cards: readonly Shelf[]): Share[] | null {
  const free = cards.reduce((sum, card) => sum + card.free_bytes, 0);
  const count = layers.bytes.length;
  const shares: Share[] = [];
  let before = 0;
  let start = 0;
  for (const card of cards) {
    before += card.free_bytes;
    const end = card === cards.at(-1) ? count : Math.round((count * before) / free);
    const held = sum(layers.bytes.slice(start, end));
    if (end > start) {
      const bytes = held + layers.fixed;
      if (withReserve(bytes, layers.kept_free) > card.free_bytes) return null;
      shares.push({ index: card.index, bytes });
    }
    start = end;
  }
  return shares;
}

export interface Stack {
  readonly shares: readonly Share[];
  /** How many of the first layers found no room. */
  readonly left: number;
}

/**
 * From the last layer to the first, each card as full as it gets. Where some stay behind, an engine
 * copies their tensors to a card for every batch, one at a time: room for that is set aside.
 */
export function stack(layers: Layers, cards: readonly Shelf[]): Stack {
  const whole = stacked(layers, cards);
  if (whole.left === 0) return whole;
  return stacked({ ...layers, fixed: layers.fixed + layers.copied }, cards);
}

function stacked(layers: Layers, cards: readonly Shelf[]): Stack {
  let left = layers.bytes.length;
  const shares: Share[] = [];
  for (const card of [...cards].reverse()) {
    const start = left;
    let bytes = layers.fixed;
    while (left > 0) {
      const next = bytes + (layers.bytes[left - 1] ?? 0);
      if (withReserve(next, layers.kept_free) > card.free_bytes) break;
      bytes = next;
      left -= 1;
    }
    if (left < start) shares.unshift({ index: card.index, bytes });
  }
  return { shares, left };
}

export function sum(bytes: readonly number[]): number {
  return bytes.reduce((total, one) => total + one, 0);
}
