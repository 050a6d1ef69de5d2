/**
 * Consuming: runs a handler for each delivery, bounded, and turns its outcome into an answer.
 * This is the one file that maps outcomes.
 *
 *   done → ack, confirmed     retry → nak after a delay     reject → term, event
 *   fatal → nak at once, event, and this consumer takes no more
 *
 * N1  Never more messages are wanted than handlers may run: a message waits at the server, not
 *     here, so its ack wait does not run out in a queue.
 * N2  One message has at most one running handler in this process. When the server delivers it
 *     again meanwhile (the connection was gone longer than the ack wait), the running handler
 *     answers for the new delivery.
 */
import type { ConsumeOptions, Delivery, Outcome, Subscription } from './bus.ts';
import { asError, settledWithin } from './bus-serve.ts';
import type { TimerWheel } from './bus-wheel.ts';
import type { ConsumerLink, Emit, OpenConsumer, PulledMessage } from './bus-wire.ts';

/** After a handler threw: long enough not to spin, short enough not to be noticed. */
const THROWN_RETRY_MS = 1_000;

export interface ConsumerParts {
  readonly open: OpenConsumer;
  readonly wheel: TimerWheel;
  readonly emit: Emit;
}

export async function consume(
  parts: ConsumerParts,
  stream: string,
  options: ConsumeOptions,
  handler: (delivery: Delivery) => Promise<Outcome>,
): Promise<Subscription> {
  const consumer = new Consumer(parts, options, handler);
  consumer.attach(await parts.open(stream, options, pulled => consumer.deliver(pulled)));
  return consumer;
}

interface Running {
  pulled: PulledMessage;
}

class Consumer implements Subscription {
  readonly #parts: ConsumerParts;
  readonly #options: ConsumeOptions;
  readonly #handler: (delivery: Delivery) => Promise<Outcome>;
  readonly #running = new Map<number, Running>();
  readonly #handling = new Set<Promise<void>>();
  #link: ConsumerLink | null = null;
  #intakeEnded: Promise<void> | null = null;

  constructor(
    parts: ConsumerParts,
    options: ConsumeOptions,
    handler: (delivery: Delivery) => Promise<Outcome>,
  ) {
    this.#parts = parts;
    this.#options = options;
    this.#handler = handler;
  }

  attach(link: ConsumerLink): void {
    this.#link = link;
    link.want(this.#options.concurrency);
  }

  deliver(pulled: PulledMessage): void {
    if (this.#intakeEnded !== null) {
      pulled.acknowledger.retry(0);
      return;
    }
    const running = this.#running.get(pulled.message.seq);
    if (running !== undefined) {
      running.pulled = pulled;
      this.#link?.want(1);
      return;
    }
    const handling = this.#handle({ pulled }).finally(() => {
      this.#handling.delete(handling);
      if (this.#intakeEnded === null) this.#link?.want(1);
    });
    this.#handling.add(handling);
  }

  async stop(): Promise<void> {
    await this.#endIntake();
    await settledWithin(this.#parts.wheel, this.#options.ack_wait_ms, [...this.#handling]);
  }

  #endIntake(): Promise<void> {
    this.#intakeEnded ??= this.#link?.stop() ?? Promise.resolve();
    return this.#intakeEnded;
  }

  async #handle(running: Running): Promise<void> {
    const { message } = running.pulled;
    this.#running.set(message.seq, running);
    const stopWorking = this.#keepWorking(running);
    try {
      const outcome = await this.#outcome(running);
      stopWorking();
      await this.#answer(running.pulled, outcome);
    } catch (error) {
      // The server delivers again after the ack wait; whoever handles it is idempotent.
      this.#parts.emit({
        type: 'error',
        where: `acknowledge ${message.subject} #${message.seq}`,
        error: asError(error),
      });
    } finally {
      stopWorking();
      this.#running.delete(message.seq);
    }
  }

  async #outcome(running: Running): Promise<Outcome> {
    const { message, deliveries } = running.pulled;
    const delivery: Delivery = {
      subject: message.subject,
      headers: message.headers,
      body: message.body,
      seq: message.seq,
      time: message.time,
      deliveries,
      working: () => running.pulled.acknowledger.working(),
    };
    try {
      return await this.#handler(delivery);
    } catch (thrown) {
      const error = asError(thrown);
      this.#parts.emit({ type: 'error', where: `consume ${message.subject}`, error });
      return { kind: 'retry', delay_ms: THROWN_RETRY_MS, reason: error.message };
    }
  }

  async #answer({ message, acknowledger }: PulledMessage, outcome: Outcome): Promise<void> {
    const { subject } = message;
    switch (outcome.kind) {
      case 'done':
        return acknowledger.done();
      case 'retry':
        return acknowledger.retry(outcome.delay_ms);
      case 'reject':
        acknowledger.reject(outcome.reason);
        return this.#parts.emit({ type: 'message_rejected', subject, reason: outcome.reason });
      case 'fatal':
        void this.#endIntake();
        acknowledger.retry(0);
        return this.#parts.emit({ type: 'handler_fatal', subject, reason: outcome.reason });
    }
  }

  /** Calls `working()` every third of the ack wait until the answer is called. */
  #keepWorking(running: Running): () => void {
    const { wheel } = this.#parts;
    const tick = (): void => {
      running.pulled.acknowledger.working();
      deadline = wheel.after(this.#options.ack_wait_ms / 3, tick);
    };
    let deadline = wheel.after(this.#options.ack_wait_ms / 3, tick);
    return () => deadline.cancel();
  }
}
