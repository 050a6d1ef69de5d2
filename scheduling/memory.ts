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
  /** Of Ollama, where the engine's batch is not known otherwise: it follows from version and context. */
  readonly engine_version?: string | null;
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
  readonly compute_bytes: number;
  readonly projector_bytes: number;
  readonly overhead_bytes: number;
  readonly total_bytes: number;
  /** Taken from main memory besides, by a model on a card. */
  readonly host_bytes: number;
  /** To be kept free on top of the total, since an estimate is one. */
  readonly reserve_bytes: number;
}

/** The bytes of a model wholly on one card, or wholly in main memory where `backend` is `cpu`. */
export function memoryNeed(profile: ModelProfile, options: MemoryOptions): MemoryNeed {
  const recurrent = profile.recurrent_bytes * options.slots;
  const parts = {
    weights_bytes: weightsOf(profile, options.backend),
    kv_bytes: cacheBytes(profile, options) + recurrent,
    compute_bytes: computeBytes(profile, options),
    projector_bytes: projectorOf(profile),
    overhead_bytes: OVERHEAD_BYTES[options.backend],
  };
  const total = Object.values(parts).reduce((sum, bytes) => sum + bytes, 0);
  return {
    ...parts,
    recurrent_bytes: recurrent,
    total_bytes: total,
    host_bytes: options.backend === 'cpu' ? 0 : profile.host_bytes,
    reserve_bytes: reserveOf(total),
  };
}

/** The part of a need that engines tell of a copy: neither its projector nor what driver and libraries take. */
export function toldBytes(need: MemoryNeed, cards = 1): number {
  return need.weights_bytes + need.kv_bytes + Math.max(1, cards) * need.compute_bytes;
}

/** What to keep free beside an estimate of so many bytes. */
export function reserveOf(bytes: number): number {
  return Math.max(Math.ceil(bytes * RESERVE_FRACTION), RESERVE_BYTES_MIN);
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

/** Tokens of one slot that a group of layers has room for. */
function cellsOf(group: CacheGroup, options: MemoryOptions): number {
  const full = padded(options.context_tokens);
  if (group.kind !== 'sliding' || group.window_tokens === null) return full;
  const batch = batchOf(options)?.ubatch_tokens ?? UBATCH_TOKENS;
  return Math.min(full, padded(group.window_tokens + batch));
}

function cacheBytes(profile: ModelProfile, options: MemoryOptions): number {
  const element = KV_ELEMENT_BYTES[options.kv_type];
  const widest = Math.max(0, ...profile.caches.map(group => group.value_width));
  const bytes = profile.caches.reduce((sum, group) => {
    // Without flash attention values lie transposed, and as wide in all layers as in the widest.
    const isPadded = !options.flash_attention && group.kind !== 'latent';
    const width = group.key_width + (isPadded ? widest : group.value_width);
    return sum + group.layers * cellsOf(group, options) * width * element;
  }, 0);
  return Math.ceil(bytes * options.slots);
}

/**
 * What a graph needs at its widest moment: inside a block, or, in builds that set room aside for
 * the logits of every token, at its output. A token of a batch belongs to one slot, so that masks
 * are as long as the cache of one; windows have a mask of their own.
 */
function computeBytes(profile: ModelProfile, options: MemoryOptions): number {
  const { ubatch_tokens: batch, all_outputs } = batchOf(options) ?? {
    ubatch_tokens: largestBatch(padded(options.context_tokens) * options.slots),
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
  return batch * Math.max(...steps);
}

const batchOf = (options: MemoryOptions): EngineBatch | undefined =>
  options.engine ??
  ollamaBatch(options.engine_version ?? null, padded(options.context_tokens) * options.slots);

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
  const match = /^v?(\d+)\.(\d+)/.exec(version ?? '');
  if (match === null) return undefined;
  const release = Number(match[1]) * 1_000 + Number(match[2]);
  if (release === 0) return undefined; // A build of one's own.
  if (release < 32) return { ubatch_tokens: UBATCH_TOKENS, all_outputs: true };
  if (release < 33) return undefined; // The logits of all tokens went during this one.
  return { ubatch_tokens: largestBatch(contextTokens), all_outputs: false };
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
