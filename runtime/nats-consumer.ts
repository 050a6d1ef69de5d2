/**
 * A durable JetStream consumer: created or brought up to date, pulled from, and opened again after
 * whatever interrupts it.
 *
 * D1  No `backoff` in the configuration: it would override the ack wait.
 * D2  The server tells of a message whose deliveries are exhausted only while a pull is open; it
 *     becomes an event.
 * D3  A sole consumer is reset to its ack floor where it begins with messages unanswered. Where that
 *     fails, as on servers before 2.14, it is an event, and they come after the ack wait.
 * D4  Pulls that the server ends one after the other, as with 409, are opened again ever more slowly.
 */
import type { ConsumeOptions } from './bus.ts';
import { growingPauseMs } from './bus-append.ts';
import { asError } from './bus-serve.ts';
import type {
  Acknowledger,
  ConsumerLink,
  OpenConsumer,
  PulledMessage,
  WireMessage,
  WireSubscription,
} from './bus-wire.ts';
import { explained, isPassing } from './nats-api.ts';
import type { NatsParts } from './nats-parts.ts';
import { Pull, type Pulled } from './nats-pull.ts';

const NANOS_PER_MS = 1_000_000;
const ACK_TIMEOUT_MS = 5_000;
const ACK_TOTAL_MS = 10_000;
const PAUSE_MIN_MS = 100;
const PAUSE_MAX_MS = 5_000;

const ACK = {
  done: '+ACK',
  retry: '-NAK',
  reject: '+TERM',
  working: '+WPI',
} as const;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export const openConsumer =
  (parts: NatsParts): OpenConsumer =>
  async (stream, options, deliver) => {
    const link = new Link(parts, stream, options, deliver);
    await link.start();
    return link;
  };

class Link implements ConsumerLink {
  readonly #parts: NatsParts;
  readonly #stream: string;
  readonly #options: ConsumeOptions;
  readonly #deliver: (pulled: PulledMessage) => void;
  readonly #advisories: WireSubscription;
  readonly #stopListening: () => void;
  readonly #stopped = new AbortController();
  #wanted = 0;
  #pull: Pull | null = null;
  #reopening = false;
  /** Pulls that ended before the server said anything else on them (D4). */
  #lostInARow = 0;

  constructor(
    parts: NatsParts,
    stream: string,
    options: ConsumeOptions,
    deliver: (pulled: PulledMessage) => void,
  ) {
    this.#parts = parts;
    this.#stream = stream;
    this.#options = options;
    this.#deliver = deliver;
    this.#advisories = parts.wire.subscribe(
      `$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.${stream}.${options.durable}`,
      message => this.#noticeExhausted(message),
    );
    this.#stopListening = parts.listen(event => {
      if (event.type === 'reconnected') void this.#reopen();
    });
  }

  /** Throws what keeps the consumer from being created. */
  async start(): Promise<void> {
    try {
      const pending = await this.#ensure();
      if (this.#options.sole === true && pending > 0) await this.#reset();
    } catch (error) {
      this.#close();
      throw explained(error, `consumer ${this.#options.durable} of ${this.#stream}`);
    }
    this.#open();
  }

  want(count: number): void {
    this.#wanted += count;
    this.#pull?.want(count);
  }

  async stop(): Promise<void> {
    this.#close();
    // What the server sent before it saw the end of the subscription waits out its ack wait.
    if (this.#parts.wire.connected) await this.#parts.wire.flush().catch(() => null);
  }

  #close(): void {
    this.#stopped.abort();
    this.#stopListening();
    this.#advisories.stop();
    this.#pull?.stop();
  }

  #open(): void {
    const { wire, wheel, emit } = this.#parts;
    const { durable: consumer } = this.#options;
    const stream = this.#stream;
    this.#pull?.stop();
    this.#pull = new Pull(
      wire,
      wheel,
      { stream, consumer },
      {
        deliver: pulled => {
          this.#lostInARow = 0;
          this.#wanted -= 1;
          const { message, deliveries } = pulled;
          this.#deliver({ message, deliveries, acknowledger: acknowledger(this.#parts, pulled) });
        },
        idle: () => {
          this.#lostInARow = 0;
        },
        lost: reason => {
          if (reason === 'heartbeats_missed') emit({ type: reason, stream, consumer });
          this.#lostInARow += 1;
          void this.#reopen(this.#lostInARow - 1);
        },
      },
    );
    if (this.#wanted > 0) this.#pull.want(this.#wanted);
  }

  /** Creates the consumer again if need be, and pulls again; tries until stopped. */
  async #reopen(triesBefore = 0): Promise<void> {
    const { signal } = this.#stopped;
    if (this.#reopening || signal.aborted) return;
    this.#reopening = true;
    const { clock, emit, wire } = this.#parts;
    for (let tries = triesBefore; !signal.aborted; tries += 1) {
      try {
        if (tries > 0) {
          await clock.sleep(growingPauseMs(clock, tries, PAUSE_MIN_MS, PAUSE_MAX_MS), signal);
        }
        if (!wire.connected) break; // `reconnected` comes back here.
        await this.#ensure();
        if (!signal.aborted) this.#open();
        break;
      } catch (error) {
        if (signal.aborted) break;
        const where = `consumer ${this.#options.durable} of ${this.#stream}`;
        emit({ type: 'error', where, error: asError(error) });
      }
    }
    this.#reopening = false;
  }

  /** Answers how many messages are delivered and not answered. */
  async #ensure(): Promise<number> {
    const { durable, filter, ack_wait_ms, max_deliver, max_ack_pending } = this.#options;
    const { forgotten_after_ms = 0 } = this.#options;
    const call = `CONSUMER.CREATE.${this.#stream}.${durable}.${filter}`;
    const info = await this.#parts.api.call(call, {
      stream_name: this.#stream,
      config: {
        durable_name: durable,
        name: durable,
        filter_subject: filter,
        deliver_policy: 'all',
        ack_policy: 'explicit',
        ack_wait: ack_wait_ms * NANOS_PER_MS,
        max_deliver,
        max_ack_pending,
        inactive_threshold: forgotten_after_ms * NANOS_PER_MS,
      },
    });
    return Number(info['num_ack_pending'] ?? 0);
  }

  /** D3 */
  async #reset(): Promise<void> {
    const { api, emit } = this.#parts;
    const { durable } = this.#options;
    try {
      await api.call(`CONSUMER.RESET.${this.#stream}.${durable}`);
    } catch (error) {
      const where = `reset consumer ${durable} of ${this.#stream}`;
      emit({ type: 'error', where, error: asError(error) });
    }
  }

  #noticeExhausted(message: WireMessage): void {
    const advisory: unknown = JSON.parse(decoder.decode(message.body));
    const seq = Number((advisory as { stream_seq?: number }).stream_seq);
    this.#parts.emit({ type: 'deliveries_exhausted', stream: this.#stream, seq });
  }
}

/**
 * Answers one delivery. Only `done` is confirmed by the server; the others need not be: when they
 * are lost, the message comes again after the ack wait and gets the same answer.
 */
function acknowledger(parts: NatsParts, { ack }: Pulled): Acknowledger {
  const { wire } = parts;
  const tell = (text: string): void => {
    if (wire.connected) wire.publish(ack, encoder.encode(text));
  };
  return {
    done: () => confirmDone(parts, ack),
    retry(delayMs) {
      tell(`${ACK.retry} ${JSON.stringify({ delay: Math.round(delayMs) * NANOS_PER_MS })}`);
    },
    reject(reason) {
      tell(`${ACK.reject} ${reason.replace(/\s+/g, ' ').slice(0, 512)}`);
    },
    working() {
      tell(ACK.working);
    },
  };
}

/** Tries for a while, since a lost `done` means that finished work is handed out again. */
async function confirmDone({ inbox, clock }: NatsParts, ack: string): Promise<void> {
  const startMs = clock.monotonic();
  for (let tries = 1; ; tries += 1) {
    try {
      await inbox.ask(ack, encoder.encode(ACK.done), { timeout_ms: ACK_TIMEOUT_MS });
      return;
    } catch (error) {
      if (!isPassing(error) || clock.monotonic() - startMs > ACK_TOTAL_MS) throw error;
      await clock.sleep(growingPauseMs(clock, tries, PAUSE_MIN_MS, PAUSE_MAX_MS));
    }
  }
}
