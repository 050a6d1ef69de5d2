/**
 * Pulling from one JetStream consumer: keeps requests for messages open, and tells when the
 * consumer or the server has stopped answering.
 *
 * The client library pulls ahead of the handler; a message that waits in a client loses its ack
 * wait there. Here exactly as many messages are requested as are wanted.
 *
 * P1  While messages are wanted, at least one request is open at the server.
 * P2  `lost` is called at most once; afterwards nothing more is delivered.
 */

import type { StoredMessage } from './bus.ts';
import type { Deadline, TimerWheel } from './bus-wheel.ts';
import type { Wire, WireMessage, WireSubscription } from './bus-wire.ts';

const EXPIRES_MS = 30_000;
const HEARTBEAT_MS = 5_000;
/** Two missed heartbeats and a little. */
const SILENCE_MS = 2 * HEARTBEAT_MS + 1_000;
const NANOS_PER_MS = 1_000_000;

const STATUS_HEARTBEAT = 100;
const STATUS_EXPIRED = 408;

const encoder = new TextEncoder();

export interface PullTarget {
  readonly stream: string;
  readonly consumer: string;
}

/** A message as JetStream delivers it; `ack` is where its outcome is told. */
export interface Pulled {
  readonly message: StoredMessage;
  readonly deliveries: number;
  readonly consumerSeq: number;
  /** Messages that match and are not delivered yet. */
  readonly pending: number;
  readonly ack: string;
}

export interface PullHandlers {
  deliver(pulled: Pulled): void;
  /** The server has nothing to deliver now. */
  idle?(): void;
  lost(reason: 'heartbeats_missed' | 'gone'): void;
}

let pullsOpened = 0;

export class Pull {
  readonly #wire: Wire;
  readonly #wheel: TimerWheel;
  readonly #target: PullTarget;
  readonly #handlers: PullHandlers;
  readonly #address: string;
  readonly #subscription: WireSubscription;
  #wanted = 0;
  #requested = 0;
  #silence: Deadline | null = null;
  #heard = false;
  #ended = false;

  constructor(wire: Wire, wheel: TimerWheel, target: PullTarget, handlers: PullHandlers) {
    this.#wire = wire;
    this.#wheel = wheel;
    this.#target = target;
    this.#handlers = handlers;
    pullsOpened += 1;
    this.#address = `${wire.inbox}.pull.${pullsOpened.toString(36)}`;
    this.#subscription = wire.subscribe(this.#address, message => this.#receive(message));
  }

  want(count: number): void {
    this.#wanted += count;
    this.#request();
  }

  stop(): void {
    this.#ended = true;
    this.#subscription.stop();
    this.#silence?.cancel();
  }

  #request(): void {
    const batch = this.#wanted - this.#requested;
    if (this.#ended || batch <= 0 || !this.#wire.connected) return;
    this.#requested += batch;
    const { stream, consumer } = this.#target;
    const request = {
      batch,
      expires: EXPIRES_MS * NANOS_PER_MS,
      idle_heartbeat: HEARTBEAT_MS * NANOS_PER_MS,
    };
    this.#wire.publish(
      `$JS.API.CONSUMER.MSG.NEXT.${stream}.${consumer}`,
      encoder.encode(JSON.stringify(request)),
      undefined,
      this.#address,
    );
    if (this.#silence === null) this.#listen();
  }

  #receive(message: WireMessage): void {
    if (this.#ended) return;
    this.#heard = true;
    const { status } = message;
    if (status === 0) {
      const pulled = parsePulled(message);
      if (pulled === null) return;
      this.#wanted -= 1;
      this.#requested -= 1;
      this.#handlers.deliver(pulled);
    } else if (status === STATUS_EXPIRED) {
      const unfilled = Number(message.headers['Nats-Pending-Messages'] ?? this.#requested);
      this.#requested = Math.max(0, this.#requested - unfilled);
      this.#handlers.idle?.();
      this.#request();
    } else if (status === STATUS_HEARTBEAT) {
      this.#handlers.idle?.();
    } else {
      this.#lose('gone');
    }
  }

  #listen(): void {
    this.#heard = false;
    this.#silence = this.#wheel.after(SILENCE_MS, () => {
      this.#silence = null;
      if (this.#requested > 0 && !this.#heard) this.#lose('heartbeats_missed');
      else if (this.#requested > 0) this.#listen();
    });
  }

  #lose(reason: 'heartbeats_missed' | 'gone'): void {
    this.stop();
    this.#handlers.lost(reason);
  }
}

/**
 * Reads `$JS.ACK.<stream>.<consumer>.<deliveries>.<seq>.<consumer seq>.<nanos>.<pending>`, or the
 * longer form with a domain and an account in front. Null for anything else.
 */
function parsePulled(message: WireMessage): Pulled | null {
  const ack = message.reply;
  const tokens = ack?.split('.') ?? [];
  const at = tokens.length === 9 ? 4 : 6;
  const [deliveries, seq, consumerSeq, nanos, pending] = tokens.slice(at, at + 5);
  if (ack === null || tokens[1] !== 'ACK' || nanos === undefined) return null;
  return {
    message: {
      subject: message.subject,
      headers: message.headers,
      body: message.body,
      seq: Number(seq),
      time: new Date(Number(nanos.slice(0, -6))).toISOString(),
    },
    deliveries: Number(deliveries),
    consumerSeq: Number(consumerSeq),
    pending: Number(pending),
    ack,
  };
}
