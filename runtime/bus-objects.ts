/**
 * Objects over streams, as every NATS client lays them out (ADR-20): bucket `B` is stream `OBJ_B`,
 * chunks lie under `$O.B.C.<id>`, and `$O.B.M.<name>` tells which chunks an object has.
 *
 * O1  The description is written after all chunks: an object is there whole or not at all.
 * O2  What is read is checked against the digest in the description.
 *
 * A process that dies while writing leaves chunks behind that nothing names; the bucket's age and
 * size limits bound them.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { CodeGodError } from '../protocol/errors.ts';
import type { ObjectInfo, Objects, ObjectsConfig, StoredMessage, StreamConfig } from './bus.ts';
import { read } from './bus-streams.ts';
import type { TimerWheel } from './bus-wheel.ts';
import { EMPTY, HEADER, type Store } from './bus-wire.ts';

const CHUNK_BYTES = 128 * 1024;
const TIMEOUT_MS = 10_000;
const GRACE_MS = 2_000;
const NAME_LENGTH_MAX = 240;

const Description = z.looseObject({
  name: z.string().max(NAME_LENGTH_MAX),
  nuid: z.string().min(1).max(64),
  size: z.int().nonnegative(),
  digest: z.string().startsWith('SHA-256=').max(64).default('SHA-256='),
  deleted: z.boolean().default(false),
});
type Description = z.infer<typeof Description>;

export interface ObjectParts {
  readonly store: Store;
  readonly wheel: TimerWheel;
  readonly newId: () => string;
  readonly now: () => number;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export class StreamObjects implements Objects {
  readonly #parts: ObjectParts;
  readonly #bucket: string;
  readonly #stream: string;

  constructor(parts: ObjectParts, bucket: string) {
    this.#parts = parts;
    this.#bucket = bucket;
    this.#stream = `OBJ_${bucket}`;
  }

  ensure(config: ObjectsConfig): Promise<void> {
    return this.#parts.store.ensure(streamOf(this.#bucket, config));
  }

  async put(name: string, data: Uint8Array | AsyncIterable<Uint8Array>): Promise<ObjectInfo> {
    const subject = this.#descriptionSubject(name);
    const before = await this.#describe(name);
    const id = this.#parts.newId();
    const hash = createHash('sha256');
    let size = 0;
    let chunks = 0;
    try {
      for await (const chunk of chunksOf(data)) {
        hash.update(chunk);
        size += chunk.length;
        chunks += 1;
        await this.#append(this.#chunkSubject(id), chunk);
      }
      const digest = hash.digest();
      const description = {
        name,
        bucket: this.#bucket,
        nuid: id,
        size,
        chunks,
        digest: `SHA-256=${digest.toString('base64').replaceAll('+', '-').replaceAll('/', '_')}`,
        mtime: new Date(this.#parts.now()).toISOString(),
        deleted: false,
        options: { max_chunk_size: CHUNK_BYTES },
      };
      await this.#describeAs(subject, description);
      if (before !== null) await this.#purge(before);
      return { name, size, sha256: digest.toString('hex') };
    } catch (error) {
      // The first failure is the one to tell; chunks that stay are bounded by the bucket.
      await this.#parts.store.purge(this.#stream, this.#chunkSubject(id)).catch(() => 0);
      throw error;
    }
  }

  async get(name: string): Promise<AsyncIterable<Uint8Array> | null> {
    const description = await this.#describe(name);
    return description === null ? null : this.#content(description);
  }

  async info(name: string): Promise<ObjectInfo | null> {
    const description = await this.#describe(name);
    if (description === null) return null;
    return { name, size: description.size, sha256: digestOf(description) };
  }

  async delete(name: string): Promise<boolean> {
    const description = await this.#describe(name);
    if (description === null) return false;
    const gone = { ...description, size: 0, chunks: 0, digest: 'SHA-256=', deleted: true };
    await this.#describeAs(this.#descriptionSubject(name), gone);
    await this.#purge(description);
    return true;
  }

  async deleteOldest(): Promise<boolean> {
    const { store, wheel } = this.#parts;
    const options = { filter: `$O.${this.#bucket}.M.>`, from_seq: 1 };
    for await (const message of read(store, wheel, this.#stream, options)) {
      const description = descriptionIn(message);
      if (description === null) continue;
      await this.#purge(description); // First, since saying that it is gone takes room, too.
      return await this.delete(description.name);
    }
    return false;
  }

  async *#content(description: Description): AsyncGenerator<Uint8Array> {
    const { store, wheel } = this.#parts;
    const hash = createHash('sha256');
    let size = 0;
    if (description.size > 0) {
      const options = { filter: this.#chunkSubject(description.nuid), from_seq: 1 };
      for await (const { body } of read(store, wheel, this.#stream, options)) {
        hash.update(body);
        size += body.length;
        yield body;
      }
    }
    if (size !== description.size || hash.digest('hex') !== digestOf(description)) {
      const message = `object ${description.name} of ${this.#bucket} is damaged or was replaced`;
      throw new CodeGodError('conflict', message);
    }
  }

  async #describe(name: string): Promise<Description | null> {
    const last = await this.#parts.store.last(this.#stream, this.#descriptionSubject(name));
    return last === null ? null : descriptionIn(last);
  }

  async #describeAs(subject: string, description: object): Promise<void> {
    const body = encoder.encode(JSON.stringify(description));
    await this.#append(subject, body, { [HEADER.rollup]: 'sub' });
  }

  #purge(description: Description): Promise<number> {
    return this.#parts.store.purge(this.#stream, this.#chunkSubject(description.nuid));
  }

  async #append(subject: string, body: Uint8Array, headers = {}): Promise<void> {
    const { store, newId } = this.#parts;
    const withId = { ...headers, [HEADER.messageId]: newId() };
    const options = { headers: withId, timeoutMs: TIMEOUT_MS, graceMs: GRACE_MS };
    const ack = await store.append(subject, body, options);
    if (ack.kind === 'appended') return;
    throw new CodeGodError('too_large', `object bucket ${this.#bucket} is full`);
  }

  #chunkSubject(id: string): string {
    return `$O.${this.#bucket}.C.${id}`;
  }

  #descriptionSubject(name: string): string {
    if (name.length === 0 || name.length > NAME_LENGTH_MAX) {
      throw new CodeGodError('bad_request', 'an object name has 1 to 240 characters');
    }
    const encoded = Buffer.from(name).toString('base64');
    return `$O.${this.#bucket}.M.${encoded.replaceAll('+', '-').replaceAll('/', '_')}`;
  }
}

/** Null for an object that was deleted. */
function descriptionIn({ headers, body }: StoredMessage): Description | null {
  if (headers[HEADER.markerReason] !== undefined) return null;
  const description = Description.parse(JSON.parse(decoder.decode(body)));
  return description.deleted ? null : description;
}

const digestOf = (description: Description): string =>
  Buffer.from(description.digest.slice('SHA-256='.length), 'base64url').toString('hex');

/** The same bytes in pieces of CHUNK_BYTES, the last one smaller; nothing for no bytes. */
async function* chunksOf(data: Uint8Array | AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let rest: Uint8Array = EMPTY;
  for await (const piece of data instanceof Uint8Array ? [data] : data) {
    rest = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
    let from = 0;
    for (; rest.length - from >= CHUNK_BYTES; from += CHUNK_BYTES) {
      yield rest.subarray(from, from + CHUNK_BYTES);
    }
    rest = rest.subarray(from);
  }
  if (rest.length > 0) yield rest;
}

function streamOf(bucket: string, config: ObjectsConfig): StreamConfig {
  const { max_bytes, ttl_ms, replicas, storage } = config;
  return {
    name: `OBJ_${bucket}`,
    subjects: [`$O.${bucket}.C.>`, `$O.${bucket}.M.>`],
    storage,
    discard: 'new',
    rollup: true,
    ...(max_bytes === undefined ? {} : { max_bytes }),
    ...(ttl_ms === undefined ? {} : { max_age_ms: ttl_ms }),
    ...(replicas === undefined ? {} : { replicas }),
  };
}
