/**
 * The bytes of a GGUF file, version 3: metadata, tensor table, aligned tensor data of random noise.
 *
 * G1: every byte follows from the arguments.
 * G2: data comes in pieces of at most a few MiB, so that a file may be larger than memory.
 */

/** Types of metadata values. */
const VALUE = { uint32: 4, int32: 5, float32: 6, bool: 7, string: 8, array: 9 } as const;
const ALIGNMENT = 32;
const VERSION = 3;
/** Noise repeats after this many blocks; a power of two would line up with the rows. */
const NOISE_BLOCKS = 4_093;
const PIECE_BLOCKS = 32_768;
/** Widest weight. Larger ones make the noise repeat itself, smaller ones make it fade. */
const AMPLITUDE = 0.2;

/** Bytes of a block of weights, and how many weights it holds. */
export const ELEMENT_TYPES = {
  f32: { id: 0, fileType: 0, bytes: 4, weights: 1 },
  f16: { id: 1, fileType: 1, bytes: 2, weights: 1 },
  q4_0: { id: 2, fileType: 2, bytes: 18, weights: 32 },
  q8_0: { id: 8, fileType: 7, bytes: 34, weights: 32 },
} as const;
export type ElementType = keyof typeof ELEMENT_TYPES;

export type MetadataType = Exclude<keyof typeof VALUE, 'array'>;

export interface Metadata {
  readonly key: string;
  /** Of the items, where the value is a list. */
  readonly type: MetadataType;
  readonly value: string | number | boolean | readonly (string | number | boolean)[];
}

export interface Tensor {
  readonly name: string;
  /** The first dimension is the contiguous one. */
  readonly shape: readonly number[];
  readonly type: ElementType;
  /** All ones instead of noise: the scale of a norm. */
  readonly ones?: boolean;
}

export function* ggufPieces(
  metadata: readonly Metadata[],
  tensors: readonly Tensor[],
  seed: number,
): Generator<Buffer> {
  const header = Buffer.concat([
    Buffer.from('GGUF'),
    uint32(VERSION),
    uint64(tensors.length),
    uint64(metadata.length),
    ...metadata.map(metadataEntry),
    ...tensorTable(tensors),
  ]);
  yield Buffer.concat([header, Buffer.alloc(aligned(header.length) - header.length)]);
  const random = mulberry32(seed);
  const noise = new Map<ElementType, Buffer>();
  for (const tensor of tensors) {
    let blocks = noise.get(tensor.type);
    if (blocks === undefined) {
      blocks = noiseBlocks(tensor.type, random);
      noise.set(tensor.type, blocks);
    }
    yield* tensorPieces(tensor, blocks, Math.floor(random() * NOISE_BLOCKS));
  }
}

function* tensorPieces(tensor: Tensor, noise: Buffer, start: number): Generator<Buffer> {
  const { bytes } = ELEMENT_TYPES[tensor.type];
  const size = tensorBytes(tensor);
  for (let from = 0; from < size; from += PIECE_BLOCKS * bytes) {
    const piece = Buffer.allocUnsafe(Math.min(PIECE_BLOCKS * bytes, size - from));
    const first = (start + from / bytes) % NOISE_BLOCKS;
    for (let to = 0, source = first * bytes; to < piece.length; source = 0) {
      to += noise.copy(piece, to, source);
    }
    if (tensor.ones === true)
      for (let at = 0; at < piece.length; at += 4) piece.writeFloatLE(1, at);
    yield piece;
  }
  yield Buffer.alloc(aligned(size) - size);
}

function tensorTable(tensors: readonly Tensor[]): Buffer[] {
  let offset = 0;
  return tensors.map(tensor => {
    const { name, shape, type } = tensor;
    const info = Buffer.concat([
      lengthAndText(name),
      uint32(shape.length),
      ...shape.map(uint64),
      uint32(ELEMENT_TYPES[type].id),
      uint64(offset),
    ]);
    offset += aligned(tensorBytes(tensor));
    return info;
  });
}

export function tensorBytes({ shape, type }: Tensor): number {
  const { bytes, weights } = ELEMENT_TYPES[type];
  return (shape.reduce((one, other) => one * other, 1) / weights) * bytes;
}

function noiseBlocks(type: ElementType, random: () => number): Buffer {
  const { bytes } = ELEMENT_TYPES[type];
  const blocks = Buffer.alloc(NOISE_BLOCKS * bytes);
  const weight = (): number => (random() - 0.5) * 2 * AMPLITUDE;
  for (let at = 0; at < blocks.length; at += bytes) {
    if (type === 'f32') blocks.writeFloatLE(weight(), at);
    else if (type === 'f16') blocks.writeUInt16LE(half(weight()), at);
    else {
      blocks.writeUInt16LE(half(AMPLITUDE / (type === 'q8_0' ? 127 : 8)), at);
      for (let byte = 2; byte < bytes; byte++) blocks[at + byte] = Math.floor(random() * 256);
    }
  }
  return blocks;
}

/** A number of less than 1 in size as the bits of a half; what is too small for one is zero. */
function half(value: number): number {
  const sign = value < 0 ? 0x8000 : 0;
  const size = Math.abs(value);
  const exponent = size === 0 ? -15 : Math.floor(Math.log2(size));
  if (exponent < -14) return sign;
  return sign | ((exponent + 15) << 10) | Math.floor((size / 2 ** exponent - 1) * 1_024);
}

function mulberry32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const aligned = (size: number): number => Math.ceil(size / ALIGNMENT) * ALIGNMENT;

const ENCODERS: Readonly<Record<MetadataType, (value: never) => Buffer>> = {
  uint32,
  int32: uint32,
  float32,
  bool: (value: boolean) => Buffer.from([value ? 1 : 0]),
  string: lengthAndText,
};

function metadataEntry({ key, type, value }: Metadata): Buffer {
  const encode = ENCODERS[type] as (value: unknown) => Buffer;
  const id = uint32(VALUE[type]);
  if (!Array.isArray(value)) return Buffer.concat([lengthAndText(key), id, encode(value)]);
  const head = [lengthAndText(key), uint32(VALUE.array), id, uint64(value.length)];
  return Buffer.concat([...head, ...value.map(encode)]);
}

function lengthAndText(value: string): Buffer {
  const bytes = Buffer.from(value, 'utf8');
  return Buffer.concat([uint64(bytes.length), bytes]);
}

function uint32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(value);
  return buffer;
}

function uint64(value: number): Buffer {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64LE(BigInt(value));
  return buffer;
}

function float32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeFloatLE(value);
  return buffer;
}
