/**
 * What each layer of a model keeps while it runs: keys and values of all tokens, of a window, one
 * compressed head, the state of a recurrence, or nothing. The rules are llama.cpp's
 * (`llama-hparams.cpp`, `llama-kv-cache.cpp`, `llama-memory-recurrent.cpp` and `models/`).
 */
import type { CacheGroup } from '../protocol/model-profile.ts';
import type { ProfileTensor } from './profile.ts';
import type { MetadataReader } from './profile-metadata.ts';

export interface LayerCache {
  readonly kind: CacheGroup['kind'];
  readonly key_width: number;
  readonly value_width: number;
  readonly window_tokens: number | null;
  /** What does not grow with the context, for one sequence: state of a recurrence, keys and values of images. */
  readonly recurrent_bytes: number;
  /** What sparse attention keeps besides, to choose the tokens it looks at. */
  readonly index: { readonly key_width: number; readonly value_width: number } | null;
}

const LAYERS_MAX = 4_096;
const FLOAT_BYTES = 4;

/** Every `every`-th layer sees all tokens: the last of each run, or the first. */
interface Pattern {
  readonly every: number;
  readonly first?: boolean;
  /** Where the metadata is silent; without one a model is dense unless it names a window. */
  readonly window?: number;
}

/** Architectures whose pattern is fixed in llama.cpp; those that list it need no entry. */
const PATTERNS: Readonly<Record<string, Pattern>> = {
  afmoe: { every: 4 },
  cohere2: { every: 4 },
  cohere2moe: { every: 4, first: true },
  exaone4: { every: 4 },
  'exaone-moe': { every: 4, window: 128 },
  gemma2: { every: 2, window: 4_096 },
  gemma3: { every: 6 },
  gemma3n: { every: 5 },
  gemma4: { every: 6 },
  'gemma-embedding': { every: 6 },
  gptoss: { every: 2, window: 128 },
  'gpt-oss': { every: 2, window: 128 },
  laguna: { every: 4, first: true },
  llama4: { every: 4, window: 8_192 },
  mellum: { every: 4 },
  'muse-glimmer': { every: 4 },
  'modern-bert': { every: 3, first: true },
  olmo2: { every: 4 },
  olmo3: { every: 4 },
  plamo3: { every: 8 },
  smallthinker: { every: 4, first: true },
};

/** Read whole texts at once and keep nothing of them. */
const ENCODERS =
  /^((modern-|nomic-|neo-|euro|jina-)?bert(-moe|-v2|-v3)?|nomic-bert-moe|gemma-embedding|dream|llada(-moe)?|rnd1)$/;
/** Every layer attends and has a state as well. */
const BOTH = /^falcon-h1$/;

/** Indices that keep values too, as wide as one head; those of the others keep none. */
const INDEX_WITH_VALUES = /^minimax-m3$/;
/** Indices that keep the keys of pooled tokens in the same rows, as often as this at most. */
const POOLED_INDEX: Readonly<Record<string, number>> = { qwen4exp: 2, 'glm5-next': 3 };
/** From GLM 5.2 on, which is made for so many tokens, most layers share an index of an earlier one. */
const SHARED_INDEX_CONTEXT = 1_048_576;

/** Hybrids whose full layers are one in so many where the metadata does not say. */
const HYBRID = /^(qwen3next|qwen35|qwen35moe|qwen4exp)$/;
const INTERVAL_DEFAULT = 4;

/** Llama 3.2 Vision: so many tiles of 40 × 40 patches and one token, where the metadata does not say. */
const CROSS_TILES = 4;
const CROSS_IMAGE = 560;
const CROSS_PATCH = 14;
/** Where the list of its layers that look at images was blanked: the fourth of every five. */
const CROSS_EVERY = 5;

/** One entry per layer of the trunk, in their order. */
export function layerCaches(
  reader: MetadataReader,
  tensors: readonly ProfileTensor[] | null,
): LayerCache[] {
  const count = trunkOf(reader);
  const attends = attentionOf(reader, tensors, count);
  const recurs = recurrenceOf(reader, tensors, count, attends);
  const slides = windowsOf(reader, count);
  const shape = shapesOf(reader, count);
  const indices = indicesOf(reader, tensors, count);
  const owners = count - sharedOf(reader, count);
  const state = stateBytes(reader);
  const crosses = crossesOf(reader, count);
  return Array.from({ length: count }, (_, layer) => {
    const window = slides[layer] ?? null;
    const recurrent_bytes = recurs[layer] === true ? state : 0;
    const none = { kind: 'full', key_width: 0, value_width: 0, window_tokens: null } as const;
    if (crosses[layer] === true) {
      return { ...none, recurrent_bytes: crossBytes(reader, shape(layer, null)), index: null };
    }
    if (attends[layer] !== true || layer >= owners) {
      return { ...none, recurrent_bytes, index: null };
    }
    const index = indices[layer] ?? null;
    return { ...shape(layer, window), recurrent_bytes, index };
  });
}

/** Layers that a token runs through; those that only predict further ones come after them. */
function trunkOf(reader: MetadataReader): number {
  const all = Math.min(LAYERS_MAX, reader.number('block_count') ?? 0);
  return Math.max(0, all - (reader.number('nextn_predict_layers') ?? 0));
}

/** What so many predicting layers keep where they draft: full attention, without an index. */
export function draftCaches(reader: MetadataReader, layers: number): CacheGroup[] {
  const trunk = trunkOf(reader);
  const shape = shapesOf(reader, trunk + layers);
  const kept = Array.from({ length: layers }, (_, at) => shape(trunk + at, null));
  return kept.map(one => ({ ...one, layers: 1 }));
}

/** The index that each layer of sparse attention keeps: one key head, whatever the others have. */
function indicesOf(
  reader: MetadataReader,
  tensors: readonly ProfileTensor[] | null,
  count: number,
): readonly LayerCache['index'][] {
  const key = reader.number('attention.indexer.key_length') ?? 0;
  if (key === 0) return [];
  const { architecture } = reader;
  const rows = POOLED_INDEX[architecture] ?? 1;
  const value_width = INDEX_WITH_VALUES.test(architecture)
    ? (reader.number('attention.value_length') ?? 0)
    : 0;
  const listed = reader.flags('attention.indexer.types', count);
  const names = namesOf(tensors, count);
  const isShared =
    architecture === 'glm-dsa' && (reader.number('context_length') ?? 0) >= SHARED_INDEX_CONTEXT;
  return Array.from({ length: count }, (_, layer) => {
    const own = names?.[layer];
    const isOwner =
      listed?.[layer] ??
      (isShared ? layer < 2 || layer % 4 === 2 : own === undefined || own.has('indexer'));
    return isOwner ? { key_width: rows * key, value_width } : null;
  });
}

/** Names of tensors by layer, or null where nobody listed them. */
function namesOf(
  tensors: readonly ProfileTensor[] | null,
  count: number,
): readonly ReadonlySet<string>[] | null {
  if (tensors === null) return null;
  const names = Array.from({ length: count }, () => new Set<string>());
  for (const { name } of tensors) {
    const match = /^blk\.(\d+)\.([a-z0-9_]+)/.exec(name);
    names[Number(match?.[1] ?? -1)]?.add(match?.[2] ?? '');
  }
  return names;
}

/** Whether a layer keeps keys and values. */
function attentionOf(
  reader: MetadataReader,
  tensors: readonly ProfileTensor[] | null,
  count: number,
): readonly boolean[] {
  const heads = reader.perLayer('attention.head_count', count, 0);
  if (ENCODERS.test(reader.architecture)) return heads.map(() => false);
  const kv = reader.perLayer('attention.head_count_kv', count, -1);
  const recurrent = linear(reader, count);
  const names = namesOf(tensors, count);
  return heads.map((_, layer) => {
    if (recurrent !== null) return recurrent[layer] !== true;
    if (kv[layer] === 0) return false;
    const own = names?.[layer];
    if (own === undefined) return true;
    return ['attn_k', 'attn_qkv', 'attn_kv_a_mqa', 'attn_kv_b', 'attn_k_b'].some(name =>
      own.has(name),
    );
  });
}

/** Layers that look at images alone, as Ollama counts them (`GraphSize` in `fs/ggml/ggml.go`). */
function crossesOf(reader: MetadataReader, count: number): readonly boolean[] {
  if (reader.architecture !== 'mllama') return [];
  const listed = reader.counts('attention.cross_attention_layers');
  return Array.from(
    { length: count },
    (_, layer) => listed?.includes(layer) ?? layer % CROSS_EVERY === CROSS_EVERY - 2,
  );
}

/** Keys and values of all tiles of one image, in 32 bits whatever the type of the cache. */
function crossBytes(reader: MetadataReader, shape: ReturnType<ShapeOf>): number {
  const image = reader.number('vision.image_size') ?? CROSS_IMAGE;
  const patch = Math.max(1, reader.number('vision.patch_size') ?? CROSS_PATCH);
  const tokens = Math.floor(image / patch) ** 2 + 1;
  const tiles = reader.number('vision.max_num_tiles') ?? CROSS_TILES;
  return FLOAT_BYTES * tokens * tiles * (shape.key_width + shape.value_width);
}

export function isLinearAttention(reader: MetadataReader): boolean {
  return linear(reader, 1) !== null;
}

/** Layers of linear attention by their interval or list, or null in other architectures. */
function linear(reader: MetadataReader, count: number): readonly boolean[] | null {
  const listed = reader.flags('attention.recurrent_layers', count);
  if (listed !== null) return listed;
  const interval = reader.number('full_attention_interval');
  if (interval === null && !HYBRID.test(reader.architecture)) return null;
  const every = Math.max(1, interval ?? INTERVAL_DEFAULT);
  return Array.from({ length: count }, (_, layer) => (layer + 1) % every !== 0);
}

function recurrenceOf(
  reader: MetadataReader,
  tensors: readonly ProfileTensor[] | null,
  count: number,
  attends: readonly boolean[],
): readonly boolean[] {
  if (stateBytes(reader) === 0) return attends.map(() => false);
  const names = namesOf(tensors, count);
  const ff = reader.perLayer('feed_forward_length', count, 0);
  return attends.map((attending, layer) => {
    const own = names?.[layer];
    if (own !== undefined && own.size > 0) {
      return [...own].some(name => /^(ssm_|shortconv|time_mix)/.test(name));
    }
    if (BOTH.test(reader.architecture)) return true;
    const sparse = reader.architecture.startsWith('nemotron_h');
    return !attending && !(sparse && (ff[layer] ?? 0) > 0);
  });
}

/** Bytes of one recurrent layer for one sequence: `n_embd_r` and `n_embd_s`, always 32-bit. */
function stateBytes(reader: MetadataReader): number {
  const embedding = reader.number('embedding_length') ?? 0;
  const heads = Math.max(0, ...reader.perLayer('attention.head_count', 1, 0));
  const rwkv = reader.number('wkv.head_size') ?? 0;
  if (rwkv > 0) return FLOAT_BYTES * embedding * (2 + rwkv);
  const short = reader.number('shortconv.l_cache') ?? 0;
  if (short > 0) return FLOAT_BYTES * embedding * (short - 1);
  const kernel = reader.number('ssm.conv_kernel') ?? 0;
  const kda = reader.number('kda.head_dim') ?? 0;
  if (kda > 0)
    return FLOAT_BYTES * (3 * (kernel > 0 ? kernel - 1 : 3) * heads * kda + kda * kda * heads);
  const inner = reader.number('ssm.inner_size') ?? 0;
  const state = reader.number('ssm.state_size') ?? 0;
  const groups = reader.number('ssm.group_count') ?? 0;
  return FLOAT_BYTES * (Math.max(0, kernel - 1) * (inner + 2 * groups * state) + state * inner);
}

/** The window of each layer that has one. */
function windowsOf(reader: MetadataReader, count: number): readonly (number | null)[] {
  const pattern = PATTERNS[reader.architecture];
  const window = reader.number('attention.sliding_window') ?? pattern?.window ?? 0;
  const none = Array<number | null>(count).fill(null);
  if (window === 0) return none;
  const listed = reader.flags('attention.sliding_window_pattern', count);
  if (listed !== null) return listed.map(sliding => (sliding ? window : null));
  if (pattern === undefined) return none;
  // Of EXAONE 4 and Llama 4 only some sizes slide.
  if (reader.architecture === 'exaone4' && count !== 64) return none;
  const every = reader.number('attention.sliding_window_pattern') ?? pattern.every;
  const effective = reader.architecture === 'llama4' ? (pattern.window ?? window) : window;
  if (every === 0) return none.map(() => effective);
  return none.map((_, layer) => {
    const sliding = pattern.first === true ? layer % every !== 0 : layer % every < every - 1;
    return sliding ? effective : null;
  });
}

/** Layers at the end that read the cache of earlier ones. */
function sharedOf(reader: MetadataReader, count: number): number {
  const shared = reader.number('attention.shared_kv_layers');
  if (shared !== null) return Math.min(count, shared);
  return reader.architecture === 'gemma3n' ? Math.max(0, count - 20) : 0;
}

type ShapeOf = (
  layer: number,
  window: number | null,
) => Omit<LayerCache, 'recurrent_bytes' | 'index'>;

function shapesOf(reader: MetadataReader, count: number): ShapeOf {
  const embedding = reader.number('embedding_length') ?? 0;
  const heads = reader.perLayer('attention.head_count', count, 0);
  const kv = reader.perLayer('attention.head_count_kv', count, -1);
  const most = Math.max(1, ...heads);
  const key = reader.number('attention.key_length') ?? Math.floor(embedding / most);
  const value = reader.number('attention.value_length') ?? Math.floor(embedding / most);
  const keySliding = reader.number('attention.key_length_swa') ?? key;
  const valueSliding = reader.number('attention.value_length_swa') ?? value;
  const rank = reader.number('attention.kv_lora_rank');
  // One key head for each query head where nothing is said; grouped where a list was blanked.
  const isBlanked = reader.isBlanked('attention.head_count_kv');
  const assumed = (count: number): number => (isBlanked ? Math.ceil(count / 4) : count);
  const isLatent = rank !== null && (reader.number('attention.key_length_mla') ?? 0) > 0;
  return (layer, window) => {
    if (isLatent) {
      const width = rank + (reader.number('rope.dimension_count') ?? 0);
      return { kind: 'latent', key_width: width, value_width: 0, window_tokens: null };
    }
    const owned = kv[layer] ?? -1;
    const count = owned < 0 ? assumed(heads[layer] ?? 0) : owned;
    return {
      kind: window === null ? 'full' : 'sliding',
      key_width: count * (window === null ? key : keySliding),
      value_width: count * (window === null ? value : valueSliding),
      window_tokens: window,
    };
  };
}
