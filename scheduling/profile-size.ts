/**
 * The weights of a model of which only the metadata and the size of its file are known: an answer of
 * `/api/show` without its tensors. What lies apart from the blocks is computed from the shapes, the
 * blocks share the rest.
 *
 * S1: what leaves the file for the host or a projector is subtracted from what goes to the card.
 */
import type { ModelProfile } from '../protocol/model-profile.ts';
import { ggmlTypeOfName } from './ggml-types.ts';
import type { LayerCache } from './profile-layers.ts';
import type { MetadataReader } from './profile-metadata.ts';

export type Weights = Pick<
  ModelProfile,
  'host_bytes' | 'output_bytes' | 'blocks' | 'projector_bytes' | 'largest_tensor_bytes'
>;
/** With those of layers that only predict. */
export type FoundWeights = Weights & { readonly draft_bytes: number };

/** Bytes that a token of the vocabulary takes in a file: text, kind, score, merges. */
export const TOKEN_BYTES = 40;
const HALF_BYTES = 2;
/** Narrower models mostly share their embeddings; taken for granted where nothing else is known. */
const SHARED_WIDTH_MAX = 3_072;

/** Type of the table of embeddings by `general.file_type`, where it is apart from the output. */
const TABLE_TYPES: Readonly<Record<number, string>> = {
  0: 'F32',
  1: 'F16',
  2: 'Q4_0',
  3: 'Q4_1',
  7: 'Q8_0',
  8: 'Q5_0',
  9: 'Q5_1',
  10: 'Q2_K',
  11: 'Q3_K',
  12: 'Q3_K',
  13: 'Q3_K',
  14: 'Q4_K',
  15: 'Q4_K',
  16: 'Q5_K',
  17: 'Q5_K',
  18: 'Q6_K',
  25: 'IQ4_NL',
  30: 'IQ4_XS',
  32: 'BF16',
  38: 'Q8_0',
};
/** Output matrices are kept in these, whatever the rest is. */
const OUTPUT_TYPE = 'Q6_K';
const WIDE_TYPES = /^(F32|F16|BF16|Q8_0)$/;

/** Element types that the table of every layer's own embeddings is found in. */
const TABLE_WIDTHS: readonly string[] = ['Q5_K', 'Q6_K', 'Q8_0', 'F16'];
/** Of what is not a plain table or projector, so much at most. */
const TABLE_SHARE_MAX = 0.9;
/** Blocks of a mixture take more than its plain type, since some of their tensors are kept finer. */
const MIXED = 1.08;
/** Towers whose feed-forward is gated: a third matrix (Pixtral, Qwen 2.5 VL, Gemma 4, GLM). */
const GATED_VISION = /^(mistral3|pixtral|qwen25vl|gemma4|glmocr|glm4v)/;

export function weightsOfSize(
  reader: MetadataReader,
  bytes: number,
  layers: readonly LayerCache[],
  vocabulary: number,
): FoundWeights {
  const embedding = reader.number('embedding_length') ?? 0;
  const entries = embedding * vocabulary;
  const vision = visionParameters(reader) + audioParameters(reader);
  const tied = isTied(reader, layers.length, entries, vision);
  const apart = TABLE_TYPES[reader.fileType ?? -1] ?? 'Q4_K';
  const type = tied && !WIDE_TYPES.test(apart) ? OUTPUT_TYPE : apart;
  const body = Math.max(0, bytes - TOKEN_BYTES * vocabulary);
  const share = (wanted: number): number => Math.min(Math.ceil(wanted), Math.floor(body / 2));
  const table = share(entries * elementBytes(type));
  const projector = share(HALF_BYTES * vision);
  const rest = Math.max(0, body - table - projector);
  const perLayerTable = perLayerBytes(reader, { rest, entries, vision, apart, vocabulary });
  const left = rest - perLayerTable;
  const count = Math.max(1, layers.length);
  // Layers that only predict take their part of the file, but are not loaded.
  const all = Math.max(count, reader.number('block_count') ?? 0);
  return {
    host_bytes: table + perLayerTable,
    output_bytes: tied ? table : 0,
    blocks: [{ count, bytes: Math.floor(left / all) }],
    projector_bytes: projector,
    draft_bytes: (all - count) * Math.floor(left / all),
  };
}

function elementBytes(name: string): number {
  const type = ggmlTypeOfName(name);
  return type === null ? 1 : type.block_bytes / type.block_elements;
}

/**
 * The table of embeddings that every layer has of its own (Gemma 3n and the E models of Gemma 4). Some
 * quantisers leave it as wide as it was trained: what the file has beyond its blocks, of which the
 * number of parameters tells the size, shows how wide. Where that is unknown it is as the other table.
 */
function perLayerBytes(
  reader: MetadataReader,
  file: {
    readonly rest: number;
    readonly entries: number;
    readonly vision: number;
    readonly apart: string;
    readonly vocabulary: number;
  },
): number {
  const layers = reader.number('block_count') ?? 0;
  const own = (reader.number('embedding_length_per_layer_input') ?? 0) * layers * file.vocabulary;
  const most = Math.floor(file.rest * TABLE_SHARE_MAX);
  const plain = elementBytes(file.apart);
  const all = reader.parameters;
  if (own === 0 || all === null) return Math.min(most, Math.ceil(own * plain));
  const blocks = Math.max(0, all - file.entries - own - file.vision) * plain * MIXED;
  const found = file.rest - blocks;
  const [nearest = 0] = [...new Set([file.apart, ...TABLE_WIDTHS])]
    .map(type => own * elementBytes(type))
    .filter(bytes => bytes >= own * plain)
    .sort((one, other) => Math.abs(one - found) - Math.abs(other - found));
  return Math.min(most, Math.ceil(nearest));
}

/** Parameters of a vision tower in the same file: attention and feed-forward of its blocks. */
function visionParameters(reader: MetadataReader): number {
  const blocks = reader.number('vision.block_count') ?? 0;
  const width = reader.number('vision.embedding_length') ?? 0;
  const ff = reader.number('vision.feed_forward_length') ?? 0;
  const matrices = GATED_VISION.test(reader.architecture) ? 3 : 2;
  return blocks * width * (4 * width + matrices * ff);
}

/** Of a conformer: two feed-forward modules, attention and a convolution in each block. */
function audioParameters(reader: MetadataReader): number {
  const blocks = reader.number('audio.block_count') ?? 0;
  const width = reader.number('audio.embedding_length') ?? 0;
  const ff = reader.number('audio.feed_forward_length') ?? 0;
  return blocks * width * (8 * width + 4 * ff);
}

/**
 * Whether the embeddings are the output matrix as well. The number of parameters tells it where it
 * is known: with an output of its own a model has that many more than its blocks and one table.
 */
function isTied(reader: MetadataReader, layers: number, entries: number, vision: number): boolean {
  if (reader.architecture.startsWith('gemma')) return true;
  const all = reader.parameters;
  const embedding = reader.number('embedding_length') ?? 0;
  if (all === null)
    return embedding <= SHARED_WIDTH_MAX && (reader.number('expert_count') ?? 0) === 0;
  const rest = all - vision - blockParameters(reader, layers, embedding);
  return rest < 1.5 * entries;
}

function blockParameters(reader: MetadataReader, layers: number, embedding: number): number {
  const per = (name: string, otherwise: number) => reader.perLayer(name, layers, otherwise);
  const heads = per('attention.head_count', 0);
  const kv = per('attention.head_count_kv', -1);
  const ff = per('feed_forward_length', 0);
  const widest = Math.max(1, ...heads);
  const length = (name: string): number | null =>
    reader.number(`attention.${name}_mla`) ?? reader.number(`attention.${name}`);
  const key = length('key_length') ?? Math.floor(embedding / widest);
  const value = length('value_length') ?? key;
  const experts = reader.number('expert_count') ?? 0;
  const expertFf = reader.number('expert_feed_forward_length');
  const shared = reader.number('expert_shared_feed_forward_length') ?? 0;
  const dense = reader.number('leading_dense_block_count') ?? 0;
  const interval = reader.number('full_attention_interval');
  const inner = reader.number('ssm.inner_size') ?? 0;
  const keys = (reader.number('ssm.group_count') ?? 0) * (reader.number('ssm.state_size') ?? 0);
  return heads.reduce((sum, count, layer) => {
    const owned = kv[layer] ?? -1;
    const grouped = owned < 0 ? count : owned;
    const isLinear = interval !== null && (layer + 1) % interval !== 0;
    const gate = interval === null ? 1 : 2;
    const attention = isLinear
      ? embedding * (2 * keys + 3 * inner)
      : embedding * (count * (gate * key + value) + grouped * (key + value));
    const hidden = expertFf ?? ff[layer] ?? 0;
    const isSparse = experts > 0 && layer >= dense;
    const wide = isSparse ? experts * hidden + shared : (ff[layer] ?? 0);
    return sum + attention + 3 * embedding * wide;
  }, 0);
}
