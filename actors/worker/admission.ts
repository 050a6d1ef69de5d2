/**
 * Whether this node can take one more model into its memory, and what has to go for it. Pure: it gets
 * the situation as data.
 *
 * D1: what is promised, loading or being unloaded counts as used until a measurement made afterwards
 *     shows it; a stale figure costs a refusal, never a wrong load.
 * D2: only copies that are idle, loaded, without a lease and not kept are evicted.
 */
import { LeaseId, type NodeId } from '../../protocol/ids.ts';
import type {
  CapacityAdvert,
  EngineAdvert,
  LeaseAdvert,
  ModelAdvert,
  RuntimeAdvert,
} from '../../protocol/node.ts';
import type { EngineName } from '../../protocol/task.ts';
import { gib } from '../../scheduling/memory.ts';
import { nearestName, sameModel } from '../../scheduling/model-names.ts';
import { roomOf } from '../../scheduling/node-room.ts';
import { type Lease, leaseAdvert } from './lease.ts';

/** A copy in memory, or on its way in or out. */
export interface Resident {
  readonly engine: EngineName;
  readonly model: string;
  readonly state: 'loading' | 'loaded' | 'unloading';
  readonly context_tokens: number | null;
  readonly bytes: number;
  readonly at_work: boolean;
  /** By a policy. */
  readonly kept: boolean;
  /** End of the last use; null for never. */
  readonly used_at: number | null;
  /** When its memory last changed: what was measured before does not show it. */
  readonly since: number;
}

/** What a decision depends on besides the promises. */
export interface Situation {
  readonly node: NodeId;
  readonly now: number;
  /** False while the worker starts or drains. */
  readonly ready: boolean;
  /** Attempts at once. */
  readonly slots: number;
  readonly capacity: CapacityAdvert | null;
  readonly engines: readonly EngineAdvert[];
  readonly residents: readonly Resident[];
}

export interface Wanted {
  readonly engine: EngineName;
  readonly model: string;
  readonly context_tokens: number;
  readonly bytes: number;
}

export type Admission =
  /** A copy that is loaded, loading or promised serves it. */
  | { readonly kind: 'shares' }
  | { readonly kind: 'loads'; readonly bytes: number; readonly evict: readonly string[] }
  | { readonly kind: 'refused'; readonly reason: string };

/** The model as the engine spells it, or why there is none. */
export function findModel(
  wanted: Pick<Wanted, 'engine' | 'model'>,
  engines: readonly EngineAdvert[],
): { readonly model: ModelAdvert } | { readonly reason: string; readonly missing: boolean } {
  const engine = engines.find(({ name }) => name === wanted.engine);
  if (engine === undefined) {
    return { reason: `there is no engine ${wanted.engine} on this node`, missing: false };
  }
  if (!engine.available) {
    return { reason: engine.reason ?? `${engine.name} is not available`, missing: false };
  }
  const model = engine.models.find(({ name }) => sameModel(name, wanted.model));
  if (model !== undefined) return { model };
  const names = engine.models.map(({ name }) => name);
  const nearest = nearestName(wanted.model, names);
  const advice = nearest === null ? '' : `; the nearest one is ${nearest}`;
  return { reason: `${wanted.model} is not installed here${advice}`, missing: true };
}

/** Whether a promise can be given. */
export function admit(leases: readonly Lease[], wanted: Wanted, now: Situation): Admission {
  const found = findModel(wanted, now.engines);
  if (!('model' in found)) return { kind: 'refused', reason: found.reason };
  if (wanted.bytes === 0) return { kind: 'shares' };
  const ofModel = ({ model }: { readonly model: string }): boolean =>
    sameModel(model, wanted.model);
  const copy = now.residents.find(ofModel);
  const loaded = copy !== undefined && copy.state !== 'unloading';
  if (loaded && (copy.context_tokens ?? 0) >= wanted.context_tokens) return { kind: 'shares' };
  const promised = leases.find(lease => ofModel(lease) && lease.bytes >= wanted.bytes);
  if (promised !== undefined) return { kind: 'shares' };
  return planLoad(leases, wanted, now);
}

/** What loading the model now takes, whoever else has been promised it. */
export function planLoad(leases: readonly Lease[], wanted: Wanted, now: Situation): Admission {
  if (wanted.bytes === 0) return { kind: 'loads', bytes: 0, evict: [] };
  if (now.capacity === null) {
    return refused('nobody measures the memory of this node now');
  }
  const free = freeFor(leases, wanted, now, now.capacity);
  if (free !== null) return choose(free, leases, wanted, now);
  // The GPU keeps its figures to itself; then main memory must be enough on its own.
  const onCpu = freeFor(leases, wanted, now, { ...now.capacity, gpus: [] });
  if (onCpu !== null && wanted.bytes <= onCpu.after) return choose(onCpu, leases, wanted, now);
  return refused('nobody knows how much GPU memory is free; declare it in the configuration');
}

const refused = (reason: string): Admission => ({ kind: 'refused', reason });

interface Free {
  readonly now: number;
  readonly after: number;
}

function choose(free: Free, leases: readonly Lease[], wanted: Wanted, now: Situation): Admission {
  const { bytes } = wanted;
  if (bytes > free.after) {
    return refused(`needs ${gib(bytes)}, ${gib(Math.max(0, free.after))} can be had`);
  }
  const evict: string[] = [];
  let left = free.now;
  for (const copy of evictable(leases, wanted, now)) {
    if (bytes <= left) break;
    evict.push(copy.model);
    left += copy.bytes;
  }
  return { kind: 'loads', bytes, evict };
}

/** D2; used longest ago first. */
function evictable(leases: readonly Lease[], wanted: Wanted, now: Situation): Resident[] {
  return now.residents
    .filter(
      copy =>
        copy.state === 'loaded' &&
        !copy.kept &&
        !copy.at_work &&
        !sameModel(copy.model, wanted.model) &&
        !leases.some(lease => sameModel(lease.model, copy.model)),
    )
    .sort((left, right) => (left.used_at ?? 0) - (right.used_at ?? 0));
}

function freeFor(
  leases: readonly Lease[],
  wanted: Wanted,
  now: Situation,
  capacity: CapacityAdvert,
): Free | null {
  const others = now.residents.filter(({ model }) => !sameModel(model, wanted.model));
  const own = now.residents.find(({ model }) => sameModel(model, wanted.model));
  const at = measuredAt(capacity);
  const unseen = others.filter(({ state, since }) => state === 'loaded' && since >= at);
  const returns = own !== undefined && own.state !== 'loading' && own.since < at ? own.bytes : 0;
  const correction = returns - unseen.reduce((sum, { bytes }) => sum + bytes, 0);
  const promises = leases.filter(({ model }) => !sameModel(model, wanted.model));
  const room = roomOf({
    node: now.node,
    capacity: { advert: corrected(capacity, correction), seen_at: now.now },
    runtime: { advert: runtimeOf(promises, others, now), seen_at: now.now },
  });
  if (room.free_bytes === null || room.free_after_evicting_bytes === null) return null;
  return { now: room.free_bytes, after: room.free_after_evicting_bytes };
}

const measuredAt = ({ at, gpus, ram }: CapacityAdvert): number =>
  gpus.length === 0 ? (ram.measured_at ?? at) : Math.min(...gpus.map(gpu => gpu.measured_at));

/** The capacity with more or less free than was measured. */
function corrected(capacity: CapacityAdvert, bytes: number): CapacityAdvert {
  const [first, ...rest] = capacity.gpus;
  if (first === undefined || first.free_bytes === null) {
    const available_bytes = capacity.ram.available_bytes + bytes;
    return { ...capacity, ram: { ...capacity.ram, available_bytes } };
  }
  return {
    ...capacity,
    gpus: [{ ...first, free_bytes: first.free_bytes + bytes }, ...rest],
  };
}

/** The node as it would advertise itself, with every copy that must stay under a lease. */
function runtimeOf(
  promises: readonly Lease[],
  residents: readonly Resident[],
  now: Situation,
): RuntimeAdvert {
  const stays = residents.filter(copy => copy.state !== 'loaded' || copy.kept || copy.at_work);
  return {
    ...{ node: now.node, epoch: 1, host: '', state: 'ready', at: now.now, slots: 1, slots_used: 0 },
    engines: now.engines.map(engine => ({
      ...engine,
      models: residents
        .filter(copy => copy.engine === engine.name && copy.state !== 'loading')
        .flatMap(copy => listed(engine, copy)),
    })),
    leases: [...promises.map(leaseAdvert), ...stays.map(copy => pseudoLease(copy, now.now))],
  };
}

function listed(engine: EngineAdvert, copy: Resident): ModelAdvert[] {
  const model = engine.models.find(({ name }) => sameModel(name, copy.model));
  if (model === undefined) return [];
  return [{ ...model, loaded: true, vram_bytes: copy.bytes, ram_bytes: copy.bytes }];
}

const NOBODY = LeaseId.parse('copy');

const pseudoLease = ({ model, bytes }: Resident, now: number): LeaseAdvert => ({
  ...{ lease: NOBODY, model, bytes, expires_at: now },
});
