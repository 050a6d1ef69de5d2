/** Who holds the memory of a model, and on which terms. */
import {
  type Attempt,
  attemptKey,
  type LeaseId,
  leaseNameOf,
  type StampedBuild,
  stampedAttempt,
  type TaskId,
} from '../../protocol/ids.ts';
import type { RequestId } from '../../protocol/inference.ts';
import type { LeaseAdvert } from '../../protocol/node.ts';
import type { EngineName } from '../../protocol/task.ts';

import type { CardBytes } from '../../scheduling/node-resident.ts';

/** Its lease is kept on disk: the master counts on it over restarts. */
export interface AttemptHolder extends StampedBuild {
  readonly task: TaskId;
  readonly attempt: Attempt;
}

/** Its lease dies with the process, as its stream does. */
export interface RequestHolder {
  readonly request: RequestId;
}

export type Holder = AttemptHolder | RequestHolder;

export interface Terms {
  readonly engine: EngineName;
  readonly model: string;
  readonly context_tokens: number;
  /** Estimated need of loading it. */
  readonly bytes: number;
  /** What the asker would unload for it. */
  readonly evict?: readonly string[] | undefined;
}

/** Nothing else of what carries them. */
export const termsOf = ({ engine, model, context_tokens, bytes, evict }: Terms): Terms => ({
  ...{ engine, model, context_tokens, bytes },
  ...(evict === undefined ? {} : { evict }),
});

export type Lease = Holder &
  Terms & {
    readonly lease: LeaseId;
    /** What was asked for; `bytes` is what is booked for it. */
    readonly asked_bytes?: number;
    /** Where it is booked; absent where nobody knows where the copy lies that it shares. */
    readonly cards?: readonly CardBytes[];
    readonly ram_bytes?: number;
    readonly epoch: number;
    readonly expires_at: number;
  };

export type LeaseRequest = Holder & Terms & { readonly ttl_ms: number };

export const isAttempt = (holder: Holder): holder is AttemptHolder => 'attempt' in holder;

export const holderKey = (holder: Holder): string =>
  isAttempt(holder) ? attemptKey(holder) : holder.request;

/** `atWork`: of an attempt, whether it has begun. */
export const leaseAdvert = (lease: Lease, atWork?: boolean): LeaseAdvert => {
  const { model, bytes, expires_at } = lease;
  const said = { lease: leaseNameOf(lease.lease), ...holderOf(lease), model, bytes, expires_at };
  return atWork === undefined ? said : { ...said, at_work: atWork };
};

/** Who holds it, and nothing else of what carries it. */
export const holderOf = (holder: Holder): Holder =>
  isAttempt(holder) ? stampedAttempt(holder) : { request: holder.request };
