/**
 * Key-value buckets over streams, as every NATS client lays them out (ADR-8): bucket `B` is stream
 * `KV_B`, key `K` is subject `$KV.B.K`, a revision is a sequence number.
 *
 * K1  A bucket that was ensured here and is missing is created again: buckets in memory vanish
 *     with their server.
 * K2  A watcher's picture converges: after a gap it is told what changed and what vanished.
 */
import { CodeGodError } from '../protocol/errors.ts';
import type { Kv, KvChange, KvConfig, StoredMessage, StreamConfig } from './bus.ts';
import { read } from './bus-streams.ts';
import type { TimerWheel } from './bus-wheel.ts';
import { EMPTY, HEADER, type Store, type StoreAck } from './bus-wire.ts';

const MARKER_TTL_MS = 60_000;
const DUPLICATE_WINDOW_MS = 120_000;
const TIMEOUT_MS = 5_000;
const KEY = /^[-/_=a-zA-Z0-9]+(\.[-/_=a-zA-Z0-9]+)*$/;
const KEY_LENGTH_MAX = 200;

export interface KvParts {
  readonly store: Store;
  readonly wheel: TimerWheel;
  readonly newId: () => string;
}

export class StreamKv implements Kv {
  readonly #parts: KvParts;
  readonly #bucket: string;
  readonly #stream: string;
  #config: KvConfig | null = null;

  constructor(parts: KvParts, bucket: string) {
    this.#parts = parts;
    this.#bucket = bucket;
    this.#stream = `KV_${bucket}`;
  }

  async ensure(config: KvConfig): Promise<void> {
    await this.#parts.store.ensure(streamOf(this.#bucket, config));
    this.#config = config;
  }

  /** After a reconnect: a bucket in memory may be gone (K1). */
  async recover(): Promise<void> {
    if (this.#config?.storage === 'memory') await this.heal();
  }

  /** Creates the bucket again where it was ensured before (K1). */
  async heal(): Promise<void> {
    if (this.#config !== null) await this.ensure(this.#config);
  }

  async get(key: string): Promise<{ value: Uint8Array; revision: number } | null> {
    const last = await this.#last(key);
    if (last === null || removal(last) !== null) return null;
    return { value: last.body, revision: last.seq };
  }

  async put(key: string, value: Uint8Array): Promise<number> {
    const ack = await this.#append(key, value, {});
    if (ack.kind === 'appended') return ack.seq;
    throw new CodeGodError('conflict', `bucket ${this.#bucket} refused ${key}: ${ack.kind}`);
  }

  async create(key: string, value: Uint8Array): Promise<number | null> {
    const created = await this.update(key, value, 0);
    if (created !== null) return created;
    const last = await this.#last(key);
    if (last === null || removal(last) === null) return null;
    return this.update(key, value, last.seq);
  }

  async update(key: string, value: Uint8Array, revision: number): Promise<number | null> {
    const ack = await this.#append(key, value, expecting(revision));
    return ack.kind === 'appended' ? ack.seq : null;
  }

  async delete(key: string, revision?: number): Promise<boolean> {
    const expected = revision === undefined ? {} : expecting(revision);
    const ack = await this.#append(key, EMPTY, { ...expected, [HEADER.kvOperation]: 'DEL' });
    return ack.kind === 'appended';
  }

  async keys(): Promise<readonly string[]> {
    const { store, wheel } = this.#parts;
    const keys = new Set<string>();
    const options = { filter: `$KV.${this.#bucket}.>`, from_seq: 1 };
    for await (const message of read(store, wheel, this.#stream, options)) {
      const key = this.#keyOf(message);
      if (removal(message) === null) keys.add(key);
      else keys.delete(key);
    }
    return [...keys];
  }

  async *watch(signal: AbortSignal, filter = '>'): AsyncGenerator<KvChange> {
    const known = new Map<string, number>();
    let unseen: Set<string> | null = null;
    let initial = true;
    const items = this.#parts.store.tail(this.#stream, {
      filter: `$KV.${this.#bucket}.${filter}`,
      start: 'last_per_subject',
      signal,
      onMissing: () => this.heal(),
    });
    for await (const item of items) {
      if (item.kind === 'session') {
        if (item.reset) for (const key of known.keys()) known.set(key, -1);
        unseen = new Set(known.keys());
      } else if (item.kind === 'message') {
        const key = this.#keyOf(item.message);
        unseen?.delete(key);
        const change = changeOf(key, item.message, known);
        if (change !== null) yield change;
      } else {
        for (const key of unseen ?? []) {
          const revision = known.get(key) ?? -1;
          known.delete(key);
          yield { op: 'expired', key, revision };
        }
        unseen = null;
        if (initial) yield { op: 'initial_done' };
        initial = false;
      }
    }
  }

  #keyOf(message: StoredMessage): string {
    return message.subject.slice(`$KV.${this.#bucket}.`.length);
  }

  #subject(key: string): string {
    if (key.length <= KEY_LENGTH_MAX && KEY.test(key)) return `$KV.${this.#bucket}.${key}`;
    throw new CodeGodError('bad_request', `'${key.slice(0, 80)}' is not a key`);
  }

  #last(key: string): Promise<StoredMessage | null> {
    const subject = this.#subject(key);
    return this.#healing(() => this.#parts.store.last(this.#stream, subject));
  }

  async #append(
    key: string,
    value: Uint8Array,
    headers: Record<string, string>,
  ): Promise<StoreAck> {
    const subject = this.#subject(key);
    const { store, newId } = this.#parts;
    const withId = { ...headers, [HEADER.messageId]: newId() };
    const options = { headers: withId, timeoutMs: TIMEOUT_MS, graceMs: 0 };
    const ack = await this.#healing(() => store.append(subject, value, options));
    if (ack.kind !== 'stream_full') return ack;
    throw new CodeGodError('disk_full', `bucket ${this.#bucket} is full`);
  }

  /** Runs again, once, what failed for want of the bucket (K1). */
  async #healing<T>(operation: () => Promise<T>): Promise<T> {
    try {
      return await operation();
    } catch (error) {
      const missing =
        error instanceof CodeGodError &&
        (error.code === 'no_responders' || error.code === 'not_found');
      if (!missing || this.#config === null) throw error;
      await this.heal();
      return operation();
    }
  }
}

const expecting = (revision: number): Record<string, string> => ({
  [HEADER.expectedSubjectSequence]: String(revision),
});

/** What a message without a value means, or null when it has one. */
function removal(message: StoredMessage): 'delete' | 'expired' | null {
  const reason = message.headers[HEADER.markerReason];
  if (reason !== undefined) return reason === 'MaxAge' ? 'expired' : 'delete';
  const operation = message.headers[HEADER.kvOperation];
  return operation === 'DEL' || operation === 'PURGE' ? 'delete' : null;
}

/** The news in a message, given what the watcher knows; null when there is none. */
function changeOf(
  key: string,
  message: StoredMessage,
  known: Map<string, number>,
): KvChange | null {
  const revision = message.seq;
  const op = removal(message);
  if (op === null) {
    if (known.get(key) === revision) return null;
    known.set(key, revision);
    return { op: 'put', key, value: message.body, revision };
  }
  return known.delete(key) ? { op, key, revision } : null;
}

function streamOf(bucket: string, config: KvConfig): StreamConfig {
  const { ttl_ms, max_value_bytes, max_bytes, replicas } = config;
  return {
    name: `KV_${bucket}`,
    subjects: [`$KV.${bucket}.>`],
    storage: config.storage,
    discard: 'new',
    max_msgs_per_subject: config.history ?? 1,
    marker_ttl_ms: config.marker_ttl_ms ?? MARKER_TTL_MS,
    duplicate_window_ms: Math.min(DUPLICATE_WINDOW_MS, ttl_ms ?? DUPLICATE_WINDOW_MS),
    deny_delete: true,
    rollup: true,
    ...(ttl_ms === undefined ? {} : { max_age_ms: ttl_ms }),
    ...(max_value_bytes === undefined ? {} : { max_message_bytes: max_value_bytes }),
    ...(max_bytes === undefined ? {} : { max_bytes }),
    ...(replicas === undefined ? {} : { replicas }),
  };
}
