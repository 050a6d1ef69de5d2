/**
 * The bus port: everything a process may ask of the bus, as interfaces only.
 *
 * Bodies are bytes; schemas and codecs live one layer up. Two adapters implement this port and pass
 * one behaviour suite (`bus-suite.ts`): `nats-bus.ts` and, for simulations, `memory-bus.ts`.
 *
 * B1  Nothing waits without a bound: every call has a timeout, a signal, or fails at once.
 * B2  Nothing fails silently: what no caller can be told is a `BusEvent` on `status()`.
 * B3  Core messages (publish, ask, reply streams) are at most once; appended messages are kept, and
 *     a consumer sees each one at least once until it answers with an `Outcome`.
 * B4  Subscriptions, consumers, followers and watchers survive a lost connection and a restarted
 *     server. In-flight asks and reply streams do not: they fail with `bus_unavailable`.
 */

export type MessageHeaders = Readonly<Record<string, string>>;

export interface BusMessage {
  readonly subject: string;
  readonly headers: MessageHeaders;
  readonly body: Uint8Array;
}

/** A core message as a subscriber sees it; `reply` is null when nobody waits for an answer. */
export interface ReceivedMessage extends BusMessage {
  readonly reply: string | null;
}

/** A message kept in a stream: its sequence number and its ISO 8601 time of storing. */
export interface StoredMessage extends BusMessage {
  readonly seq: number;
  readonly time: string;
}

/** A stored message handed to a consumer. `deliveries` counts from 1. */
export interface Delivery extends StoredMessage {
  readonly deliveries: number;
  /** Restarts the ack wait now. The bus also does it by itself while the handler runs. */
  working(): void;
}

/**
 * What a handler made of a delivery. `done`: never deliver again. `retry`: deliver again after the
 * delay. `reject`: never again, it cannot be handled. `fatal`: somebody else should have it, this
 * consumer stops.
 */
export type Outcome =
  | { readonly kind: 'done' }
  | { readonly kind: 'retry'; readonly delay_ms: number; readonly reason: string }
  | { readonly kind: 'reject'; readonly reason: string }
  | { readonly kind: 'fatal'; readonly reason: string };

/** Something that goes on until stopped. `stop()` is idempotent and bounded (B1). */
export interface Subscription {
  stop(): Promise<void>;
}

export interface AskOptions {
  readonly headers?: MessageHeaders;
  readonly timeout_ms: number;
  readonly signal?: AbortSignal;
}

export interface AskStreamOptions {
  readonly headers?: MessageHeaders;
  /** Longest wait until the peer accepts the request. */
  readonly first_ms: number;
  /** Longest silence between two messages after that. */
  readonly idle_ms: number;
  readonly signal?: AbortSignal;
}

export interface ServeOptions {
  readonly queue?: string;
  /** Requests handled at once; more are answered with `overloaded`. Default 1024. */
  readonly concurrency?: number;
}

export interface Reply {
  readonly body: Uint8Array;
  readonly headers?: MessageHeaders;
}

export interface ServeContext {
  /** Aborted when the bus closes or the subscription stops. */
  readonly signal: AbortSignal;
}

export interface ServeStreamContext {
  /** Aborted when the caller cancels or vanishes, or the bus closes. */
  readonly signal: AbortSignal;
  /**
   * Sends one chunk; waits while 256 chunks are unacknowledged. A chunk needs a body or headers.
   * Throws `cancelled` when the caller no longer listens, `timeout` when no credit came for 60 s.
   */
  send(body: Uint8Array, headers?: MessageHeaders): Promise<void>;
}

export interface StreamConfig {
  readonly name: string;
  readonly subjects: readonly string[];
  readonly storage: 'file' | 'memory';
  /** What gives way when a limit is reached: the oldest message or the new one. */
  readonly discard: 'old' | 'new';
  /** With `discard: 'new'`: also refuse per subject instead of replacing. */
  readonly discard_new_per_subject?: boolean;
  readonly max_age_ms?: number;
  readonly max_bytes?: number;
  readonly max_msgs_per_subject?: number;
  readonly max_message_bytes?: number;
  /**
   * What is published on `from` is stored under `to`, in the server's words: `{{wildcard(1)}}` is the
   * first token that a `*` of `from` stands for. Limits per subject then hold for `to`.
   */
  readonly stored_as?: { readonly from: string; readonly to: string };
  readonly duplicate_window_ms?: number;
  /** When the last message of a subject ages out, a marker is stored for this long. */
  readonly marker_ttl_ms?: number;
  readonly deny_delete?: boolean;
  /** Allow a message to replace all before it on its subject (header `Nats-Rollup: sub`). */
  readonly rollup?: boolean;
  readonly compression?: boolean;
  readonly replicas?: number;
  readonly description?: string;
}

export interface StreamInfo {
  readonly name: string;
  /** When it was made, ISO 8601: tells it from another one of its name. */
  readonly created: string;
  readonly first_seq: number;
  readonly last_seq: number;
  readonly messages: number;
  readonly bytes: number;
}

export interface AppendOptions {
  readonly headers?: MessageHeaders;
  /** `Nats-Msg-Id`: the same id within the stream's duplicate window is stored once. */
  readonly id?: string;
  /** Store only if the last message matching `filter_subject` (default: the subject) is this one. */
  readonly expect?: { readonly last_subject_sequence: number; readonly filter_subject?: string };
  /** Total time for all tries. Default 10 s. */
  readonly timeout_ms?: number;
}

export type AppendResult =
  | { readonly kind: 'appended'; readonly seq: number; readonly duplicate: boolean }
  | { readonly kind: 'wrong_last_sequence' }
  | { readonly kind: 'subject_full' }
  | { readonly kind: 'stream_full' };

export interface ReadOptions {
  readonly filter: string;
  /** First sequence wanted, at least 1. */
  readonly from_seq: number;
  /** Last sequence wanted; default: the last one stored when the reading starts. */
  readonly to_seq?: number;
  readonly signal?: AbortSignal;
}

export interface FollowOptions {
  readonly filter: string;
  readonly from_seq: number;
  readonly signal: AbortSignal;
}

export interface Streams {
  /** Creates the stream or updates it. Throws when the server did not take the configuration. */
  ensure(config: StreamConfig): Promise<void>;
  info(stream: string): Promise<StreamInfo | null>;
  /**
   * Stores one message. While the bus is unreachable it is tried again under the same id until
   * `timeout_ms`. Throws `too_large`, `no_responders` (no stream takes this subject),
   * `bus_unavailable`, `timeout`.
   */
  append(subject: string, body: Uint8Array, options?: AppendOptions): Promise<AppendResult>;
  /** What is stored now, in order, then ends. */
  read(stream: string, options: ReadOptions): AsyncIterable<StoredMessage>;
  /** What is stored, then what comes, in order and without gaps, until the signal. Never throws. */
  follow(stream: string, options: FollowOptions): AsyncIterable<StoredMessage>;
  /** The last message stored under a subject (wildcards allowed). */
  last(stream: string, subject: string): Promise<StoredMessage | null>;
  /** Removes the messages of a subject; answers how many. */
  purge(stream: string, subject: string): Promise<number>;
  /** Removes one message; answers whether it was there. */
  remove(stream: string, seq: number): Promise<boolean>;
}

export interface ConsumeOptions {
  readonly durable: string;
  readonly filter: string;
  readonly ack_wait_ms: number;
  /** Deliveries of one message before the server gives up; -1 is unlimited. */
  readonly max_deliver: number;
  /** Deliveries unanswered at once, over all processes sharing the durable. */
  readonly max_ack_pending: number;
  /** Handlers running at once in this process. No more is pulled than can be handled. */
  readonly concurrency: number;
  /**
   * No other process takes from this durable. What a predecessor took and did not answer then comes
   * at once, its deliveries counted anew, instead of after its ack wait. Default false.
   */
  readonly sole?: boolean;
  /** The bus forgets a consumer that nobody has pulled from for so long. Default: never. */
  readonly forgotten_after_ms?: number;
}

export interface KvConfig {
  readonly ttl_ms?: number;
  readonly storage: 'file' | 'memory';
  readonly history?: number;
  /** How long a delete or expiry stays visible. Default 60 s. */
  readonly marker_ttl_ms?: number;
  readonly max_value_bytes?: number;
  readonly max_bytes?: number;
  readonly replicas?: number;
}

export interface KvEntry {
  readonly value: Uint8Array;
  readonly revision: number;
}

export type KvChange =
  | {
      readonly op: 'put';
      readonly key: string;
      readonly value: Uint8Array;
      readonly revision: number;
    }
  | { readonly op: 'delete' | 'expired'; readonly key: string; readonly revision: number }
  /** Everything that was there when the watch began has been seen. Comes exactly once. */
  | { readonly op: 'initial_done' };

export interface Kv {
  /** Creates the bucket, and creates it again whenever a server comes back without it. */
  ensure(config: KvConfig): Promise<void>;
  get(key: string): Promise<KvEntry | null>;
  /** Answers the new revision. */
  put(key: string, value: Uint8Array): Promise<number>;
  /** Answers the revision, or null when the key exists. */
  create(key: string, value: Uint8Array): Promise<number | null>;
  /** Answers the new revision, or null when `revision` is not the latest. */
  update(key: string, value: Uint8Array, revision: number): Promise<number | null>;
  /** Answers false when `revision` is given and not the latest. */
  delete(key: string, revision?: number): Promise<boolean>;
  keys(): Promise<readonly string[]>;
  /** The latest value of every key, `initial_done`, then each change, until the signal. */
  watch(signal: AbortSignal, filter?: string): AsyncIterable<KvChange>;
}

export interface ObjectsConfig {
  readonly storage: 'file' | 'memory';
  readonly max_bytes?: number;
  readonly ttl_ms?: number;
  readonly replicas?: number;
}

export interface ObjectInfo {
  readonly name: string;
  readonly size: number;
  /** Hex. */
  readonly sha256: string;
}

export interface Objects {
  ensure(config: ObjectsConfig): Promise<void>;
  /** Replaces an object of the same name. */
  put(name: string, data: Uint8Array | AsyncIterable<Uint8Array>): Promise<ObjectInfo>;
  /** Null when missing. The iterable throws when the stored bytes do not match their digest. */
  get(name: string): Promise<AsyncIterable<Uint8Array> | null>;
  info(name: string): Promise<ObjectInfo | null>;
  /** Answers whether it was there. */
  delete(name: string): Promise<boolean>;
  /** Deletes the one that was put the longest ago; false where there is none. */
  deleteOldest(): Promise<boolean>;
}

export type BusEvent =
  | { readonly type: 'disconnected' | 'reconnected'; readonly server: string }
  /** The server knows us no more, at a try to connect again. It is tried for ever. */
  | { readonly type: 'refused'; readonly reason: string }
  | { readonly type: 'lame_duck'; readonly server: string }
  | { readonly type: 'closed'; readonly reason: string | null }
  | { readonly type: 'permission_denied'; readonly operation: string; readonly subject: string }
  | { readonly type: 'heartbeats_missed'; readonly stream: string; readonly consumer: string }
  /** Core publishes given up while disconnected; counted since the last such event. */
  | { readonly type: 'publishes_dropped'; readonly count: number }
  | { readonly type: 'deliveries_exhausted'; readonly stream: string; readonly seq: number }
  | { readonly type: 'message_rejected'; readonly subject: string; readonly reason: string }
  | { readonly type: 'handler_fatal'; readonly subject: string; readonly reason: string }
  /** A handler threw, or an acknowledgement or a repair did not get through. */
  | { readonly type: 'error'; readonly where: string; readonly error: Error };

export interface BusInfo {
  readonly url: string;
  /** Differs from start to start of a server. */
  readonly server_id: string;
  readonly server_version: string;
  readonly max_payload_bytes: number;
  readonly connected: boolean;
}

export type Durability =
  /** `is_same_server` is false where the monitoring address is that of another server of a cluster. */
  | { readonly ok: true; readonly is_same_server: boolean }
  | { readonly ok: false; readonly reason: string; readonly fix: string };

export interface Bus {
  /** Fire and forget; dropped and counted while disconnected (B2). Throws `too_large`. */
  publish(subject: string, body: Uint8Array, headers?: MessageHeaders): void;
  subscribe(
    subject: string,
    handler: (message: ReceivedMessage) => void,
    options?: { readonly queue?: string },
  ): Subscription;
  /**
   * One request, one reply. Throws `no_responders`, `timeout`, `bus_unavailable`, `too_large`,
   * `cancelled`. An error told by the peer is a reply with the service error headers.
   */
  ask(subject: string, body: Uint8Array, options: AskOptions): Promise<BusMessage>;
  /**
   * One request, many replies, with back pressure. Ending the iteration early cancels the peer.
   * Throws like `ask`; an error told by the peer is the last message, with service error headers.
   */
  askStream(
    subject: string,
    body: Uint8Array,
    options: AskStreamOptions,
  ): AsyncIterable<BusMessage>;
  /** Answers requests. A thrown error becomes a reply with service error headers. */
  serve(
    subject: string,
    handler: (message: BusMessage, context: ServeContext) => Promise<Reply>,
    options?: ServeOptions,
  ): Subscription;
  serveStream(
    subject: string,
    handler: (message: BusMessage, context: ServeStreamContext) => Promise<void>,
    options?: ServeOptions,
  ): Subscription;
  readonly streams: Streams;
  /**
   * Keeps pulling from a durable consumer, which it creates or updates. `working()` is called every
   * third of the ack wait while the handler runs. A thrown error counts as `retry` after 1 s.
   * `stop()` waits for running handlers, at most one ack wait.
   */
  consume(
    stream: string,
    options: ConsumeOptions,
    handler: (delivery: Delivery) => Promise<Outcome>,
  ): Promise<Subscription>;
  kv(bucket: string): Kv;
  objects(bucket: string): Objects;
  /** Every event from now on; answers the way to stop listening. */
  status(listener: (event: BusEvent) => void): () => void;
  info(): BusInfo;
  /** Time of one round trip to the server in ms. */
  rtt(): Promise<number>;
  /** Whether the server is new enough and syncs to disk before it acknowledges. */
  requireDurable(): Promise<Durability>;
  /** Stops intake, lets running handlers end, disconnects; at most 5 s. Idempotent. */
  close(): Promise<void>;
}
