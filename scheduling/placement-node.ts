/**
 * A node as placements see it: its adverts indexed once, its room computed once per change.
 */
import type { NodeId } from '../protocol/ids.ts';
import {
  type CapacityAdvert,
  type EngineAdvert,
  isOutdated,
  type ModelAdvert,
  type RuntimeAdvert,
} from '../protocol/node.ts';
import type { ModelPolicy } from '../protocol/policy.ts';
import { ADVERT_EVERY_MS } from '../protocol/streams.ts';
import { type Backend, blockBytes } from './memory.ts';
import { canonicalModelName } from './model-names.ts';
import { meantName } from './model-spellings.ts';
import { backendOf, capacityFor } from './node-cards.ts';
import type { NodeNews } from './node-resident.ts';
import { type NodeRoom, roomOf } from './node-room.ts';
import type { NodeView } from './node-view.ts';
import { loadsOf, type Residuals } from './observed-loads.ts';
import type { PlacementRequest } from './placement.ts';
import type { ResidualTable } from './residual.ts';

/** A model of an engine of a node. */
export interface Entry {
  readonly engine: EngineAdvert;
  readonly model: ModelAdvert;
  readonly key: string;
  /** Loading it takes at least so many bytes. */
  readonly least_bytes: number;
}

export interface NodeState {
  readonly view: NodeView;
  readonly node: NodeId;
  readonly room: NodeRoom;
  readonly backend: Backend;
  readonly residuals: Residuals;
  /** Models by canonical name; one name may be known to several engines. */
  readonly entries: ReadonlyMap<string, readonly Entry[]>;
  /** Models of the house, the largest first. */
  readonly bySize: readonly Entry[];
  /** Slots for attempts, and how many are taken. */
  readonly attempts: number;
  readonly attempts_used: number;
  /** Its worker has to be updated before it gets attempts. */
  readonly outdated: boolean;
  /** More than this many bytes can't be had here, whatever is unloaded. Null where unknown. */
  readonly bound_bytes: number | null;
  /** Models, by canonical name, that somebody waits for, and copies that take nothing new. */
  readonly demanded: ReadonlySet<string>;
  readonly closed: ReadonlySet<string>;
  /** Canonical names of what is loaded, or on its way. */
  readonly residents: ReadonlySet<string>;
  /** Whether time alone changes what can be evicted here: something was loaded just now. */
  readonly timed: boolean;
}

interface Index {
  readonly entries: ReadonlyMap<string, readonly Entry[]>;
  readonly bySize: readonly Entry[];
  readonly loaded: readonly string[];
}

const NO_ALIASES = {};
const NOTHING: ReadonlySet<string> = new Set();
/** By the list of engines, which copies of an advert share. */
const indices = new WeakMap<RuntimeAdvert['engines'], Index>();
/** One advert is looked at with different news by requests that are overdue and those that are not. */
const VARIANTS_MAX = 4;
const states = new WeakMap<RuntimeAdvert, Remembered[]>();

interface Remembered {
  readonly capacity: CapacityAdvert | null;
  readonly signature: string;
  readonly seen_at: number;
  readonly house: ResidualTable;
  readonly state: NodeState;
}

const EMPTY: Index = { entries: new Map(), bySize: [], loaded: [] };

/**
 * @param house what the loads of all nodes teach
 * @param signature the same for the same news: what was computed from them is used again
 * @param newsOf what was decided since the node wrote its adverts; nothing where it is absent
 */
export function nodeStateOf(
  view: NodeView,
  house: ResidualTable,
  signature = '',
  newsOf?: () => NodeNews,
): NodeState {
  const runtime = view.runtime?.advert;
  if (runtime === undefined) return computeState(view, house, newsOf?.());
  const capacity = view.capacity?.advert ?? null;
  const seenAt = view.runtime?.seen_at ?? 0;
  const variants = states.get(runtime) ?? [];
  const known = variants.find(
    variant =>
      variant.capacity === capacity &&
      variant.house === house &&
      variant.signature === signature &&
      variant.seen_at === seenAt,
  );
  if (known !== undefined) return known.state;
  const state = computeState(view, house, signature === '' ? undefined : newsOf?.());
  variants.unshift({ capacity, signature, seen_at: seenAt, house, state });
  variants.length = Math.min(variants.length, VARIANTS_MAX);
  states.set(runtime, variants);
  return state;
}

/** Canonical names of the models that are loaded, or being loaded, by the node's own word. */
export const loadedKeys = (view: NodeView): readonly string[] =>
  view.runtime === null ? [] : indexOf(view.runtime.advert).loaded;

/** Requests that the node's advert shows on its copy of a model. */
export function inFlightOf(view: NodeView, key: string): number {
  if (view.runtime === null) return 0;
  const entries = indexOf(view.runtime.advert).entries.get(key) ?? [];
  return entries.reduce((sum, { model }) => sum + (model.in_flight ?? 0), 0);
}

/** Canonical name of the model that is meant by a request; null where none is named. */
export function meantBy(
  { model }: Pick<PlacementRequest, 'model'>,
  aliases: Readonly<Record<string, string>> = NO_ALIASES,
  nodes: readonly NodeView[],
): string | null {
  if (model === null) return null;
  const has = (key: string) => (view: NodeView) =>
    view.runtime !== null && indexOf(view.runtime.advert).entries.has(key);
  return meantName(model, aliases, key => nodes.some(has(key)));
}

function computeState(view: NodeView, house: ResidualTable, news: NodeNews | undefined): NodeState {
  const room = roomOf(view, news);
  const runtime = view.runtime?.advert;
  const outdated = runtime !== undefined && isOutdated(runtime);
  const leases = runtime?.leases.filter(lease => lease.request === undefined).length ?? 0;
  const booked = news?.bookings.filter(booking => booking.kind === 'attempt').length ?? 0;
  const backend = backendOf(capacityFor(view.capacity?.advert ?? null, runtime?.engines ?? []));
  const { entries, bySize } = runtime === undefined ? EMPTY : indexOf(runtime);
  return {
    ...{ view, node: view.node, room, entries, bySize },
    backend,
    residuals: { house, own: loadsOf(runtime?.engines ?? [], backend).table },
    attempts: outdated ? 0 : (runtime?.slots ?? 0),
    outdated,
    attempts_used: Math.max(runtime?.slots_used ?? 0, leases, booked),
    bound_bytes: boundOf(view, room),
    demanded: news?.demanded ?? NOTHING,
    closed: news?.closed ?? NOTHING,
    residents: new Set(room.residents.map(({ key }) => key)),
    timed: room.residents.some(({ loaded_at }) => loaded_at !== null),
  };
}

/** Done when an advert comes in, so that no decision has to wait for it. */
export const readAdvert = (runtime: RuntimeAdvert): void => void indexOf(runtime);

function indexOf(runtime: RuntimeAdvert): Index {
  const known = indices.get(runtime.engines);
  if (known !== undefined) return known;
  const entries = new Map<string, Entry[]>();
  const bySize: Entry[] = [];
  for (const engine of runtime.engines) {
    for (const model of engine.models) {
      const key = canonicalModelName(model.name);
      const least_bytes = engine.name === 'ollama' ? leastOf(model) : 0;
      const entry = { engine, model, key, least_bytes };
      const same = entries.get(key);
      if (same === undefined) entries.set(key, [entry]);
      else same.push(entry);
      if (engine.name === 'ollama') bySize.push(entry);
    }
  }
  bySize.sort(
    (left, right) =>
      right.model.size_bytes - left.model.size_bytes || (left.key < right.key ? -1 : 1),
  );
  const index = {
    ...{ entries, bySize },
    loaded: bySize
      .filter(({ model }) => model.loaded || model.state === 'loading')
      .map(({ key }) => key),
  };
  indices.set(runtime.engines, index);
  return index;
}

function leastOf({ profile, size_bytes }: ModelAdvert): number {
  return profile === undefined ? size_bytes : blockBytes(profile) + profile.output_bytes;
}

function boundOf(view: NodeView, room: NodeRoom): number | null {
  const idle = room.residents.filter(resident => room.evictable.includes(resident.model));
  const most = room.without(idle);
  if (most.cards.length === 0) return most.ram_free_bytes;
  if (most.cards.some(card => card.free_bytes === null)) return null;
  const cards = most.cards.reduce((sum, card) => sum + Math.max(0, card.free_bytes ?? 0), 0);
  if (view.runtime?.advert.offload !== true) return cards;
  return most.ram_free_bytes === null ? null : cards + most.ram_free_bytes;
}

/**
 * A node of which two adverts in a row are missing gets nothing new, though what it has at work is
 * not given up yet: where several fall silent at once, one must not be offered the work of another.
 */
const SILENT_MS = 2 * ADVERT_EVERY_MS;

/** Why the node takes no work at all, or null where it does. */
export function absenceOf(view: NodeView, now: number): string | null {
  if (view.runtime === null) return 'no worker runs there';
  const silentMs = now - view.runtime.seen_at;
  if (silentMs > SILENT_MS) return `silent for ${Math.round(silentMs / 1000)} s`;
  const state = view.runtime.advert.state;
  return state === 'ready' ? null : `its worker is ${state}`;
}

/** Which rule keeps the request from this node, or null where none does. */
export function exclusionOf(
  request: PlacementRequest,
  view: NodeView,
  policy: ModelPolicy | undefined,
): string | null {
  if (request.exclude?.includes(view.node) === true) return 'it was tried before';
  const pinned = request.nodes ?? [];
  if (pinned.length > 0 && !pinned.includes(view.node)) {
    return `the request is pinned to ${pinned.join(', ')}`;
  }
  const allowed = policy?.nodes ?? [];
  if (allowed.length > 0 && !allowed.includes(view.node)) {
    return `a rule keeps ${policy?.model} on ${allowed.join(', ')}`;
  }
  const labels = view.runtime?.advert.labels ?? {};
  for (const [label, value] of Object.entries(request.selector ?? {})) {
    if (labels[label] !== value) return `the selector ${label}=${value} does not match`;
  }
  return null;
}

/**
 * Models that only embed or rank declare their capabilities without `completion`. A model that writes
 * declares nothing of embedding and does it all the same: one that was named is asked.
 */
export function isCapable(request: PlacementRequest, model: ModelAdvert): boolean {
  const wanted = request.capability ?? 'completion';
  if (wanted === 'embedding' && request.model !== null) return true;
  if (model.capabilities.length === 0) return wanted === 'completion';
  return model.capabilities.includes(wanted);
}
