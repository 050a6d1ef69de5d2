/**
 * The ledger of reservations, kept in the journal: a lease is on disk before it is answered, so that
 * a worker that is killed comes back to the promises it made.
 */
import type { ReserveReply, ReserveRequest } from '../../protocol/node.ts';
import type { TaskMessage } from '../../protocol/task.ts';
import type { Journal } from '../../runtime/journal.ts';
import {
  expire,
  type Lease,
  type Ledger,
  leaseKey,
  newLedger,
  release,
  reserve,
  type Situation,
} from './reservations.ts';

const PREFIX = 'lease/';

export class LeaseBook {
  readonly #journal: Journal;
  readonly #changed: () => void;
  #ledger: Ledger;

  private constructor(journal: Journal, ledger: Ledger, changed: () => void) {
    this.#journal = journal;
    this.#ledger = ledger;
    this.#changed = changed;
  }

  /** The book as it was left, without the leases whose time is over. */
  static async open(journal: Journal, epoch: number, changed: () => void): Promise<LeaseBook> {
    const leases: Lease[] = [];
    for await (const [, value] of journal.entries(PREFIX)) leases.push(value as Lease);
    return new LeaseBook(journal, newLedger(epoch, leases), changed);
  }

  get ledger(): Ledger {
    return this.#ledger;
  }

  /** Whether this lease was granted to this attempt and still holds. */
  holds(task: Pick<TaskMessage, 'build' | 'task' | 'attempt' | 'lease'>): boolean {
    return this.#ledger.leases.some(
      held => held.lease === task.lease && leaseKey(held) === leaseKey(task),
    );
  }

  async reserve(request: ReserveRequest, situation: Situation): Promise<ReserveReply> {
    const before = this.#ledger.leases;
    const { ledger, reply, fresh } = reserve(this.#ledger, request, situation);
    this.#ledger = ledger;
    const gone = before.filter(lease => !ledger.leases.includes(lease));
    try {
      await this.#write(fresh, gone);
    } catch (error) {
      // Not on disk, so not promised.
      if (fresh !== null) this.#ledger = release(this.#ledger, fresh.lease);
      throw error;
    }
    return reply;
  }

  async release(lease: string): Promise<void> {
    await this.#drop(this.#ledger.leases.filter(held => held.lease === lease));
  }

  async releaseAttempt(attempt: string): Promise<void> {
    await this.#drop(this.#ledger.leases.filter(held => leaseKey(held) === attempt));
  }

  /** Takes back what has expired; attempts at work keep theirs. */
  async sweep(now: number, atWork: (attempt: string) => boolean): Promise<readonly Lease[]> {
    const { expired } = expire(this.#ledger, now, atWork);
    await this.#drop(expired);
    return expired;
  }

  async #drop(gone: readonly Lease[]): Promise<void> {
    if (gone.length === 0) return;
    for (const { lease } of gone) this.#ledger = release(this.#ledger, lease);
    await this.#write(null, gone);
  }

  async #write(fresh: Lease | null, gone: readonly Lease[]): Promise<void> {
    if (fresh === null && gone.length === 0) return;
    await this.#journal.batch([
      ...gone.map(({ lease }) => ({ type: 'del' as const, key: PREFIX + lease })),
      ...(fresh === null
        ? []
        : [{ type: 'put' as const, key: PREFIX + fresh.lease, value: fresh }]),
    ]);
    this.#changed();
  }
}
