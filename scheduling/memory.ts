/**
 * How much memory a model takes, from the shapes of its tensors and the way it is run.
 *
 *     total = weights + key-value cache + compute buffer + projector + overhead
 *
 * each in bytes, for a model that lies wholly on one card. Where each rule was read and how well it
 * meets measurements: docs/memory.md.
 *
 * M1: no part falls when the context, the slots, the width of the cache or the model grow.
 * M2: the parts add up to the total; what stays in the host's memory is apart from it.
 * M3: slots are taken literally; who runs a model with one slot whatever is configured asks for one.
 * M4: what depends on a thing that nobody knows of the engine is counted as the larger of what it may be.
 */
import type { CacheGroup, KvType, ModelProfile } from '../protocol/model-profile.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;

/** Bytes per element, scales of quantised blocks included. */
export const KV_ELEMENT_BYTES: Readonly<Record<KvType, number>> = {
  f32: 4,
  f16: 2,
  bf16: 2,
  q8_0: 34 / 32,
  q5_1: 24 / 32,
  q5_0: 22 / 32,
  q4_1: 20 / 32,
  q4_0: 18 / 32,
};

export type Backend = 'cuda' | 'rocm' | 'metal' | 'vulkan' | 'cpu';

/** Context and libraries of one process on one card: nobody's buffer, yet not free. */
const OVERHEAD_BYTES: Readonly<Record<Backend, number>> = {
  cuda: 540 * MIB,
  rocm: 512 * MIB,
  metal: 64 * MIB,
  vulkan: 541 * MIB,
  cpu: 64 * MIB,
};

/** Tokens that an engine computes at once, unless it takes more in larger contexts. */
export const UBATCH_TOKENS = 512;
/** Beside the tensors of a projector: what its own graph needs. */
const PROJECTOR_COMPUTE_BYTES = 256 * MIB;
/** Caches are allocated in steps of so many tokens. */
const CELLS_STEP = 256;
const FLOAT_BYTES = 4;
const HALF_BYTES = 2;
/** Buffers of the width of the embedding that one block keeps, where its widest step is unknown. */
const ACTIVATION_BUFFERS = 8;
/** Likewise beside the scores of attention, where they are kept. */
const SCORE_BUFFERS = 6;
/** Held back for what the estimate does not see. */
const RESERVE_FRACTION = 0.03;
const RESERVE_BYTES_MIN = 256 * MIB;
/** What llama.cpp leaves free on every card when it decides how much of a model goes there. */
const KEPT_FREE_BYTES = 1_024 * MIB;
/** From this one on Ollama runs models in llama-server, which places them, and can draft. */
const LLAMA_SERVER_SINCE = 30;
/** The first version of Ollama of which nobody has read whether it drafts unasked. */
const DRAFTS_UNASKED_SINCE = 33;
/** Tokens that an engine drafts at once where it is told to draft, and not how many. */
const DRAFT_TOKENS = 4;

export interface MemoryOptions {
  /** Tokens of one slot. */
  readonly context_tokens: number;
  /** Sequences at once, each with a context of its own. */
  readonly slots: number;
  readonly kv_type: KvType;
  readonly flash_attention: boolean;
  readonly backend: Backend;
  /**
   * How the engine computes, where that is known. Otherwise the windows are those of the batch that
   * most engines take, and the compute buffer is that of the largest one any of them takes there.
   */
  readonly engine?: EngineBatch;
  /** Of Ollama: batch, drafting and what stays free follow from it where they are not known otherwise. */
  readonly engine_version?: string | null;
  /** Slots share one cache of `context_tokens` in all, as those of llama-server do unless told otherwise. */
  readonly unified_slots?: boolean;
  /** Tokens that predicting layers draft at once, 0 for none; absent where nobody knows. */
  readonly draft_tokens?: number;
}

export interface EngineBatch {
  /** Tokens computed at once. */
  readonly ubatch_tokens: number;
  /** Whether room for the logits of all of them is set aside, as older builds do. */
  readonly all_outputs: boolean;
}

export interface MemoryNeed {
  readonly weights_bytes: number;
  /** Key-value cache and the state of recurrent layers. */
  readonly kv_bytes: number;
  /** The part of `kv_bytes` that does not grow with the context. */
  readonly recurrent_bytes: number;
  /** The parts of weights, cache and compute buffer that are there for drafting alone. */
  readonly draft_bytes: number;
  readonly compute_bytes: number;
  readonly projector_bytes: number;
  readonly overhead_bytes: number;
  readonly total_bytes: number;
  /** Taken from main memory besides, by a model on a card. */
  readonly host_bytes: number;
  /** To be kept free on top of the total: an estimate is one, and engines leave some. */
  readonly reserve_bytes: number;
  /** The engine's own part of that, on every card; 0 where it fills them or nobody knows. */
  readonly kept_free_bytes: number;
}

/** The bytes of a model wholly on one card, or wholly in main memory where `backend` is `cpu`. */
export function memoryNeed(profile: ModelProfile, options: MemoryOptions): MemoryNeed {
  const state = profile.recurrent_bytes * options.slots;
  const compute = computeBytes(profile, options);
  const draft = draftOf(profile, options);
  const recurrent = state + draft.recurrent_bytes;
  const parts = {
    weights_bytes: weightsOf(profile, options.backend) + draft.weights_bytes,
    kv_bytes: cacheBytes(profile.caches, options) + draft.cache_bytes + recurrent,
    compute_bytes: compute + draft.compute_bytes,
    projector_bytes: projectorOf(profile),
    overhead_bytes: OVERHEAD_BYTES[options.backend],
  };
  const total = Object.values(parts).reduce((sum, bytes) => sum + bytes, 0);
  const kept = keptFree(options);
  return {
    ...parts,
    recurrent_bytes: recurrent,
    draft_bytes: Object.values(draft).reduce((sum, bytes) => sum + bytes, 0),
    total_bytes: total,
    host_bytes: options.backend === 'cpu' ? 0 : profile.host_bytes,
    reserve_bytes: reserveOf(total, kept),
    kept_free_bytes: kept,
  };
}

/** How many tokens are drafted at once; M4. */
export function draftTokens(
  { drafting }: ModelProfile,
  { draft_tokens, engine_version }: Pick<MemoryOptions, 'draft_tokens' | 'engine_version'>,
): number {
  if (drafting === undefined) return 0;
  if (draft_tokens !== undefined) return draft_tokens;
  const release = releaseOf(engine_version ?? null);
  if (release !== null && release < LLAMA_SERVER_SINCE) return 0;
  if (drafting.tokens !== null) return drafting.tokens;
  return release !== null && release < DRAFTS_UNASKED_SINCE ? 0 : DRAFT_TOKENS;
}

const NO_DRAFT = { weights_bytes: 0, cache_bytes: 0, recurrent_bytes: 0, compute_bytes: 0 };

/** Predicting layers run in a context of their own, beside that of the model, and without an index. */
function draftOf(profile: ModelProfile, options: MemoryOptions): typeof NO_DRAFT {
  const tokens = draftTokens(profile, options);
  const { drafting, index_heads: _, ...dense } = profile;
  if (drafting === undefined || tokens === 0) return NO_DRAFT;
  return {
    weights_bytes: drafting.weights_bytes,
    // Whatever the type of the model's own cache is: nobody sets that of its drafts.
    cache_bytes: cacheBytes(drafting.caches, { ...options, kv_type: 'f16' }),
    recurrent_bytes: drafting.keeps_states ? profile.recurrent_bytes * options.slots * tokens : 0,
    compute_bytes: computeBytes(dense, options),
  };
}

function keptFree({ backend, engine_version }: MemoryOptions): number {
  const release = releaseOf(engine_version ?? null);
  return backend === 'cpu' || release === null || release < LLAMA_SERVER_SINCE
    ? 0
    : KEPT_FREE_BYTES;
}

/** The part of a need that engines tell of a copy: neither its projector nor what driver and libraries take. */
export function toldBytes(need: MemoryNeed, cards = 1): number {
  return need.weights_bytes + need.kv_bytes + Math.max(1, cards) * need.compute_bytes;
}

/**
 * What to keep free beside an estimate of so many bytes.
 * @param keptFreeBytes what the engine leaves free in any case
 */
export function reserveOf(bytes: number, keptFreeBytes = 0): number {
  return Math.max(Math.ceil(bytes * RESERVE_FRACTION), RESERVE_BYTES_MIN, keptFreeBytes);
}

export function blockBytes(profile: ModelProfile): number {
  return profile.blocks.reduce((sum, { count, bytes }) => sum + count * bytes, 0);
}

/** A table that is both input and output lies on the card and in main memory, but once on a CPU. */
function weightsOf(profile: ModelProfile, backend: Backend): number {
  const onCard = blockBytes(profile) + profile.output_bytes;
  return backend === 'cpu' ? Math.min(onCard + profile.host_bytes, profile.file_bytes) : onCard;
}

const padded = (tokens: number): number => Math.ceil(tokens / CELLS_STEP) * CELLS_STEP;

function projectorOf(profile: ModelProfile): number {
  return profile.projector_bytes === 0 ? 0 : profile.projector_bytes + PROJECTOR_COMPUTE_BYTES;
}

/** Tokens that a group of layers has room for in one cache: a window for each slot that shares it. */
function cellsOf(group: CacheGroup, options: MemoryOptions): number {
  const full = padded(options.context_tokens);
  if (group.kind !== 'sliding' || group.window_tokens === null) return full;
  const batch = batchOf(options)?.ubatch_tokens ?? UBATCH_TOKENS;
  const windows = options.unified_slots === true ? options.slots : 1;
  return Math.min(full, padded(group.window_tokens * windows + batch));
}

const cachesOf = ({ slots, unified_slots }: MemoryOptions): number =>
  unified_slots === true ? 1 : slots;

function cacheBytes(caches: readonly CacheGroup[], options: MemoryOptions): number {
  const element = KV_ELEMENT_BYTES[options.kv_type];
  const widest = Math.max(0, ...caches.map(group => group.value_width));
  const bytes = caches.reduce((sum, group) => {
    // Without flash attention values lie transposed, and as wide in all layers as in the widest.
    const isPadded = !options.flash_attention && group.kind !== 'latent';
    const width = group.key_width + (isPadded ? widest : group.value_width);
    return sum + group.layers * cellsOf(group, options) * width * element;
  }, 0);
  return Math.ceil(bytes * cachesOf(options));
}

/**
 * What a graph needs at its widest moment: inside a block, or, in builds that set room aside for
 * the logits of every token, at its output. A token of a batch belongs to one slot, so that masks
 * are as long as the cache of one; windows have a mask of their own.
 */
function computeBytes(profile: ModelProfile, options: MemoryOptions): number {
  const { ubatch_tokens: batch, all_outputs } = batchOf(options) ?? {
    ubatch_tokens: largestBatch(allTokens(options)),
    all_outputs: false,
  };
  const { embedding_length: embedding } = profile;
  const cells = padded(options.context_tokens);
  const window = profile.caches.find(group => group.kind === 'sliding');
  const masked = cells + (window === undefined ? 0 : cellsOf(window, options));
  const width = FLOAT_BYTES * (profile.activation_width ?? ACTIVATION_BUFFERS * embedding);
  const steps = options.flash_attention
    ? [HALF_BYTES * masked + width]
    : [
        FLOAT_BYTES * masked + width,
        FLOAT_BYTES * (masked + cells * profile.head_count + SCORE_BUFFERS * embedding),
      ];
  if (all_outputs) steps.push(FLOAT_BYTES * (profile.vocabulary + embedding));
  if (profile.index_heads !== undefined) {
    // The scores of every head of the index, twice, and once what they come to: builds that fuse them
    // keep none (M4).
    const scores = cells * (2 * profile.index_heads + 1);
    steps.push(HALF_BYTES * masked + FLOAT_BYTES * (scores + ACTIVATION_BUFFERS * embedding));
  }
  return batch * Math.max(...steps);
}

const batchOf = (options: MemoryOptions): EngineBatch | undefined =>
  options.engine ?? ollamaBatch(options.engine_version ?? null, allTokens(options));

const allTokens = (options: MemoryOptions): number =>
  padded(options.context_tokens) * cachesOf(options);

/** Ollama from 0.33 on; where memory is short it takes less. */
function largestBatch(contextTokens: number): number {
  if (contextTokens <= 4_096) return UBATCH_TOKENS;
  return contextTokens <= 32_768 ? 2 * UBATCH_TOKENS : 4 * UBATCH_TOKENS;
}

/**
 * How a version of Ollama computes, for {@link MemoryOptions}; undefined where nobody knows.
 * @param contextTokens of all slots together
 */
export function ollamaBatch(
  version: string | null,
  contextTokens: number,
): EngineBatch | undefined {
  const release = releaseOf(version);
  if (release === null) return undefined;
  if (release < 32) return { ubatch_tokens: UBATCH_TOKENS, all_outputs: true };
  if (release < 33) return undefined; // The logits of all tokens went during this one.
  return { ubatch_tokens: largestBatch(contextTokens), all_outputs: false };
}

/** 32 of `0.32.5`, 1000 of `1.0`; null where nobody knows it. */
function releaseOf(version: string | null): number | null {
  const match = /^v?(\d+)\.(\d+)/.exec(version ?? '');
  const release = match === null ? 0 : Number(match[1]) * 1_000 + Number(match[2]);
  return release === 0 ? null : release; // 0.0 is a build of one's own.
}

export interface SizedModel {
  readonly size_bytes: number;
  /** 0 where unknown. */
  readonly context_max: number;
  readonly family: string;
}

/** Cache per token of small models: 28 layers with 8 heads of 128. */
const SIZED_CACHE_WIDTH_MIN = 28 * 2 * 8 * 128;
/** More of it for larger models, whose heads are grouped: elements per token and GiB of file. */
const SIZED_CACHE_WIDTH_PER_GIB = 7 * KIB;
const SIZED_EMBEDDING = 4_096;
const SIZED_VOCABULARY = 152_064;
const SIZED_HEADS = 32;

/** A profile where only the size of the file is known: an upper guess over common models. */
export function profileOfSize(model: SizedModel): ModelProfile {
  const width = Math.max(
    SIZED_CACHE_WIDTH_MIN,
    Math.ceil(SIZED_CACHE_WIDTH_PER_GIB * (model.size_bytes / GIB)),
  );
  const half = Math.ceil(width / 2);
  return {
    architecture: model.family.slice(0, 64),
    source: 'size',
    file_bytes: model.size_bytes,
    host_bytes: 0,
    output_bytes: model.size_bytes % SIZED_HEADS,
    blocks: [{ count: SIZED_HEADS, bytes: Math.floor(model.size_bytes / SIZED_HEADS) }],
    projector_bytes: 0,
    embedding_length: SIZED_EMBEDDING,
    vocabulary: SIZED_VOCABULARY,
    head_count: SIZED_HEADS,
    caches: [{ layers: 1, kind: 'full', key_width: half, value_width: half, window_tokens: null }],
    recurrent_bytes: 0,
    context_max: model.context_max,
    single_slot: false,
  };
}

/** `6.1 GiB`: bytes for a sentence. */
export function gib(bytes: number): string {
  return `${(bytes / GIB).toFixed(1)} GiB`;
}
