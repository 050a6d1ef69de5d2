/**
 * The ledger of a node's memory: who was promised what. Pure: it gets the situation as data and
 * gives the next ledger. Attempts of builds and inferences stand in the same ledger.
 *
 * L1: one holder has one lease; asking again for the same gives the same lease.
 * L2: what is granted fits into what the node measured as free, less what was promised before.
 * L3: a lease ends by release, by its attempt's end, or by its time, but not by time while its
 *     holder is at work: the memory is in use.
 * L4: ids of leases never come again: they hold the epoch of the process that granted them.
 */
import { type Attempt, type BuildId, LeaseId, type TaskId } from '../../protocol/ids.ts';
import type { RequestId } from '../../protocol/inference.ts';
import type { LeaseAdvert, ReserveReply } from '../../protocol/node.ts';
import type { EngineName } from '../../protocol/task.ts';
import { attemptKey } from '../../protocol/workspace.ts';
import { sameModel } from '../../scheduling/model-names.ts';
import { admit, type Situation } from './admission.ts';

/** Its lease is kept on disk: the master counts on it over restarts. */
export interface AttemptHolder {
  readonly build: BuildId;
  readonly task: TaskId;
  readonly attempt: Attempt;
}

/** Its lease dies with the process, as its stream does. */
export interface RequestHolder {
  readonly request: RequestId;
}

export type Holder = AttemptHolder | RequestHolder;

interface Terms {
  readonly engine: EngineName;
  readonly model: string;
  readonly context_tokens: number;
  readonly bytes: number;
}

export type Lease = Holder &
  Terms & {
    readonly lease: LeaseId;
    readonly epoch: number;
    readonly expires_at: number;
  };

export type LeaseRequest = Holder & Terms & { readonly ttl_ms: number };

export interface Ledger {
  readonly epoch: number;
  readonly granted: number;
  readonly leases: readonly Lease[];
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

export const isAttempt = (holder: Holder): holder is AttemptHolder => 'attempt' in holder;

export const holderKey = (holder: Holder): string =>
  isAttempt(holder) ? attemptKey(holder.build, holder.task, holder.attempt) : holder.request;

export function reserve(ledger: Ledger, request: LeaseRequest, now: Situation): Reservation {
  const key = holderKey(request);
  const held = ledger.leases.find(lease => holderKey(lease) === key);
  if (held !== undefined && isSame(held, request)) {
    return { ledger, reply: granted(held), fresh: null }; // L1
  }
  // The same attempt placed anew, with another model perhaps: the older promise is void.
  const leases = ledger.leases.filter(lease => lease !== held);
  const reason = refusalOf(leases, request, now);
  if (reason !== null) {
    return { ledger: { ...ledger, leases }, reply: { granted: false, reason }, fresh: null };
  }
  const { engine, model, context_tokens, bytes, ttl_ms } = request;
  const number = ledger.granted + 1;
  const fresh: Lease = {
    lease: LeaseId.parse(`${ledger.epoch}-${number}`),
    ...holderOf(request),
    ...{ engine, model, context_tokens, bytes },
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

/** Takes back the leases whose time is over and whose holder is not at work (L3). */
export function expire(
  ledger: Ledger,
  now: number,
  atWork: (holder: string) => boolean,
): { readonly ledger: Ledger; readonly expired: readonly Lease[] } {
  const over = (lease: Lease): boolean => lease.expires_at <= now && !atWork(holderKey(lease));
  return {
    ledger: { ...ledger, leases: ledger.leases.filter(lease => !over(lease)) },
    expired: ledger.leases.filter(over),
  };
}

export const leaseAdvert = (lease: Lease): LeaseAdvert => {
  const { model, bytes, expires_at } = lease;
  return { lease: lease.lease, ...holderOf(lease), model, bytes, expires_at };
};

const holderOf = (holder: Holder): Holder =>
  isAttempt(holder)
    ? { build: holder.build, task: holder.task, attempt: holder.attempt }
    : { request: holder.request };

const granted = ({ lease, epoch, expires_at }: Lease): ReserveReply => ({
  granted: true,
  lease,
  epoch,
  expires_at,
});

const isSame = (held: Lease, request: LeaseRequest): boolean =>
  held.engine === request.engine &&
  sameModel(held.model, request.model) &&
  held.context_tokens === request.context_tokens &&
  held.bytes >= request.bytes;

/** Why the node declines, or null where it takes it. */
function refusalOf(leases: readonly Lease[], request: LeaseRequest, now: Situation): string | null {
  if (!now.ready) return 'the worker takes no new work now';
  if (isAttempt(request) && leases.filter(isAttempt).length >= now.slots) {
    return `all ${now.slots} slots are taken`;
  }
  const admission = admit(leases, request, now);
  return admission.kind === 'refused' ? admission.reason : null;
}
