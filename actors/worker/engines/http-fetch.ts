/**
 * `fetch` over node:http, for servers that may think for minutes before they answer: no hidden
 * header or body timeout, and an abort closes the socket, which is how the other side learns of it.
 *
 * F1: an answer of 400 and up is thrown as HttpFailure with the server's own words, at most 64 KiB.
 */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { Readable } from 'node:stream';

const ERROR_BYTES_MAX = 65_536;

export class HttpFailure extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.name = 'HttpFailure';
    this.status = status;
  }
}

/** A `fetch` whose every request also ends with the given signal. */
export function httpFetch(signal: AbortSignal): typeof fetch {
  return async (input, init) => {
    const url = new URL(input instanceof Request ? input.url : input);
    const own = init?.signal;
    const ends = own === undefined || own === null ? signal : AbortSignal.any([signal, own]);
    ends.throwIfAborted();
    const response = await send(url, init ?? {}, ends);
    const status = response.statusCode ?? 0;
    if (status >= 400) throw new HttpFailure(status, await errorText(response, status));
    const headers = new Headers({ 'content-type': response.headers['content-type'] ?? '' });
    const body = Readable.toWeb(response) as unknown as ConstructorParameters<typeof Response>[0];
    return new Response(body ?? null, { status, headers });
  };
}

function send(url: URL, init: RequestInit, signal: AbortSignal): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const start = url.protocol === 'https:' ? httpsRequest : httpRequest;
    const headers = Object.fromEntries(new Headers(init.headers).entries());
    const request = start(url, { method: init.method ?? 'GET', headers, signal });
    request.on('response', resolve);
    request.on('error', reject);
    request.end(typeof init.body === 'string' ? init.body : undefined);
  });
}

async function errorText(response: IncomingMessage, status: number): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response) {
    const bytes = chunk as Buffer;
    length += bytes.length;
    chunks.push(bytes);
    if (length > ERROR_BYTES_MAX) break;
  }
  const text = Buffer.concat(chunks).toString('utf8').trim().slice(0, ERROR_BYTES_MAX);
  try {
    const { error } = JSON.parse(text) as { readonly error?: unknown };
    if (typeof error === 'string') return error;
  } catch {
    // Not JSON: the text itself is the message.
  }
  return text === '' ? `HTTP status ${status}` : text;
}
