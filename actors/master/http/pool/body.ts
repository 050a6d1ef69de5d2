/** The body of a request, read whole and bounded, and parsed once. */
import type { IncomingMessage } from 'node:http';
import { CodeGodError } from '../../../../protocol/errors.ts';
import { tooLarge } from '../guards.ts';

export interface Body {
  /** As it came: what is sent on. */
  readonly bytes: Buffer;
  readonly value: Readonly<Record<string, unknown>>;
}

/** @throws CodeGodError `too_large`, `bad_request`; `cancelled` where the client has gone */
export async function readBody(request: IncomingMessage, bytesMax: number): Promise<Body> {
  const bytes = await bytesOf(request, bytesMax);
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
  return { bytes, value: value as Record<string, unknown> };
}

function bytesOf(request: IncomingMessage, bytesMax: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    request.on('data', (chunk: Buffer) => {
      length += chunk.length;
      // What is over is read and dropped, so that the client gets to read why.
      if (length <= bytesMax) chunks.push(chunk);
      else {
        chunks.length = 0;
        reject(tooLarge(bytesMax));
      }
    });
    request.on('end', () =>
      resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)),
    );
    request.on('close', () => reject(new CodeGodError('cancelled', 'the client has gone')));
    request.on('error', cause => {
      reject(new CodeGodError('cancelled', 'the client has gone', { cause }));
    });
  });
}
