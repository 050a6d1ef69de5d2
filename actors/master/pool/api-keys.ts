/**
 * The keys of the HTTP door: who holds one, and how much of each may be used.
 *
 * K1: a key is compared by its hash alone; neither key nor hash is ever logged or told.
 * K2: a key that is taken away, or whose time is over, is refused from then on.
 * K3: limits are kept per process: two masters on one bus allow twice as much.
 */
import { createHash } from 'node:crypto';
import { CodeGodError } from '../../../protocol/errors.ts';
import { ApiKey } from '../../../protocol/policy.ts';
import { BUCKETS } from '../../../protocol/streams.ts';
import type { Bus } from '../../../runtime/bus.ts';
import type { Clock } from '../../../runtime/clock.ts';
import { type Entry, followTable } from '../../../runtime/live-table.ts';
import type { Logger } from '../../../runtime/log.ts';
import { sameModel } from '../../../scheduling/model-names.ts';
import { Allowance } from './allowance.ts';

export interface ApiKeysOptions {
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Logger;
}

/** A request that a key let in. */
export interface Pass {
  readonly key: ApiKey;
  /** To be told once, when the request is over. */
  leave(tokens: number): void;
}

interface Use {
  inFlight: number;
  requests: Allowance | null;
  tokens: Allowance | null;
}

export class ApiKeys {
  readonly #options: ApiKeysOptions;
  readonly #keys = new Map<string, ApiKey>();
  readonly #hashes = new Map<string, string>();
  /** Nobody is let in by them; that they are there still says that the door has keys. */
  readonly #unreadable = new Set<string>();
  readonly #uses = new Map<string, Use>();

  constructor(options: ApiKeysOptions) {
    this.#options = options;
  }

  /** Watches until the signal fires; resolves when everything that was there has been seen. */
  watch(signal: AbortSignal): Promise<void> {
    const { bus, log } = this.#options;
    const table = {
      ...{ bus, log, bucket: BUCKETS.key.name },
      read: (value: unknown) => ApiKey.parse(value),
      changed: (entry: string, key: Entry<ApiKey>) => this.#take(entry, key),
    };
    return followTable(table, signal).known;
  }

  /** Whether nobody has a key. */
  get isEmpty(): boolean {
    return this.#keys.size === 0 && this.#unreadable.size === 0;
  }

  list(): readonly ApiKey[] {
    return [...this.#keys.values()];
  }

  /** @throws CodeGodError `unauthorized` (K2) */
  find(secret: string): ApiKey {
    const id = this.#hashes.get(createHash('sha256').update(secret).digest('hex'));
    const key = id === undefined ? undefined : this.#keys.get(id);
    if (key === undefined) throw new CodeGodError('unauthorized', 'there is no such API key');
    if (key.expires_at !== null && key.expires_at <= this.#options.clock.now()) {
      throw new CodeGodError('unauthorized', `the API key ${key.name} has expired`);
    }
    return key;
  }

  /** Counts one request for a model. @throws CodeGodError `rate_limited` */
  enter(key: ApiKey): Pass {
    const now = this.#options.clock.monotonic();
    const use = this.#useOf(key, now);
    if (key.in_flight_max !== null && use.inFlight >= key.in_flight_max) {
      throw limited(key, `${key.in_flight_max} requests at once`, 1_000);
    }
    const tokensMs = use.tokens?.waitMs(now) ?? 0;
    if (tokensMs > 0) throw limited(key, `${key.tokens_per_minute} tokens a minute`, tokensMs);
    const requestsMs = use.requests?.waitMs(now) ?? 0;
    if (requestsMs > 0) {
      throw limited(key, `${key.requests_per_minute} requests a minute`, requestsMs);
    }
    use.requests?.take(1, now);
    use.inFlight += 1;
    return {
      key,
      leave: tokens => {
        use.inFlight -= 1;
        use.tokens?.take(tokens, this.#options.clock.monotonic());
      },
    };
  }

  #useOf(key: ApiKey, now: number): Use {
    const known = this.#uses.get(key.id);
    if (known !== undefined) return known;
    const allowance = (perMinute: number | null): Allowance | null =>
      perMinute === null ? null : new Allowance(perMinute, now);
    const use = {
      inFlight: 0,
      requests: allowance(key.requests_per_minute),
      tokens: allowance(key.tokens_per_minute),
    };
    this.#uses.set(key.id, use);
    return use;
  }

  #take(entry: string, key: Entry<ApiKey>): void {
    this.#drop(entry);
    if (key.is === 'unreadable') this.#unreadable.add(entry);
    if (key.is !== 'there') return;
    this.#keys.set(entry, key.value);
    this.#hashes.set(key.value.sha256, entry);
  }

  #drop(entry: string): void {
    this.#unreadable.delete(entry);
    const key = this.#keys.get(entry);
    if (key === undefined) return;
    this.#keys.delete(entry);
    this.#hashes.delete(key.sha256);
    this.#uses.delete(key.id);
  }
}

/** Whether a key may be used for a model; `null`: for any that the pool may choose. */
export function permits(key: ApiKey, model: string | null): boolean {
  if (key.models.length === 0) return true;
  return model !== null && key.models.some(allowed => sameModel(allowed, model));
}

function limited(key: ApiKey, limit: string, waitMs: number): CodeGodError {
  return new CodeGodError('rate_limited', `the API key ${key.name} is good for ${limit}`, {
    details: { retry_after_s: Math.max(1, Math.ceil(waitMs / 1_000)) },
  });
}
