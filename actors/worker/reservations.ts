/**
 * The ledger of a node's memory and slots: who was promised what. Pure: it gets the situation as
 * data and gives the next ledger.
 *
 * L1: one attempt has one lease; asking again for the same gives the same lease.
 * L2: what is granted fits into what the node measured as free, less what was promised before.
 * L3: a lease ends by release, by its attempt's end, or by its time, but not by time while its
 *     attempt is at work: the memory is in use.
 * L4: ids of leases never come again: they hold the epoch of the process that granted them.
 */
import {
  type Attempt,
  type BuildId,
  LeaseId,
  type NodeId,
  type TaskId,
} from '../../protocol/ids.ts';
import type {
  CapacityAdvert,
  EngineAdvert,
  LeaseAdvert,
  ReserveReply,
  ReserveRequest,
  RuntimeAdvert,
} from '../../protocol/node.ts';
import type { EngineName } from '../../protocol/task.ts';
import { attemptKey } from '../../protocol/workspace.ts';
import { gib } from '../../scheduling/memory.ts';
import { nearestName, sameModel } from '../../scheduling/model-names.ts';
import { roomOf } from '../../scheduling/node-room.ts';

export interface Lease {
  readonly lease: LeaseId;
  readonly build: BuildId;
  readonly task: TaskId;
  readonly attempt: Attempt;
  readonly engine: EngineName;
  readonly model: string;
  readonly context_tokens: number;
  readonly bytes: number;
  readonly epoch: number;
  readonly expires_at: number;
}

export interface Ledger {
  readonly epoch: number;
  readonly granted: number;
  readonly leases: readonly Lease[];
}

/** What a decision depends on besides the ledger. */
export interface Situation {
  readonly node: NodeId;
  readonly now: number;
  /** False while the worker starts or drains. */
  readonly ready: boolean;
  readonly slots: number;
  readonly capacity: CapacityAdvert | null;
  readonly engines: readonly EngineAdvert[];
}

export interface Reservation {
  readonly ledger: Ledger;
  readonly reply: ReserveReply;
  /** The lease that is new, to be kept before the reply goes out. */
  readonly fresh: Lease | null;
}

export const newLedger = (epoch: number, leases: readonly Lease[] = []): Ledger => ({
  epoch,
  granted: 0,
  leases,
});

export const leaseKey = ({ build, task, attempt }: Pick<Lease, 'build' | 'task' | 'attempt'>) =>
  attemptKey(build, task, attempt);

export function reserve(ledger: Ledger, request: ReserveRequest, now: Situation): Reservation {
  const held = ledger.leases.find(lease => leaseKey(lease) === leaseKey(request));
  if (held !== undefined && isSame(held, request)) {
    return { ledger, reply: granted(held), fresh: null }; // L1
  }
  // The same attempt placed anew, with another model perhaps: the older promise is void.
  const leases = ledger.leases.filter(lease => lease !== held);
  const reason = refusalOf(leases, request, now);
  if (reason !== null) {
    return { ledger: { ...ledger, leases }, reply: { granted: false, reason }, fresh: null };
  }
  const { build, task, attempt, engine, model, context_tokens, bytes, ttl_ms } = request;
  const number = ledger.granted + 1;
  const fresh: Lease = {
    lease: LeaseId.parse(`${ledger.epoch}-${number}`),
    ...{ build, task, attempt, engine, model, context_tokens, bytes },
    epoch: ledger.epoch,
    expires_at: now.now + ttl_ms,
  };
  const next = { ...ledger, granted: number, leases: [...leases, fresh] };
  return { ledger: next, reply: granted(fresh), fresh };
}

export const release = (ledger: Ledger, lease: string): Ledger => ({
  ...ledger,
  leases: ledger.leases.filter(held => held.lease !== lease),
});

/** Takes back the leases whose time is over and whose attempt is not at work (L3). */
export function expire(
  ledger: Ledger,
  now: number,
  atWork: (attempt: string) => boolean,
): { readonly ledger: Ledger; readonly expired: readonly Lease[] } {
  const over = (lease: Lease): boolean => lease.expires_at <= now && !atWork(leaseKey(lease));
  return {
    ledger: { ...ledger, leases: ledger.leases.filter(lease => !over(lease)) },
    expired: ledger.leases.filter(over),
  };
}

export const leaseAdverts = (ledger: Ledger): LeaseAdvert[] =>
  ledger.leases.map(({ lease, build, task, attempt, model, bytes, expires_at }) => ({
    ...{ lease, build, task, attempt, model, bytes, expires_at },
  }));

const granted = ({ lease, epoch, expires_at }: Lease): ReserveReply => ({
  granted: true,
  lease,
  epoch,
  expires_at,
});

const isSame = (held: Lease, request: ReserveRequest): boolean =>
  held.engine === request.engine &&
  sameModel(held.model, request.model) &&
  held.context_tokens === request.context_tokens &&
  held.bytes >= request.bytes;

/** Why the node declines, or null where it takes it. */
function refusalOf(
  leases: readonly Lease[],
  request: ReserveRequest,
  now: Situation,
): string | null {
  if (!now.ready) return 'the worker takes no new work now';
  if (leases.length >= now.slots) return `all ${now.slots} slots are taken`;
  const engine = now.engines.find(({ name }) => name === request.engine);
  if (engine === undefined) return `there is no engine ${request.engine} on this node`;
  if (!engine.available) return engine.reason ?? `${engine.name} is not available`;
  const model = engine.models.find(({ name }) => sameModel(name, request.model));
  if (model === undefined) {
    const nearest = nearestName(
      request.model,
      engine.models.map(({ name }) => name),
    );
    const advice = nearest === null ? '' : `; the nearest one is ${nearest}`;
    return `${request.model} is not installed here${advice}`;
  }
  if (request.bytes === 0) return null;
  if (model.loaded && (model.context_tokens ?? 0) >= request.context_tokens) return null;
  const same = leases.find(lease => sameModel(lease.model, request.model));
  if (same !== undefined && same.bytes >= request.bytes) return null;
  return roomRefusal(leases, request, now);
}

/** L2, by the arithmetic the master places by. */
function roomRefusal(
  leases: readonly Lease[],
  request: ReserveRequest,
  now: Situation,
): string | null {
  if (now.capacity === null) return 'nobody measures the memory of this node now';
  const runtime = runtimeFor(leases, now);
  const view = {
    node: now.node,
    capacity: { advert: now.capacity, seen_at: now.now },
    runtime: { advert: runtime, seen_at: now.now },
  };
  const room = roomOf(view);
  const free = room.free_after_evicting_bytes;
  if (free !== null && request.bytes <= free) return null;
  if (free !== null) {
    return `needs ${gib(request.bytes)}, ${gib(Math.max(0, free))} can be had`;
  }
  // The GPU keeps its figures to itself; then main memory must be enough on its own.
  const onCpu = roomOf({
    ...view,
    capacity: { ...view.capacity, advert: { ...now.capacity, gpus: [] } },
  });
  if (request.bytes <= (onCpu.free_after_evicting_bytes ?? 0)) return null;
  return 'nobody knows how much GPU memory is free; declare it in the configuration';
}

const runtimeFor = (leases: readonly Lease[], now: Situation): RuntimeAdvert => ({
  node: now.node,
  epoch: 1,
  host: '',
  state: 'ready',
  at: now.now,
  engines: [...now.engines],
  leases: leaseAdverts({ epoch: 1, granted: 0, leases }),
  slots: now.slots,
  slots_used: leases.length,
});
