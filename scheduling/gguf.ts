/**
 * Reads the header of a GGUF file, versions 2 and 3: its metadata and the list of its tensors,
 * never the tensors themselves.
 *
 * G1: nothing in a file is believed before it is checked: counts, lengths, depths and the size of
 *     the whole header have bounds, and what breaks one is a `bad_request` that says which.
 * G2: long lists are counted, not kept: of a vocabulary only its length stays.
 */
import { CodeGodError } from '../protocol/errors.ts';
import type { ModelProfile } from '../protocol/model-profile.ts';
import { ggmlTypeOfNumber } from './ggml-types.ts';
import { allBytes, type ProfileInput, type ProfileTensor, profileOf } from './profile.ts';

/** Where the bytes come from; answers fewer bytes than asked for only at the end of the file. */
export interface ByteSource {
  readonly size_bytes: number;
  read(offset: number, length: number): Promise<Uint8Array>;
}

export interface GgufHeader {
  readonly version: number;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly tensors: readonly ProfileTensor[];
}

/** `GGUF`, read little-endian. */
const MAGIC = 0x46554747;
const FIRST_READ_BYTES = 256 * 1024;
export const HEADER_BYTES_MAX = 64 * 1024 * 1024;
const KEYS_MAX = 65_536;
const TENSORS_MAX = 200_000;
const KEY_BYTES_MAX = 65_535;
const STRING_BYTES_MAX = 16 * 1024 * 1024;
const LIST_LENGTH_MAX = 64 * 1024 * 1024;
/** Longer lists than the layers of a model are only counted. */
const LIST_KEPT_MAX = 4_096;
const DIMENSIONS_MAX = 4;
const LIST_DEPTH_MAX = 2;

/** Bytes of the plain kinds of values by their number; strings are 8, lists 9. */
const PLAIN_BYTES: Readonly<Record<number, number>> = {
  0: 1,
  1: 1,
  2: 2,
  3: 2,
  4: 4,
  5: 4,
  6: 4,
  7: 1,
  10: 8,
  11: 8,
  12: 8,
};
const STRING = 8;
const LIST = 9;

export async function readGgufHeader(source: ByteSource): Promise<GgufHeader> {
  let bytes = new Uint8Array(0);
  let wanted = Math.min(FIRST_READ_BYTES, source.size_bytes);
  for (;;) {
    const more = await source.read(bytes.length, wanted - bytes.length);
    const longer = new Uint8Array(bytes.length + more.length);
    longer.set(bytes);
    longer.set(more, bytes.length);
    bytes = longer;
    const header = new HeaderReader(bytes).header();
    if (header !== null) return header;
    const isWhole = bytes.length < wanted || bytes.length >= source.size_bytes;
    if (isWhole) throw broken('it ends inside its header');
    if (wanted >= HEADER_BYTES_MAX)
      throw broken(`its header is longer than ${HEADER_BYTES_MAX} bytes`);
    wanted = Math.min(wanted * 4, source.size_bytes, HEADER_BYTES_MAX);
  }
}

/**
 * The profile of a model in one file, or in the shards of one in their order.
 * @param fileBytes of all of them; null where unknown
 */
export function profileOfGguf(
  headers: readonly GgufHeader[],
  fileBytes: number | null,
): ModelProfile {
  return profileOf(inputOfGguf(headers, fileBytes));
}

/** @throws CodeGodError `bad_request` where the metadata names no architecture */
export function inputOfGguf(
  headers: readonly GgufHeader[],
  fileBytes: number | null,
): ProfileInput {
  const metadata = headers[0]?.metadata ?? {};
  if (typeof metadata['general.architecture'] !== 'string') {
    throw broken('general.architecture is missing in its metadata');
  }
  const tensors = headers.flatMap(header => header.tensors);
  return {
    metadata,
    tensors,
    file_bytes: fileBytes ?? allBytes(tensors),
    projector_apart: false,
    source: 'gguf',
  };
}

function broken(what: string): CodeGodError {
  return new CodeGodError('bad_request', `this is not a GGUF file that can be read: ${what}`);
}

/** Thrown inside this file only: the bytes at hand end before the header does. */
class EndOfBytes extends Error {}

class HeaderReader {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Null where more bytes are needed. */
  header(): GgufHeader | null {
    try {
      return this.#header();
    } catch (error) {
      if (error instanceof EndOfBytes) return null;
      throw error;
    }
  }

  #header(): GgufHeader {
    if (this.#uint32() !== MAGIC) throw broken('it does not begin with "GGUF"');
    const version = this.#uint32();
    if (version !== 2 && version !== 3) throw broken(`its version is ${version}, not 2 or 3`);
    const tensorCount = this.#count('tensors', TENSORS_MAX);
    const keyCount = this.#count('keys', KEYS_MAX);
    const metadata: Record<string, unknown> = Object.create(null);
    for (let index = 0; index < keyCount; index++) {
      const key = this.#string('a key', KEY_BYTES_MAX);
      metadata[key] = this.#value(this.#uint32(), 0);
    }
    const tensors = Array.from({ length: tensorCount }, () => this.#tensor());
    return { version, metadata, tensors };
  }

  #tensor(): ProfileTensor {
    const name = this.#string('the name of a tensor', KEY_BYTES_MAX);
    const dimensions = this.#uint32();
    if (dimensions > DIMENSIONS_MAX) throw broken(`tensor ${name} has ${dimensions} dimensions`);
    let elements = 1;
    const shape: number[] = [];
    for (let index = 0; index < dimensions; index++) {
      const size = this.#count(`elements of tensor ${name}`, Number.MAX_SAFE_INTEGER);
      elements *= size;
      shape.push(size);
    }
    if (!Number.isSafeInteger(elements)) throw broken(`tensor ${name} is too large`);
    const type = this.#uint32();
    this.#skip(8); // Where its bytes lie.
    return { name, shape, type: ggmlTypeOfNumber(type)?.name ?? `type-${type}` };
  }

  #value(kind: number, depth: number): unknown {
    if (kind === STRING) return this.#string('a text', STRING_BYTES_MAX);
    if (kind === LIST) return this.#list(depth);
    const size = PLAIN_BYTES[kind];
    if (size === undefined) throw broken(`a value is of the unknown kind ${kind}`);
    const at = this.#skip(size);
    switch (kind) {
      case 0:
        return this.#view.getUint8(at);
      case 1:
        return this.#view.getInt8(at);
      case 2:
        return this.#view.getUint16(at, true);
      case 3:
        return this.#view.getInt16(at, true);
      case 4:
        return this.#view.getUint32(at, true);
      case 5:
        return this.#view.getInt32(at, true);
      case 6:
        return this.#view.getFloat32(at, true);
      case 7:
        return this.#view.getUint8(at) !== 0;
      case 10:
        return Number(this.#view.getBigUint64(at, true));
      case 11:
        return Number(this.#view.getBigInt64(at, true));
      default:
        return this.#view.getFloat64(at, true);
    }
  }

  /** G2: a list that is too long to be one per layer gives its length alone. */
  #list(depth: number): unknown {
    if (depth >= LIST_DEPTH_MAX) throw broken('lists are nested too deeply');
    const kind = this.#uint32();
    const length = this.#count('items of a list', LIST_LENGTH_MAX);
    const size = PLAIN_BYTES[kind];
    if (size !== undefined && length > LIST_KEPT_MAX) {
      this.#skip(size * length);
      return { length };
    }
    if (length > LIST_KEPT_MAX && kind === STRING) {
      for (let index = 0; index < length; index++) {
        this.#skip(this.#count('bytes of a text', STRING_BYTES_MAX));
      }
      return { length };
    }
    if (length > LIST_KEPT_MAX) throw broken(`a list of ${length} lists`);
    return Array.from({ length }, () => this.#value(kind, depth + 1));
  }

  #string(what: string, max: number): string {
    const length = this.#count(`bytes of ${what}`, max);
    const at = this.#skip(length);
    return new TextDecoder().decode(this.#bytes.subarray(at, at + length));
  }

  #count(what: string, max: number): number {
    const at = this.#skip(8);
    const value = this.#view.getBigUint64(at, true);
    if (value > BigInt(max)) throw broken(`${value} ${what}; at most ${max}`);
    return Number(value);
  }

  #uint32(): number {
    return this.#view.getUint32(this.#skip(4), true);
  }

  /** Moves on by so many bytes; answers where they begin. */
  #skip(length: number): number {
    const at = this.#at;
    if (at + length > this.#bytes.length) throw new EndOfBytes();
    this.#at = at + length;
    return at;
  }
}
