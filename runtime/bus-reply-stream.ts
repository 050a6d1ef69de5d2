/**
 * One request, many replies, with credit: how tokens of a model travel.
 *
 *   caller → server   request, reply address R
 *   server → R        accepted (empty, one header): together with the first chunk where that comes
 *                     within 20 ms, since two messages in one write cost as much as one; from here on every message to R carries the
 *                     address C.<n> as its own reply address, n counting from 0
 *   server → R        chunks; the server pauses while 256 of them are unacknowledged
 *   caller → C.<n>    `ack <n>` after every 64 chunks taken, or `cancel`
 *   server → R        an error reply, when there was one; then the end: empty, without headers
 *
 * Numbering tells the caller that a chunk was lost. Because chunks carry a reply address, the bus
 * tells the server by itself when nobody listens to R any more. `nats req --replies=0` reads such
 * a stream, up to the first 256 chunks.
 *
 * R1  A caller gets all chunks in order or an error, never a gap.
 * R2  Whatever ends on one side ends on the other: by the end, an error, a cancel, or a bound.
 */
import { CodeGodError } from '../protocol/errors.ts';
import { peerOf } from '../protocol/subjects.ts';
import type {
  AskStreamOptions,
  BusMessage,
  MessageHeaders,
  ServeOptions,
  ServeStreamContext,
  Subscription,
} from './bus.ts';
import { cancelled, type Inbox, noResponders, type Route } from './bus-inbox.ts';
import {
  type BusParts,
  errorReply,
  isMisdirected,
  misdirected,
  overloaded,
  Requests,
  sendReply,
} from './bus-serve.ts';
import type { Deadline } from './bus-wheel.ts';
import { EMPTY, STATUS_NO_RESPONDERS, type WireMessage } from './bus-wire.ts';
import { Cancellation } from './cancellation.ts';

const ACK_EVERY = 64;
const UNACKED_MAX = 256;
/** How long the news that a request is heard waits for a first chunk to travel with. */
const ACCEPT_MS = 20;
/** How long a server waits for credit before it gives the caller up. */
const CREDIT_MS = 60_000;

const ACCEPTED: MessageHeaders = { 'Codegod-Stream': 'accepted' };
const CANCEL = new TextEncoder().encode('cancel');
/** Made once: an error costs its stack, and this one ends every stream. */
const COMPLETE = new CodeGodError('cancelled', 'the answer is complete');

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Begins when the first message is asked for; ending the iteration early cancels the server. */
export async function* askStream(
  inbox: Inbox,
  subject: string,
  body: Uint8Array,
  options: AskStreamOptions,
): AsyncGenerator<BusMessage> {
  const receiver = new Receiver(inbox, subject, options);
  try {
    receiver.send(body);
    for (;;) {
      const message = await receiver.next();
      if (message === null) return;
      yield message;
    }
  } finally {
    receiver.close();
  }
}

class Receiver implements Route {
  readonly subject: string;
  readonly #inbox: Inbox;
  readonly #options: AskStreamOptions;
  readonly #token: string;
  readonly #onAbort = (): void => this.fail(cancelled(this.subject));
  /** At most UNACKED_MAX chunks and the end: the server's window bounds it. */
  readonly #queue: WireMessage[] = [];
  #control: string | null = null;
  #accepted = false;
  #expected = 0;
  #taken = 0;
  #ended = false;
  /** Nobody has the request, so there is nobody to cancel it. */
  #unheard = false;
  #error: CodeGodError | null = null;
  #wake: (() => void) | null = null;

  constructor(inbox: Inbox, subject: string, options: AskStreamOptions) {
    this.#inbox = inbox;
    this.subject = subject;
    this.#options = options;
    this.#token = inbox.open(this);
    options.signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  send(body: Uint8Array): void {
    if (this.#options.signal?.aborted) {
      this.#unheard = true;
      throw cancelled(this.subject);
    }
    const address = this.#inbox.address(this.#token);
    this.#inbox.wire.publish(this.subject, body, this.#options.headers, address);
  }

  receive(message: WireMessage): void {
    if (this.#ended || this.#error !== null) return;
    if (message.status === STATUS_NO_RESPONDERS) {
      this.#unheard = true;
      this.fail(noResponders(this.subject));
      return;
    }
    if (message.reply === null) {
      this.#receiveWhole(message);
      return;
    }
    if (isMisdirected(message.reply)) {
      this.fail(
        new CodeGodError('denied', `${this.subject} names a control address of the system`),
      );
      return;
    }
    const dot = message.reply.lastIndexOf('.');
    const number = Number(message.reply.slice(dot + 1));
    if (number !== this.#expected) {
      this.fail(new CodeGodError('bus_unavailable', `part of the answer was lost on the way`));
      return;
    }
    this.#expected += 1;
    this.#control = message.reply.slice(0, dot);
    if (number === 0) this.#accepted = true;
    else if (message.body.length === 0 && Object.keys(message.headers).length === 0) {
      this.#ended = true;
    } else this.#queue.push(message);
    this.#wake?.();
  }

  fail(error: CodeGodError): void {
    this.#error ??= error;
    this.#wake?.();
  }

  /** The next chunk, or null after the last. Throws what ended the stream. */
  async next(): Promise<WireMessage | null> {
    for (;;) {
      const message = this.#error === null ? this.#queue.shift() : undefined;
      if (message !== undefined) {
        this.#acknowledge();
        return message;
      }
      if (this.#error !== null) throw this.#error;
      if (this.#ended) return null;
      await this.#silence();
    }
  }

  close(): void {
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    if (this.#ended || this.#control !== null || this.#unheard) {
      this.#inbox.close(this.#token);
      if (!this.#ended) this.#tell(CANCEL);
    } else {
      this.#cancelLate();
    }
  }

  /** Nobody has answered yet, so nobody can be told: whoever answers in time is told then. */
  #cancelLate(): void {
    const end = (): void => {
      deadline.cancel();
      this.#inbox.close(this.#token);
    };
    const deadline = this.#inbox.wheel.after(this.#options.first_ms, end);
    this.#inbox.reroute(this.#token, {
      subject: this.subject,
      receive: ({ reply }) => {
        if (reply !== null && !isMisdirected(reply)) {
          this.#control = reply.slice(0, reply.lastIndexOf('.'));
          this.#tell(CANCEL);
        }
        end();
      },
      fail: end,
    });
  }

  /** An answer without a control address is not a stream but complete: an error, as a rule. */
  #receiveWhole(message: WireMessage): void {
    this.#queue.push(message);
    this.#ended = true;
    this.#wake?.();
  }

  #acknowledge(): void {
    this.#taken += 1;
    if (this.#taken % ACK_EVERY === 0 && !this.#ended) {
      this.#tell(encoder.encode(`ack ${this.#taken}`));
    }
  }

  #tell(body: Uint8Array): void {
    if (this.#control === null || !this.#inbox.wire.connected) return;
    this.#inbox.wire.publish(this.#control, body);
  }

  #silence(): Promise<void> {
    const { first_ms, idle_ms } = this.#options;
    const limitMs = this.#accepted ? idle_ms : first_ms;
    return new Promise(resolve => {
      const deadline = this.#inbox.wheel.after(limitMs, () => {
        const message = `${peerOf(this.subject)} was silent for ${limitMs} ms`;
        this.fail(new CodeGodError('timeout', message));
      });
      this.#wake = () => {
        this.#wake = null;
        deadline.cancel();
        resolve();
      };
    });
  }
}

export function serveStream(
  parts: BusParts,
  subject: string,
  handler: (message: BusMessage, context: ServeStreamContext) => Promise<void>,
  options: ServeOptions | undefined,
): Subscription {
  const requests = new Requests(parts.wheel, options);
  const senders = new Set<Sender>();
  const subscription = parts.wire.subscribe(
    subject,
    message => {
      if (message.reply === null) return;
      if (isMisdirected(message.reply)) parts.emit(misdirected(message));
      else if (requests.full) sendReply(parts, message, errorReply(overloaded(subject)));
      else requests.run(answer(message, message.reply));
    },
    options?.queue,
  );

  async function answer(message: WireMessage, address: string): Promise<void> {
    const sender = new Sender(parts, address);
    senders.add(sender);
    try {
      sender.accept();
      await handler(message, {
        signal: sender.over,
        send: (body, headers) => sender.send(body, headers),
      });
      sender.end();
    } catch (error) {
      if (!sender.over.aborted || requests.signal.aborted) sender.endWith(error);
    } finally {
      senders.delete(sender);
      sender.close();
    }
  }

  return {
    async stop() {
      subscription.stop();
      const stopped = requests.stop();
      for (const sender of senders) sender.fail(requests.signal.reason);
      await stopped;
    },
  };
}

class Sender implements Route {
  readonly subject: string;
  readonly #parts: BusParts;
  readonly #token: string;
  readonly #control: string;
  /** Ends the work: the caller has gone, the service stops, or all is said. */
  readonly over = new Cancellation();
  #accepting: Deadline | null = null;
  #sent = 0;
  #acknowledged = 0;
  #waiting: Promise<void> | null = null;
  #wake: (() => void) | null = null;

  constructor(parts: BusParts, address: string) {
    this.#parts = parts;
    this.subject = address;
    this.#token = parts.inbox.open(this);
    this.#control = parts.inbox.address(this.#token);
  }

  /** Tells the caller that it is heard: with the first message, or alone where none comes soon. */
  accept(): void {
    this.#accepting = this.#parts.wheel.after(ACCEPT_MS, () => this.#accept());
  }

  #accept(): void {
    if (this.#sent > 0) return;
    this.#accepting?.cancel();
    this.#publishNext(EMPTY, ACCEPTED);
  }

  async send(body: Uint8Array, headers?: MessageHeaders): Promise<void> {
    if (body.length === 0 && Object.keys(headers ?? {}).length === 0) {
      throw new CodeGodError('bad_message', 'a chunk needs a body or headers');
    }
    while (!this.over.aborted && this.#sent - 1 - this.#acknowledged >= UNACKED_MAX) {
      this.#waiting ??= this.#credit();
      await this.#waiting;
    }
    this.over.throwIfAborted();
    this.#publish(body, headers);
  }

  end(): void {
    if (!this.over.aborted) this.#publish(EMPTY);
  }

  /** Tells the caller what went wrong. */
  endWith(error: unknown): void {
    if (!this.#parts.wire.connected) return;
    const { body, headers } = errorReply(error);
    this.#publish(body, headers);
    this.#publish(EMPTY);
  }

  close(): void {
    this.#accepting?.cancel();
    this.#parts.inbox.close(this.#token);
    this.over.abort(COMPLETE);
    this.#wake?.();
  }

  receive(message: WireMessage): void {
    const text = decoder.decode(message.body);
    if (text.startsWith('ack ')) {
      const count = Number(text.slice('ack '.length));
      if (count > this.#acknowledged && count < this.#sent) this.#acknowledged = count;
    } else {
      const gone = message.status === STATUS_NO_RESPONDERS;
      this.fail(
        new CodeGodError('cancelled', gone ? 'the caller has gone' : 'the caller cancelled'),
      );
    }
    this.#wake?.();
  }

  fail(error: CodeGodError): void {
    this.over.abort(error);
    this.#wake?.();
  }

  #publish(body: Uint8Array, headers?: MessageHeaders): void {
    this.#accept();
    this.#publishNext(body, headers);
  }

  #publishNext(body: Uint8Array, headers?: MessageHeaders): void {
    this.#parts.wire.publish(this.subject, body, headers, `${this.#control}.${this.#sent}`);
    this.#sent += 1;
  }

  #credit(): Promise<void> {
    return new Promise(resolve => {
      const deadline = this.#parts.wheel.after(CREDIT_MS, () => {
        this.fail(new CodeGodError('timeout', `the caller took nothing for ${CREDIT_MS} ms`));
      });
      this.#wake = () => {
        this.#wake = null;
        this.#waiting = null;
        deadline.cancel();
        resolve();
      };
    });
  }
}
