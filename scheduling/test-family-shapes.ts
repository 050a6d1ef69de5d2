/** One published model of each family that runs unlike those of `test-shapes.ts`, for tests. */
import type { Shape } from './test-models.ts';

/** Blocks of a tower for images: attention and a feed-forward of two matrices each. */
const tower = (
  prefix: string,
  { blocks, width, ff }: { blocks: number; width: number; ff: number },
): NonNullable<Shape['besides']> =>
  Array.from({ length: blocks }, (_, block) =>
    (
      [
        ['attn_qkv', [width, 3 * width]],
        ['attn_out', [width, width]],
        ['ffn_up', [width, ff]],
        ['ffn_down', [ff, width]],
      ] as const
    ).map(([name, shape]) => [`${prefix}.${block}.${name}.weight`, shape] as const),
  ).flat();

export const FAMILY_SHAPES = {
  'qwen3-next:80b-a3b': {
    architecture: 'qwen3next',
    ...{ layers: 48, embd: 2_048, heads: 16, kv: 2, head: 256, ff: 5_120 },
    ...{ vocabulary: 151_936, context: 262_144 },
    experts: { count: 512, used: 10, ff: 512, shared: 512 },
    delta: { interval: 4, inner: 4_096, state: 128, groups: 16, heads: 32 },
  },
  'gemma3n:e4b': {
    architecture: 'gemma3n',
    ...{ layers: 35, embd: 2_048, heads: 8, kv: 2, head: 256, ff: 16_384 },
    ...{ vocabulary: 262_144, context: 32_768, window: 512, sharedKv: 15, perLayer: 256 },
    ...{ tied: true, qkNorm: true, postNorms: true },
  },
  'lfm2:1.2b': {
    architecture: 'lfm2',
    ...{ layers: 16, embd: 2_048, heads: 32, head: 64, ff: 8_192 },
    kv: [0, 0, 8, 0, 0, 8, 0, 0, 8, 0, 8, 0, 8, 0, 8, 0],
    ...{ vocabulary: 65_536, context: 128_000, convolved: 3, tied: true, qkNorm: true },
  },
  'llama3.2-vision:11b': {
    architecture: 'mllama',
    ...{ layers: 40, embd: 4_096, heads: 32, kv: 8, head: 128, ff: 14_336 },
    ...{ vocabulary: 128_256, context: 131_072, cross: [3, 8, 13, 18, 23, 28, 33, 38] },
    besides: [
      ...tower('v.blk', { blocks: 32, width: 1_280, ff: 5_120 }),
      ...tower('v.global.blk', { blocks: 8, width: 1_280, ff: 5_120 }),
      ['mm.0.weight', [7_680, 4_096]],
    ],
    more: {
      ...{ 'mllama.vision.block_count': 32, 'mllama.vision.global.block_count': 8 },
      ...{ 'mllama.vision.embedding_length': 1_280, 'mllama.vision.feed_forward_length': 5_120 },
      ...{ 'mllama.vision.image_size': 560, 'mllama.vision.patch_size': 14 },
      'mllama.vision.max_num_tiles': 4,
    },
  },
  'qwen3-vl:8b': {
    architecture: 'qwen3vl',
    ...{ layers: 36, embd: 4_096, heads: 32, kv: 8, head: 128, ff: 12_288 },
    ...{ vocabulary: 151_936, context: 262_144, qkNorm: true },
    besides: tower('v.blk', { blocks: 27, width: 1_152, ff: 4_304 }),
    more: {
      ...{ 'qwen3vl.vision.block_count': 27, 'qwen3vl.vision.embedding_length': 1_152 },
      'qwen3vl.vision.feed_forward_length': 4_304,
    },
  },
  'glm-4.5-air': {
    architecture: 'glm4moe',
    ...{ layers: 47, nextn: 1, embd: 4_096, heads: 96, kv: 8, head: 128, ff: 10_944 },
    ...{ vocabulary: 151_552, context: 131_072, bias: true },
    experts: { count: 128, used: 8, ff: 1_408, shared: 1_408, dense: 1 },
  },
} as const satisfies Record<string, Shape>;
