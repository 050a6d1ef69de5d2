/**
 * The body of a request, read whole and bounded, and parsed once.
 *
 * B1: what all requests hold together is bounded too: bodies wait in memory as long as their requests
 *     do.
 */
import type { IncomingMessage } from 'node:http';
import { CodeGodError } from '../../../../protocol/errors.ts';
import { INFER_BODY_BYTES_MAX } from '../../../../protocol/inference.ts';
import { isDeeper } from '../../../../protocol/nesting.ts';
import { tooLarge } from '../guards.ts';

export interface Body {
  /** As it came: what is sent on. */
  readonly bytes: Buffer;
  readonly value: Readonly<Record<string, unknown>>;
}

/** More than any schema of a tool; less than whoever writes it out again can walk. */
const DEPTH_MAX = 512;
const HELD_BYTES_MAX = 16 * INFER_BODY_BYTES_MAX;

/** B1 */
export class BodyBudget {
  #held = 0;

  /** @throws CodeGodError `overloaded` */
  take(bytes: number): void {
    if (this.#held + bytes > HELD_BYTES_MAX) {
      throw new CodeGodError('overloaded', `requests hold ${HELD_BYTES_MAX} bytes already`);
    }
    this.#held += bytes;
  }

  give(bytes: number): void {
    this.#held -= bytes;
  }
}

/**
 * `taken` is told of every byte that is held from now on.
 * @throws CodeGodError `too_large`, `bad_request`; `cancelled` where the client has gone
 */
export async function readBody(
  request: IncomingMessage,
  taken: (bytes: number) => void,
): Promise<Body> {
  const bytes = await bytesOf(request, taken);
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    const reason = bytes.length === 0 ? 'the body is empty' : 'the body is not JSON';
    throw new CodeGodError('bad_request', reason, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new CodeGodError('bad_request', 'the body is not a JSON object');
  }
  if (isDeeper(value, DEPTH_MAX)) {
    throw new CodeGodError('bad_request', `the body nests deeper than ${DEPTH_MAX} levels`);
  }
  return { bytes, value: value as Record<string, unknown> };
}

function bytesOf(request: IncomingMessage, taken: (bytes: number) => void): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let chunks: Buffer[] | null = [];
    let length = 0;
    let isWhole = false;
    request.on('data', (chunk: Buffer) => {
      // What is refused is read and dropped, so that the client gets to read why.
      if (chunks === null) return;
      length += chunk.length;
      try {
        if (length > INFER_BODY_BYTES_MAX) throw tooLarge(INFER_BODY_BYTES_MAX);
        taken(chunk.length);
        chunks.push(chunk);
      } catch (error) {
        chunks = null;
        reject(error);
      }
    });
    request.on('end', () => {
      isWhole = true;
      const [first] = chunks ?? [];
      resolve(chunks?.length === 1 && first !== undefined ? first : Buffer.concat(chunks ?? []));
    });
    request.on('close', () => {
      if (!isWhole) reject(new CodeGodError('cancelled', 'the client has gone'));
    });
    request.on('error', cause => {
      reject(new CodeGodError('cancelled', 'the client has gone', { cause }));
    });
  });
}
