/**
 * What the memory formula has to know of one model file: sizes and shapes, without its weights.
 * Made from an Ollama `/api/show` answer or from the header of a GGUF file; `scheduling/` computes
 * with it, workers advertise it.
 */
import { z } from 'zod';
import { Bytes } from './text.ts';

const LAYERS_MAX = 4_096;
const GROUPS_MAX = 128;

/** Layers with a key-value cache of the same shape. */
export const CacheGroup = z.looseObject({
  layers: z.int().min(1).max(LAYERS_MAX),
  /** `latent`: one compressed head (MLA), whatever the number of heads. */
  kind: z.enum(['full', 'sliding', 'latent']),
  /** Elements per token and layer: key heads × key length; of `latent` the rank and rope part. */
  key_width: z.int().min(0),
  value_width: z.int().min(0),
  /** Tokens that a sliding layer sees; null for the others. */
  window_tokens: z.int().min(1).nullable(),
});
export type CacheGroup = z.infer<typeof CacheGroup>;

export const ModelProfile = z.looseObject({
  /** `general.architecture`, such as `llama`. */
  architecture: z.string().max(64),
  /** Where the figures come from; `size`: only the size of the file is known, the rest is a guess. */
  source: z.enum(['show', 'gguf', 'size']),
  file_bytes: Bytes,
  /** Tensors that a fully offloaded model keeps in the host's memory. */
  host_bytes: Bytes,
  /** Tensors outside the blocks that go to the GPU: output matrix and norms. */
  output_bytes: Bytes,
  /** Bytes of the repeating blocks in their order, runs of equal ones joined. */
  blocks: z
    .array(z.looseObject({ count: z.int().min(1).max(LAYERS_MAX), bytes: Bytes }))
    .max(GROUPS_MAX),
  /** Vision or audio projector, allocated apart from the model. */
  projector_bytes: Bytes,
  embedding_length: z.int().min(0),
  vocabulary: z.int().min(0),
  head_count: z.int().min(0),
  caches: z.array(CacheGroup).max(GROUPS_MAX),
  /** Elements per token that one block keeps at its widest step, beside the masks of attention. */
  activation_width: z.int().min(0).optional(),
  /** Heads that choose which tokens sparse attention looks at; absent where none do. */
  index_heads: z.int().min(1).optional(),
  /** The largest tensor of a block: copied to the card whole where its block lies in main memory. */
  largest_tensor_bytes: Bytes.optional(),
  /** Layers that only predict further tokens: loaded where an engine drafts with them. */
  drafting: z
    .looseObject({
      weights_bytes: Bytes,
      caches: z.array(CacheGroup).max(GROUPS_MAX),
      /** Whether the state of recurrent layers is kept once more for every token drafted. */
      keeps_states: z.boolean(),
      /** Tokens drafted at once as the model itself asks for; null where it says nothing. */
      tokens: z.int().min(0).max(1_024).nullable(),
    })
    .optional(),
  /** State of recurrent layers and what is kept of images: bytes per sequence over all layers, whatever the context. */
  recurrent_bytes: Bytes,
  /** Tokens the model was made for; 0 where unknown. */
  context_max: z.int().min(0),
  /** Engines run it with one sequence at a time, whatever they are configured to. */
  single_slot: z.boolean(),
});
export type ModelProfile = z.infer<typeof ModelProfile>;

/** Element types of a key-value cache. */
export const KvType = z.enum(['f32', 'f16', 'bf16', 'q8_0', 'q5_1', 'q5_0', 'q4_1', 'q4_0']);
export type KvType = z.infer<typeof KvType>;
