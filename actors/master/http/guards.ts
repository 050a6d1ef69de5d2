/**
 * What every request must pass: no web page may reach this door through a browser, and no body may
 * be larger than a message.
 *
 * U1: on loopback the Host header must name loopback: a page whose name was made to point here
 *     (DNS rebinding) carries its own name in it.
 * U2: a request that a page of another origin makes is refused.
 * U3: a body must say that it is JSON. curl's default type is let through where no browser sends it.
 */
import type { MiddlewareHandler } from 'hono';
import { CodeGodError } from '../../../protocol/errors.ts';
import { MESSAGE_BYTES_MAX } from '../../../protocol/limits.ts';

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\]|[a-z0-9-]+\.localhost)$/i;
const JSON_TYPE = /^application\/([a-z0-9.-]+\+)?json\b/i;
const CURL_TYPE = /^application\/x-www-form-urlencoded\b/i;

/** Whether an address is one of this machine alone. */
export const isLoopback = (host: string): boolean => LOOPBACK.test(host) || host === '::1';

/** U1, U2, U3. */
export function guard(options: { readonly isLoopback: boolean }): MiddlewareHandler {
  return async (context, next) => {
    const host = hostnameOf(`http://${context.req.header('host') ?? ''}`);
    if (options.isLoopback && !(host !== null && LOOPBACK.test(host))) {
      throw new CodeGodError('denied', 'the Host header does not name this machine', {
        hint: 'use http://localhost or http://127.0.0.1',
      });
    }
    const origin = context.req.header('origin');
    if (origin !== undefined && hostnameOf(origin) !== host) {
      throw new CodeGodError('denied', `requests of ${origin.slice(0, 128)} are not served`);
    }
    const isPost = context.req.method === 'POST';
    if (isPost && hasBody(context.req.raw.headers)) {
      requireJson(context.req.header('content-type') ?? '', origin);
    }
    await next();
  };
}

function hostnameOf(address: string): string | null {
  return URL.canParse(address) ? new URL(address).hostname : null;
}

function hasBody(headers: Headers): boolean {
  const length = headers.get('content-length');
  if (length !== null && Number(length) > MESSAGE_BYTES_MAX) {
    throw new CodeGodError('too_large', `a body has at most ${MESSAGE_BYTES_MAX} bytes`);
  }
  return headers.has('transfer-encoding') || (length !== null && length !== '0');
}

function requireJson(type: string, origin: string | undefined): void {
  if (JSON_TYPE.test(type)) return;
  if (CURL_TYPE.test(type) && origin === undefined) return;
  throw new CodeGodError('bad_request', `a body of type ${type || 'nothing'} is not understood`, {
    hint: "send JSON: -H 'content-type: application/json'",
  });
}
