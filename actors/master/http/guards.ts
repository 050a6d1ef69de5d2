/**
 * What every request must pass: no web page may reach this door through a browser, and no body may
 * be larger than what its route takes.
 *
 * U1: on loopback the Host header must name loopback: a page whose name was made to point here
 *     (DNS rebinding) carries its own name in it.
 * U2: a request that a page of another origin makes is refused, unless that origin may ask this route.
 * U3: a body that a page sends must say that it is JSON, which pages may say only where they were let
 *     in. Where no page can have sent it, curl's default type passes, none at all, and for clients of
 *     models any: Ollama reads none, and they do not all send one.
 */
import type { MiddlewareHandler } from 'hono';
import { CodeGodError } from '../../../protocol/errors.ts';
import { MESSAGE_BYTES_MAX } from '../../../protocol/limits.ts';
import { grantHeaders, type OriginRule, preflightHeaders } from './origins.ts';

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
  /** Of other origins, those whose pages may ask. */
  readonly mayAsk: OriginRule;
  /** Whether a body that no page can have sent may say that it is anything. */
  readonly anyType: boolean;
}

/** Whether an address is one of this machine alone. */
export const isLoopback = (host: string): boolean => LOOPBACK.test(host) || host === '::1';

/**
 * U1, U2, U3. Answers the foreign origin that was let in; null where there is none.
 * @throws CodeGodError `denied`, `bad_request`, `too_large`
 */
export function checkGuards(
  method: string,
  header: HeaderOf,
  options: GuardOptions,
): string | null {
  const authority = header('host') ?? '';
  const host = HOST.exec(authority)?.[1] ?? null;
  if (options.isLoopback && !(host !== null && LOOPBACK.test(host))) {
    throw new CodeGodError('denied', 'the Host header does not name this machine', {
      hint: 'use http://localhost or http://127.0.0.1',
    });
  }
  const origin = header('origin');
  const foreign = origin === undefined || isOwn(origin, authority) ? null : origin;
  if (foreign !== null && !options.mayAsk(foreign)) {
    throw new CodeGodError('denied', `requests of ${foreign.slice(0, 128)} are not served`, {
      hint: 'http.origins lists the pages that may ask',
    });
  }
  if (method === 'POST' && hasBody(header, options.bodyBytesMax)) requireJson(header, options);
  return foreign;
}

/** The same for a router: with the body of a message. */
export function guard(options: {
  readonly isLoopback: boolean;
  readonly mayAsk: OriginRule;
}): MiddlewareHandler {
  const limits = { ...options, bodyBytesMax: MESSAGE_BYTES_MAX, anyType: false };
  return async (context, next) => {
    const { method } = context.req;
    const header: HeaderOf = name => context.req.header(name);
    const foreign = checkGuards(method, header, limits);
    if (foreign !== null && method === 'OPTIONS') {
      return context.body(null, 204, preflightHeaders(foreign, header));
    }
    await next();
    const grant = foreign === null ? {} : grantHeaders(foreign);
    for (const [name, value] of Object.entries(grant)) context.res.headers.set(name, value);
    return undefined;
  };
}

/** Whether a page is one of this very door: the port too, since every port is another server. */
function isOwn(origin: string, authority: string): boolean {
  return URL.canParse(origin) && new URL(origin).host === authority.toLowerCase();
}

function hasBody(header: HeaderOf, bytesMax: number): boolean {
  const length = header('content-length');
  if (length !== undefined && Number(length) > bytesMax) throw tooLarge(bytesMax);
  return header('transfer-encoding') !== undefined || (length !== undefined && length !== '0');
}

export const tooLarge = (bytesMax: number): CodeGodError =>
  new CodeGodError('too_large', `a body has at most ${bytesMax} bytes`);

function requireJson(header: HeaderOf, { anyType }: GuardOptions): void {
  const type = header('content-type') ?? '';
  if (JSON_TYPE.test(type)) return;
  // Browsers say at least one of the two with every body that a page sends.
  const isOfPage = header('origin') !== undefined || header('sec-fetch-site') !== undefined;
  if (!isOfPage && (anyType || type === '' || CURL_TYPE.test(type))) return;
  throw new CodeGodError('bad_request', `a body of type ${type || 'nothing'} is not understood`, {
    hint: "send JSON: -H 'content-type: application/json'",
  });
}
