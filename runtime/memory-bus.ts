/**
 * The bus without a network: several buses on one broker in one process, under an injected clock.
 * The twin of `nats-bus.ts` for simulations; both pass `bus-suite.ts`.
 */
import { CodeGodError } from '../protocol/errors.ts';
import { peerOf } from '../protocol/subjects.ts';
import type {
  Bus,
  BusInfo,
  MessageHeaders,
  StoredMessage,
  StreamConfig,
  StreamInfo,
} from './bus.ts';
import { appendPatiently } from './bus-append.ts';
import { assembleBus, EventHub } from './bus-core.ts';
import { Inbox } from './bus-inbox.ts';
import { asError } from './bus-serve.ts';
import { TimerWheel } from './bus-wheel.ts';
import type {
  AppendHeaders,
  ConsumerLink,
  OpenConsumer,
  Store,
  StoreAck,
  TailItem,
  TailOptions,
  Wire,
  WireMessage,
  WireSubscription,
} from './bus-wire.ts';
import type { Clock } from './clock.ts';
import { type Fault, MemoryServer } from './memory-broker.ts';
import type { MemoryLink } from './memory-consumer.ts';
import type { MemoryStream } from './memory-stream.ts';

const MAX_PAYLOAD_BYTES = 1024 * 1024;
const MISSING_PAUSE_MS = 100;

export interface MemoryBrokerOptions {
  readonly clock: Clock;
  readonly maxPayloadBytes?: number;
  readonly fault?: Fault;
}

export interface MemoryBus extends Bus {
  /** Cuts the connection: what is sent to this bus now is lost to it. */
  disconnect(): void;
  reconnect(): void;
}

export interface MemoryBroker {
  connect(name: string): MemoryBus;
  /** As if the server was killed and started again: all are cut off, memory streams are gone. */
  restart(): void;
}

export function createMemoryBroker(options: MemoryBrokerOptions): MemoryBroker {
  const { clock, maxPayloadBytes = MAX_PAYLOAD_BYTES, fault = () => 'deliver' } = options;
  const server = new MemoryServer(clock, maxPayloadBytes, fault);
  const wires = new Set<MemoryWire>();
  let connections = 0;
  return {
    connect(name) {
      connections += 1;
      if (wires.size === 0) server.rouse();
      const wire = new MemoryWire(server, `_INBOX.${connections}`, `memory:${name}`);
      wires.add(wire);
      return openBus(server, wire, () => {
        wires.delete(wire);
        if (wires.size === 0) server.rest();
      });
    },
    restart() {
      const connected = [...wires].filter(wire => wire.connected);
      for (const wire of connected) wire.disconnect();
      server.forgetMemory();
      for (const wire of connected) wire.reconnect();
    },
  };
}

function openBus(server: MemoryServer, wire: MemoryWire, forget: () => void): MemoryBus {
  const { clock } = server;
  const wheel = new TimerWheel(clock);
  let ids = 0;
  const bus = assembleBus({
    wire,
    inbox: new Inbox(wire, wheel),
    wheel,
    hub: wire.hub,
    clock,
    store: new MemoryStore(server, wire),
    openConsumer: openConsumer(server, wire),
    newId: () => {
      ids += 1;
      return `${wire.inbox}.${ids}`;
    },
    connection: {
      info: () => wire.info(),
      rtt: async () => 0,
      requireDurable: async () => ({ ok: true, is_same_server: true }),
      async disconnect() {
        wire.close();
        forget();
      },
    },
  });
  return Object.assign(bus, {
    disconnect: () => wire.disconnect(),
    reconnect: () => wire.reconnect(),
  });
}

class MemoryWire implements Wire {
  readonly inbox: string;
  readonly hub = new EventHub();
  connected = true;
  /** Counts connections: a tail of an earlier one begins a new session. */
  epoch = 1;
  readonly #server: MemoryServer;
  readonly #url: string;

  constructor(server: MemoryServer, inbox: string, url: string) {
    this.#server = server;
    this.inbox = inbox;
    this.#url = url;
  }

  get maxPayloadBytes(): number {
    return this.#server.maxPayloadBytes;
  }

  publish(subject: string, body: Uint8Array, headers: MessageHeaders = {}, reply?: string): void {
    if (!this.connected) throw new CodeGodError('bus_unavailable', 'the bus is not connected');
    if (body.length > this.maxPayloadBytes) {
      const message = `${body.length} bytes for ${peerOf(subject)}: a message holds ${this.maxPayloadBytes}`;
      throw new CodeGodError('too_large', message);
    }
    this.#server.publish(subject, body, headers, reply ?? null);
  }

  subscribe(
    subject: string,
    handler: (message: WireMessage) => void,
    queue?: string,
  ): WireSubscription {
    const stop = this.#server.subscribe({
      filter: subject,
      queue: queue ?? null,
      connected: () => this.connected,
      handler: message => {
        try {
          handler(message);
        } catch (error) {
          this.hub.emit({ type: 'error', where: `subscribe ${subject}`, error: asError(error) });
        }
      },
    });
    return { stop };
  }

  async flush(): Promise<void> {
    if (!this.connected) throw new CodeGodError('bus_unavailable', 'the bus is not connected');
  }

  disconnect(): void {
    if (!this.connected) return;
    this.connected = false;
    this.epoch += 1;
    this.hub.emit({ type: 'disconnected', server: this.#url });
    this.#server.changed();
  }

  reconnect(): void {
    if (this.connected) return;
    this.connected = true;
    this.hub.emit({ type: 'reconnected', server: this.#url });
    this.#server.changed();
  }

  close(): void {
    this.connected = false;
    this.epoch += 1;
    this.hub.emit({ type: 'closed', reason: null });
    this.#server.changed();
  }

  info(): BusInfo {
    return {
      url: this.#url,
      server_id: 'memory',
      server_version: 'memory',
      max_payload_bytes: this.maxPayloadBytes,
      connected: this.connected,
    };
  }
}

class MemoryStore implements Store {
  readonly #server: MemoryServer;
  readonly #wire: MemoryWire;

  constructor(server: MemoryServer, wire: MemoryWire) {
    this.#server = server;
    this.#wire = wire;
  }

  async ensure(config: StreamConfig): Promise<void> {
    this.#reach();
    this.#server.ensureStream(config);
  }

  async info(stream: string): Promise<StreamInfo | null> {
    this.#reach();
    return this.#server.stream(stream)?.info() ?? null;
  }

  append(subject: string, body: Uint8Array, options: AppendHeaders): Promise<StoreAck> {
    const passing = (error: unknown): boolean =>
      error instanceof CodeGodError && error.code === 'bus_unavailable';
    return appendPatiently(this.#server.clock, options, passing, async () => {
      this.#reach();
      if (body.length > this.#server.maxPayloadBytes) {
        throw new CodeGodError(
          'too_large',
          `a message holds ${this.#server.maxPayloadBytes} bytes`,
        );
      }
      const stream = this.#server.streamOf(subject);
      if (stream === undefined) {
        throw new CodeGodError('no_responders', `no stream takes ${subject}`);
      }
      return stream.append(subject, body.slice(), { ...options.headers });
    });
  }

  async last(stream: string, subject: string): Promise<StoredMessage | null> {
    return this.#stream(stream).last(subject);
  }

  async purge(stream: string, subject: string): Promise<number> {
    return this.#stream(stream).purge(subject);
  }

  async remove(stream: string, seq: number): Promise<boolean> {
    return this.#stream(stream).remove(seq);
  }

  async *tail(name: string, options: TailOptions): AsyncGenerator<TailItem> {
    const { signal } = options;
    let before: MemoryStream | null = null;
    let position = 0;
    while (!signal.aborted) {
      const stream = this.#server.stream(name);
      if (!this.#wire.connected) {
        await this.#server.change(signal);
      } else if (stream === undefined) {
        await this.#whenMissing(name, options);
      } else {
        const reset: boolean = before !== null && before !== stream;
        const resumed: number = before === null || reset ? 0 : position;
        for await (const item of this.#session(stream, options, resumed, reset)) {
          if (item.kind === 'message') position = item.message.seq;
          yield item;
        }
        before = stream;
      }
    }
  }

  async *#session(
    stream: MemoryStream,
    { filter, start, signal }: TailOptions,
    resumed: number,
    reset: boolean,
  ): AsyncGenerator<TailItem> {
    const { epoch } = this.#wire;
    const name = stream.config.name;
    const ended = (): boolean =>
      signal.aborted || this.#wire.epoch !== epoch || this.#server.stream(name) !== stream;
    yield { kind: 'session', reset };
    const initialSeq = stream.info().last_seq;
    let next = initialSeq + 1;
    if (start === 'last_per_subject') {
      for (const message of stream.lastPerSubject(filter)) {
        if (ended()) return;
        yield { kind: 'message', message };
      }
      yield { kind: 'caught_up' };
    } else {
      next = Math.max(reset ? 1 : start, resumed + 1);
    }
    let caughtUp = start === 'last_per_subject';
    while (!ended()) {
      const message = stream.next(filter, next);
      if (!caughtUp && (message === null || message.seq > initialSeq)) {
        caughtUp = true;
        yield { kind: 'caught_up' };
      } else if (message === null) {
        await this.#server.change(signal);
      } else {
        next = message.seq + 1;
        yield { kind: 'message', message };
      }
    }
  }

  async #whenMissing(name: string, { onMissing, signal }: TailOptions): Promise<void> {
    try {
      await onMissing?.();
      if (this.#server.stream(name) !== undefined) return;
      await this.#server.clock.sleep(MISSING_PAUSE_MS, signal);
    } catch (error) {
      if (signal.aborted) return;
      this.#wire.hub.emit({ type: 'error', where: `follow ${name}`, error: asError(error) });
      await this.#server.change(signal);
    }
  }

  #stream(name: string): MemoryStream {
    this.#reach();
    const stream = this.#server.stream(name);
    if (stream !== undefined) return stream;
    throw new CodeGodError('not_found', `there is no stream ${name}`);
  }

  #reach(): void {
    if (this.#wire.connected) return;
    throw new CodeGodError('bus_unavailable', 'the bus is not connected');
  }
}

const openConsumer =
  (server: MemoryServer, wire: MemoryWire): OpenConsumer =>
  async (stream, options, deliver): Promise<ConsumerLink> => {
    const consumer = server.ensureConsumer(stream, options);
    if (consumer === undefined) {
      throw new CodeGodError('not_found', `there is no stream ${stream}`);
    }
    const link: MemoryLink = {
      wanted: 0,
      connected: () => wire.connected,
      deliver,
      emit: wire.hub.emit,
    };
    consumer.attach(link);
    return {
      want(count) {
        link.wanted += count;
        consumer.dispatch();
      },
      async stop() {
        consumer.detach(link);
      },
    };
  };
