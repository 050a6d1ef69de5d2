/**
 * What lies in this node's memory, as the arithmetic of the pool wants it: every copy and every
 * promise once, with the cards it lies on.
 */
import type { CapacityAdvert } from '../../protocol/node.ts';
import type { EngineName } from '../../protocol/task.ts';
import { canonicalModelName } from '../../scheduling/model-names.ts';
import {
  type Resident as Booked,
  type CardBytes,
  holdsMemory,
  loadMsOf,
} from '../../scheduling/node-resident.ts';
import { roomOf } from '../../scheduling/node-room.ts';
import type { Charge, Situation } from './admission.ts';
import type { Lease, Terms } from './lease.ts';

/** A copy in memory, or on its way in or out. */
export interface Resident {
  readonly engine: EngineName;
  readonly model: string;
  readonly state: 'loading' | 'loaded' | 'unloading';
  readonly context_tokens: number | null;
  readonly charge: Charge;
  /** Whether its cards are known because it was loaded by us; otherwise they are assumed. */
  readonly ours: boolean;
  /** At work on it or waiting for it. */
  readonly in_flight: number;
  /** By a policy. */
  readonly kept: boolean;
  /** End of the last use; null for never. */
  readonly used_at: number | null;
  readonly loaded_at: number | null;
  /** When its memory last changed: what was measured before does not show it. */
  readonly since: number;
}

export interface Residents {
  readonly residents: readonly Booked[];
  /** Keys of those whose memory the wanted model takes over: its own copy, and its own promises. */
  readonly gone: ReadonlySet<string>;
  /** Keys of what is promised but neither there nor on its way. */
  readonly promised: ReadonlySet<string>;
}

export function residentsOf(
  leases: readonly Lease[],
  wanted: Terms,
  now: Situation,
  capacity: CapacityAdvert,
): Residents {
  const own = canonicalModelName(wanted.model);
  const assumed = assumedCards(now, capacity);
  const leased = new Set(leases.map(({ model }) => canonicalModelName(model)));
  const copies = heldIn(now).map(copy => {
    const key = canonicalModelName(copy.model);
    const { cards, ram_bytes } = placed(copy.charge, copy.ours, assumed.get(key), capacity);
    return {
      ...{ model: copy.model, key, engine: copy.engine, cards, ram_bytes },
      // What no measurement shows yet is accounted for like what is coming; and nothing is expected
      // back of our own copy when it is on its way out already.
      state:
        isUnseen(copy, capacity, now.now) || (key === own && copy.state !== 'loaded')
          ? ('loading' as const)
          : copy.state,
      context_tokens: copy.context_tokens,
      ...{ slots: 1, in_flight: copy.in_flight, leased: leased.has(key), kept: copy.kept },
      ...{ used_at: copy.used_at, loaded_at: copy.loaded_at },
      reload_ms: reloadMs(now, copy.engine, copy.model),
    };
  });
  const present = new Set(copies.map(({ key }) => key));
  const promises = largestPromises(leases)
    .filter(({ key }) => !present.has(key))
    .map(({ key, lease }) => comingOf(key, lease, now, capacity));
  return {
    residents: [...copies, ...promises],
    gone: new Set([own]),
    promised: new Set(promises.map(({ key }) => key).filter(key => key !== own)),
  };
}

const heldIn = ({ residents }: Situation): readonly Resident[] =>
  residents.filter(({ engine }) => holdsMemory(engine));

/** Promises of one model share one copy of it. */
function largestPromises(leases: readonly Lease[]) {
  const largest = new Map<string, Lease>();
  for (const lease of leases) {
    const key = canonicalModelName(lease.model);
    const before = largest.get(key);
    if (lease.bytes > 0 && lease.bytes > (before?.bytes ?? 0)) largest.set(key, lease);
  }
  return [...largest].map(([key, lease]) => ({ key, lease }));
}

function comingOf(key: string, lease: Lease, now: Situation, capacity: CapacityAdvert): Booked {
  const { model, engine, bytes, context_tokens } = lease;
  const charge = { cards: lease.cards ?? [], ram_bytes: lease.ram_bytes ?? 0, bytes };
  const ours = lease.cards !== undefined;
  return {
    ...{ model, key, engine, state: 'loading', context_tokens, slots: 1, in_flight: 0 },
    ...placed(charge, ours, undefined, capacity),
    ...{ leased: true, kept: false, used_at: null, loaded_at: null },
    reload_ms: reloadMs(now, engine, model),
  };
}

interface Placed {
  readonly cards: readonly CardBytes[];
  readonly ram_bytes: number;
}

/** Known, else assumed from the adverts, else on the card with most free. */
function placed(
  charge: Charge,
  ours: boolean,
  assumed: Placed | undefined,
  capacity: CapacityAdvert,
): Placed {
  const isKnown = ours && charge.cards.every(({ index }) => hasCard(capacity, index));
  if (isKnown) return { cards: charge.cards, ram_bytes: charge.ram_bytes };
  if (assumed !== undefined) return assumed;
  const cards = [...capacity.gpus].sort(
    (left, right) => (right.free_bytes ?? 0) - (left.free_bytes ?? 0),
  );
  const [card] = cards;
  if (card === undefined) return { cards: [], ram_bytes: charge.bytes };
  return { cards: [{ index: card.index, bytes: charge.bytes }], ram_bytes: charge.ram_bytes };
}

const hasCard = ({ gpus }: CapacityAdvert, index: number): boolean =>
  gpus.some(gpu => gpu.index === index);

/** Where copies that others loaded lie, as placements assume it. */
function assumedCards(now: Situation, capacity: CapacityAdvert): Map<string, Placed> {
  if (heldIn(now).every(({ ours }) => ours)) return new Map();
  const room = roomOf({
    node: now.node,
    capacity: { advert: capacity, seen_at: now.now },
    runtime: {
      advert: {
        ...{ node: now.node, epoch: 1, host: '', state: 'ready', at: now.now },
        ...{ engines: [...now.engines], leases: [], slots: 0, slots_used: 0 },
      },
      seen_at: now.now,
    },
  });
  return new Map(room.residents.map(({ key, cards, ram_bytes }) => [key, { cards, ram_bytes }]));
}

function isUnseen({ state, since }: Resident, capacity: CapacityAdvert, now: number): boolean {
  return state === 'loaded' && !showsSince(capacity, since, now);
}

/**
 * Whether the figures were taken after a moment. Of figures from before the clock was put back nobody
 * can tell; the next ones come within seconds.
 */
export function showsSince(capacity: CapacityAdvert, moment: number, now: number): boolean {
  const at = measuredAt(capacity);
  return at > moment && at <= now;
}

/** When the oldest figure of it was taken. */
const measuredAt = ({ at, gpus, ram }: CapacityAdvert): number =>
  gpus.length === 0 ? (ram.measured_at ?? at) : Math.min(...gpus.map(gpu => gpu.measured_at));

function reloadMs(now: Situation, engine: EngineName, model: string): number {
  const models = now.engines.find(({ name }) => name === engine)?.models ?? [];
  const found = models.find(({ name }) => canonicalModelName(name) === canonicalModelName(model));
  return loadMsOf(found ?? { size_bytes: 0 });
}
