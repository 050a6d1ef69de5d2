/**
 * One durable consumer of a stream in memory: hands messages to the links that want them, and again
 * to somebody after a nak or an ack wait that ran out, up to the allowed deliveries.
 */
import type { BusEvent, ConsumeOptions, StoredMessage } from './bus.ts';
import type { Acknowledger, PulledMessage } from './bus-wire.ts';
import type { Clock, TimerHandle } from './clock.ts';
import type { MemoryStream } from './memory-stream.ts';

export interface MemoryLink {
  wanted: number;
  readonly connected: () => boolean;
  readonly deliver: (pulled: PulledMessage) => void;
  readonly emit: (event: BusEvent) => void;
}

interface Outstanding {
  deliveries: number;
  timer: TimerHandle;
}

export class MemoryConsumer {
  options: ConsumeOptions;
  readonly #stream: MemoryStream;
  readonly #clock: Clock;
  readonly #links: MemoryLink[] = [];
  /** Delivered and not answered, or waiting for their next delivery. */
  readonly #outstanding = new Map<number, Outstanding>();
  readonly #due: number[] = [];
  #position = 0;

  constructor(stream: MemoryStream, options: ConsumeOptions, clock: Clock) {
    this.#stream = stream;
    this.options = options;
    this.#clock = clock;
  }

  attach(link: MemoryLink): void {
    this.#links.push(link);
    if (this.options.sole === true) this.#reset();
    this.dispatch();
  }

  detach(link: MemoryLink): void {
    const index = this.#links.indexOf(link);
    if (index >= 0) this.#links.splice(index, 1);
  }

  /** Delivers while somebody wants a message and there is one. */
  dispatch(): void {
    for (;;) {
      const link = this.#links.find(({ wanted, connected }) => wanted > 0 && connected());
      if (link === undefined) return;
      const message = this.#nextDue() ?? this.#nextNew();
      if (message === null) return;
      // Whoever was served goes to the end of the line.
      this.detach(link);
      this.#links.push(link);
      link.wanted -= 1;
      this.#deliver(link, message);
    }
  }

  #nextDue(): StoredMessage | null {
    for (let seq = this.#due.shift(); seq !== undefined; seq = this.#due.shift()) {
      const message = this.#stream.at(seq);
      if (message !== null) return message;
      this.#outstanding.delete(seq);
    }
    return null;
  }

  #nextNew(): StoredMessage | null {
    if (this.#outstanding.size >= this.options.max_ack_pending) return null;
    const message = this.#stream.next(this.options.filter, this.#position + 1);
    if (message !== null) this.#position = message.seq;
    return message;
  }

  #deliver(link: MemoryLink, message: StoredMessage): void {
    const deliveries = (this.#outstanding.get(message.seq)?.deliveries ?? 0) + 1;
    const timer = this.#after(this.options.ack_wait_ms, message.seq);
    this.#outstanding.set(message.seq, { deliveries, timer });
    const acknowledger = this.#acknowledger(link, message.seq);
    queueMicrotask(() => link.deliver({ message, deliveries, acknowledger }));
  }

  #acknowledger(link: MemoryLink, seq: number): Acknowledger {
    const settle = (): void => {
      const outstanding = this.#outstanding.get(seq);
      if (outstanding !== undefined) this.#clock.clearTimeout(outstanding.timer);
      this.#outstanding.delete(seq);
      this.dispatch();
    };
    const again = (delayMs: number): void => {
      const outstanding = this.#outstanding.get(seq);
      if (!link.connected() || outstanding === undefined) return;
      this.#clock.clearTimeout(outstanding.timer);
      outstanding.timer = this.#after(delayMs, seq);
    };
    return {
      done: async () => {
        if (!link.connected()) throw new Error('the acknowledgement was lost');
        settle();
      },
      reject: () => {
        if (link.connected()) settle();
      },
      retry: again,
      working: () => again(this.options.ack_wait_ms),
    };
  }

  /** Delivers all that is not answered as if it never had been. */
  #reset(): void {
    for (const { timer } of this.#outstanding.values()) this.#clock.clearTimeout(timer);
    const unanswered = [...this.#outstanding.keys()].sort((left, right) => left - right);
    this.#outstanding.clear();
    this.#due.splice(0, this.#due.length, ...unanswered);
  }

  #after(delayMs: number, seq: number): TimerHandle {
    return this.#clock.setTimeout(() => this.#redeliver(seq), delayMs);
  }

  #redeliver(seq: number): void {
    const { max_deliver } = this.options;
    const outstanding = this.#outstanding.get(seq);
    if (outstanding === undefined) return;
    if (max_deliver >= 0 && outstanding.deliveries >= max_deliver) {
      this.#outstanding.delete(seq);
      const stream = this.#stream.config.name;
      for (const link of this.#links) link.emit({ type: 'deliveries_exhausted', stream, seq });
    } else {
      this.#due.push(seq);
    }
    this.dispatch();
  }
}
