/**
 * From a model's metadata and its list of tensors to what the memory formula needs. Both sources,
 * an Ollama `/api/show` answer and the header of a GGUF file, come through here, so that the same
 * model gives the same profile.
 *
 * R1: what the metadata says counts; what it leaves open follows llama.cpp's own defaults.
 * R2: shapes that are missing or of no model are not gone by: the profile is then that of the size.
 *     Without a list of tensors the size of the file and the shapes must do; it is never refused.
 * R3: layers that only predict further tokens (MTP) are apart from the others (`drafting`): engines
 *     load and cache them only where they draft.
 */
import type { CacheGroup, ModelProfile } from '../protocol/model-profile.ts';
import { ggmlTypeOfName, tensorBytes } from './ggml-types.ts';
import { profileOfSize, UBATCH_TOKENS } from './memory.ts';
import { shapeDoubt } from './profile-doubts.ts';
import { draftCaches, isLinearAttention, type LayerCache, layerCaches } from './profile-layers.ts';
import { type Metadata, MetadataReader } from './profile-metadata.ts';
import { type FoundWeights, TOKEN_BYTES, weightsOfSize } from './profile-size.ts';

export interface ProfileTensor {
  readonly name: string;
  /** Name of a ggml type, such as `Q4_K`. */
  readonly type: string;
  readonly shape: readonly number[];
}

export interface ProfileInput {
  readonly metadata: Metadata;
  /** Null where nobody listed them. */
  readonly tensors: readonly ProfileTensor[] | null;
  readonly file_bytes: number;
  /** A projector lies in a file of its own, of which only the size is known. */
  readonly projector_apart: boolean;
  /** What its parameters set: how many tokens it drafts at once; null where they do not say. */
  readonly draft_tokens?: number | null;
  readonly source: 'show' | 'gguf';
}

/** Engines run these with one sequence whatever they are configured to. */
const SINGLE_SLOT = /^(qwen35|qwen3next|qwen3vl|lfm2|mllama|nemotron_h)/;
const VOCABULARY_DEFAULT = 151_936;
/** Recurrent states that go back after a wrong guess are kept once for every token guessed. */
const KEEPS_STATES =
  /^(qwen35|qwen35moe|qwen4exp|kimi-k3|deepseek4|glm5-next|nemotron_h|nemotron_h_moe|lfm2|lfm2moe|bailingmoe3)$/;
const GROUPS_MAX = 128;
const DRAFT_TOKENS_MAX = 1_024;

export function profileOf(input: ProfileInput): ModelProfile {
  const reader = new MetadataReader(input.metadata);
  if (shapeDoubt(input) !== null) {
    return profileOfSize({
      size_bytes: input.file_bytes,
      context_max: reader.number('context_length') ?? 0,
      family: reader.architecture,
    });
  }
  const layers = layerCaches(reader, input.tensors);
  const embedding = reader.number('embedding_length') ?? 0;
  const vocabulary = vocabularyOf(reader, input.tensors);
  const { draft_bytes, ...weights } =
    input.tensors === null
      ? weightsOfSize(reader, input.file_bytes, layers, vocabulary)
      : weightsOf(input, layers.length);
  const indexHeads = reader.number('attention.indexer.head_count') ?? 0;
  const drafting = draftingOf(reader, input, draft_bytes);
  return {
    architecture: reader.architecture.slice(0, 64),
    source: input.source,
    file_bytes: input.file_bytes,
    ...weights,
    embedding_length: embedding,
    vocabulary,
    head_count: Math.max(0, ...reader.perLayer('attention.head_count', layers.length, 0)),
    caches: groupsOf(layers),
    recurrent_bytes: layers.reduce((sum, layer) => sum + layer.recurrent_bytes, 0),
    context_max: reader.number('context_length') ?? 0,
    single_slot: SINGLE_SLOT.test(reader.architecture),
    activation_width: activationWidth(reader, embedding, layers.length),
    ...(indexHeads > 0 && layers.some(({ index }) => index !== null)
      ? { index_heads: indexHeads }
      : {}),
    ...(drafting === null ? {} : { drafting }),
  };
}

/** Null where no layer predicts; a file whose metadata alone speaks of such layers has none. */
function draftingOf(
  reader: MetadataReader,
  { tensors, draft_tokens }: ProfileInput,
  weights_bytes: number,
): ModelProfile['drafting'] | null {
  const layers = Math.max(reader.number('nextn_predict_layers') ?? 0, mtpLayers(tensors));
  if (layers === 0 || weights_bytes === 0) return null;
  const tokens = draft_tokens ?? null;
  return {
    weights_bytes,
    caches: draftCaches(reader, Math.min(layers, GROUPS_MAX)),
    keeps_states: KEEPS_STATES.test(reader.architecture),
    tokens: tokens === null ? null : Math.min(tokens, DRAFT_TOKENS_MAX),
  };
}

/** Of Qwen 3.5, in files that name its predicting layers apart from the others. */
function mtpLayers(tensors: ProfileInput['tensors']): number {
  const mtp = (tensors ?? []).filter(({ name }) => name.startsWith('mtp.'));
  if (mtp.length === 0) return 0;
  return new Set(mtp.map(({ name }) => /^mtp\.layers\.(\d+)\./.exec(name)?.[1] ?? '0')).size;
}

function vocabularyOf(reader: MetadataReader, tensors: ProfileInput['tensors']): number {
  const table = tensors?.find(({ name }) => name === 'token_embd.weight');
  return table?.shape[1] ?? reader.number('vocab_size') ?? reader.tokens ?? VOCABULARY_DEFAULT;
}

function weightsOf(input: ProfileInput, layers: number): FoundWeights {
  const tensors = input.tensors ?? [];
  const blocks = Array<number>(layers).fill(0);
  const tied = !tensors.some(({ name }) => name === 'output.weight');
  let host = 0;
  let output = 0;
  let projector = 0;
  let draft = 0;
  let largest = 0;
  let all = 0;
  for (const { name, type, shape } of tensors) {
    const bytes = bytesOf(type, shape);
    all += bytes;
    const layer = Number(/^blk\.(\d+)\./.exec(name)?.[1] ?? -1);
    if (/^(v|mm|a|t|s)\./.test(name)) projector += bytes;
    else if (name.startsWith('mtp.') || layer >= layers) draft += bytes;
    else if (layer >= 0) {
      blocks[layer] = (blocks[layer] ?? 0) + bytes;
      largest = Math.max(largest, bytes);
    } else if (name.startsWith('per_layer_token_embd')) host += bytes;
    else if (name === 'token_embd.weight') {
      host += bytes;
      if (tied) output += bytes;
    } else if (/^(token_types|position_embd|token_embd_norm)/.test(name)) host += bytes;
    else output += bytes;
  }
  if (input.projector_apart) {
    const metadata = TOKEN_BYTES * vocabularyOf(new MetadataReader(input.metadata), tensors);
    projector += Math.max(0, input.file_bytes - all - metadata);
  }
  return {
    host_bytes: host,
    output_bytes: output,
    projector_bytes: projector,
    blocks: runsOf(blocks),
    largest_tensor_bytes: largest,
    draft_bytes: draft,
  };
}

export function allBytes(tensors: readonly ProfileTensor[]): number {
  return tensors.reduce((sum, { type, shape }) => sum + bytesOf(type, shape), 0);
}

function bytesOf(type: string, shape: readonly number[]): number {
  const known = ggmlTypeOfName(type);
  // A type made after this release: four bits and a scale, as most are.
  return known === null
    ? Math.ceil(shape.reduce((product, size) => product * size, 1) * (18 / 32))
    : tensorBytes(known, shape);
}

/** Runs of equal blocks; where there are too many, their mean. */
function runsOf(blocks: readonly number[]): ModelProfile['blocks'] {
  const runs: { count: number; bytes: number }[] = [];
  for (const bytes of blocks) {
    const last = runs.at(-1);
    if (last !== undefined && last.bytes === bytes) last.count += 1;
    else runs.push({ count: 1, bytes });
  }
  if (runs.length <= GROUPS_MAX) return runs;
  const all = blocks.reduce((sum, bytes) => sum + bytes, 0);
  return [{ count: blocks.length, bytes: Math.ceil(all / blocks.length) }];
}

function groupsOf(layers: readonly LayerCache[]): CacheGroup[] {
  const groups = new Map<string, CacheGroup>();
  // An index is one head beside those of its layer, so that nothing of it is ever padded.
  const indices = layers.flatMap(({ index }) =>
    index === null ? [] : [{ ...index, kind: 'latent' as const, window_tokens: null }],
  );
  for (const layer of [...layers, ...indices]) {
    if (layer.key_width + layer.value_width === 0) continue;
    const { kind, key_width, value_width, window_tokens } = layer;
    const key = `${kind} ${key_width} ${value_width} ${window_tokens}`;
    const group = groups.get(key);
    if (group === undefined) {
      groups.set(key, { layers: 1, kind, key_width, value_width, window_tokens });
    } else group.layers += 1;
  }
  return [...groups.values()].slice(0, GROUPS_MAX);
}

/**
 * Elements per token that a block keeps at its widest step, beside the masks: three of the width of
 * the embedding, the queries, and the widest of the feed-forward steps. Read off the buffers that
 * llama.cpp reserves for 26 models (docs/memory.md).
 */
function activationWidth(reader: MetadataReader, embedding: number, layers: number): number {
  const heads = Math.max(0, ...reader.perLayer('attention.head_count', layers, 0));
  const head =
    reader.number('attention.key_length_mla') ??
    reader.number('attention.key_length') ??
    (heads > 0 ? embedding / heads : 0);
  const dense = Math.max(0, ...reader.perLayer('feed_forward_length', layers, 0));
  const used = reader.number('expert_used_count') ?? 0;
  const expert = reader.number('expert_feed_forward_length') ?? dense;
  const perLayer = (reader.number('embedding_length_per_layer_input') ?? 0) * layers;
  const steps = used > 0 ? [3 * used * expert, used * (2 * embedding + expert)] : [];
  const isAllExperts = used > 0 && (reader.number('leading_dense_block_count') ?? 0) === 0;
  if (!isAllExperts) steps.push(3 * dense);
  steps.push(heads * latentWidth(reader));
  steps.push(deltaWidth(reader) - heads * head);
  steps.push(scanWidth(reader));
  return Math.ceil(3 * embedding + heads * head + Math.max(0, ...steps) + perLayer);
}

/** What a head of MLA keeps: its query made wide and once more beside its result; an index copies it again. */
function latentWidth(reader: MetadataReader): number {
  const rank = reader.number('attention.kv_lora_rank') ?? 0;
  if (rank === 0 || (reader.number('attention.key_length_mla') ?? 0) === 0) return 0;
  const isIndexed = (reader.number('attention.indexer.key_length') ?? 0) > 0;
  return (isIndexed ? 3 : 2) * (rank + (reader.number('rope.dimension_count') ?? 0)) + rank;
}

/** What a layer of linear attention convolves, three times, in place of queries. */
function deltaWidth(reader: MetadataReader): number {
  if (!isLinearAttention(reader)) return 0;
  const keys = (reader.number('ssm.group_count') ?? 0) * (reader.number('ssm.state_size') ?? 0);
  return 3 * ((reader.number('ssm.inner_size') ?? 0) + 2 * keys);
}

/** What a Mamba layer keeps: its input, twice the convolved part, its output and the state. */
function scanWidth(reader: MetadataReader): number {
  const inner = reader.number('ssm.inner_size') ?? 0;
  const state = reader.number('ssm.state_size') ?? 0;
  if (inner === 0 || isLinearAttention(reader)) return 0;
  const convolved = inner + 2 * (reader.number('ssm.group_count') ?? 0) * state;
  const copies = Math.ceil((2 * inner * state) / UBATCH_TOKENS);
  return inner + 3 * convolved + inner + copies;
}
