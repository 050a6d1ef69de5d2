/**
 * Answering: runs handlers for requests, bounded, and turns what they throw into an error reply.
 *
 * An error reply has the service error headers of ADR-32 and the error itself as a JSON body, so
 * that a program gets the code back and `nats req` shows the sentence.
 *
 * V1  Every request with a reply address gets exactly one answer, even when the handler throws.
 * V2  Nobody is answered on a subject of the system. The server checks what a client publishes, not
 *     where it asks to be answered: whoever may only ask could have us speak in its place.
 */
import { setMaxListeners } from 'node:events';
import { ERRORS } from '../protocol/error-codes.ts';
import { CodeGodError, toWireError } from '../protocol/errors.ts';
import { peerOf } from '../protocol/subjects.ts';
import type {
  BusEvent,
  BusMessage,
  Reply,
  ServeContext,
  ServeOptions,
  Subscription,
} from './bus.ts';
import type { Inbox } from './bus-inbox.ts';
import type { TimerWheel } from './bus-wheel.ts';
import { type Emit, HEADER, type Wire, type WireMessage } from './bus-wire.ts';

const CONCURRENCY_DEFAULT = 1_024;

const encoder = new TextEncoder();

/** How long `stop` waits for handlers that do not heed their signal. */
const STOP_MS = 5_000;

/** What the shared parts of a bus work with. */
export interface BusParts {
  readonly wire: Wire;
  readonly inbox: Inbox;
  readonly wheel: TimerWheel;
  readonly emit: Emit;
}

/** Running requests of one subscription: their count is the bound, their signal ends them. */
export class Requests {
  readonly #abort = new AbortController();
  readonly #running = new Set<Promise<void>>();
  readonly #wheel: TimerWheel;
  readonly #concurrency: number;

  constructor(wheel: TimerWheel, options: ServeOptions | undefined) {
    this.#wheel = wheel;
    this.#concurrency = options?.concurrency ?? CONCURRENCY_DEFAULT;
    // Every running request may listen to it; Node warns of more than ten.
    setMaxListeners(0, this.#abort.signal);
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get full(): boolean {
    return this.#running.size >= this.#concurrency;
  }

  /** `request` must not reject. */
  run(request: Promise<void>): void {
    const tracked = request.finally(() => this.#running.delete(tracked));
    this.#running.add(tracked);
  }

  /** Tells handlers to end and waits for those that do, at most 5 s. */
  async stop(): Promise<void> {
    this.#abort.abort(new CodeGodError('cancelled', 'the service is stopping'));
    await settledWithin(this.#wheel, STOP_MS, [...this.#running]);
  }
}

/** Waits for all of the promises, but not longer. Answers whether all have settled. */
export function settledWithin(
  wheel: TimerWheel,
  timeoutMs: number,
  promises: readonly Promise<unknown>[],
): Promise<boolean> {
  return new Promise(resolve => {
    const deadline = wheel.after(timeoutMs, () => resolve(false));
    void Promise.allSettled(promises).then(() => {
      deadline.cancel();
      resolve(true);
    });
  });
}

export function serve(
  parts: BusParts,
  subject: string,
  handler: (message: BusMessage, context: ServeContext) => Promise<Reply>,
  options: ServeOptions | undefined,
): Subscription {
  const { wire } = parts;
  const requests = new Requests(parts.wheel, options);
  const context = { signal: requests.signal };
  const subscription = wire.subscribe(
    subject,
    message => {
      if (isMisdirected(message.reply)) parts.emit(misdirected(message));
      else if (requests.full) sendReply(parts, message, errorReply(overloaded(subject)));
      else requests.run(answer(message));
    },
    options?.queue,
  );

  async function answer(message: WireMessage): Promise<void> {
    let reply: Reply;
    try {
      reply = await handler(message, context);
    } catch (error) {
      reply = errorReply(error);
    }
    sendReply(parts, message, reply);
  }

  return {
    async stop() {
      subscription.stop();
      await requests.stop();
    },
  };
}

/** Whether an address is one of the system's own subjects (V2). */
export const isMisdirected = (address: string | null): boolean =>
  address !== null && /^(\$|codegod\.)/.test(address);

export const misdirected = ({ subject, reply }: WireMessage): BusEvent => ({
  type: 'error',
  where: `request on ${subject}`,
  error: new CodeGodError('denied', `it asks to be answered on ${String(reply).slice(0, 128)}`),
});

export const overloaded = (subject: string): CodeGodError =>
  new CodeGodError('overloaded', `${peerOf(subject)} has too many requests at once`);

/** An error as a reply: headers for people and other clients, body for `fromWireError`. */
export function errorReply(error: unknown): Required<Reply> {
  const wireError = toWireError(error);
  return {
    body: encoder.encode(JSON.stringify(wireError)),
    headers: {
      [HEADER.serviceError]: oneLine(`${wireError.code}: ${wireError.message}`),
      [HEADER.serviceErrorCode]: String(ERRORS[wireError.code].http),
    },
  };
}

/** A header value has no line breaks, and this one needs no more than a sentence. */
const oneLine = (text: string): string => text.replace(/\s+/g, ' ').slice(0, 512);

/** Sends an answer (V1); an answer that is too large is replaced by an error saying so. */
export function sendReply({ wire, emit }: BusParts, message: WireMessage, reply: Reply): void {
  if (message.reply === null) return;
  try {
    wire.publish(message.reply, reply.body, reply.headers);
  } catch (error) {
    emit({ type: 'error', where: `reply on ${message.subject}`, error: asError(error) });
    if (!wire.connected) return;
    const { body, headers } = errorReply(error);
    wire.publish(message.reply, body, headers);
  }
}

export const asError = (error: unknown): Error =>
  error instanceof Error ? error : new Error(String(error));
