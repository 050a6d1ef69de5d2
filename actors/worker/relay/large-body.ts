/**
 * Clients' requests that were too large for a message: fetched from the object store, checked.
 *
 * B1: what all of them hold in memory together is bounded; one too many is told to go elsewhere.
 */
import { createHash } from 'node:crypto';
import { CodeGodError } from '../../../protocol/errors.ts';
import { INFER_BODY_BYTES_MAX } from '../../../protocol/inference.ts';
import { ARTIFACTS } from '../../../protocol/streams.ts';
import type { ArtifactReference } from '../../../protocol/text.ts';
import type { Bus } from '../../../runtime/bus.ts';
import { type Fields, isFields } from './fields.ts';

/** Bytes of large requests under way at once. */
const UNDER_WAY_BYTES_MAX = 4 * INFER_BODY_BYTES_MAX;

/** Counts what is held (B1). */
export class LargeBodies {
  #bytes = 0;

  /** @throws CodeGodError `too_large`, `overloaded`. */
  enter({ size }: ArtifactReference): void {
    if (size > INFER_BODY_BYTES_MAX) throw tooLarge();
    if (this.#bytes + size > UNDER_WAY_BYTES_MAX) {
      throw new CodeGodError('overloaded', 'too many large requests are under way on this node');
    }
    this.#bytes += size;
  }

  leave({ size }: ArtifactReference): void {
    this.#bytes -= size;
  }
}

/**
 * @throws CodeGodError `too_large`, `not_found`, `cancelled`, or `bad_message` where the bytes are
 *   not what the reference says.
 */
export async function fetchBody(
  bus: Bus,
  reference: ArtifactReference,
  signal: AbortSignal,
): Promise<Fields> {
  const { bucket, name, sha256, size } = reference;
  if (bucket !== ARTIFACTS.name) {
    throw new CodeGodError('bad_message', `requests are not kept in ${bucket}`);
  }
  const stored = await bus.objects(bucket).get(name);
  if (stored === null) throw new CodeGodError('not_found', `there is no request ${name}`);
  const hash = createHash('sha256');
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of stored) {
    if (signal.aborted) throw new CodeGodError('cancelled', 'the caller has gone');
    length += part.length;
    if (length > size) throw tooLarge();
    hash.update(part);
    parts.push(part);
  }
  if (length !== size || hash.digest('hex') !== sha256) {
    throw new CodeGodError('bad_message', `the request ${name} is not what was announced`);
  }
  return parsed(Buffer.concat(parts).toString('utf8'));
}

function parsed(text: string): Fields {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new CodeGodError('bad_message', 'the request is not JSON', { cause });
  }
  if (isFields(value)) return value;
  throw new CodeGodError('bad_message', 'the request is not an object');
}

const tooLarge = (): CodeGodError =>
  new CodeGodError('too_large', `a request is at most ${INFER_BODY_BYTES_MAX} bytes`);
