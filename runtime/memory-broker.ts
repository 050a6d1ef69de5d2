/**
 * The server of the in-memory bus: routes core messages and keeps streams and consumers.
 *
 * Messages are handed over in microtasks, in order, so a run under a simulated clock is the same
 * every time. A fault decides what happens to each core message; appended messages are not lost,
 * as with the real server.
 */
import type { ConsumeOptions, MessageHeaders, StreamConfig } from './bus.ts';
import { EMPTY, STATUS_NO_RESPONDERS, type StoreAck, type WireMessage } from './bus-wire.ts';
import type { Clock } from './clock.ts';
import { MemoryConsumer } from './memory-consumer.ts';
import { MemoryStream } from './memory-stream.ts';
import { subjectMatches } from './memory-subject.ts';

const encoder = new TextEncoder();

export interface MemorySubscription {
  readonly filter: string;
  readonly queue: string | null;
  readonly connected: () => boolean;
  readonly handler: (message: WireMessage) => void;
}

/** What happens to one core message on its way to one subscriber. */
export type Fault = (subject: string) => 'deliver' | 'drop' | 'duplicate' | { delay_ms: number };

export class MemoryServer {
  readonly clock: Clock;
  readonly maxPayloadBytes: number;
  readonly #fault: Fault;
  readonly #subscriptions = new Set<MemorySubscription>();
  readonly #streams = new Map<string, MemoryStream>();
  readonly #consumers = new Map<string, MemoryConsumer>();
  #wake: (() => void)[] = [];

  constructor(clock: Clock, maxPayloadBytes: number, fault: Fault) {
    this.clock = clock;
    this.maxPayloadBytes = maxPayloadBytes;
    this.#fault = fault;
  }

  subscribe(subscription: MemorySubscription): () => void {
    this.#subscriptions.add(subscription);
    return () => this.#subscriptions.delete(subscription);
  }

  publish(subject: string, body: Uint8Array, headers: MessageHeaders, reply: string | null): void {
    const message = { subject, body: body.slice(), headers: { ...headers }, reply, status: 0 };
    const stream = this.streamOf(subject);
    if (stream !== undefined) this.#store(stream, message);
    const receivers = this.#receivers(subject);
    for (const receiver of receivers) this.#send(receiver, message);
    if (receivers.length > 0 || stream !== undefined || reply === null) return;
    this.#answer(reply, EMPTY, STATUS_NO_RESPONDERS);
  }

  stream(name: string): MemoryStream | undefined {
    return this.#streams.get(name);
  }

  streamOf(subject: string): MemoryStream | undefined {
    return [...this.#streams.values()].find(stream => stream.takes(subject));
  }

  ensureStream(config: StreamConfig): void {
    const known = this.#streams.get(config.name);
    if (known !== undefined) known.config = config;
    else {
      const stream = new MemoryStream(config, this.clock, () => this.changed());
      this.#streams.set(config.name, stream);
    }
    this.changed();
  }

  /** Undefined when there is no such stream. */
  ensureConsumer(stream: string, options: ConsumeOptions): MemoryConsumer | undefined {
    const kept = this.#streams.get(stream);
    if (kept === undefined) return undefined;
    const key = `${stream} ${options.durable}`;
    const consumer = this.#consumers.get(key) ?? new MemoryConsumer(kept, options, this.clock);
    consumer.options = options;
    this.#consumers.set(key, consumer);
    return consumer;
  }

  /** What a killed and restarted server forgets: streams in memory and their consumers. */
  forgetMemory(): void {
    for (const [name, stream] of this.#streams) {
      if (stream.config.storage === 'file') continue;
      stream.drop();
      this.#streams.delete(name);
      for (const key of this.#consumers.keys()) {
        if (key.startsWith(`${name} `)) this.#consumers.delete(key);
      }
    }
  }

  /** Nobody is connected: no timer keeps the process until its messages are old. */
  rest(): void {
    for (const stream of this.#streams.values()) stream.rest();
  }

  rouse(): void {
    for (const stream of this.#streams.values()) stream.rouse();
  }

  /** Something was stored, removed, connected or disconnected. */
  changed(): void {
    for (const consumer of this.#consumers.values()) consumer.dispatch();
    const waiting = this.#wake;
    this.#wake = [];
    for (const wake of waiting) wake();
  }

  /** Resolves at the next change or when the signal fires. */
  change(signal: AbortSignal): Promise<void> {
    return new Promise(resolve => {
      const wake = (): void => {
        signal.removeEventListener('abort', wake);
        resolve();
      };
      if (signal.aborted) resolve();
      else {
        signal.addEventListener('abort', wake, { once: true });
        this.#wake.push(wake);
      }
    });
  }

  /** Stores a published message and answers like JetStream does. */
  #store(stream: MemoryStream, { subject, body, headers, reply }: WireMessage): void {
    let answer: object;
    try {
      answer = ackReply(stream.config.name, stream.append(subject, body, headers));
    } catch (error) {
      const description = error instanceof Error ? error.message : String(error);
      answer = { error: { code: 400, err_code: 10_054, description } };
    }
    if (reply !== null) this.#answer(reply, encoder.encode(JSON.stringify(answer)), 0);
  }

  #answer(reply: string, body: Uint8Array, status: number): void {
    const message = { subject: reply, body, headers: {}, reply: null, status };
    for (const receiver of this.#receivers(reply)) this.#send(receiver, message);
  }

  /** Every plain subscription, and one of each queue group. */
  #receivers(subject: string): readonly MemorySubscription[] {
    const receivers: MemorySubscription[] = [];
    const queues = new Map<string, MemorySubscription[]>();
    for (const subscription of this.#subscriptions) {
      const { filter, queue, connected } = subscription;
      if (!connected() || !subjectMatches(filter, subject)) continue;
      if (queue === null) receivers.push(subscription);
      else {
        const key = `${filter} ${queue}`;
        queues.set(key, [...(queues.get(key) ?? []), subscription]);
      }
    }
    for (const members of queues.values()) {
      const member = members[Math.floor(this.clock.random() * members.length)];
      if (member !== undefined) receivers.push(member);
    }
    return receivers;
  }

  #send(receiver: MemorySubscription, message: WireMessage): void {
    const hand = (): void => {
      if (this.#subscriptions.has(receiver) && receiver.connected()) receiver.handler(message);
    };
    const fault = this.#fault(message.subject);
    if (fault === 'drop') return;
    if (typeof fault === 'object') this.clock.setTimeout(hand, fault.delay_ms);
    else queueMicrotask(hand);
    if (fault === 'duplicate') queueMicrotask(hand);
  }
}

function ackReply(stream: string, ack: StoreAck): object {
  switch (ack.kind) {
    case 'appended':
      return { stream, seq: ack.seq, ...(ack.duplicate ? { duplicate: true } : {}) };
    case 'wrong_last_sequence':
      return { error: { code: 400, err_code: 10_071, description: 'wrong last sequence' } };
    case 'subject_full':
      return {
        error: {
          code: 503,
          err_code: 10_077,
          description: 'maximum messages per subject exceeded',
        },
      };
    case 'stream_full':
      return { error: { code: 503, err_code: 10_077, description: 'maximum bytes exceeded' } };
  }
}
