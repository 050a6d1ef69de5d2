/**
 * The memory that a node has for one more model, card by card, from its adverts and from what was
 * decided since they were written.
 *
 *     free = min(driver's free − promised, total − foreign − held − promised) − reserve
 *
 * N1: unknown memory is neither zero nor enough: `free_bytes` is null then.
 * N2: memory promised to a lease is never counted as free, whether its model is loaded yet or not.
 *     Leases of one model share one copy of it.
 */
import type { CapacityAdvert, GpuAdvert } from '../protocol/node.ts';
import type { CardRoom, Room } from './fit.ts';
import { capacityFor, cardsOf } from './node-cards.ts';
import {
  bytesOf,
  bytesOnCard,
  cardSum,
  isIdle,
  leavingOf,
  type NodeNews,
  type Resident,
  residentsOf,
} from './node-resident.ts';
import type { NodeView } from './node-view.ts';

export interface NodeRoom {
  readonly kind: 'gpu' | 'ram';
  /** Free for a new model now; null where nobody knows. Negative where too much was promised. */
  readonly free_bytes: number | null;
  /** Free once models that nobody uses or holds a lease on are unloaded. */
  readonly free_after_evicting_bytes: number | null;
  /** What would have to go for that. */
  readonly evictable: readonly string[];
  readonly residents: readonly Resident[];
  /** Promised to models that are not loaded yet. */
  readonly reserved_bytes: number;
  /** Held by other programs; null where nobody can tell. */
  readonly foreign_bytes: number | null;
  /** What is free now, card by card. */
  readonly room: Room;
  /** What would be without these residents. */
  readonly without: (victims: readonly Resident[]) => Room;
}

const NO_NEWS: NodeNews = { bookings: [] };
const remembered = new WeakMap<object, { readonly capacity: object | null; room: NodeRoom }>();

/** What `view` can give to a model it has not loaded. */
export function roomOf(view: NodeView, news: NodeNews = NO_NEWS): NodeRoom {
  const runtime = view.runtime?.advert ?? null;
  const capacity = view.capacity?.advert ?? null;
  if (runtime === null || news !== NO_NEWS) return computeRoom(view, news);
  const known = remembered.get(runtime);
  if (known !== undefined && known.capacity === capacity) return known.room;
  const room = computeRoom(view, news);
  remembered.set(runtime, { capacity, room });
  return room;
}

function computeRoom(view: NodeView, news: NodeNews): NodeRoom {
  const capacity = capacityFor(view.capacity?.advert ?? null, view.runtime?.advert.engines ?? []);
  const cards = cardsOf(capacity);
  const residents = residentsOf(view, news, cards);
  const leaving = leavingOf(residents, news);
  const staying = residents.filter(resident => !leaving.has(resident.key));
  const gone = residents.filter(resident => leaving.has(resident.key));
  const base = addTo(baseRoom(capacity, residents), gone);
  const evictable = staying.filter(isIdle);
  const promised = staying.filter(resident => resident.state === 'loading');
  const foreign = cards.map(card => card.foreign_bytes ?? null);
  return {
    kind: cards.length > 0 ? 'gpu' : 'ram',
    free_bytes: freeOf(base),
    free_after_evicting_bytes: freeOf(addTo(base, evictable)),
    evictable: evictable.map(({ model }) => model).sort(),
    residents: staying,
    reserved_bytes: promised.reduce((sum, resident) => sum + bytesOf(resident), 0),
    foreign_bytes: foreign.some(bytes => bytes === null)
      ? null
      : foreign.reduce<number>((sum, bytes) => sum + (bytes ?? 0), 0),
    room: base,
    without: victims => addTo(base, victims),
  };
}

/** What residents give back when they go. Both bounds of what is free grow by the same. */
export function addTo(room: Room, gone: readonly Resident[]): Room {
  if (gone.length === 0) return room;
  const hostOnly = room.cards.length === 0;
  let ram = room.ram_free_bytes;
  for (const resident of gone) {
    if (ram !== null)
      ram += resident.ram_bytes + (room.unified || hostOnly ? cardSum(resident) : 0);
  }
  return {
    cards: room.cards.map(card => {
      if (card.free_bytes === null) return card;
      const back = gone.reduce((sum, resident) => sum + bytesOnCard(resident, card.index), 0);
      return back === 0 ? card : { ...card, free_bytes: card.free_bytes + back };
    }),
    ram_free_bytes: ram,
    unified: room.unified,
  };
}

/** Over all cards whose figures are known; of main memory where there is no card. */
function freeOf(room: Room): number | null {
  if (room.cards.length === 0) return room.ram_free_bytes;
  const known = room.cards.filter(card => card.free_bytes !== null);
  if (known.length === 0) return null;
  return known.reduce((sum, card) => sum + (card.free_bytes ?? 0), 0);
}

/** What is free while all residents stay. */
export function baseRoom(capacity: CapacityAdvert | null, residents: readonly Resident[]): Room {
  if (capacity === null) return { cards: [], ram_free_bytes: null, unified: false };
  const cards = cardsOf(capacity);
  const unified = cards.some(card => card.unified);
  const hostOnly = cards.length === 0;
  const { available_bytes, total_bytes } = capacity.ram;
  let driver = available_bytes;
  let held = 0;
  for (const resident of residents) {
    const bytes = resident.ram_bytes + (unified || hostOnly ? cardSum(resident) : 0);
    held += bytes;
    if (resident.state === 'loading') driver -= bytes;
  }
  const ram =
    hostOnly || unified
      ? Math.min(driver, total_bytes - held) - capacity.reserve_bytes
      : Math.min(driver, total_bytes - held);
  return {
    cards: cards.map(card => cardRoom(card, capacity, residents)),
    ram_free_bytes: ram,
    unified,
  };
}

function cardRoom(
  card: GpuAdvert,
  capacity: CapacityAdvert,
  residents: readonly Resident[],
): CardRoom {
  const measured = driverFree(card, capacity);
  let driver = measured ?? 0;
  let held = 0;
  for (const resident of residents) {
    const bytes = bytesOnCard(resident, card.index);
    held += bytes;
    if (resident.state === 'loading') driver -= bytes;
  }
  const total = card.total_bytes ?? Number.POSITIVE_INFINITY;
  const unpromised = total - (card.foreign_bytes ?? 0) - held;
  return {
    index: card.index,
    total_bytes: card.total_bytes,
    free_bytes: measured === null ? null : Math.min(driver, unpromised) - capacity.reserve_bytes,
    bandwidth_bytes_per_s: card.bandwidth_bytes_per_s ?? null,
    integrated: card.integrated === true,
  };
}

/** A card that shares main memory has at most what is available there. */
function driverFree(card: GpuAdvert, capacity: CapacityAdvert): number | null {
  if (!card.unified) return card.free_bytes;
  return Math.min(card.free_bytes ?? Number.POSITIVE_INFINITY, capacity.ram.available_bytes);
}
