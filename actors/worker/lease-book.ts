/**
 * The ledger of reservations. The lease of an attempt is kept in the journal, so that a worker that is
 * killed comes back to the promises it made; that of an inference lives and dies with its stream.
 *
 * B1: nothing is answered that is not on disk. Promises to attempts are made and ended one after the
 *     other, so that no answer rests on one whose write has yet to succeed.
 * B2: what a write that fails would have changed is as it was. Memory that is about to be promised
 *     or given back counts as taken until the write is through: inferences take it in the meantime.
 * B3: a lease that cannot be read is none: it is taken out of the journal, and its memory is free.
 */
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { CodeGodError } from '../../protocol/errors.ts';
import { Attempt, BuildId, LeaseId, leaseNameOf, TaskId } from '../../protocol/ids.ts';
import type { ReserveReply, ReserveRequest } from '../../protocol/node.ts';
import { EngineName, type TaskMessage } from '../../protocol/task.ts';
import type { Clock } from '../../runtime/clock.ts';
import { type Journal, soundEntries } from '../../runtime/journal.ts';
import { WORKER_KEYS } from '../../runtime/journal-keys.ts';
import { Turns } from '../../runtime/turns.ts';
import type { Situation } from './admission.ts';
import { type Holder, holderKey, isAttempt, type Lease, type LeaseRequest } from './lease.ts';
import { expire, type Ledger, newLedger, release, reserve } from './reservations.ts';

const PREFIX = WORKER_KEYS.leases;
/** Promises that may wait for each other's writes. */
const WAITING_MAX = 1_024;
const LEASE_MS_MAX = 24 * 3_600_000;

/** 122 bits of chance. */
const newSecret = (): string => randomUUID().replaceAll('-', '');

/** What of a lease is reckoned with; the rest is only told on. */
const KeptLease = z.looseObject({
  lease: LeaseId,
  build: BuildId,
  task: TaskId,
  attempt: Attempt,
  engine: EngineName,
  model: z.string(),
  context_tokens: z.number().nonnegative(),
  bytes: z.number().nonnegative(),
  cards: z.array(z.looseObject({ index: z.int(), bytes: z.number().nonnegative() })).optional(),
  ram_bytes: z.number().nonnegative().optional(),
  expires_at: z.number(),
});

export interface LeaseListeners {
  /** What was promised to attempts is not as it was. */
  readonly changed: () => void;
  /** Inferences came or went. */
  readonly used: () => void;
  /** A lease in the journal could not be read, and is no more. */
  readonly unreadable?: (key: string) => void;
}

export class LeaseBook {
  readonly #journal: Journal;
  readonly #told: LeaseListeners;
  /**
   * When leases are over, by the monotonic clock, from the first sweep on that saw them: a clock that
   * is put back keeps none alive, and one put forward ends none.
   */
  readonly #overMs = new Map<LeaseId, number>();
  readonly #turns = new Turns(WAITING_MAX, 'the leases of attempts');
  #ledger: Ledger;

  private constructor(journal: Journal, ledger: Ledger, told: LeaseListeners) {
    this.#journal = journal;
    this.#ledger = ledger;
    this.#told = told;
  }

  /** The book as it was left, without the leases whose time is over. */
  static async open(journal: Journal, epoch: number, told: LeaseListeners): Promise<LeaseBook> {
    const leases: Lease[] = [];
    const unreadable: string[] = [];
    const damaged = (key: string): void => void unreadable.push(key);
    for await (const [key, value] of soundEntries(journal, PREFIX, damaged)) {
      const read = KeptLease.safeParse(value);
      if (read.success) leases.push(value as Lease);
      else unreadable.push(key);
    }
    for (const key of unreadable) {
      await journal.batch([{ type: 'del', key }]); // B3
      told.unreadable?.(key);
    }
    return new LeaseBook(journal, newLedger(epoch, leases), told);
  }

  get ledger(): Ledger {
    return this.#ledger;
  }

  /** Whether this lease was granted to this attempt and still holds. */
  holds(task: Pick<TaskMessage, 'build' | 'stamp' | 'task' | 'attempt' | 'lease'>): boolean {
    return this.#ledger.leases.some(
      held => held.lease === task.lease && holderKey(held) === holderKey(task),
    );
  }

  /** Of an attempt. The situation is looked at when it is its turn (B1). */
  reserve(request: ReserveRequest, situation: () => Situation): Promise<ReserveReply> {
    return this.#turns.run(async () => {
      const before = this.#ledger.leases;
      const { ledger, reply, fresh } = reserve(this.#ledger, request, situation(), newSecret());
      const gone = before.filter(lease => !ledger.leases.includes(lease));
      this.#ledger = { ...ledger, leases: [...gone, ...ledger.leases] }; // B2
      try {
        await this.#write(fresh, gone);
      } catch (error) {
        if (fresh !== null) this.#ledger = release(this.#ledger, fresh.lease);
        throw error;
      }
      this.#forget(gone);
      if (fresh !== null || gone.length > 0) this.#told.changed();
      return reply;
    });
  }

  /** The lease of this holder, where it has one. */
  of(holder: Holder): Lease | null {
    const key = holderKey(holder);
    return this.#ledger.leases.find(held => holderKey(held) === key) ?? null;
  }

  /**
   * A lease of an inference, at once and in memory only.
   * @throws CodeGodError `reservation_refused`.
   */
  lend(request: LeaseRequest, situation: Situation): Lease {
    const { ledger, reply, fresh } = reserve(this.#ledger, request, situation, newSecret());
    if (!reply.granted) throw new CodeGodError('reservation_refused', reply.reason);
    if (fresh === null) {
      throw new CodeGodError('conflict', `${holderKey(request)} is at work here already`);
    }
    this.#ledger = ledger;
    this.#told.used();
    return fresh;
  }

  /** Ends a lease of an inference. */
  giveBack(lease: string): void {
    this.#ledger = release(this.#ledger, lease);
    this.#told.used();
  }

  /** Of an attempt, by its id or its name; what is at work for a stream ends with it and not before. */
  async release(lease: LeaseId): Promise<void> {
    const name = leaseNameOf(lease);
    await this.#drop(({ leases }) =>
      leases.filter(held => leaseNameOf(held.lease) === name && isAttempt(held)),
    );
  }

  async releaseAttempt(attempt: string): Promise<void> {
    await this.#drop(({ leases }) => leases.filter(held => holderKey(held) === attempt));
  }

  /** Takes back what has expired; attempts at work keep theirs. */
  sweep(
    clock: Pick<Clock, 'now' | 'monotonic'>,
    atWork: (attempt: string) => boolean,
  ): Promise<readonly Lease[]> {
    const nowMs = clock.monotonic();
    const now = clock.now();
    return this.#drop(ledger => {
      const known = new Set(ledger.leases.map(({ lease }) => lease));
      for (const lease of this.#overMs.keys()) if (!known.has(lease)) this.#overMs.delete(lease);
      for (const { lease, expires_at } of ledger.leases) {
        const leftMs = Math.min(Math.max(0, expires_at - now), LEASE_MS_MAX);
        if (!this.#overMs.has(lease)) this.#overMs.set(lease, nowMs + leftMs);
      }
      const isOver = ({ lease }: Lease): boolean => (this.#overMs.get(lease) ?? nowMs) <= nowMs;
      return expire(ledger, isOver, atWork).expired;
    });
  }

  #drop(chosen: (ledger: Ledger) => readonly Lease[]): Promise<readonly Lease[]> {
    return this.#turns.run(async () => {
      const gone = chosen(this.#ledger);
      if (gone.length === 0) return gone;
      await this.#write(null, gone);
      this.#forget(gone);
      this.#told.changed();
      return gone;
    });
  }

  #forget(gone: readonly Lease[]): void {
    for (const { lease } of gone) this.#ledger = release(this.#ledger, lease);
  }

  async #write(fresh: Lease | null, gone: readonly Lease[]): Promise<void> {
    const kept = gone.filter(isAttempt);
    if (fresh === null && kept.length === 0) return;
    await this.#journal.batch([
      ...kept.map(({ lease }) => ({ type: 'del' as const, key: PREFIX + lease })),
      ...(fresh === null
        ? []
        : [{ type: 'put' as const, key: PREFIX + fresh.lease, value: fresh }]),
    ]);
  }
}
