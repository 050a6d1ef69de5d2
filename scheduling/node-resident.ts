/**
 * The copies of models that hold memory of a node, or are about to: those its adverts show, those
 * its leases promise, and those that were decided on since.
 *
 * R1: leases of one model share one copy of it, as large as the largest of them.
 * R2: what a model on several cards holds on each is assumed, where nobody knows, as engines split
 *     it: the one card that can hold it, else in proportion.
 * R3: a request that was decided here and is shown by the node counts once.
 * R4: only engines that hold models in the node's memory count: the scaffold holds none.
 */
import type { GpuAdvert, ModelAdvert } from '../protocol/node.ts';
import type { EngineName } from '../protocol/task.ts';
import { canonicalModelName } from './model-names.ts';
import type { NodeView } from './node-view.ts';

/** Bytes read per second by a load, where none was measured: a SATA disk, or half an NVMe one. */
export const DISK_BYTES_PER_S = 1e9;
/** Starting a process and warming it up, beside reading the file. */
const LOAD_OVERHEAD_MS = 1_000;

export interface CardBytes {
  readonly index: number;
  readonly bytes: number;
}

/** A copy of a model that holds memory of a node, or is about to. */
export interface Resident {
  readonly model: string;
  /** The name in the one spelling that names are compared in. */
  readonly key: string;
  readonly engine: EngineName;
  readonly state: 'loading' | 'loaded' | 'unloading';
  readonly cards: readonly CardBytes[];
  readonly ram_bytes: number;
  /** Null where nobody knows. */
  readonly context_tokens: number | null;
  readonly slots: number;
  /** Requests at work on it, those just decided included. */
  readonly in_flight: number;
  readonly leased: boolean;
  readonly kept: boolean;
  readonly used_at: number | null;
  readonly loaded_at: number | null;
  readonly reload_ms: number;
}

/** A request that was sent to a node, which its adverts may not show yet. */
export interface Booking {
  readonly model: string;
  readonly engine: EngineName;
  readonly kind: 'attempt' | 'inference';
  readonly context_tokens: number;
  readonly cards: readonly CardBytes[];
  readonly ram_bytes: number;
  readonly load: boolean;
  readonly evict: readonly string[];
  readonly started_at: number;
}

/** What is known of a node beside its adverts. */
export interface NodeNews {
  readonly bookings: readonly Booking[];
  /** Requests that ended since the runtime advert was seen, by canonical name of their model. */
  readonly ended?: ReadonlyMap<string, number>;
  /** When models were loaded, by canonical name. */
  readonly loaded_at?: ReadonlyMap<string, number>;
  /** Models that a rule keeps here, those that somebody waits for, and copies that take nothing new. */
  readonly kept?: ReadonlySet<string>;
  readonly demanded?: ReadonlySet<string>;
  readonly closed?: ReadonlySet<string>;
}

/** R4 */
export const holdsMemory = (engine: EngineName): boolean => engine === 'ollama';

/** Nobody works on it, waits for it or has laid down that it stays. */
export function isIdle(resident: Resident): boolean {
  return (
    resident.state === 'loaded' && !resident.kept && !resident.leased && resident.in_flight === 0
  );
}

/** On the cards; in main memory where it lies on none. */
export function bytesOf(resident: Pick<Resident, 'cards' | 'ram_bytes'>): number {
  if (resident.cards.length === 0) return resident.ram_bytes;
  return resident.cards.reduce((sum, card) => sum + card.bytes, 0);
}

export const cardSum = (resident: Resident): number =>
  resident.cards.reduce((sum, card) => sum + card.bytes, 0);

export function bytesOnCard(resident: Resident, index: number): number {
  let bytes = 0;
  for (const card of resident.cards) if (card.index === index) bytes += card.bytes;
  return bytes;
}

/** Models that a load which was decided but is not done yet takes the place of. */
export function leavingOf(residents: readonly Resident[], news: NodeNews): ReadonlySet<string> {
  const leaving = new Set<string>();
  for (const booking of news.bookings) {
    if (!booking.load) continue;
    const key = canonicalModelName(booking.model);
    const loading = residents.some(resident => resident.key === key && isComing(resident));
    if (!loading) continue;
    for (const victim of booking.evict) {
      const gone = canonicalModelName(victim);
      if (gone !== key) leaving.add(gone);
    }
  }
  return leaving;
}

const isComing = (resident: Resident): boolean => resident.state === 'loading';

/** Every copy that is loaded, being loaded or promised (N2). */
export function residentsOf(
  view: NodeView,
  news: NodeNews,
  cards: readonly GpuAdvert[],
): Resident[] {
  const runtime = view.runtime?.advert;
  if (runtime === undefined) return [];
  const promised = new Map<string, { model: string; bytes: number }>();
  for (const lease of runtime.leases) {
    const key = canonicalModelName(lease.model);
    const bytes = Math.max(promised.get(key)?.bytes ?? 0, lease.bytes);
    promised.set(key, { model: lease.model, bytes });
  }
  const residents: Resident[] = [];
  const split = new Split(cards);
  const present = new Set<string>();
  const engines = runtime.engines.filter(({ name }) => holdsMemory(name));
  for (const engine of engines) {
    for (const model of engine.models) {
      if (!model.loaded) continue;
      const key = canonicalModelName(model.name);
      present.add(key);
      residents.push(loadedResident(view, news, engine.name, model, promised.get(key), split));
    }
  }
  const coming = new Map([...promised].filter(([, { bytes }]) => bytes > 0));
  for (const engine of engines) {
    for (const model of engine.models) {
      // Being loaded, though nobody says for how much: at least its file.
      if (model.state !== 'loading') continue;
      const key = canonicalModelName(model.name);
      if (!coming.has(key)) coming.set(key, { model: model.name, bytes: model.size_bytes });
    }
  }
  for (const { model, engine } of news.bookings) {
    const key = canonicalModelName(model);
    if (holdsMemory(engine)) coming.set(key, { model, bytes: promised.get(key)?.bytes ?? 0 });
  }
  for (const [key, { model, bytes }] of coming) {
    if (!present.has(key)) residents.push(comingResident(view, news, key, { model, bytes }, split));
  }
  return residents;
}

const bookingsOf = (news: NodeNews, key: string): readonly Booking[] =>
  news.bookings.filter(booking => canonicalModelName(booking.model) === key);

function loadedResident(
  view: NodeView,
  news: NodeNews,
  engine: EngineName,
  model: ModelAdvert,
  lease: { readonly bytes: number } | undefined,
  split: Split,
): Resident {
  const key = canonicalModelName(model.name);
  const booked = bookingsOf(news, key);
  const reloading = booked.find(booking => booking.load && booking.evict.includes(model.name));
  const context = model.context_tokens;
  // A larger context was asked for than the loaded copy has: it is on its way out and in again.
  const isReload = reloading !== undefined && (context ?? 0) < reloading.context_tokens;
  const onGpu = split.hasCards ? (model.vram_bytes ?? 0) : 0;
  const inRam = model.ram_bytes ?? (split.hasCards ? 0 : (model.vram_bytes ?? 0));
  const bytes = Math.max(onGpu, split.hasCards ? (lease?.bytes ?? 0) : 0);
  const seenAt = view.runtime?.seen_at ?? 0;
  return {
    model: model.name,
    key,
    engine,
    state: isReload ? 'loading' : model.state === 'unloading' ? 'unloading' : 'loaded',
    cards: isReload ? reloading.cards : split.used(bytes),
    ram_bytes: split.hasCards ? inRam : Math.max(inRam, lease?.bytes ?? 0),
    context_tokens: isReload ? reloading.context_tokens : context,
    slots: model.slots ?? 1,
    in_flight: inFlight(model.in_flight ?? 0, booked, news.ended?.get(key) ?? 0, seenAt),
    leased: lease !== undefined || booked.length > 0,
    kept: model.kept === true || news.kept?.has(key) === true,
    used_at: model.used_at ?? null,
    loaded_at: news.loaded_at?.get(key) ?? null,
    reload_ms: loadMsOf(model),
  };
}

/** Ours that are booked, and of the advertised ones those that cannot be ours. */
function inFlight(
  advertised: number,
  booked: readonly Booking[],
  ended: number,
  seenAt: number,
): number {
  const own = booked.filter(booking => booking.kind === 'inference');
  const shown = own.filter(booking => booking.started_at <= seenAt).length;
  return own.length + Math.max(0, advertised - shown - ended);
}

/** A model that is being loaded, or will be: it takes what was promised to it. */
function comingResident(
  view: NodeView,
  news: NodeNews,
  key: string,
  promise: { readonly model: string; readonly bytes: number },
  split: Split,
): Resident {
  const booked = bookingsOf(news, key);
  const [largest] = [...booked].sort((left, right) => bytesOf(right) - bytesOf(left));
  const advert = modelAdvert(view, key);
  const isBooked = largest !== undefined && bytesOf(largest) >= promise.bytes;
  const inRam = isBooked ? largest.ram_bytes : 0;
  const advertised = advert?.in_flight ?? 0;
  const seenAt = view.runtime?.seen_at ?? 0;
  return {
    model: promise.model,
    key,
    engine: largest?.engine ?? 'ollama',
    state: 'loading',
    cards: isBooked ? largest.cards : split.free(promise.bytes),
    ram_bytes: split.hasCards ? inRam : Math.max(promise.bytes, inRam),
    context_tokens: largest?.context_tokens ?? null,
    slots: advert?.slots ?? 1,
    in_flight: inFlight(advertised, booked, news.ended?.get(key) ?? 0, seenAt),
    leased: true,
    kept: advert?.kept ?? false,
    used_at: null,
    loaded_at: null,
    reload_ms: advert === null ? LOAD_OVERHEAD_MS : loadMsOf(advert),
  };
}

function modelAdvert(view: NodeView, key: string): ModelAdvert | null {
  for (const engine of view.runtime?.advert.engines ?? []) {
    for (const model of engine.models) if (canonicalModelName(model.name) === key) return model;
  }
  return null;
}

/** Measured here, else what reading its file takes. */
export function loadMsOf(model: Pick<ModelAdvert, 'size_bytes' | 'load_ms'>): number {
  return model.load_ms ?? LOAD_OVERHEAD_MS + (model.size_bytes / DISK_BYTES_PER_S) * 1_000;
}

/** Bytes assumed per card, one model after another (N3). */
class Split {
  readonly hasCards: boolean;
  readonly #used: { index: number; bytes: number }[];
  readonly #free: { index: number; bytes: number }[];

  constructor(cards: readonly GpuAdvert[]) {
    this.hasCards = cards.length > 0;
    this.#used = cards.map(card => ({
      index: card.index,
      bytes: Math.max(0, (card.total_bytes ?? 0) - (card.free_bytes ?? 0)),
    }));
    this.#free = cards.map(card => ({ index: card.index, bytes: card.free_bytes ?? 0 }));
  }

  /** Of a model that is there: out of what is in use. */
  used(bytes: number): readonly CardBytes[] {
    return take(this.#used, bytes);
  }

  /** Of a model that is coming: out of what is free. */
  free(bytes: number): readonly CardBytes[] {
    return take(this.#free, bytes);
  }
}

function take(cards: { index: number; bytes: number }[], bytes: number): readonly CardBytes[] {
  const first = cards[0];
  if (first === undefined || bytes === 0) return [];
  if (cards.length === 1) return [{ index: first.index, bytes }];
  const largest = cards.reduce((best, card) => (card.bytes > best.bytes ? card : best), first);
  const sum = cards.reduce((all, card) => all + card.bytes, 0);
  const whole = largest.bytes >= bytes || sum === 0;
  const parts = whole
    ? [{ index: largest.index, bytes }]
    : cards
        .filter(card => card.bytes > 0)
        .map(card => ({ index: card.index, bytes: Math.ceil((bytes * card.bytes) / sum) }));
  for (const part of parts) {
    const card = cards.find(({ index }) => index === part.index);
    if (card !== undefined) card.bytes = Math.max(0, card.bytes - part.bytes);
  }
  return parts;
}
