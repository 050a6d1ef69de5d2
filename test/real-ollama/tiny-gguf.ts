/**
 * A language model of 435 kB: a GGUF file with random weights in the shape of a llama. It talks
 * noise, but whoever loads it loads, queues, streams, cancels and fails as with a real one.
 *
 * Every byte follows from the seed. The vocabulary is the 256 bytes in GPT-2's alphabet and three
 * control tokens, so one token is one byte.
 */
import { writeFileSync } from 'node:fs';

export const TINY_CONTEXT_LENGTH = 32_768;
const BLOCKS = 2;
const WIDTH = 64;
const HEADS = 4;
const KV_HEADS = 2;
const FEED_FORWARD = 128;
const ALIGNMENT = 32;
const CONTROL_TOKENS = ['<|endoftext|>', '<|im_start|>', '<|im_end|>'];
const TYPE = { uint32: 4, int32: 5, float32: 6, string: 8, array: 9 } as const;

export interface TinyModelOptions {
  readonly contextLength?: number;
  readonly seed?: number;
}

export function tinyGguf(options: TinyModelOptions = {}): Buffer {
  const { contextLength = TINY_CONTEXT_LENGTH, seed = 7 } = options;
  const tokens = [...byteAlphabet(), ...CONTROL_TOKENS];
  const tensors = tensorShapes(tokens.length);
  const metadata = metadataOf(tokens, contextLength);
  const header = Buffer.concat([
    Buffer.from('GGUF'),
    uint32(3),
    uint64(tensors.length),
    uint64(metadata.length),
    ...metadata,
    ...tensorInfos(tensors),
  ]);
  const padding = Buffer.alloc((ALIGNMENT - (header.length % ALIGNMENT)) % ALIGNMENT);
  const random = mulberry32(seed);
  return Buffer.concat([header, padding, ...tensors.map(tensor => weights(tensor, random))]);
}

interface Tensor {
  readonly name: string;
  readonly shape: readonly number[];
}

function tensorShapes(vocabulary: number): Tensor[] {
  const kvWidth = (WIDTH / HEADS) * KV_HEADS;
  const block = (index: number): Tensor[] =>
    Object.entries({
      attn_norm: [WIDTH],
      attn_q: [WIDTH, WIDTH],
      attn_k: [WIDTH, kvWidth],
      attn_v: [WIDTH, kvWidth],
      attn_output: [WIDTH, WIDTH],
      ffn_norm: [WIDTH],
      ffn_gate: [WIDTH, FEED_FORWARD],
      ffn_up: [WIDTH, FEED_FORWARD],
      ffn_down: [FEED_FORWARD, WIDTH],
    }).map(([name, shape]) => ({ name: `blk.${index}.${name}.weight`, shape }));
  return [
    { name: 'token_embd.weight', shape: [WIDTH, vocabulary] },
    ...Array.from({ length: BLOCKS }, (_, index) => block(index)).flat(),
    { name: 'output_norm.weight', shape: [WIDTH] },
    { name: 'output.weight', shape: [WIDTH, vocabulary] },
  ];
}

function metadataOf(tokens: readonly string[], contextLength: number): Buffer[] {
  const end = tokens.indexOf('<|im_end|>');
  const kinds = tokens.map(token => (CONTROL_TOKENS.includes(token) ? 3 : 1));
  return [
    entry('general.architecture', TYPE.string, text('llama')),
    entry('general.name', TYPE.string, text('tiny')),
    entry('general.alignment', TYPE.uint32, uint32(ALIGNMENT)),
    entry('general.file_type', TYPE.uint32, uint32(0)),
    entry('llama.block_count', TYPE.uint32, uint32(BLOCKS)),
    entry('llama.context_length', TYPE.uint32, uint32(contextLength)),
    entry('llama.embedding_length', TYPE.uint32, uint32(WIDTH)),
    entry('llama.feed_forward_length', TYPE.uint32, uint32(FEED_FORWARD)),
    entry('llama.attention.head_count', TYPE.uint32, uint32(HEADS)),
    entry('llama.attention.head_count_kv', TYPE.uint32, uint32(KV_HEADS)),
    entry('llama.attention.layer_norm_rms_epsilon', TYPE.float32, float32(1e-5)),
    entry('llama.rope.dimension_count', TYPE.uint32, uint32(WIDTH / HEADS)),
    entry('llama.vocab_size', TYPE.uint32, uint32(tokens.length)),
    entry('tokenizer.ggml.model', TYPE.string, text('gpt2')),
    entry('tokenizer.ggml.pre', TYPE.string, text('default')),
    entry('tokenizer.ggml.tokens', TYPE.array, array(TYPE.string, tokens.map(text))),
    entry('tokenizer.ggml.token_type', TYPE.array, array(TYPE.int32, kinds.map(int32))),
    // The list may not be empty; this pair never comes up.
    entry('tokenizer.ggml.merges', TYPE.array, array(TYPE.string, [text('ÿ þ')])),
    entry('tokenizer.ggml.bos_token_id', TYPE.uint32, uint32(tokens.indexOf('<|im_start|>'))),
    entry('tokenizer.ggml.eos_token_id', TYPE.uint32, uint32(end)),
  ];
}

function tensorInfos(tensors: readonly Tensor[]): Buffer[] {
  let offset = 0;
  return tensors.map(({ name, shape }) => {
    const info = Buffer.concat([
      text(name),
      uint32(shape.length),
      ...shape.map(uint64),
      uint32(0),
      uint64(offset),
    ]);
    offset += Math.ceil((elements(shape) * 4) / ALIGNMENT) * ALIGNMENT;
    return info;
  });
}

function weights({ name, shape }: Tensor, random: () => number): Buffer {
  const count = elements(shape);
  const size = Math.ceil((count * 4) / ALIGNMENT) * ALIGNMENT;
  const buffer = Buffer.alloc(size);
  const norm = name.includes('norm');
  for (let index = 0; index < count; index++) {
    buffer.writeFloatLE(norm ? 1 : (random() - 0.5) * 0.4, index * 4);
  }
  return buffer;
}

/** GPT-2's printable stand-ins for the 256 bytes, in the order of the bytes. */
function byteAlphabet(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable =
      (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
    return String.fromCodePoint(printable ? byte : next++);
  });
}

const elements = (shape: readonly number[]): number => shape.reduce((one, other) => one * other, 1);

function mulberry32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

function entry(key: string, type: number, value: Buffer): Buffer {
  return Buffer.concat([text(key), uint32(type), value]);
}

function array(type: number, items: readonly Buffer[]): Buffer {
  return Buffer.concat([uint32(type), uint64(items.length), ...items]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'utf8');
  return Buffer.concat([uint64(bytes.length), bytes]);
}

function uint32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(value);
  return buffer;
}

const int32 = uint32;

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

const [, script, target] = process.argv;
if (script?.endsWith('tiny-gguf.ts') && target !== undefined) writeFileSync(target, tinyGguf());
