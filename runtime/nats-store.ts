/**
 * Streams on JetStream.
 *
 * S1  What the server does not know it drops in silence: the configuration it answers is compared
 *     with the one it was asked for.
 * S2  The server checks an expected sequence before it looks for a repeated message id. A try whose
 *     answer was lost must not look like another writer's success.
 * S3  The server sets `max_bytes` aside from what it may store in all, and refuses a stream for which
 *     there is not so much. Such a stream has no bound of its own: the server's holds. Started
 *     again with less room than it has set aside, the server lets no stream be changed: those that are
 *     there serve as they are. (Our own server never comes to that: nats-server/launch.ts.)
 */
import { z } from 'zod';
import { CodeGodError } from '../protocol/errors.ts';
import type { MessageHeaders, StoredMessage, StreamConfig, StreamInfo } from './bus.ts';
import { appendPatiently } from './bus-append.ts';
import {
  type AppendHeaders,
  HEADER,
  type Store,
  type StoreAck,
  type TailItem,
  type TailOptions,
} from './bus-wire.ts';
import { API_ERROR, ApiError, decodeApiReply, explained, isPassing } from './nats-api.ts';
import type { NatsParts } from './nats-parts.ts';
import { tail } from './nats-tail.ts';

const NANOS_PER_MS = 1_000_000;

const StreamReply = z.object({
  created: z.string(),
  config: z.record(z.string(), z.unknown()),
  state: z.object({
    first_seq: z.number(),
    last_seq: z.number(),
    messages: z.number(),
    bytes: z.number(),
  }),
});

const MessageReply = z.object({
  message: z.object({
    subject: z.string(),
    seq: z.number(),
    time: z.string(),
    data: z.string().default(''),
    hdrs: z.string().default(''),
  }),
});

const StreamNames = z.object({
  streams: z
    .array(z.string())
    .nullable()
    .transform(n => n ?? []),
});

const AckReply = z.object({ seq: z.number(), duplicate: z.boolean().default(false) });

export class NatsStore implements Store {
  readonly #parts: NatsParts;

  constructor(parts: NatsParts) {
    this.#parts = parts;
  }

  async ensure(config: StreamConfig): Promise<void> {
    let wanted = wireConfig(config);
    let answered: Record<string, unknown>;
    try {
      answered = await this.#createOrUpdate(config.name, wanted);
    } catch (error) {
      if (config.max_bytes === undefined || !isExhausted(error)) {
        throw explained(error, `stream ${config.name}`);
      }
      wanted = { ...wanted, max_bytes: -1 };
      const unbounded = await this.#unbounded(config.name, wanted);
      if (unbounded === null) return; // S3
      answered = unbounded;
    }
    const ignored = Object.entries(wanted).filter(
      ([field, value]) => JSON.stringify(answered[field] ?? null) !== JSON.stringify(value),
    );
    // Zero, false and absent are the same to the server.
    const missing = ignored.filter(([field, value]) => Boolean(value) || Boolean(answered[field]));
    if (missing.length === 0) return;
    const fields = missing.map(([field]) => field).join(', ');
    throw new CodeGodError('config_invalid', `the bus ignored ${fields} of ${config.name}`, {
      hint: 'use nats-server 2.12 or newer',
    });
  }

  async info(stream: string): Promise<StreamInfo | null> {
    try {
      const reply = await this.#parts.api.call(`STREAM.INFO.${stream}`);
      const { created, state } = StreamReply.parse(reply);
      return { name: stream, created, ...state };
    } catch (error) {
      if (isNumbered(error, API_ERROR.streamNotFound)) return null;
      throw explained(error, `stream ${stream}`);
    }
  }

  async append(subject: string, body: Uint8Array, options: AppendHeaders): Promise<StoreAck> {
    try {
      return await appendPatiently(this.#parts.clock, options, isPassing, timeoutMs =>
        this.#append(subject, body, options.headers, timeoutMs),
      );
    } catch (error) {
      throw explained(error, `append ${subject}`);
    }
  }

  last(stream: string, subject: string): Promise<StoredMessage | null> {
    return this.find(stream, { last_by_subj: subject });
  }

  /** The message that the server finds by such a request; null where there is none. */
  protected async find(stream: string, request: object): Promise<StoredMessage | null> {
    try {
      const reply = await this.#parts.api.call(`STREAM.MSG.GET.${stream}`, request);
      const { message } = MessageReply.parse(reply);
      return {
        subject: message.subject,
        seq: message.seq,
        time: new Date(message.time).toISOString(),
        headers: decodeHeaders(message.hdrs),
        body: Buffer.from(message.data, 'base64'),
      };
    } catch (error) {
      if (isNumbered(error, API_ERROR.noMessageFound)) return null;
      throw explained(error, `stream ${stream}`);
    }
  }

  async purge(stream: string, subject: string): Promise<number> {
    try {
      const request = { filter: subject };
      const { purged } = await this.#parts.api.call(`STREAM.PURGE.${stream}`, request);
      return Number(purged ?? 0);
    } catch (error) {
      throw explained(error, `stream ${stream}`);
    }
  }

  async remove(stream: string, seq: number): Promise<boolean> {
    try {
      await this.#parts.api.call(`STREAM.MSG.DELETE.${stream}`, { seq, no_erase: true });
      return true;
    } catch (error) {
      if (isNumbered(error, API_ERROR.messageNotDeleted)) return false;
      throw explained(error, `stream ${stream}`);
    }
  }

  tail(stream: string, options: TailOptions): AsyncIterable<TailItem> {
    return tail(this.#parts, stream, options);
  }

  async #append(
    subject: string,
    body: Uint8Array,
    headers: MessageHeaders,
    timeoutMs: number,
  ): Promise<StoreAck> {
    const reply = await this.#parts.inbox.ask(subject, body, { headers, timeout_ms: timeoutMs });
    try {
      return { kind: 'appended', ...AckReply.parse(decodeApiReply(reply.body)) };
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      switch (error.number) {
        case API_ERROR.wrongLastSequence:
        case API_ERROR.wrongLastSequenceUnknown:
          return this.#ownLast(subject, headers);
        case API_ERROR.storeFailed:
          return { kind: error.message.includes('per subject') ? 'subject_full' : 'stream_full' };
        default:
          throw error;
      }
    }
  }

  /** Whether the unexpected last message is this very one, stored by an earlier try (S2). */
  async #ownLast(subject: string, headers: MessageHeaders): Promise<StoreAck> {
    const { streams } = StreamNames.parse(await this.#parts.api.call('STREAM.NAMES', { subject }));
    const [stream] = streams;
    const filter = headers[HEADER.expectedSubjectFilter] ?? subject;
    const last = stream === undefined ? null : await this.last(stream, filter);
    const own = last !== null && last.headers[HEADER.messageId] === headers[HEADER.messageId];
    return own
      ? { kind: 'appended', seq: last.seq, duplicate: true }
      : { kind: 'wrong_last_sequence' };
  }

  async #createOrUpdate(name: string, config: object): Promise<Record<string, unknown>> {
    const { api } = this.#parts;
    try {
      return StreamReply.parse(await api.call(`STREAM.CREATE.${name}`, config)).config;
    } catch (error) {
      if (!isNumbered(error, API_ERROR.streamNameInUse)) throw error;
    }
    return StreamReply.parse(await api.call(`STREAM.UPDATE.${name}`, config)).config;
  }

  /** Null where the stream stays as it is (S3). */
  async #unbounded(name: string, config: object): Promise<Record<string, unknown> | null> {
    try {
      return await this.#createOrUpdate(name, config);
    } catch (error) {
      if (isExhausted(error) && (await this.info(name)) !== null) return null;
      throw explained(error, `stream ${name}`);
    }
  }
}

const isNumbered = (error: unknown, number: number): boolean =>
  error instanceof ApiError && error.number === number;

const isExhausted = (error: unknown): boolean =>
  isNumbered(error, API_ERROR.storageExhausted) || isNumbered(error, API_ERROR.memoryExhausted);

function wireConfig(config: StreamConfig): Record<string, unknown> {
  const nanos = (ms: number | undefined): number => (ms ?? 0) * NANOS_PER_MS;
  return {
    name: config.name,
    description: config.description ?? '',
    subjects: [...config.subjects],
    retention: 'limits',
    storage: config.storage,
    discard: config.discard,
    discard_new_per_subject: config.discard_new_per_subject ?? false,
    max_age: nanos(config.max_age_ms),
    max_bytes: config.max_bytes ?? -1,
    max_msgs: -1,
    max_msgs_per_subject: config.max_msgs_per_subject ?? -1,
    max_msg_size: config.max_message_bytes ?? -1,
    ...(config.stored_as === undefined
      ? {}
      : { subject_transform: { src: config.stored_as.from, dest: config.stored_as.to } }),
    duplicate_window: nanos(config.duplicate_window_ms ?? defaultWindowMs(config)),
    num_replicas: config.replicas ?? 1,
    deny_delete: config.deny_delete ?? false,
    allow_rollup_hdrs: config.rollup ?? false,
    allow_direct: true,
    compression: config.compression === true ? 's2' : 'none',
    allow_msg_ttl: config.marker_ttl_ms !== undefined,
    subject_delete_marker_ttl: nanos(config.marker_ttl_ms),
  };
}

/** The server's own default, which must not be longer than messages live. */
const defaultWindowMs = (config: StreamConfig): number =>
  Math.min(120_000, config.max_age_ms ?? 120_000);

/** Headers as the API gives them: base64 of the header block of the wire protocol. */
function decodeHeaders(encoded: string): MessageHeaders {
  const headers: Record<string, string> = {};
  for (const line of Buffer.from(encoded, 'base64').toString().split('\r\n').slice(1)) {
    const colon = line.indexOf(':');
    if (colon > 0) headers[line.slice(0, colon)] ??= line.slice(colon + 1).trim();
  }
  return headers;
}
