/**
 * What goes out to one caller: bytes of one tick of the event loop travel together, in messages of
 * bounded size, in order, no faster than the caller takes them.
 *
 * F1: at most one message is handed to the bus at a time; what comes meanwhile waits for the next.
 * F2: what waits is bounded by whoever gives: over HIGH_BYTES it is told to pause.
 */
import { INFER_CHUNK_BYTES_MAX } from '../../../protocol/inference.ts';
import type { MessageHeaders, ServeStreamContext } from '../../../runtime/bus.ts';

const HIGH_BYTES = 1024 * 1024;
const NOTHING = new Uint8Array(0);

/** Runs what is due at the end of this turn of the event loop, all of it from one callback. */
export class Turn {
  #due: Outflow[] = [];
  readonly #run = (): void => {
    const due = this.#due;
    this.#due = [];
    for (const outflow of due) outflow.flush();
  };

  later(outflow: Outflow): void {
    if (this.#due.push(outflow) === 1) setImmediate(this.#run);
  }
}

/** Who gives the bytes. */
export interface Source {
  pause(): void;
  resume(): void;
  /** The caller has gone, or takes nothing any more. */
  stuck(error: unknown): void;
}

export class Outflow {
  readonly #send: ServeStreamContext['send'];
  readonly #turn: Turn;
  readonly #source: Source;
  #buffers: Buffer[] = [];
  #text = '';
  #waitingBytes = 0;
  /** Of the first message with a body, until it is sent. */
  #head: MessageHeaders;
  #note: MessageHeaders | null = null;
  #last: MessageHeaders | null = null;
  #due = false;
  #ended = false;
  #paused = false;
  #sending: Promise<void> | null = null;
  #error: { readonly cause: unknown } | null = null;
  /** Whether bytes of the answer are on their way; then it is too late for another answer. */
  begun = false;
  /** Messages sent so far. */
  sent = 0;

  constructor(send: ServeStreamContext['send'], turn: Turn, source: Source) {
    this.#send = send;
    this.#turn = turn;
    this.#source = source;
    this.#head = {};
  }

  /** Before the first bytes. */
  head(headers: MessageHeaders): void {
    this.#head = headers;
  }

  push(part: Buffer | string): void {
    if (part.length === 0 || this.#error !== null) return;
    this.#waitingBytes += part.length;
    if (typeof part === 'string') this.#text += part;
    else {
      this.#closeText();
      this.#buffers.push(part);
    }
    if (this.#waitingBytes > HIGH_BYTES && !this.#paused) {
      this.#paused = true;
      this.#source.pause();
    }
    this.#later();
  }

  /** Forgets what waits. */
  discard(): void {
    this.#buffers = [];
    this.#text = '';
    this.#waitingBytes = 0;
  }

  /** A message without a body. Only the newest of one turn is sent, and none once bytes flow. */
  note(headers: MessageHeaders): void {
    if (this.#ended) return;
    this.#note = headers;
    this.#later();
  }

  /** Sends what waits and, with it, the last headers. @throws what kept it from being sent. */
  async end(last: MessageHeaders | null): Promise<void> {
    this.#ended = true;
    this.#note = null;
    this.#last = last;
    this.flush();
    while (this.#sending !== null) await this.#sending;
    if (this.#error !== null) throw this.#error.cause;
    if (this.#last !== null) await this.#send(NOTHING, this.#last);
  }

  flush(): void {
    this.#due = false;
    if (this.#sending !== null || this.#error !== null) return;
    if (this.#waitingBytes > 0 || this.#note !== null) this.#sending = this.#drain();
  }

  #later(): void {
    if (this.#due || this.#sending !== null) return;
    this.#due = true;
    this.#turn.later(this);
  }

  async #drain(): Promise<void> {
    try {
      while (this.#waitingBytes > 0 || this.#note !== null) {
        if (this.#note !== null && this.#waitingBytes === 0) {
          const headers = this.#note;
          this.#note = null;
          this.sent += 1;
          await this.#send(NOTHING, headers);
        } else await this.#sendBytes(this.#take());
      }
    } catch (cause) {
      this.#error = { cause };
      this.#source.stuck(cause);
    } finally {
      this.#sending = null;
    }
  }

  async #sendBytes(bytes: Buffer): Promise<void> {
    for (let from = 0; from < bytes.length; from += INFER_CHUNK_BYTES_MAX) {
      const part = bytes.subarray(from, from + INFER_CHUNK_BYTES_MAX);
      const isLast = from + part.length === bytes.length && this.#waitingBytes === 0;
      const headers = isLast && this.#last !== null ? { ...this.#head, ...this.#last } : this.#head;
      if (isLast) this.#last = null;
      this.#head = {};
      this.begun = true;
      this.sent += 1;
      await this.#send(part, headers);
    }
  }

  #take(): Buffer {
    this.#closeText();
    const buffers = this.#buffers;
    this.#buffers = [];
    this.#waitingBytes = 0;
    this.#note = null;
    if (this.#paused) {
      this.#paused = false;
      this.#source.resume();
    }
    const [first] = buffers;
    return buffers.length === 1 && first !== undefined ? first : Buffer.concat(buffers);
  }

  #closeText(): void {
    if (this.#text === '') return;
    this.#buffers.push(Buffer.from(this.#text, 'utf8'));
    this.#text = '';
  }
}
