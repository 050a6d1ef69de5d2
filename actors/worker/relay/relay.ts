/**
 * The port to an engine that answers in the native language, as bytes. Calls back instead of
 * promising: this is the path of every token.
 *
 * Y1: the sink is told in order: bytes, then the end or one failure, and nothing after `close`.
 * Y2: `close` closes the stream to the engine at once; that is how an engine learns to stop.
 */
import type { CodeGodError } from '../../../protocol/errors.ts';
import type { NativePath } from './native.ts';

export interface RelayRequest {
  readonly path: NativePath;
  /** For the words of errors. */
  readonly model: string;
  /** JSON. */
  readonly body: string;
}

export interface RelaySink {
  /** The engine has taken the request; what it answers is of this content type. */
  answers(contentType: string): void;
  take(bytes: Buffer): void;
  end(): void;
  fail(error: CodeGodError): void;
}

export interface Exchange {
  /** Asks for no more bytes than are under way, until `resume`. */
  pause(): void;
  resume(): void;
  close(): void;
}

export interface Relay {
  /** Seconds that the engine keeps a model after an answer, where its host does not say. */
  readonly keep_alive: number;
  ask(request: RelayRequest, sink: RelaySink): Exchange;
  /** Closes the connections that are kept. */
  stop(): void;
}
