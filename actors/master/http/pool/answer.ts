/**
 * The answer to one client: bytes as they come, or an error in the shape that the client knows,
 * whether its answer has begun or not.
 *
 * W1: a status can be told once. Where a stream shows a sign of life before its first byte, what
 *     goes wrong afterwards is told in the stream.
 * W2: an answer that is no stream and breaks off is cut, so that nobody takes it for a whole one.
 */
import type { ServerResponse } from 'node:http';
import type { InferProgress, RequestId } from '../../../../protocol/inference.ts';
import type { Clock } from '../../../../runtime/clock.ts';
import type { Place, Receiver } from '../../pool/inference.ts';
import { errorAnswer, errorInStream, type Family } from './error-shapes.ts';

/** Proxies and clients that wait for a head give up after 30 s at the earliest. */
const SIGN_OF_LIFE_MS = 10_000;

const ID_HEADER: Readonly<Record<Family, string>> = {
  openai: 'x-request-id',
  anthropic: 'request-id',
  ollama: 'x-request-id',
};

/** Where an answer comes from, and which model spoke, also where the client wrote `auto` or an alias. */
export const placeHeaders = ({ node, model }: Place): Record<string, string> => ({
  'x-codegod-node': node,
  'x-codegod-model': encodeURI(model),
});

export interface AnswerOptions {
  readonly response: ServerResponse;
  readonly family: Family;
  readonly id: RequestId;
  readonly isStream: boolean;
  readonly clock: Clock;
  readonly signOfLifeMs?: number;
}

export class Answer implements Receiver {
  readonly #options: AnswerOptions;
  readonly #response: ServerResponse;
  readonly #startMs: number;
  #signedMs: number;
  #hasBytes = false;

  constructor(options: AnswerOptions) {
    this.#options = options;
    this.#response = options.response;
    this.#startMs = options.clock.monotonic();
    this.#signedMs = this.#startMs;
  }

  /** Comments are a thing of server-sent events. */
  get wantsProgress(): boolean {
    return this.#options.isStream && this.#options.family !== 'ollama';
  }

  /** While a model is loaded: `: loading on node-a, 40 %`. */
  progress(place: Place, { phase, fraction }: InferProgress): void {
    const { clock, signOfLifeMs = SIGN_OF_LIFE_MS } = this.#options;
    const now = clock.monotonic();
    if (now - this.#signedMs < signOfLifeMs) return;
    this.#signedMs = now;
    if (!this.#response.headersSent) this.#head(place, 200, 'text/event-stream');
    const share = fraction === null ? '' : `, ${Math.round(fraction * 100)} %`;
    this.#response.write(`: ${phase} on ${place.node}${share}\n\n`);
  }

  head(place: Place, status: number, contentType: string): void {
    if (!this.#response.headersSent) this.#head(place, status, contentType);
  }

  write(chunk: Uint8Array): boolean {
    this.#hasBytes = true;
    return this.#response.write(chunk);
  }

  drained(): Promise<void> {
    return new Promise(resolve => {
      const response = this.#response;
      if (response.destroyed || !response.writableNeedDrain) return resolve();
      const done = (): void => {
        response.off('drain', done);
        response.off('close', done);
        resolve();
      };
      response.on('drain', done);
      response.on('close', done);
    });
  }

  end(): void {
    this.#response.end();
  }

  /** A whole answer of our own. */
  json(status: number, value: unknown, headers: Record<string, string> = {}): void {
    const body = JSON.stringify(value);
    this.#response.writeHead(status, {
      ...this.#common(),
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      ...headers,
    });
    this.#response.end(body);
  }

  /** W1, W2 */
  fail(error: unknown): void {
    const response = this.#response;
    const { family, isStream } = this.#options;
    if (response.destroyed || response.writableEnded) return;
    if (response.headersSent) {
      const text = errorInStream(family, error, isStream);
      if (text === null) response.destroy();
      else response.end(text);
      return;
    }
    const { status, body, retryAfterS } = errorAnswer(family, error);
    response.writeHead(status, {
      ...this.#common(),
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      ...(retryAfterS === null ? {} : { 'retry-after': String(retryAfterS) }),
    });
    response.end(body);
  }

  /** Whether anything of the answer itself has been written. */
  get hasBytes(): boolean {
    return this.#hasBytes;
  }

  #head({ node, model }: Place, status: number, contentType: string): void {
    this.#response.writeHead(status, {
      ...this.#common(),
      'content-type': contentType,
      'cache-control': 'no-cache',
      ...placeHeaders({ node, model }),
      // nginx holds back what it streams unless it is told not to.
      ...(this.#options.isStream ? { 'x-accel-buffering': 'no' } : {}),
    });
  }

  #common(): Record<string, string> {
    const { id, family } = this.#options;
    return { 'x-codegod-request': id, [ID_HEADER[family]]: id };
  }
}
