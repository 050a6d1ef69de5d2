/**
 * Puts a bus together from what an adapter brings: its wire, its store and its consumers.
 *
 * M1  Whoever is told something by the bus is told on `status()` too when it cannot be thrown.
 */
import { CodeGodError } from '../protocol/errors.ts';
import type {
  AskOptions,
  AskStreamOptions,
  Bus,
  BusEvent,
  BusInfo,
  BusMessage,
  Durability,
  MessageHeaders,
  ReceivedMessage,
  Subscription,
} from './bus.ts';
import { consume } from './bus-consumer.ts';
import { connectionLost, type Inbox } from './bus-inbox.ts';
import { StreamKv } from './bus-kv.ts';
import { StreamObjects } from './bus-objects.ts';
import { askStream, serveStream } from './bus-reply-stream.ts';
import { asError, type BusParts, serve, settledWithin } from './bus-serve.ts';
import { createStreams } from './bus-streams.ts';
import type { TimerWheel } from './bus-wheel.ts';
import type { Emit, OpenConsumer, Store, Wire } from './bus-wire.ts';
import type { Clock } from './clock.ts';

const CLOSE_MS = 5_000;

/** What only the adapter knows. */
export interface Connection {
  info(): BusInfo;
  rtt(): Promise<number>;
  requireDurable(): Promise<Durability>;
  disconnect(): Promise<void>;
}

/** Where events go: to everybody who listens. A listener that throws is a bug and ends the process. */
export class EventHub {
  readonly #listeners = new Set<(event: BusEvent) => void>();

  readonly emit: Emit = event => {
    for (const listener of this.#listeners) {
      try {
        listener(event);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  };

  listen(listener: (event: BusEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

export interface CoreParts {
  readonly wire: Wire;
  readonly inbox: Inbox;
  readonly wheel: TimerWheel;
  readonly hub: EventHub;
  readonly store: Store;
  readonly openConsumer: OpenConsumer;
  readonly connection: Connection;
  readonly newId: () => string;
  readonly clock: Clock;
}

export function assembleBus(core: CoreParts): Bus {
  return new AssembledBus(core);
}

class AssembledBus implements Bus {
  readonly streams: Bus['streams'];
  readonly #core: CoreParts;
  readonly #parts: BusParts;
  readonly #store: Store;
  readonly #subscriptions = new Set<Subscription>();
  readonly #buckets = new Map<string, StreamKv>();
  readonly #closing = new AbortController();
  #publishesDropped = 0;
  #closed: Promise<void> | null = null;

  constructor(core: CoreParts) {
    this.#core = core;
    this.#parts = { wire: core.wire, inbox: core.inbox, wheel: core.wheel, emit: core.hub.emit };
    this.#store = endingWith(core.store, this.#closing.signal);
    this.streams = createStreams({ store: this.#store, wheel: core.wheel, newId: core.newId });
    core.hub.listen(event => this.#notice(event));
  }

  publish(subject: string, body: Uint8Array, headers?: MessageHeaders): void {
    if (this.#core.wire.connected) this.#core.wire.publish(subject, body, headers);
    else this.#publishesDropped += 1;
  }

  subscribe(
    subject: string,
    handler: (message: ReceivedMessage) => void,
    options?: { readonly queue?: string },
  ): Subscription {
    const subscription = this.#core.wire.subscribe(subject, handler, options?.queue);
    return this.#track({ stop: async () => subscription.stop() });
  }

  ask(subject: string, body: Uint8Array, options: AskOptions): Promise<BusMessage> {
    return this.#core.inbox.ask(subject, body, options);
  }

  askStream(
    subject: string,
    body: Uint8Array,
    options: AskStreamOptions,
  ): AsyncIterable<BusMessage> {
    return askStream(this.#core.inbox, subject, body, options);
  }

  serve(...[subject, handler, options]: Parameters<Bus['serve']>): Subscription {
    return this.#track(serve(this.#parts, subject, handler, options));
  }

  serveStream(...[subject, handler, options]: Parameters<Bus['serveStream']>): Subscription {
    return this.#track(serveStream(this.#parts, subject, handler, options));
  }

  async consume(...[stream, options, handler]: Parameters<Bus['consume']>): Promise<Subscription> {
    const { openConsumer: open, wheel, hub } = this.#core;
    return this.#track(await consume({ open, wheel, emit: hub.emit }, stream, options, handler));
  }

  kv(bucket: string): StreamKv {
    const known = this.#buckets.get(bucket);
    if (known !== undefined) return known;
    const { wheel, newId } = this.#core;
    const kv = new StreamKv({ store: this.#store, wheel, newId }, bucket);
    this.#buckets.set(bucket, kv);
    return kv;
  }

  objects(bucket: string): StreamObjects {
    const { wheel, newId, clock } = this.#core;
    const now = (): number => clock.now();
    return new StreamObjects({ store: this.#store, wheel, newId, now }, bucket);
  }

  status(listener: (event: BusEvent) => void): () => void {
    return this.#core.hub.listen(listener);
  }

  info(): BusInfo {
    return this.#core.connection.info();
  }

  rtt(): Promise<number> {
    return this.#core.connection.rtt();
  }

  requireDurable(): Promise<Durability> {
    return this.#core.connection.requireDurable();
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const { wheel, inbox, connection } = this.#core;
    this.#closing.abort(new CodeGodError('cancelled', 'the bus is closing'));
    const stops = [...this.#subscriptions].map(subscription => subscription.stop());
    await settledWithin(wheel, CLOSE_MS, stops);
    inbox.failAll(new CodeGodError('bus_unavailable', 'the bus was closed'));
    await connection.disconnect();
    wheel.stop();
  }

  #track(subscription: Subscription): Subscription {
    const tracked = {
      stop: () => {
        this.#subscriptions.delete(tracked);
        return subscription.stop();
      },
    };
    this.#subscriptions.add(tracked);
    return tracked;
  }

  #notice(event: BusEvent): void {
    if (event.type === 'disconnected') this.#core.inbox.failAll(connectionLost());
    if (event.type === 'reconnected') this.#recover();
  }

  /** After a reconnect: tells of dropped publishes and brings vanished buckets back. */
  #recover(): void {
    const { emit } = this.#core.hub;
    const count = this.#publishesDropped;
    this.#publishesDropped = 0;
    if (count > 0) emit({ type: 'publishes_dropped', count });
    for (const [bucket, kv] of this.#buckets) {
      kv.recover().catch(error => {
        emit({ type: 'error', where: `ensure bucket ${bucket}`, error: asError(error) });
      });
    }
  }
}

/** The same store, whose tails also end with the signal. */
const endingWith = (store: Store, signal: AbortSignal): Store => ({
  ensure: config => store.ensure(config),
  info: stream => store.info(stream),
  append: (subject, body, options) => store.append(subject, body, options),
  last: (stream, subject) => store.last(stream, subject),
  purge: (stream, subject) => store.purge(stream, subject),
  remove: (stream, seq) => store.remove(stream, seq),
  tail: (stream, options) =>
    store.tail(stream, { ...options, signal: AbortSignal.any([options.signal, signal]) }),
});
