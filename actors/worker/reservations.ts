/**
 * The ledger of a node's memory: who was promised what. Pure: it gets the situation as data and
 * gives the next ledger. Attempts of builds and inferences stand in the same ledger.
 *
 * L1: one holder has one lease; asking again for the same gives the same lease.
 * L2: what is granted fits into what the node measured as free, less what was promised before.
 * L3: a lease ends by release, by its attempt's end, or by its time, but not by time while its
 *     holder is at work: the memory is in use.
 * L4: ids of leases never come again: they hold the epoch of the process that granted them. And they
 *     cannot be guessed: they end in a secret.
 */
import { LeaseId } from '../../protocol/ids.ts';
import type { ReserveReply } from '../../protocol/node.ts';
import { sameModel } from '../../scheduling/model-names.ts';
import { type Admission, admit, findModel, type Situation } from './admission.ts';
import { holderKey, holderOf, isAttempt, type Lease, type LeaseRequest, termsOf } from './lease.ts';

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

export function reserve(
  ledger: Ledger,
  asked: LeaseRequest,
  now: Situation,
  secret: string,
): Reservation {
  const found = findModel(asked, now);
  const request = 'model' in found ? { ...asked, model: found.model.name } : asked;
  const key = holderKey(request);
  const held = ledger.leases.find(lease => holderKey(lease) === key);
  if (held !== undefined && isSame(held, request)) {
    return { ledger, reply: granted(held), fresh: null }; // L1
  }
  // The same attempt placed anew, with another model perhaps: the older promise is void.
  const leases = ledger.leases.filter(lease => lease !== held);
  const admission = decide(leases, request, now);
  if (admission.kind === 'refused') {
    const { reason } = admission;
    return { ledger: { ...ledger, leases }, reply: { granted: false, reason }, fresh: null };
  }
  const number = ledger.granted + 1;
  const fresh: Lease = {
    lease: LeaseId.parse(`${ledger.epoch}-${number}--${secret}`),
    ...holderOf(request),
    ...termsOf(request),
    asked_bytes: request.bytes,
    ...(admission.charge ?? {}),
    epoch: ledger.epoch,
    expires_at: now.now + request.ttl_ms,
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
  isOver: (lease: Lease) => boolean,
  atWork: (holder: string) => boolean,
): { readonly ledger: Ledger; readonly expired: readonly Lease[] } {
  const over = (lease: Lease): boolean => isOver(lease) && !atWork(holderKey(lease));
  return {
    ledger: { ...ledger, leases: ledger.leases.filter(lease => !over(lease)) },
    expired: ledger.leases.filter(over),
  };
}

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
  (held.asked_bytes ?? held.bytes) >= request.bytes;

function decide(leases: readonly Lease[], request: LeaseRequest, now: Situation): Admission {
  if (!now.ready) return { kind: 'refused', reason: 'the worker takes no new work now' };
  if (isAttempt(request) && leases.filter(isAttempt).length >= now.slots) {
    return { kind: 'refused', reason: `all ${now.slots} slots are taken` };
  }
  return admit(leases, request, now);
}
