/**
 * Bytes ⇄ values: JSON for everybody, msgpack (msgpackr, no records, no extensions that run code)
 * where both ends are ours. The `content-type` says which; without one, JSON is assumed.
 *
 * C1: hostile bytes give a CodeGodError `bad_message`, never a crash and never a half value.
 * C2: what was encoded decodes to an equal value.
 * C3: keys named `__proto__` are refused: they would change objects instead of filling them.
 */
import { Packr, Unpackr } from 'msgpackr';
import { CodeGodError } from './errors.ts';

export const JSON_TYPE = 'application/json';
export const MSGPACK_TYPE = 'application/msgpack';
export type ContentType = typeof JSON_TYPE | typeof MSGPACK_TYPE;

/** Nesting allowed in a decoded value; deeper is a hostile message. */
const DEPTH_MAX = 64;

const options = { useRecords: false, mapsAsObjects: true, int64AsType: 'number' } as const;
const packr = new Packr(options);
const unpackr = new Unpackr(options);
const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });

/** Encodes plain data (null, booleans, finite numbers, strings, arrays, plain objects). */
export function encode(value: unknown, type: ContentType = JSON_TYPE): Uint8Array {
  if (type === MSGPACK_TYPE) return new Uint8Array(packr.pack(value));
  const text = JSON.stringify(value);
  if (text === undefined) throw new CodeGodError('internal', 'only plain data can be encoded');
  return encoder.encode(text);
}

/**
 * Decodes one value.
 * @throws CodeGodError `bad_message` where the bytes are not what the type says.
 */
export function decode(bytes: Uint8Array, type: string | undefined): unknown {
  const media = (type ?? JSON_TYPE).split(';', 1)[0]?.trim().toLowerCase();
  try {
    const value =
      media === MSGPACK_TYPE || media === 'application/x-msgpack'
        ? unpackr.unpack(bytes)
        : JSON.parse(decoder.decode(bytes));
    assertPlain(value, 0);
    return value;
  } catch (cause) {
    if (cause instanceof CodeGodError) throw cause;
    const detail = cause instanceof Error ? cause.message : String(cause);
    throw new CodeGodError('bad_message', `not ${media}: ${detail.slice(0, 200)}`, { cause });
  }
}

/** UTF-8 text, or null where the bytes are not text. */
export function decodeText(bytes: Uint8Array): string | null {
  try {
    return decoder.decode(bytes);
  } catch {
    // Not text is an answer here, not a failure: the caller asked which of the two it is.
    return null;
  }
}

function assertPlain(value: unknown, depth: number): void {
  if (depth > DEPTH_MAX) {
    throw new CodeGodError('bad_message', `nested deeper than ${DEPTH_MAX} levels`);
  }
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return;
  if (typeof value === 'number') {
    if (Number.isFinite(value)) return;
    throw new CodeGodError('bad_message', 'a number is not finite');
  }
  if (Array.isArray(value)) {
    for (const item of value) assertPlain(item, depth + 1);
    return;
  }
  if (typeof value === 'object' && isPlain(value)) {
    for (const [key, item] of Object.entries(value)) {
      if (key === '__proto__') throw new CodeGodError('bad_message', 'a key is named __proto__');
      assertPlain(item, depth + 1);
    }
    return;
  }
  throw new CodeGodError('bad_message', `a value of kind ${typeof value} is not plain data`);
}

function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
