/**
 * Requests that wait for a model or run on one, as plain data. Every change gives the next state.
 *
 * Q1: a request is known by its id: entering twice, or ending twice, is entering or ending once.
 * Q2: the order is fair between shares: each is served in proportion to its weight, and a share that
 *     was idle gains nothing by that (start-time fair queueing). Priority moves a request ahead, by
 *     a bounded time, so that nothing is passed for ever.
 */
import type { NodeId } from '../protocol/ids.ts';
import type { ModelPolicy } from '../protocol/policy.ts';
import { canonicalModelName } from './model-names.ts';
import type { Booking } from './node-resident.ts';
import type { PlacementPlan, PlacementRequest } from './placement.ts';

export interface Job {
  readonly id: string;
  /** Who it counts against: a build, an API key. */
  readonly share: string;
  readonly priority: number;
  /** Milliseconds since the epoch. */
  readonly arrived_at: number;
  readonly request: PlacementRequest;
}

export interface QueueOptions {
  /** How long requests for other models may be let in ahead of one. */
  readonly age_bound_ms: number;
  /** How long a loaded model stays at least, while others wait. */
  readonly residency_ms: number;
  /** Weights of shares; 1 where not told. */
  readonly weights?: Readonly<Record<string, number>>;
  readonly policies?: readonly ModelPolicy[];
  readonly aliases?: Readonly<Record<string, string>>;
}

export interface Waiting {
  readonly job: Job;
  /** Place in the order: the least goes first (Q2). */
  readonly rank: number;
  /** Start tag of the share's turn, in ms of service. */
  readonly turn: number;
  /** Nodes that declined it, until when that counts. */
  readonly declined: Readonly<Record<string, { readonly reason: string; readonly until: number }>>;
}

export interface Running {
  readonly waiting: Waiting;
  readonly plan: PlacementPlan;
  readonly started_at: number;
}

/** Requests of one copy that are over, as long as an advert may still show them. */
export interface Ended {
  readonly node: NodeId;
  /** Canonical name of the model. */
  readonly key: string;
  /** When, the newest last. */
  readonly at: readonly number[];
}

export interface QueueState {
  readonly options: QueueOptions;
  /** In their order. */
  readonly waiting: readonly Waiting[];
  readonly running: ReadonlyMap<string, Running>;
  /** By node and canonical name. */
  readonly ended: ReadonlyMap<string, Ended>;
  /** When models were loaded, by node and canonical name. */
  readonly loaded_at: ReadonlyMap<string, number>;
  /** When one that was overdue last took the place of models that others waited for, by node. */
  readonly turned_at: ReadonlyMap<string, number>;
  /** Turn of the request that was started last, and the end of the last turn of each share. */
  readonly virtual_ms: number;
  readonly shares: ReadonlyMap<string, number>;
}

/** `declined` of a request that no node has declined. */
export const NOBODY: Waiting['declined'] = {};
/** A point of priority is worth this part of the age bound. */
const PRIORITY_FRACTION = 0.1;
/** Service that a turn is counted as. */
const TURN_MS = 10_000;
/**
 * Within so much service the order is that of arrival: what a build asks for at once is done
 * together, so that its next step can begin while others still wait for theirs.
 */
const QUANTUM_MS = 60_000;
/** A node that declined is asked again after this. */
const DECLINED_MS = 2_000;
/** Of one copy. What an advert shows in flight is seldom more, and is counted down to none. */
const ENDED_MAX = 64;
const SHARES_MAX = 4_096;

export const emptyQueue = (options: QueueOptions): QueueState => ({
  options,
  waiting: [],
  running: new Map(),
  ended: new Map(),
  loaded_at: new Map(),
  turned_at: new Map(),
  virtual_ms: 0,
  shares: new Map(),
});

export const reconfigured = (state: QueueState, options: QueueOptions): QueueState => ({
  ...state,
  options,
});

/** Q1. */
export function entered(state: QueueState, job: Job): QueueState {
  if (state.running.has(job.id)) return state;
  if (state.waiting.some(waiting => waiting.job.id === job.id)) return state;
  const weight = Math.max(0.001, state.options.weights?.[job.share] ?? 1);
  const turn = Math.max(state.virtual_ms, state.shares.get(job.share) ?? 0);
  const shares = new Map(state.shares);
  shares.delete(job.share);
  shares.set(job.share, turn + TURN_MS / weight);
  if (shares.size > SHARES_MAX) forgetPast(shares, state.virtual_ms);
  const ahead = job.priority * PRIORITY_FRACTION * state.options.age_bound_ms;
  const rank = Math.floor(turn / QUANTUM_MS) * QUANTUM_MS - ahead;
  return inserted({ ...state, shares }, { job, turn, rank, declined: NOBODY });
}

/** A share whose turns are all over is like one that was never there. */
function forgetPast(shares: Map<string, number>, virtualMs: number): void {
  for (const [share, end] of shares) if (end <= virtualMs) shares.delete(share);
  for (const share of shares.keys()) {
    if (shares.size <= SHARES_MAX) return;
    shares.delete(share);
  }
}

function inserted(state: QueueState, waiting: Waiting): QueueState {
  let low = 0;
  let high = state.waiting.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const other = state.waiting[middle];
    if (other !== undefined && comesBefore(waiting, other)) high = middle;
    else low = middle + 1;
  }
  return { ...state, waiting: state.waiting.toSpliced(low, 0, waiting) };
}

function comesBefore(left: Waiting, right: Waiting): boolean {
  if (left.rank !== right.rank) return left.rank < right.rank;
  if (left.job.arrived_at !== right.job.arrived_at) {
    return left.job.arrived_at < right.job.arrived_at;
  }
  return left.job.id < right.job.id;
}

/** It waits no longer, or is over, however it went. */
export function ended(state: QueueState, id: string, now: number): QueueState {
  const running = state.running.get(id);
  if (running === undefined) {
    const waiting = state.waiting.filter(({ job }) => job.id !== id);
    return waiting.length === state.waiting.length ? state : { ...state, waiting };
  }
  const left = new Map(state.running);
  left.delete(id);
  const { node, model } = running.plan;
  const key = canonicalModelName(model);
  const copy = residentKey(node, key);
  const before = state.ended.get(copy)?.at ?? [];
  const at = [...(before.length < ENDED_MAX ? before : before.slice(1)), now];
  return { ...state, running: left, ended: new Map(state.ended).set(copy, { node, key, at }) };
}

/** Its node declined or was lost: it waits again, where it was in the order. */
export function returned(
  state: QueueState,
  id: string,
  now: number,
  reason: string,
  pauseMs: number = DECLINED_MS,
): QueueState {
  const running = state.running.get(id);
  if (running === undefined) return state;
  const { waiting, plan } = running;
  const declined = { ...waiting.declined, [plan.node]: { reason, until: now + pauseMs } };
  return inserted(ended(state, id, now), { ...waiting, declined });
}

export const residentKey = (node: string, model: string): string => `${node} ${model}`;

export function bookingOf({ plan, waiting, started_at }: Running): Booking {
  const { model, engine, context_tokens, cards, ram_bytes, load, evict } = plan;
  const kind = waiting.job.request.kind ?? 'attempt';
  return { model, engine, kind, context_tokens, cards, ram_bytes, load, evict, started_at };
}
