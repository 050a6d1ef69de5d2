/**
 * Core messages over one NATS connection.
 *
 * Headers are parsed only when somebody looks at them: most replies on the hot path have none.
 * What is published in one turn of the event loop is written to the socket at once: a write costs
 * more than all the rest of a small message.
 */
import type { Socket } from 'node:net';
import {
  errors,
  type Msg,
  type MsgHdrs,
  type NatsConnection,
  headers as newHeaders,
} from '@nats-io/nats-core';
import { CodeGodError } from '../protocol/errors.ts';
import { peerOf } from '../protocol/subjects.ts';
import type { MessageHeaders } from './bus.ts';
import { asError } from './bus-serve.ts';
import type { Emit, Wire, WireMessage, WireSubscription } from './bus-wire.ts';

export class NatsWire implements Wire {
  readonly inbox: string;
  connected = true;
  readonly #connection: NatsConnection;
  readonly #emit: Emit;
  readonly #uncork = (): void => {
    const socket = this.#corked;
    this.#corked = null;
    socket?.uncork();
  };
  /** The socket that holds back what is written in this turn. */
  #corked: Socket | null = null;

  constructor(connection: NatsConnection, inbox: string, emit: Emit) {
    this.#connection = connection;
    this.inbox = inbox;
    this.#emit = emit;
  }

  get maxPayloadBytes(): number {
    return this.#connection.info?.max_payload ?? 1024 * 1024;
  }

  publish(subject: string, body: Uint8Array, headers?: MessageHeaders, reply?: string): void {
    // The client would keep the message in memory and drop it on the next try to connect.
    if (!this.connected) throw new CodeGodError('bus_unavailable', 'the bus is not connected');
    try {
      this.#connection.publish(subject, body, optionsOf(headers, reply));
      if (this.#corked === null) this.#cork();
    } catch (error) {
      throw this.#explained(subject, body, error);
    }
  }

  subscribe(
    subject: string,
    handler: (message: WireMessage) => void,
    queue?: string,
  ): WireSubscription {
    const subscription = this.#connection.subscribe(subject, {
      ...(queue === undefined ? {} : { queue }),
      callback: (error, message) => {
        try {
          // A refused subscription is told by the connection.
          if (error === null) handler(new NatsMessage(message));
        } catch (thrown) {
          // What a handler throws must not reach the client, whose parser it would stop.
          this.#emit({ type: 'error', where: `subscribe ${subject}`, error: asError(thrown) });
        }
      },
    });
    return { stop: () => subscription.unsubscribe() };
  }

  flush(): Promise<void> {
    return this.#connection.flush();
  }

  #cork(): void {
    const socket = socketOf(this.#connection);
    if (socket === null) return;
    socket.cork();
    this.#corked = socket;
    setImmediate(this.#uncork);
  }

  #explained(subject: string, body: Uint8Array, cause: unknown): CodeGodError {
    if (cause instanceof errors.InvalidArgumentError && cause.message.includes('max_payload')) {
      const message = `${body.length} bytes for ${peerOf(subject)}: a message holds ${this.maxPayloadBytes}`;
      return new CodeGodError('too_large', message, { cause });
    }
    if (cause instanceof errors.ClosedConnectionError) {
      return new CodeGodError('bus_unavailable', 'the bus is closed', { cause });
    }
    const reason = cause instanceof Error ? cause.message : String(cause);
    return new CodeGodError('bad_message', `cannot send to ${peerOf(subject)}: ${reason}`, {
      cause,
    });
  }
}

/** The client has no word for its socket; without one each microtask that publishes writes by itself. */
export function socketOf(connection: NatsConnection): Socket | null {
  const { protocol } = connection as { protocol?: { transport?: { socket?: Socket } } };
  return protocol?.transport?.socket ?? null;
}

function optionsOf(
  headers: MessageHeaders | undefined,
  reply: string | undefined,
): { headers?: MsgHdrs; reply?: string } | undefined {
  if (headers === undefined) return reply === undefined ? undefined : { reply };
  const encoded = newHeaders();
  for (const [name, value] of Object.entries(headers)) encoded.append(name, value);
  return reply === undefined ? { headers: encoded } : { headers: encoded, reply };
}

class NatsMessage implements WireMessage {
  readonly #message: Msg;
  #headers: MessageHeaders | null = null;

  constructor(message: Msg) {
    this.#message = message;
  }

  get subject(): string {
    return this.#message.subject;
  }

  get reply(): string | null {
    return this.#message.reply || null;
  }

  get body(): Uint8Array {
    return this.#message.data;
  }

  get headers(): MessageHeaders {
    if (this.#headers === null) {
      const headers: Record<string, string> = {};
      for (const [name, values] of this.#message.headers ?? []) headers[name] = values[0] ?? '';
      this.#headers = headers;
    }
    return this.#headers;
  }

  /** The server's own messages have no body. */
  get status(): number {
    return this.#message.data.length === 0 ? (this.#message.headers?.code ?? 0) : 0;
  }
}
