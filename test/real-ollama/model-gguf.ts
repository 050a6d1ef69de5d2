/**
 * Language models of any size and shape with random weights: they talk noise, but whoever loads one
 * loads, queues, streams, cancels and fails as with a real one, and needs the memory of a real one.
 *
 *   node --import tsx test/real-ollama/model-gguf.ts FILE '{"layers":32,"width":4096,"elements":"q4_0"}'
 *
 * The default is 435 kB. The vocabulary is the 256 bytes in GPT-2's alphabet and three control
 * tokens, so one token is one byte; a larger one is filled up with tokens that no text makes.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import {
  ELEMENT_TYPES,
  type ElementType,
  ggufPieces,
  type Metadata,
  type MetadataType,
  type Tensor,
} from './gguf-bytes.ts';

export interface ModelShape {
  /** `gemma3`: five sliding layers, then a full one, with norms of queries and keys. */
  readonly architecture: 'llama' | 'gemma3';
  readonly layers: number;
  readonly width: number;
  readonly heads: number;
  readonly kvHeads: number;
  /** Of one head. */
  readonly headWidth: number;
  readonly feedForward: number;
  readonly vocabulary: number;
  readonly contextLength: number;
  /** The output matrix is the embedding matrix. */
  readonly tied: boolean;
  /** Tokens that a sliding layer of gemma3 sees. */
  readonly window: number;
  /** More than 0: a mixture of experts, two of them used per token. */
  readonly experts: number;
  /** An embedding model: its answer is the mean over the tokens. */
  readonly pooled: boolean;
  readonly elements: ElementType;
  readonly seed: number;
}

export const TINY_CONTEXT_LENGTH = 32_768;
const EXPERTS_USED = 2;
const POOLING_MEAN = 1;
const CONTROL_TOKENS = ['<|endoftext|>', '<|im_start|>', '<|im_end|>'];
const TINY: ModelShape = {
  architecture: 'llama',
  layers: 2,
  width: 64,
  heads: 4,
  kvHeads: 2,
  headWidth: 16,
  feedForward: 128,
  vocabulary: 256 + CONTROL_TOKENS.length,
  contextLength: TINY_CONTEXT_LENGTH,
  tied: false,
  window: 512,
  experts: 0,
  pooled: false,
  elements: 'f32',
  seed: 7,
};

/** Widths follow from each other where only some are given. */
export function modelShape(changes: Partial<ModelShape> = {}): ModelShape {
  const shape = { ...TINY, ...changes };
  return {
    ...shape,
    headWidth: changes.headWidth ?? shape.width / shape.heads,
    feedForward: changes.feedForward ?? shape.width * 2,
  };
}

/** Writes the file piece by piece: it may be larger than memory. */
export function writeModelGguf(path: string, changes: Partial<ModelShape> = {}): void {
  const shape = modelShape(changes);
  const file = openSync(path, 'w');
  try {
    for (const piece of ggufPieces(shapeMetadata(shape), shapeTensors(shape), shape.seed)) {
      writeSync(file, piece);
    }
  } finally {
    closeSync(file);
  }
}

export function shapeTensors(shape: ModelShape): Tensor[] {
  const { width, vocabulary, layers, tied, elements } = shape;
  const output = tied ? [] : [matrix('output.weight', [width, vocabulary], elements)];
  return [
    matrix('token_embd.weight', [width, vocabulary], elements),
    ...Array.from({ length: layers }, (_, index) => blockOf(shape, `blk.${index}.`)).flat(),
    norm('output_norm.weight', width),
    ...output,
  ];
}

function blockOf(shape: ModelShape, prefix: string): Tensor[] {
  const { width, heads, kvHeads, headWidth, feedForward, experts, elements } = shape;
  const of = (name: string, ...dimensions: number[]): Tensor =>
    matrix(`${prefix}${name}.weight`, dimensions, elements);
  const normOf = (name: string, size: number): Tensor => norm(`${prefix}${name}.weight`, size);
  const gemmaNorms = [
    normOf('attn_q_norm', headWidth),
    normOf('attn_k_norm', headWidth),
    normOf('post_attention_norm', width),
    normOf('post_ffw_norm', width),
  ];
  const dense = [
    of('ffn_gate', width, feedForward),
    of('ffn_up', width, feedForward),
    of('ffn_down', feedForward, width),
  ];
  const mixture = [
    // The router is small and must be exact.
    matrix(`${prefix}ffn_gate_inp.weight`, [width, experts], 'f32'),
    of('ffn_gate_exps', width, feedForward, experts),
    of('ffn_up_exps', width, feedForward, experts),
    of('ffn_down_exps', feedForward, width, experts),
  ];
  return [
    normOf('attn_norm', width),
    of('attn_q', width, heads * headWidth),
    of('attn_k', width, kvHeads * headWidth),
    of('attn_v', width, kvHeads * headWidth),
    of('attn_output', heads * headWidth, width),
    normOf('ffn_norm', width),
    ...(shape.architecture === 'gemma3' ? gemmaNorms : []),
    ...(experts > 0 ? mixture : dense),
  ];
}

const matrix = (name: string, shape: readonly number[], type: ElementType): Tensor => {
  // A row that is no whole number of blocks stays unquantised, as quantising tools have it.
  const whole = (shape[0] ?? 0) % ELEMENT_TYPES[type].weights === 0;
  return { name, shape, type: whole ? type : 'f16' };
};

const norm = (name: string, size: number): Tensor => ({
  name,
  shape: [size],
  type: 'f32',
  ones: true,
});

export function shapeMetadata(shape: ModelShape): Metadata[] {
  const { architecture } = shape;
  const tokens = [...byteAlphabet(), ...CONTROL_TOKENS];
  while (tokens.length < shape.vocabulary) tokens.push(`unused-${tokens.length}`);
  const own = (key: string): string => `${architecture}.${key}`;
  const experts = [
    entry('uint32', own('expert_count'), shape.experts),
    entry('uint32', own('expert_used_count'), EXPERTS_USED),
  ];
  const pattern = Array.from({ length: shape.layers }, (_, index) => isSliding(index));
  const sliding = [
    entry('uint32', own('attention.sliding_window'), shape.window),
    entry('bool', own('attention.sliding_window_pattern'), pattern),
  ];
  return [
    entry('string', 'general.architecture', architecture),
    entry('string', 'general.name', 'noise'),
    entry('uint32', 'general.file_type', ELEMENT_TYPES[shape.elements].fileType),
    entry('uint32', own('block_count'), shape.layers),
    entry('uint32', own('context_length'), shape.contextLength),
    entry('uint32', own('embedding_length'), shape.width),
    entry('uint32', own('feed_forward_length'), shape.feedForward),
    entry('uint32', own('attention.head_count'), shape.heads),
    entry('uint32', own('attention.head_count_kv'), shape.kvHeads),
    entry('uint32', own('attention.key_length'), shape.headWidth),
    entry('uint32', own('attention.value_length'), shape.headWidth),
    entry('float32', own('attention.layer_norm_rms_epsilon'), 1e-5),
    entry('uint32', own('rope.dimension_count'), shape.headWidth),
    entry('uint32', own('vocab_size'), tokens.length),
    ...(architecture === 'gemma3' ? sliding : []),
    ...(shape.experts > 0 ? experts : []),
    ...(shape.pooled ? [entry('uint32', own('pooling_type'), POOLING_MEAN)] : []),
    ...tokenizer(tokens),
  ];
}

/** Of gemma3: every sixth layer sees everything. */
export const isSliding = (layer: number): boolean => (layer + 1) % 6 !== 0;

function tokenizer(tokens: readonly string[]): Metadata[] {
  const kinds = tokens.map(token => (CONTROL_TOKENS.includes(token) ? 3 : 1));
  return [
    entry('string', 'tokenizer.ggml.model', 'gpt2'),
    entry('string', 'tokenizer.ggml.pre', 'default'),
    entry('string', 'tokenizer.ggml.tokens', tokens),
    entry('int32', 'tokenizer.ggml.token_type', kinds),
    // The list may not be empty; this pair never comes up.
    entry('string', 'tokenizer.ggml.merges', ['ÿ þ']),
    entry('bool', 'tokenizer.ggml.add_bos_token', false),
    entry('uint32', 'tokenizer.ggml.bos_token_id', tokens.indexOf('<|im_start|>')),
    entry('uint32', 'tokenizer.ggml.eos_token_id', tokens.indexOf('<|im_end|>')),
  ];
}

const entry = (type: MetadataType, key: string, value: Metadata['value']): Metadata => ({
  key,
  type,
  value,
});

/** GPT-2's printable stand-ins for the 256 bytes, in the order of the bytes. */
function byteAlphabet(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable =
      (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
    return String.fromCodePoint(printable ? byte : next++);
  });
}

const [, script, target, changes] = process.argv;
if (script?.endsWith('model-gguf.ts') && target !== undefined) {
  writeModelGguf(target, JSON.parse(changes ?? '{}') as Partial<ModelShape>);
}
