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
  'host_bytes' | 'output_bytes' | 'blocks' | 'projector_bytes'
>;

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

export function weightsOfSize(
  reader: MetadataReader,
  bytes: number,
  layers: readonly LayerCache[],
  vocabulary: number,
): Weights {
  const embedding = reader.number('embedding_length') ?? 0;
  const entries = embedding * vocabulary;
  const vision = visionParameters(reader);
  const tied = isTied(reader, layers.length, entries, vision);
  const apart = TABLE_TYPES[reader.fileType ?? -1] ?? 'Q4_K';
  const type = tied && !WIDE_TYPES.test(apart) ? OUTPUT_TYPE : apart;
  const body = Math.max(0, bytes - TOKEN_BYTES * vocabulary);
  const share = (wanted: number): number => Math.min(Math.ceil(wanted), Math.floor(body / 2));
  const table = share(entries * elementBytes(type));
  const perLayer = reader.number('embedding_length_per_layer_input') ?? 0;
  const perLayerTable = Math.ceil(perLayer * layers.length * vocabulary * elementBytes(apart));
  const projector = share(HALF_BYTES * vision);
  const left = Math.max(0, body - table - Math.min(perLayerTable, body / 2) - projector);
  const count = Math.max(1, layers.length);
  // Layers that only predict take their part of the file, but are not loaded.
  const all = Math.max(count, reader.number('block_count') ?? 0);
  return {
    host_bytes: table + Math.min(perLayerTable, Math.floor(body / 2)),
    output_bytes: tied ? table : 0,
    blocks: [{ count, bytes: Math.floor(left / all) }],
    projector_bytes: projector,
  };
}

function elementBytes(name: string): number {
  const type = ggmlTypeOfName(name);
  return type === null ? 1 : type.block_bytes / type.block_elements;
}

/** Parameters of a vision tower in the same file: attention and feed-forward of its blocks. */
function visionParameters(reader: MetadataReader): number {
  const blocks = reader.number('vision.block_count') ?? 0;
  const width = reader.number('vision.embedding_length') ?? 0;
  const ff = reader.number('vision.feed_forward_length') ?? 0;
  return blocks * width * (4 * width + 2 * ff);
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
