/**
 * The cards of a fake node: who has how much, and what the driver says of it.
 *
 * M1: the driver gives memory back late; until then it counts as used though nobody owns it.
 * M2: what the engine believes it needs is less than what it takes: the context of the card is not
 *     in its figures. Loads that do not fit after all are out of memory, as with a real one.
 */
import { MIB } from './sizes.ts';

export interface Card {
  readonly name: string;
  readonly totalBytes: number;
  /** Used by programs that are none of ours. */
  readonly foreignBytes: number;
}

export interface Need {
  /** What the engine predicts and tells: weights, cache, scratch. */
  readonly toldBytes: number;
  /** Taken besides on every card it uses. */
  readonly hiddenBytes: number;
  readonly layers: number;
}

/** A model in memory: bytes by card as told, and the rest in main memory. */
export interface Allocation {
  readonly cards: readonly { readonly index: number; readonly bytes: number }[];
  readonly hiddenBytes: number;
  readonly ramBytes: number;
  /** Of the model on cards: 1 is all. */
  readonly share: number;
}

export interface MemoryOptions {
  readonly cards: readonly Card[];
  readonly ramBytes: number;
  /** How long the driver takes to give memory back. */
  readonly recoveryMs: number;
}

/** Ollama leaves this share of a card free where other models lie on it, or to take one card alone. */
const FILLED_SHARE = 0.8;
/** It never plans with the last of a card. */
const RESERVED_BYTES = 457 * MIB;

export class Memory {
  readonly cards: readonly Card[];
  readonly #options: MemoryOptions;
  readonly #owned = new Set<Allocation>();
  readonly #recovering = new Set<Allocation>();
  maxUsedBytes = 0;

  constructor(options: MemoryOptions) {
    this.#options = options;
    this.cards = options.cards;
  }

  get totalBytes(): number {
    return this.cards.reduce((sum, card) => sum + card.totalBytes, 0);
  }

  /** By the owners, with what they do not tell. */
  ownedBytes(index: number): number {
    return sum(this.#owned, allocation => taken(allocation, index));
  }

  driverFreeBytes(index: number): number {
    const card = this.cards[index];
    if (card === undefined) return 0;
    const gone = sum(this.#recovering, allocation => taken(allocation, index));
    return Math.max(0, card.totalBytes - card.foreignBytes - this.ownedBytes(index) - gone);
  }

  get driverFreeTotal(): number {
    return this.cards.reduce((sum, _, index) => sum + this.driverFreeBytes(index), 0);
  }

  /** Main memory that is left. */
  get ramFreeBytes(): number {
    return this.#options.ramBytes - sum(this.#owned, ({ ramBytes }) => ramBytes);
  }

  /**
   * Where Ollama would put it: one card if it fills no more than 80 % of it, else all of them. The
   * first model may lie partly in main memory; for a later one null says that something must go.
   */
  plan(need: Need, surchargeBytes: number, first: boolean): Allocation | null {
    const free = this.cards.map((_, index) => ({ index, bytes: this.#believedFree(index) }));
    free.sort((one, other) => other.bytes - one.bytes || one.index - other.index);
    const [roomiest] = free;
    const { toldBytes, hiddenBytes } = need;
    if (roomiest === undefined) return this.planCpu(need);
    const on = (cards: Allocation['cards'], share = 1): Allocation => ({
      cards,
      hiddenBytes,
      ramBytes: Math.round(toldBytes * (1 - share)),
      share,
    });
    if (toldBytes + surchargeBytes <= roomiest.bytes * FILLED_SHARE) {
      return on([{ index: roomiest.index, bytes: toldBytes }]);
    }
    const all = free.reduce((sum, { bytes }) => sum + bytes, 0);
    if (!first && toldBytes + surchargeBytes > all * FILLED_SHARE) return null;
    const layers = Math.min(need.layers, Math.floor((all / toldBytes) * need.layers));
    const share = layers / need.layers;
    const bytes = Math.round(toldBytes * share);
    const cards = free.map(card => ({
      index: card.index,
      bytes: Math.round((bytes * card.bytes) / Math.max(1, all)),
    }));
    return on(share === 0 ? [] : cards, share);
  }

  planCpu({ toldBytes }: Need): Allocation {
    return { cards: [], hiddenBytes: 0, ramBytes: toldBytes, share: 0 };
  }

  /** Whether it fits indeed. Takes the memory where it does. */
  take(allocation: Allocation): boolean {
    const fits = this.cards.every(
      (_, index) => taken(allocation, index) <= this.driverFreeBytes(index),
    );
    if (!fits) return false;
    this.#owned.add(allocation);
    const used = this.cards.reduce((sum, _, index) => sum + this.ownedBytes(index), 0);
    this.maxUsedBytes = Math.max(this.maxUsedBytes, used);
    return true;
  }

  give(allocation: Allocation): void {
    if (!this.#owned.delete(allocation)) return;
    if (this.#options.recoveryMs === 0 || allocation.cards.length === 0) return;
    this.#recovering.add(allocation);
    setTimeout(() => this.#recovering.delete(allocation), this.#options.recoveryMs).unref();
  }

  /** The less of what the driver says and of what the engine remembers to have given out. */
  #believedFree(index: number): number {
    const told = sum(this.#owned, ({ cards }) => bytesOn(cards, index));
    const total = this.cards[index]?.totalBytes ?? 0;
    return Math.max(0, Math.min(this.driverFreeBytes(index), total - told) - RESERVED_BYTES);
  }
}

export const vramBytes = ({ cards }: Allocation): number =>
  cards.reduce((sum, { bytes }) => sum + bytes, 0);

const bytesOn = (cards: Allocation['cards'], index: number): number =>
  cards.find(card => card.index === index)?.bytes ?? 0;

function taken({ cards, hiddenBytes }: Allocation, index: number): number {
  const bytes = bytesOn(cards, index);
  return bytes === 0 ? 0 : bytes + hiddenBytes;
}

function sum(items: Iterable<Allocation>, of: (item: Allocation) => number): number {
  let total = 0;
  for (const item of items) total += of(item);
  return total;
}
