/**
 * What an adapter of the bus has to bring; everything else is written once, on top of this.
 *
 * A `Wire` carries core messages, a `Store` keeps streams, a `ConsumerLink` feeds one consumer.
 * Asking, serving, reply streams, key-value buckets and objects are conventions over these
 * (the same ones as other NATS clients use: ADR-8, ADR-20, ADR-32), so both adapters share them.
 */
import type {
  BusEvent,
  BusMessage,
  ConsumeOptions,
  MessageHeaders,
  StoredMessage,
  StreamConfig,
  StreamInfo,
} from './bus.ts';

/** A message as it comes off the wire. `status` is 0, or what the server says (503, 408, 409). */
export interface WireMessage extends BusMessage {
  readonly reply: string | null;
  readonly status: number;
}

export interface WireSubscription {
  /** Nothing is delivered afterwards. Idempotent. */
  stop(): void;
}

export interface Wire {
  /** Subjects starting with this, plus a dot, reach only this connection. */
  readonly inbox: string;
  readonly connected: boolean;
  readonly maxPayloadBytes: number;
  /** Throws `bus_unavailable` while disconnected, `too_large`, `bad_message`. */
  publish(subject: string, body: Uint8Array, headers?: MessageHeaders, reply?: string): void;
  /** What the handler throws becomes an `error` event. */
  subscribe(
    subject: string,
    handler: (message: WireMessage) => void,
    queue?: string,
  ): WireSubscription;
  /** Resolves once the server has seen everything sent so far. */
  flush(): Promise<void>;
}

/** A part of a tail: see `Store.tail`. */
export type TailItem =
  /** A session begins; `reset` when the stream is not the one of the session before. */
  | { readonly kind: 'session'; readonly reset: boolean }
  | { readonly kind: 'message'; readonly message: StoredMessage }
  /** Everything stored when the session began has been delivered. Once per session. */
  | { readonly kind: 'caught_up' };

export interface TailOptions {
  readonly filter: string;
  /** A sequence, resumed after the last one seen; or each subject's last message, every session. */
  readonly start: number | 'last_per_subject';
  readonly signal: AbortSignal;
  /** Called when the stream does not exist, before it is tried again. */
  readonly onMissing?: () => Promise<void>;
}

export interface AppendHeaders {
  readonly headers: MessageHeaders;
  readonly timeoutMs: number;
  /** How long "no stream takes this subject" may be a server that is still starting. */
  readonly graceMs: number;
}

export type StoreAck =
  | { readonly kind: 'appended'; readonly seq: number; readonly duplicate: boolean }
  | { readonly kind: 'wrong_last_sequence' }
  | { readonly kind: 'subject_full' }
  | { readonly kind: 'stream_full' };

export interface Store {
  ensure(config: StreamConfig): Promise<void>;
  info(stream: string): Promise<StreamInfo | null>;
  /** `headers` already hold the id and the expectations. Errors as in `Streams.append`. */
  append(subject: string, body: Uint8Array, options: AppendHeaders): Promise<StoreAck>;
  last(stream: string, subject: string): Promise<StoredMessage | null>;
  purge(stream: string, subject: string): Promise<number>;
  remove(stream: string, seq: number): Promise<boolean>;
  /**
   * What is stored and what comes, in order and without gaps, in sessions: a lost connection or
   * a restarted server begins a new one. Ends with the signal, never throws.
   */
  tail(stream: string, options: TailOptions): AsyncIterable<TailItem>;
}

/** One delivery of a message, and how its outcome is told to the server. */
export interface Acknowledger {
  done(): Promise<void>;
  retry(delayMs: number): void;
  reject(reason: string): void;
  working(): void;
}

export interface PulledMessage {
  readonly message: StoredMessage;
  readonly deliveries: number;
  readonly acknowledger: Acknowledger;
}

export interface ConsumerLink {
  /** Raises the number of messages that may be delivered. */
  want(count: number): void;
  /** No more deliveries; what is in transit is delivered once more elsewhere or later. */
  stop(): Promise<void>;
}

export type OpenConsumer = (
  stream: string,
  options: ConsumeOptions,
  deliver: (pulled: PulledMessage) => void,
) => Promise<ConsumerLink>;

export type Emit = (event: BusEvent) => void;

export const EMPTY = new Uint8Array(0);

/** Header names with a meaning to the server or to other NATS clients. */
export const HEADER = {
  messageId: 'Nats-Msg-Id',
  expectedSubjectSequence: 'Nats-Expected-Last-Subject-Sequence',
  expectedSubjectFilter: 'Nats-Expected-Last-Subject-Sequence-Subject',
  rollup: 'Nats-Rollup',
  markerReason: 'Nats-Marker-Reason',
  kvOperation: 'KV-Operation',
  serviceError: 'Nats-Service-Error',
  serviceErrorCode: 'Nats-Service-Error-Code',
} as const;

/** What the server answers when nobody subscribes to a request's subject. */
export const STATUS_NO_RESPONDERS = 503;
