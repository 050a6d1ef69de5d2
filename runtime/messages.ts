/**
 * The typed layer over the bus: values in, values out. It puts envelope headers on, encodes and
 * decodes, checks schemas, and turns errors into what crosses the wire and back.
 *
 * M1  A value is parsed once, here, when it arrives; behind this line types are trusted.
 * M2  A reply comes in the format of its request; without a content type that is JSON.
 * M3  A trace goes on: a reply's work carries the request's `traceparent`, a new one starts where
 *     none came.
 * M4  A request whose deadline has passed is answered with `timeout` and not run.
 * M5  A message that cannot be understood is kept in CODEGOD_DEAD before it is taken off its stream.
 */
import { monotonicFactory } from 'ulid';
import type { output, ZodType } from 'zod';
import { type ContentType, encode, JSON_TYPE } from '../protocol/codec.ts';
import { type Envelope, envelopeHeaders, HEADER } from '../protocol/envelope.ts';
import { CodeGodError, type WireError } from '../protocol/errors.ts';
import { peerOf } from '../protocol/subjects.ts';
import type {
  AppendOptions,
  AppendResult,
  Bus,
  BusMessage,
  ConsumeOptions,
  Delivery,
  MessageHeaders,
  Outcome,
  ServeOptions,
  StoredMessage,
  Subscription,
} from './bus.ts';
import type { Clock } from './clock.ts';
import { appendDeadLetter, consumeParsed } from './dead-letters.ts';
import { type Endpoint, Endpoints } from './endpoints.ts';
import { formatOf, parseMessage, throwIfError } from './message-body.ts';
import { isTraceparent, newTraceparent } from './trace.ts';

/** Clocks of two machines may differ by this much before a deadline is taken at its word. */
const CLOCK_SKEW_MS = 2_000;

export interface SendOptions {
  /** Default JSON. */
  readonly format?: ContentType;
  /** Default: a new trace, or that of the messenger made by `withTrace`. */
  readonly traceparent?: string;
}

export interface AskMessageOptions extends SendOptions {
  readonly timeout_ms: number;
  readonly signal?: AbortSignal;
}

export interface AskStreamMessageOptions extends SendOptions {
  readonly first_ms: number;
  readonly idle_ms: number;
  readonly signal?: AbortSignal;
}

export interface AppendMessageOptions
  extends SendOptions,
    Pick<AppendOptions, 'expect' | 'timeout_ms'> {
  /** `ce-id` and `Nats-Msg-Id`. Default: a new one, so that a repeated call is stored again. */
  readonly id?: string;
  readonly fence?: number;
  readonly attempt?: number;
}

export interface RequestContext {
  /** Aborted when the bus closes or the subscription stops; for streams also when nobody listens. */
  readonly signal: AbortSignal;
  readonly headers: MessageHeaders;
  /** As it was asked on, where what is served is a pattern. */
  readonly subject: string;
  /** When the caller stops waiting, in ms since the epoch; null where it did not say. */
  readonly deadline: number | null;
  /** For what is sent on because of this request: `messenger.withTrace(context.traceparent)`. */
  readonly traceparent: string;
}

export interface StreamRequestContext extends RequestContext {
  /** Sends one value; waits for a slow listener. Throws `cancelled` when nobody listens any more. */
  send(value: unknown): Promise<void>;
}

export type BadMessageHandler = (error: CodeGodError, delivery: Delivery) => Promise<Outcome>;

export interface Messenger {
  readonly bus: Bus;
  readonly source: string;
  /** What this messenger serves, with counters; for `$SRV`. */
  readonly endpoints: readonly Endpoint[];
  /** The same messenger, sending under a given trace. */
  withTrace(traceparent: string): Messenger;
  /**
   * One request, one reply.
   * @throws CodeGodError the peer's error, or `no_responders`, `timeout`, `bus_unavailable`,
   * `cancelled`, `too_large`, or `bad_message` where the reply does not fit its schema.
   */
  ask<S extends ZodType>(
    subject: string,
    request: unknown,
    replySchema: S,
    options: AskMessageOptions,
  ): Promise<output<S>>;
  /** One request, many replies. Ending the iteration early cancels the peer. Throws like `ask`. */
  askStream<S extends ZodType>(
    subject: string,
    request: unknown,
    chunkSchema: S,
    options: AskStreamMessageOptions,
  ): AsyncIterable<output<S>>;
  /** Answers requests. What the handler throws reaches the caller as the same CodeGodError. */
  serve<Q extends ZodType>(
    subject: string,
    requestSchema: Q,
    handler: (request: output<Q>, context: RequestContext) => Promise<unknown>,
    options?: ServeOptions,
  ): Subscription;
  serveStream<Q extends ZodType>(
    subject: string,
    requestSchema: Q,
    handler: (request: output<Q>, context: StreamRequestContext) => Promise<void>,
    options?: ServeOptions,
  ): Subscription;
  /** Stores one value in the stream of its subject. Throws like `Streams.append`. */
  append(
    subject: string,
    type: string,
    value: unknown,
    options?: AppendMessageOptions,
  ): Promise<AppendResult>;
  /** Fire and forget. */
  publish(subject: string, type: string, value: unknown, options?: SendOptions): void;
  /** @throws CodeGodError `bad_message` naming the wrong fields, `unsupported_version`. */
  decode<S extends ZodType>(message: BusMessage, schema: S): output<S>;
  /**
   * Pulls from a durable consumer. A message that does not fit goes to `onBad`; by default it
   * becomes a dead letter and is rejected, and so does one whose last permitted delivery failed.
   */
  consume<S extends ZodType>(
    stream: string,
    options: ConsumeOptions,
    schema: S,
    handler: (value: output<S>, delivery: Delivery) => Promise<Outcome>,
    onBad?: BadMessageHandler,
  ): Promise<Subscription>;
  /** Keeps a message in CODEGOD_DEAD with the reason in its headers; the same one only once. */
  deadLetter(stream: string, message: StoredMessage, reason: WireError): Promise<void>;
}

export interface MessengerOptions {
  /** `/node/<id>/actor/<name>`. */
  readonly source: string;
  readonly clock: Clock;
}

export function createMessenger(bus: Bus, options: MessengerOptions): Messenger {
  return new BusMessenger(bus, options, new Endpoints(), null);
}

class BusMessenger implements Messenger {
  readonly bus: Bus;
  readonly source: string;
  readonly #options: MessengerOptions;
  readonly #clock: Clock;
  readonly #endpoints: Endpoints;
  readonly #traceparent: string | null;
  readonly #newId: (seedTime?: number) => string;

  constructor(
    bus: Bus,
    options: MessengerOptions,
    endpoints: Endpoints,
    traceparent: string | null,
  ) {
    this.bus = bus;
    this.source = options.source;
    this.#options = options;
    this.#clock = options.clock;
    this.#endpoints = endpoints;
    this.#traceparent = traceparent;
    this.#newId = monotonicFactory(() => this.#clock.random());
  }

  get endpoints(): readonly Endpoint[] {
    return this.#endpoints.list();
  }

  withTrace(traceparent: string): Messenger {
    return new BusMessenger(this.bus, this.#options, this.#endpoints, traceparent);
  }

  async ask<S extends ZodType>(
    subject: string,
    request: unknown,
    replySchema: S,
    options: AskMessageOptions,
  ): Promise<output<S>> {
    const { timeout_ms, signal, format = JSON_TYPE } = options;
    const headers = this.#headers(requestType(subject), {
      ...options,
      deadline: this.#clock.now() + timeout_ms,
    });
    const reply = await this.bus.ask(subject, encode(request, format), {
      headers,
      timeout_ms,
      ...(signal === undefined ? {} : { signal }),
    });
    throwIfError(reply);
    return parseMessage(reply, replySchema, `the reply of ${peerOf(subject)}`);
  }

  async *askStream<S extends ZodType>(
    subject: string,
    request: unknown,
    chunkSchema: S,
    options: AskStreamMessageOptions,
  ): AsyncIterable<output<S>> {
    const { first_ms, idle_ms, signal, format = JSON_TYPE } = options;
    const replies = this.bus.askStream(subject, encode(request, format), {
      headers: this.#headers(requestType(subject), options),
      first_ms,
      idle_ms,
      ...(signal === undefined ? {} : { signal }),
    });
    for await (const reply of replies) {
      throwIfError(reply);
      yield parseMessage(reply, chunkSchema, `a reply of ${peerOf(subject)}`);
    }
  }

  serve<Q extends ZodType>(
    subject: string,
    requestSchema: Q,
    handler: (request: output<Q>, context: RequestContext) => Promise<unknown>,
    options?: ServeOptions,
  ): Subscription {
    const endpoint = this.#endpoints.add(requestType(subject), subject, options?.queue);
    const subscription = this.bus.serve(
      subject,
      (message, { signal }) =>
        this.#measured(endpoint, async () => {
          const context = this.#requestContext(message, signal);
          const request = parseMessage(message, requestSchema, `the request to ${peerOf(subject)}`);
          const reply = await handler(request, context);
          const format = formatOf(message);
          return { body: encode(reply ?? {}, format), headers: { [HEADER.contentType]: format } };
        }),
      options,
    );
    return this.#withEndpoint(subscription, endpoint);
  }

  serveStream<Q extends ZodType>(
    subject: string,
    requestSchema: Q,
    handler: (request: output<Q>, context: StreamRequestContext) => Promise<void>,
    options?: ServeOptions,
  ): Subscription {
    const endpoint = this.#endpoints.add(requestType(subject), subject, options?.queue);
    const subscription = this.bus.serveStream(
      subject,
      (message, { signal, send }) =>
        this.#measured(endpoint, async () => {
          const context = this.#requestContext(message, signal);
          const request = parseMessage(message, requestSchema, `the request to ${peerOf(subject)}`);
          const format = formatOf(message);
          const headers = { [HEADER.contentType]: format };
          await handler(request, {
            ...context,
            send: value => send(encode(value, format), headers),
          });
        }),
      options,
    );
    return this.#withEndpoint(subscription, endpoint);
  }

  append(
    subject: string,
    type: string,
    value: unknown,
    options: AppendMessageOptions = {},
  ): Promise<AppendResult> {
    const { expect, timeout_ms, format = JSON_TYPE } = options;
    const id = options.id ?? this.#newId(this.#clock.now());
    return this.bus.streams.append(subject, encode(value, format), {
      headers: this.#headers(type, { ...options, id }),
      id,
      ...(expect === undefined ? {} : { expect }),
      ...(timeout_ms === undefined ? {} : { timeout_ms }),
    });
  }

  publish(subject: string, type: string, value: unknown, options: SendOptions = {}): void {
    const body = encode(value, options.format ?? JSON_TYPE);
    this.bus.publish(subject, body, this.#headers(type, options));
  }

  decode<S extends ZodType>(message: BusMessage, schema: S): output<S> {
    return parseMessage(message, schema, `a message on ${message.subject}`);
  }

  consume<S extends ZodType>(
    stream: string,
    options: ConsumeOptions,
    schema: S,
    handler: (value: output<S>, delivery: Delivery) => Promise<Outcome>,
    onBad?: BadMessageHandler,
  ): Promise<Subscription> {
    return consumeParsed(this.bus, stream, options, {
      parse: delivery => this.decode(delivery, schema),
      handler,
      ...(onBad === undefined ? {} : { onBad }),
    });
  }

  deadLetter(stream: string, message: StoredMessage, reason: WireError): Promise<void> {
    return appendDeadLetter(this.bus, stream, message, reason);
  }

  #headers(
    type: string,
    options: AppendMessageOptions & { readonly deadline?: number },
  ): MessageHeaders {
    const { deadline, fence, attempt } = options;
    const time = this.#clock.now();
    const envelope: Envelope = {
      id: options.id ?? this.#newId(time),
      type,
      source: this.source,
      time,
      contentType: options.format ?? JSON_TYPE,
      traceparent: options.traceparent ?? this.#traceparent ?? newTraceparent(this.#clock),
      ...(deadline === undefined ? {} : { deadline }),
      ...(fence === undefined ? {} : { fence }),
      ...(attempt === undefined ? {} : { attempt }),
    };
    return envelopeHeaders(envelope);
  }

  /** Throws `timeout` where nobody waits for the answer any more (M4). */
  #requestContext(message: BusMessage, signal: AbortSignal): RequestContext {
    const { headers } = message;
    const deadline = Number(headers[HEADER.deadline] ?? Number.NaN);
    if (this.#clock.now() > deadline + CLOCK_SKEW_MS) {
      throw new CodeGodError(
        'timeout',
        `the deadline passed before ${peerOf(message.subject)} came to it`,
      );
    }
    const traceparent = headers[HEADER.traceparent];
    return {
      signal,
      headers,
      subject: message.subject,
      deadline: Number.isFinite(deadline) ? deadline : null,
      traceparent:
        traceparent !== undefined && isTraceparent(traceparent)
          ? traceparent
          : newTraceparent(this.#clock),
    };
  }

  async #measured<T>(endpoint: Endpoint, run: () => Promise<T>): Promise<T> {
    const startMs = this.#clock.monotonic();
    try {
      return await run();
    } catch (error) {
      endpoint.errors += 1;
      endpoint.last_error = error instanceof Error ? error.message.slice(0, 256) : String(error);
      throw error;
    } finally {
      endpoint.requests += 1;
      endpoint.processing_ms += this.#clock.monotonic() - startMs;
    }
  }

  #withEndpoint(subscription: Subscription, endpoint: Endpoint): Subscription {
    return {
      stop: async () => {
        this.#endpoints.remove(endpoint);
        await subscription.stop();
      },
    };
  }
}

/**
 * `codegod.node.n1.reserve` → `node.reserve`, `codegod.mcp.g1.call.n1` → `mcp.call`: what is asked,
 * without who is asked and who asks.
 */
function requestType(subject: string): string {
  const tokens = subject.split('.');
  const first = tokens[1] ?? subject;
  const verb = tokens[3] ?? tokens[2];
  return verb === undefined ? first : `${first}.${verb}`;
}
