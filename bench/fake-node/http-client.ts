/**
 * One keep-alive HTTP/1.1 connection over a plain socket, for load generators: it sends a prepared
 * request, reads the answer with the least work, and says when its first and last byte came.
 *
 * C1: one request at a time. A connection that breaks or was closed is opened again for the next.
 * C2: the body is not kept, only counted, but for the first bytes of an answer that is an error.
 */
import { connect, type Socket } from 'node:net';

export interface Answer {
  readonly status: number;
  /** Milliseconds from sending to the first byte of the body, and to its end. */
  readonly firstMs: number;
  readonly totalMs: number;
  readonly bytes: number;
  /** Pieces in which the body was sent. */
  readonly chunks: number;
  /** Beginning of the body of an answer of 400 and up. */
  readonly error: string;
}

type State = 'head' | 'length' | 'chunk-size' | 'chunk' | 'chunk-end' | 'trailer' | 'close';

const HEAD_BYTES_MAX = 65_536;
const ERROR_BYTES_MAX = 512;
const LF = 10;

export class HttpConnection {
  readonly #host: string;
  readonly #port: number;
  #socket: Socket | null = null;
  #resolve: ((answer: Answer) => void) | null = null;
  #reject: ((error: Error) => void) | null = null;
  #timer: NodeJS.Timeout | null = null;
  #state: State = 'head';
  /** Bytes of a line or head that is not complete yet. */
  #rest = '';
  /** Bytes that are still to come of the body or of this chunk. */
  #left = 0;
  #status = 0;
  #bytes = 0;
  #chunks = 0;
  #error = '';
  #keepAlive = true;
  #sentMs = 0;
  #firstMs = 0;

  constructor(host: string, port: number) {
    this.#host = host;
    this.#port = port;
  }

  /** Rejects where the connection breaks, what comes is not HTTP, or nothing comes in time. */
  send(request: Buffer, timeoutMs: number): Promise<Answer> {
    const socket = this.#socket ?? this.#open();
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
      this.#state = 'head';
      this.#rest = '';
      this.#bytes = 0;
      this.#chunks = 0;
      this.#error = '';
      this.#firstMs = 0;
      this.#timer = setTimeout(() => this.#fail(new Error('no answer in time')), timeoutMs);
      this.#sentMs = performance.now();
      socket.write(request);
    });
  }

  close(): void {
    this.#socket?.destroy();
    this.#socket = null;
  }

  #open(): Socket {
    const socket = connect({ host: this.#host, port: this.#port, noDelay: true });
    socket.on('data', bytes => {
      if (socket === this.#socket) this.#read(bytes);
    });
    socket.on('error', error => {
      if (socket === this.#socket) this.#fail(error);
    });
    socket.on('close', () => {
      if (socket !== this.#socket) return;
      if (this.#state === 'close' && this.#resolve !== null) this.#finish();
      else this.#fail(new Error('the connection was closed'));
      this.#socket = null;
    });
    this.#socket = socket;
    return socket;
  }

  #fail(error: Error): void {
    const reject = this.#reject;
    this.close();
    this.#settle();
    reject?.(error);
  }

  #finish(): void {
    const resolve = this.#resolve;
    const now = performance.now();
    const answer: Answer = {
      status: this.#status,
      firstMs: (this.#firstMs || now) - this.#sentMs,
      totalMs: now - this.#sentMs,
      bytes: this.#bytes,
      chunks: this.#chunks,
      error: this.#error,
    };
    if (!this.#keepAlive) this.close();
    this.#settle();
    resolve?.(answer);
  }

  #settle(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#resolve = null;
    this.#reject = null;
  }

  #read(bytes: Buffer): void {
    let at = 0;
    while (at < bytes.length && this.#resolve !== null) {
      if (this.#state === 'head') at = this.#readHead(bytes, at);
      else if (this.#left > 0 || this.#state === 'close') at = this.#readBody(bytes, at);
      else at = this.#readLine(bytes, at);
    }
  }

  #readHead(bytes: Buffer, at: number): number {
    const before = this.#rest.length;
    this.#rest += bytes.toString('latin1', at);
    const end = this.#rest.indexOf('\r\n\r\n');
    if (end < 0) {
      if (this.#rest.length > HEAD_BYTES_MAX) this.#fail(new Error('the head does not end'));
      return bytes.length;
    }
    const head = this.#rest.slice(0, end).toLowerCase();
    this.#rest = '';
    this.#status = Number(head.slice(9, 12));
    this.#keepAlive = !head.includes('\r\nconnection: close');
    const length = /\r\ncontent-length: *(\d+)/.exec(head)?.[1];
    if (head.includes('\r\ntransfer-encoding: chunked')) this.#state = 'chunk-size';
    else if (length === undefined) this.#state = 'close';
    else this.#state = 'length';
    this.#left = Number(length ?? 0);
    if (this.#state === 'length' && this.#left === 0) this.#finish();
    return at + end + 4 - before;
  }

  #readBody(bytes: Buffer, at: number): number {
    if (this.#firstMs === 0) this.#firstMs = performance.now();
    const wanted = this.#state === 'close' ? bytes.length : this.#left;
    const end = Math.min(bytes.length, at + wanted);
    this.#bytes += end - at;
    if (this.#status >= 400 && this.#error.length < ERROR_BYTES_MAX) {
      this.#error += bytes.toString('utf8', at, end);
    }
    if (this.#state === 'close') return end;
    this.#left -= end - at;
    if (this.#left > 0) return end;
    if (this.#state === 'length') this.#finish();
    else this.#state = 'chunk-end';
    return end;
  }

  /** The size of a chunk, the end of its line, or the line after the last one. */
  #readLine(bytes: Buffer, at: number): number {
    const end = bytes.indexOf(LF, at);
    if (end < 0) {
      this.#rest += bytes.toString('latin1', at);
      return bytes.length;
    }
    if (this.#state === 'trailer') {
      const line = this.#rest + bytes.toString('latin1', at, end);
      this.#rest = '';
      if (line.trim() === '') this.#finish();
    } else if (this.#state === 'chunk-end') this.#state = 'chunk-size';
    else {
      this.#left = Number.parseInt(this.#rest + bytes.toString('latin1', at, end), 16);
      this.#rest = '';
      if (Number.isNaN(this.#left)) this.#fail(new Error('not a chunk'));
      else if (this.#left === 0) this.#state = 'trailer';
      else {
        this.#state = 'chunk';
        this.#chunks += 1;
      }
    }
    return end + 1;
  }
}
