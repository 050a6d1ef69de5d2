/**
 * What every request must pass: no web page may reach this door through a browser, and no body may
 * be larger than what its route takes.
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
/** The part of a Host header before its port. */
const HOST = /^(\[[0-9a-f:.]+\]|[^[\]:/?#@\s]+)(:\d{1,5})?$/i;

/** The headers that are looked at, by their names in lower case. */
export type HeaderOf = (name: string) => string | undefined;

export interface GuardOptions {
  /** Whether the door is one of this machine alone. */
  readonly isLoopback: boolean;
  readonly bodyBytesMax: number;
}

/** Whether an address is one of this machine alone. */
export const isLoopback = (host: string): boolean => LOOPBACK.test(host) || host === '::1';

/**
 * U1, U2, U3.
 * @throws CodeGodError `denied`, `bad_request`, `too_large`
 */
export function checkGuards(method: string, header: HeaderOf, options: GuardOptions): void {
  const host = HOST.exec(header('host') ?? '')?.[1] ?? null;
  if (options.isLoopback && !(host !== null && LOOPBACK.test(host))) {
    throw new CodeGodError('denied', 'the Host header does not name this machine', {
      hint: 'use http://localhost or http://127.0.0.1',
    });
  }
  const origin = header('origin');
  if (origin !== undefined && hostnameOf(origin) !== host?.toLowerCase()) {
    throw new CodeGodError('denied', `requests of ${origin.slice(0, 128)} are not served`);
  }
  if (method === 'POST' && hasBody(header, options.bodyBytesMax)) {
    requireJson(header('content-type') ?? '', origin);
  }
}

/** The same for a router: with the body of a message. */
export function guard(options: { readonly isLoopback: boolean }): MiddlewareHandler {
  const limits = { ...options, bodyBytesMax: MESSAGE_BYTES_MAX };
  return async (context, next) => {
    checkGuards(context.req.method, name => context.req.header(name), limits);
    await next();
  };
}

function hostnameOf(address: string): string | null {
  return URL.canParse(address) ? new URL(address).hostname : null;
}

function hasBody(header: HeaderOf, bytesMax: number): boolean {
  const length = header('content-length');
  if (length !== undefined && Number(length) > bytesMax) throw tooLarge(bytesMax);
  return header('transfer-encoding') !== undefined || (length !== undefined && length !== '0');
}

export const tooLarge = (bytesMax: number): CodeGodError =>
  new CodeGodError('too_large', `a body has at most ${bytesMax} bytes`);

function requireJson(type: string, origin: string | undefined): void {
  if (JSON_TYPE.test(type)) return;
  if (CURL_TYPE.test(type) && origin === undefined) return;
  throw new CodeGodError('bad_request', `a body of type ${type || 'nothing'} is not understood`, {
    hint: "send JSON: -H 'content-type: application/json'",
  });
}
