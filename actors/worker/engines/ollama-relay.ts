/**
 * Asks Ollama over connections that are kept, and hands its answer on as the bytes that came.
 *
 * R1: a connection that was kept may be closed by the other side in the moment it is used. A request
 *     that fails so, before any byte of an answer, is sent once more over a new one: the others that
 *     were kept are given up, since they may be closed too.
 * R2: an answer of 400 and up is one failure with Ollama's own words, at most 64 KiB of them.
 */
import { Agent, type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest, Agent as TlsAgent } from 'node:https';
import type { CodeGodError } from '../../../protocol/errors.ts';
import type { Exchange, Relay, RelayRequest, RelaySink } from '../relay/relay.ts';
import { HttpFailure } from './http-fetch.ts';
import { type OllamaPhase, ollamaError } from './ollama-errors.ts';

export interface OllamaRelayOptions {
  /** `http://127.0.0.1:11434`. */
  readonly host: string;
  readonly keep_alive: number;
}

const ERROR_BYTES_MAX = 65_536;
/** Connections that are kept while nobody uses them. */
const KEPT_MAX = 64;

export function createOllamaRelay(options: OllamaRelayOptions): Relay {
  return new OllamaRelay(options);
}

class OllamaRelay implements Relay {
  readonly keep_alive: number;
  readonly #server: Server;

  constructor({ host, keep_alive }: OllamaRelayOptions) {
    this.keep_alive = keep_alive;
    this.#server = serverOf(host);
  }

  ask(request: RelayRequest, sink: RelaySink): Exchange {
    return new OllamaExchange(this.#server, request, sink);
  }

  stop(): void {
    this.#server.agent.destroy();
  }
}

interface Server {
  readonly url: string;
  readonly send: typeof httpRequest;
  readonly agent: Agent;
  /** As the Host header says it. */
  readonly authority: string;
  readonly hostname: string;
  readonly port: string;
  readonly basePath: string;
}

function serverOf(host: string): Server {
  const url = new URL(host);
  const tls = url.protocol === 'https:';
  const kept = { keepAlive: true, maxFreeSockets: KEPT_MAX, scheduling: 'lifo' } as const;
  return {
    url: host,
    send: tls ? httpsRequest : httpRequest,
    agent: tls ? new TlsAgent(kept) : new Agent(kept),
    authority: url.host,
    hostname: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port || (tls ? '443' : '80'),
    basePath: url.pathname.replace(/(?<!\/)\/+$/, ''),
  };
}

class OllamaExchange implements Exchange {
  readonly #server: Server;
  readonly #asked: RelayRequest;
  readonly #sink: RelaySink;
  #request: ClientRequest;
  #response: IncomingMessage | null = null;
  #again = false;
  #over = false;

  constructor(server: Server, asked: RelayRequest, sink: RelaySink) {
    this.#server = server;
    this.#asked = asked;
    this.#sink = sink;
    this.#request = this.#send();
  }

  pause(): void {
    this.#response?.pause();
  }

  resume(): void {
    this.#response?.resume();
  }

  close(): void {
    this.#over = true;
    this.#request.destroy();
  }

  #send(): ClientRequest {
    const { send, agent, authority, hostname, port, basePath } = this.#server;
    const { path, body } = this.#asked;
    const request = send({
      ...{ agent, hostname, port, method: 'POST', path: basePath + path },
      // A list is sent as it is, without a look at each name.
      headers: [
        ...['host', authority, 'content-type', 'application/json'],
        ...['content-length', String(Buffer.byteLength(body))],
      ],
    });
    request.on('response', response => this.#answered(response));
    request.on('error', error => this.#broke(error));
    request.end(body);
    return request;
  }

  #answered(response: IncomingMessage): void {
    this.#response = response;
    response.on('error', error => this.#broke(error));
    const status = response.statusCode ?? 0;
    if (status >= 400) {
      this.#refused(response, status);
      return;
    }
    this.#sink.answers(response.headers['content-type'] ?? 'application/json');
    response.on('data', (bytes: Buffer) => {
      if (!this.#over) this.#sink.take(bytes);
    });
    response.on('end', () => {
      if (this.#over) return;
      this.#over = true;
      this.#sink.end();
    });
  }

  /** R2. */
  #refused(response: IncomingMessage, status: number): void {
    const parts: Buffer[] = [];
    let length = 0;
    const tell = (): void => {
      if (this.#over) return;
      const text = Buffer.concat(parts).toString('utf8').trim().slice(0, ERROR_BYTES_MAX);
      this.#fail(new HttpFailure(status, wordsOf(text, status)), 'asking');
    };
    response.on('data', (bytes: Buffer) => {
      length += bytes.length;
      parts.push(bytes);
      if (length <= ERROR_BYTES_MAX) return;
      tell();
      this.#request.destroy();
    });
    response.on('end', tell);
  }

  #broke(error: NodeJS.ErrnoException): void {
    if (this.#over) return;
    const unanswered = this.#response === null;
    if (unanswered && this.#request.reusedSocket && !this.#again && isClosed(error)) {
      this.#again = true;
      giveUpKept(this.#server.agent);
      this.#request = this.#send(); // R1
      return;
    }
    this.#fail(error, unanswered ? 'asking' : 'streaming');
  }

  #fail(cause: unknown, phase: OllamaPhase): void {
    this.#over = true;
    const { model } = this.#asked;
    const error: CodeGodError = ollamaError(cause, { phase, host: this.#server.url, model });
    this.#sink.fail(error);
  }
}

function giveUpKept({ freeSockets }: Agent): void {
  for (const sockets of Object.values(freeSockets)) {
    for (const socket of sockets ?? []) socket.destroy();
  }
}

const isClosed = ({ code }: NodeJS.ErrnoException): boolean =>
  code === 'ECONNRESET' || code === 'EPIPE';

function wordsOf(text: string, status: number): string {
  try {
    const { error } = JSON.parse(text) as { readonly error?: unknown };
    if (typeof error === 'string') return error;
  } catch {
    // Not JSON: the text itself is the message.
  }
  return text === '' ? `HTTP status ${status}` : text;
}
