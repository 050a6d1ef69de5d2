/**
 * Families that keep something unlike others. What is expected follows from the shape by the rules of the
 * engines' sources, written out beside each figure, and not from the formula.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ModelProfile } from '../protocol/model-profile.ts';
import { type MemoryOptions, memoryNeed } from './memory.ts';
import { profileOf } from './profile.ts';
import { FAMILY_SHAPES } from './test-family-shapes.ts';
import { fileBytes, type Shape, testModel } from './test-models.ts';

const MIB = 2 ** 20;
const OPTIONS: MemoryOptions = {
  ...{ context_tokens: 8_192, slots: 1, kv_type: 'f16', flash_attention: true, backend: 'cuda' },
  draft_tokens: 0,
};
type Family = keyof typeof FAMILY_SHAPES;

function profileFor(shape: Shape, blanked: readonly string[] = []): ModelProfile {
  const { metadata, tensors } = testModel(shape, 'Q4_K_M');
  const known = Object.entries(metadata).map(([key, value]) =>
    blanked.some(name => key.endsWith(name)) ? [key, null] : [key, value],
  );
  return profileOf({
    ...{ metadata: Object.fromEntries(known), tensors, projector_apart: false, source: 'show' },
    file_bytes: fileBytes({ metadata, tensors, vocabulary: shape.vocabulary }),
  });
}

interface Expected {
  /** MiB at 8192 tokens in f16, without what does not grow. */
  readonly cache: number;
  /** The same with 32768 tokens. */
  readonly longer: number;
  /** MiB that do not grow with the context, in 32 bits. */
  readonly fixed: number;
  readonly single: boolean;
  /** Elements of the tables that stay with the host. */
  readonly host: number;
  /** Elements of the tower for images. */
  readonly tower: number;
  /** Layers on the card. */
  readonly layers: number;
}

const EXPECTED: Readonly<Record<Family, Expected>> = {
  'qwen3-next:80b-a3b': {
    cache: (12 * 8_192 * 2 * (256 + 256) * 2) / MIB, // One layer in four.
    longer: 4 * 192,
    fixed: (36 * 4 * (3 * (4_096 + 2 * 16 * 128) + 128 * 4_096)) / MIB,
    ...{ single: true, host: 2_048 * 151_936, tower: 0, layers: 48 },
  },
  'gemma3n:e4b': {
    // The first 20 layers own a cache, every fifth of them a full one; window and batch are 1024 cells.
    cache: ((4 * 8_192 + 16 * 1_024) * 2 * (256 + 256) * 2) / MIB,
    longer: 4 * 64 + 32,
    fixed: 0,
    ...{ single: false, host: (2_048 + 35 * 256) * 262_144, tower: 0, layers: 35 },
  },
  'lfm2:1.2b': {
    cache: (6 * 8_192 * 8 * (64 + 64) * 2) / MIB,
    longer: 4 * 96,
    fixed: (10 * 4 * 2_048 * (3 - 1)) / MIB, // A convolution of three keeps two.
    ...{ single: true, host: 2_048 * 65_536, tower: 0, layers: 16 },
  },
  'llama3.2-vision:11b': {
    cache: (32 * 8_192 * 8 * (128 + 128) * 2) / MIB,
    longer: 4 * 1_024,
    // As Ollama counts the others: 1601 tokens of four tiles, four bytes each.
    fixed: (8 * 8 * (128 + 128) * 4 * 1_601 * 4) / MIB,
    ...{ single: true, host: 4_096 * 128_256, layers: 40 },
    tower: 40 * 1_280 * (4 * 1_280 + 2 * 5_120) + 7_680 * 4_096,
  },
  'qwen3-vl:8b': {
    cache: (36 * 8_192 * 8 * (128 + 128) * 2) / MIB,
    longer: 4 * 1_152,
    fixed: 0,
    ...{ single: true, host: 4_096 * 151_936, layers: 36 },
    tower: 27 * 1_152 * (4 * 1_152 + 2 * 4_304),
  },
  'glm-4.5-air': {
    cache: (46 * 8_192 * 8 * (128 + 128) * 2) / MIB, // Not the layer that predicts.
    longer: 4 * 1_472,
    fixed: 0,
    ...{ single: false, host: 4_096 * 151_552, tower: 0, layers: 46 },
  },
};

test('what each family keeps on the card and with the host', () => {
  for (const [name, expected] of Object.entries(EXPECTED) as [Family, Expected][]) {
    const profile = profileFor(FAMILY_SHAPES[name]);
    for (const [context_tokens, cache] of [
      [8_192, expected.cache],
      [32_768, expected.longer],
    ] as const) {
      const need = memoryNeed(profile, { ...OPTIONS, context_tokens });
      assert.equal((need.kv_bytes - need.recurrent_bytes) / MIB, cache, `${name}: cache`);
      assert.equal(need.recurrent_bytes / MIB, expected.fixed, `${name}: fixed`);
    }
    const narrow = memoryNeed(profile, { ...OPTIONS, kv_type: 'q8_0' });
    assert.equal(narrow.recurrent_bytes / MIB, expected.fixed, `${name}: whatever the cache is`);
    assert.equal(profile.single_slot, expected.single, `${name}: slots`);
    const layers = profile.blocks.reduce((sum, { count }) => sum + count, 0);
    assert.equal(layers, expected.layers, `${name}: layers`);
    // Tables are kept in four to six bits and a half, towers from four bits to 32 in this mixture.
    const per = (bytes: number, elements: number) => (8 * bytes) / elements;
    const table = per(profile.host_bytes, expected.host);
    assert.ok(table >= 4.5 && table <= 6.6, `${name}: ${table} bits an element with the host`);
    if (expected.tower === 0) assert.equal(profile.projector_bytes, 0, name);
    else {
      const bits = per(profile.projector_bytes, expected.tower);
      assert.ok(bits >= 4.5 && bits <= 8.5, `${name}: ${bits} bits an element of the tower`);
    }
  }
});

test('the table of every layer is a quarter to two fifths of a file, and never on the card', () => {
  const shape = FAMILY_SHAPES['gemma3n:e4b'];
  const { tensors, ...rest } = testModel(shape, 'Q4_K_M');
  const table = tensors.filter(({ name }) => name.startsWith('per_layer_token_embd'));
  const bytes = fileBytes({ ...rest, tensors: table });
  const share = bytes / fileBytes({ ...rest, tensors });
  assert.ok(share >= 0.26 && share <= 0.38, `${share}: measured were 26 to 38 %`);
  const profile = profileFor(shape);
  const { weights_bytes } = memoryNeed(profile, OPTIONS);
  assert.equal(
    weights_bytes,
    profile.file_bytes - bytes,
    'the shared table is there as the output',
  );
});

test('layers that look at images keep the same where the list of them was blanked', () => {
  const shape = FAMILY_SHAPES['llama3.2-vision:11b'];
  const blanked = profileFor(shape, ['cross_attention_layers']);
  assert.equal(blanked.recurrent_bytes / MIB, EXPECTED['llama3.2-vision:11b'].fixed);
  assert.deepEqual(blanked, profileFor(shape));
  const wide = { ...shape, more: { ...shape.more, 'mllama.vision.max_num_tiles': 2 } };
  assert.equal(profileFor(wide).recurrent_bytes, profileFor(shape).recurrent_bytes / 2);
});

test('the layer of GLM 4.5 that predicts is loaded, and has a cache, only where it drafts', () => {
  const profile = profileFor(FAMILY_SHAPES['glm-4.5-air']);
  const off = memoryNeed(profile, OPTIONS);
  const on = memoryNeed(profile, { ...OPTIONS, draft_tokens: 4 });
  assert.equal((on.kv_bytes - off.kv_bytes) / MIB, (8_192 * 8 * (128 + 128) * 2) / MIB);
  assert.equal(on.recurrent_bytes, 0, 'no states');
  const { tensors, ...rest } = testModel(FAMILY_SHAPES['glm-4.5-air'], 'Q4_K_M');
  const last = tensors.filter(({ name }) => name.startsWith('blk.46.'));
  assert.equal(on.weights_bytes - off.weights_bytes, fileBytes({ ...rest, tensors: last }));
});

test('families that Ollama runs with one slot whatever it is told', () => {
  // `server/sched.go`, 0.33.0-rc2.
  const single = ['mllama', 'qwen3vl', 'qwen3vlmoe', 'qwen35', 'qwen35moe', 'qwen3next'];
  single.push('lfm2', 'lfm2moe', 'nemotron_h', 'nemotron_h_moe', 'nemotron_h_omni');
  const { 'qwen3-vl:8b': shape } = FAMILY_SHAPES;
  for (const architecture of single)
    assert.equal(profileFor({ ...shape, architecture }).single_slot, true, architecture);
  for (const architecture of ['llama', 'qwen3', 'qwen3moe', 'gemma3n', 'glm4moe'])
    assert.equal(profileFor({ ...shape, architecture }).single_slot, false, architecture);
});
