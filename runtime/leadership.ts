/**
 * Leadership as a lease in a key-value bucket: one holder at a time, whoever dies is replaced.
 *
 * L1  The revision at which a lease was acquired is its fence: greater than every fence before it.
 * L2  `lost` fires before the lease can end on the server: time is counted on the monotonic clock
 *     from before the renewal was sent, and a margin is left.
 * L3  A holder of this machine that is not alive any more is replaced at once; every other one only
 *     when its lease has ended. Either way by compare-and-set, so that two cannot both win.
 */
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';
import { z } from 'zod';
import { decode, encode } from '../protocol/codec.ts';
import { CodeGodError } from '../protocol/errors.ts';
import type { Kv, KvEntry } from './bus.ts';
import type { Clock, TimerHandle } from './clock.ts';
import { isAlive, ownIdentity } from './process-identity.ts';

const KEY = 'leader.master';

/** Who holds a lease, so that others on the same machine can see whether it still lives. */
export const LeaseHolder = z.object({
  /** `n1-17`: node and epoch. */
  name: z.string().max(160),
  /** Machine, its boot and the namespace in which `pid` counts. */
  host: z.string().max(512),
  pid: z.int(),
  started: z.string().max(256),
});
export type LeaseHolder = z.infer<typeof LeaseHolder>;

export interface Lease {
  /** Goes into everything written under the lease. */
  readonly fence: number;
  /** Fires when the lease is, or may soon be, somebody else's. */
  readonly lost: AbortSignal;
}

export interface Leadership {
  /** Waits until the lease is ours. @throws CodeGodError `cancelled` when the signal fires. */
  acquire(signal: AbortSignal): Promise<Lease>;
  /** Gives the lease back, so that others need not wait for its end. Fires `lost`. */
  release(): Promise<void>;
  /** Who holds it now, by the name it gave; null where nobody does. */
  holder(): Promise<string | null>;
}

export interface LeadershipOptions {
  /** Ensured by the caller, with a TTL of `ttl_ms`. */
  readonly kv: Kv;
  readonly holder: LeaseHolder;
  readonly clock: Clock;
  readonly ttl_ms: number;
  /** Default `leader.master`. */
  readonly key?: string;
  /** Whether a holder of this machine lives. Default: looks at its process. */
  readonly isAlive?: (holder: LeaseHolder) => boolean;
}

/** This process as a holder. */
export function leaseHolder(name: string): LeaseHolder {
  return { name, host: hostIdentity(), ...ownIdentity() };
}

export function createLeadership(options: LeadershipOptions): Leadership {
  return new KvLeadership(options);
}

interface Tenure {
  readonly fence: number;
  readonly lost: AbortController;
  revision: number;
  /** On the monotonic clock. */
  safeUntilMs: number;
  alarm: TimerHandle | null;
}

class KvLeadership implements Leadership {
  readonly #options: LeadershipOptions;
  readonly #key: string;
  readonly #value: Uint8Array;
  #tenure: Tenure | null = null;

  constructor(options: LeadershipOptions) {
    this.#options = options;
    this.#key = options.key ?? KEY;
    this.#value = encode(options.holder);
  }

  async acquire(signal: AbortSignal): Promise<Lease> {
    const { clock, ttl_ms } = this.#options;
    for (;;) {
      if (signal.aborted) throw new CodeGodError('cancelled', 'nobody wants to lead any more');
      const sentMs = clock.monotonic();
      const fence = await this.#tryAcquire();
      if (fence !== null) return this.#begin(fence, sentMs);
      await clock.sleep(ttl_ms * (0.1 + clock.random() / 10), signal);
    }
  }

  async release(): Promise<void> {
    const tenure = this.#tenure;
    if (tenure === null) return;
    this.#lose(tenure, 'released');
    try {
      await this.#options.kv.delete(this.#key, tenure.revision);
    } catch (error) {
      // Unreachable: the lease ends by itself.
      if (!(error instanceof CodeGodError)) throw error;
    }
  }

  async holder(): Promise<string | null> {
    const entry = await this.#options.kv.get(this.#key);
    return entry === null ? null : (holderOf(entry)?.name ?? 'unknown');
  }

  /** The fence, or null where somebody else holds the lease or the bus cannot be asked. */
  async #tryAcquire(): Promise<number | null> {
    const { kv, holder, isAlive: lives = isAlive } = this.#options;
    try {
      const created = await kv.create(this.#key, this.#value);
      if (created !== null) return created;
      const entry = await kv.get(this.#key);
      if (entry === null) return null;
      const other = holderOf(entry);
      const isOurs = other !== null && isSame(other, holder);
      const isDead = other !== null && other.host === holder.host && !lives(other);
      if (!isOurs && !isDead) return null;
      return await kv.update(this.#key, this.#value, entry.revision); // L3
    } catch (error) {
      if (error instanceof CodeGodError && error.retryable) return null;
      throw error;
    }
  }

  #begin(fence: number, sentMs: number): Lease {
    const tenure: Tenure = {
      fence,
      revision: fence,
      lost: new AbortController(),
      safeUntilMs: sentMs + this.#safeMs,
      alarm: null,
    };
    this.#tenure = tenure;
    void this.#keep(tenure);
    this.#watch(tenure);
    return { fence, lost: tenure.lost.signal };
  }

  /** How long after a renewal was sent the lease is surely ours (L2). */
  get #safeMs(): number {
    return this.#options.ttl_ms * 0.8;
  }

  /** Renews every third of the TTL until the lease is lost; a failed renewal is tried again sooner. */
  async #keep(tenure: Tenure): Promise<void> {
    const { kv, clock, ttl_ms } = this.#options;
    const { signal } = tenure.lost;
    let pauseMs = ttl_ms / 3;
    while (await slept(clock, pauseMs, signal)) {
      const sentMs = clock.monotonic();
      try {
        const revision = await kv.update(this.#key, this.#value, tenure.revision);
        if (signal.aborted) return;
        const known = revision ?? (await this.#ownRevision());
        if (known === null) return this.#lose(tenure, 'somebody else holds it');
        tenure.revision = known;
        // A renewal found by looking may be older than this try: it earns no time.
        if (revision !== null) tenure.safeUntilMs = sentMs + this.#safeMs;
        pauseMs = revision === null ? 0 : ttl_ms / 3;
      } catch {
        // The bus is away. Whether that costs the lease is decided by the time (#watch).
        pauseMs = ttl_ms / 20;
      }
    }
  }

  /** The lease's revision where it is still ours: an earlier renewal whose answer was lost. */
  async #ownRevision(): Promise<number | null> {
    const entry = await this.#options.kv.get(this.#key);
    const other = entry === null ? null : holderOf(entry);
    return entry !== null && other !== null && isSame(other, this.#options.holder)
      ? entry.revision
      : null;
  }

  /** Fires `lost` in time, also when a renewal hangs (L2). */
  #watch(tenure: Tenure): void {
    const { clock } = this.#options;
    if (tenure.lost.signal.aborted) return;
    const leftMs = tenure.safeUntilMs - clock.monotonic();
    if (leftMs <= 0) this.#lose(tenure, 'it was not renewed in time');
    else tenure.alarm = clock.setTimeout(() => this.#watch(tenure), leftMs);
  }

  #lose(tenure: Tenure, reason: string): void {
    if (this.#tenure === tenure) this.#tenure = null;
    if (tenure.alarm !== null) this.#options.clock.clearTimeout(tenure.alarm);
    tenure.lost.abort(new CodeGodError('lease_lost', `leadership ended: ${reason}`));
  }
}

/** False where the signal fired first. */
async function slept(clock: Clock, delayMs: number, signal: AbortSignal): Promise<boolean> {
  try {
    await clock.sleep(delayMs, signal);
    return true;
  } catch {
    return false; // Woken by the signal: there is nothing left to renew.
  }
}

function holderOf(entry: KvEntry): LeaseHolder | null {
  try {
    return LeaseHolder.parse(decode(entry.value, undefined));
  } catch {
    return null; // Written by another release: its lease ends by time like any other.
  }
}

const isSame = (left: LeaseHolder, right: LeaseHolder): boolean =>
  left.name === right.name &&
  left.host === right.host &&
  left.pid === right.pid &&
  left.started === right.started;

/** Where a process id means the same process: one boot of one machine, one namespace of ids. */
function hostIdentity(): string {
  const parts = [
    hostname(),
    orEmpty(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()),
    orEmpty(() => readlinkSync('/proc/self/ns/pid')),
  ];
  return parts.filter(part => part !== '').join(' ');
}

function orEmpty(read: () => string): string {
  try {
    return read();
  } catch {
    return ''; // Only Linux has these files; elsewhere the host's name has to do.
  }
}
