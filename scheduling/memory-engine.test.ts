/**
 * What depends on how an engine runs a model: drafting, slots that share a cache, sparse attention, what
 * it copies to a card and what it leaves free there. Figures called printed are those of llama.cpp's own
 * plan for the same shapes (bench/memory/llama-cpp.ts).
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ModelProfile } from '../protocol/model-profile.ts';
import { fit, type Room } from './fit.ts';
import { GIB, type MemoryOptions, memoryNeed, reserveOf } from './memory.ts';
import { profileOfShow } from './profile-show.ts';
import { fileBytes, testModel } from './test-models.ts';
import { profileNamed } from './test-profiles.ts';
import { SHAPES } from './test-shapes.ts';

const MIB = 2 ** 20;
const OPTIONS: MemoryOptions = {
  ...{ context_tokens: 32_768, slots: 1, kv_type: 'f16' },
  ...{ flash_attention: true, backend: 'cuda' },
  engine: { ubatch_tokens: 512, all_outputs: false },
};
type Name = keyof typeof SHAPES;
const needOf = (name: Name, options: Partial<MemoryOptions> = {}) =>
  memoryNeed(profileNamed(name), { ...OPTIONS, ...options });
const QWEN = 'qwen3.6:27b';

test('drafting: the layer, its cache, a state for every token, a second compute buffer', () => {
  const off = needOf(QWEN, { draft_tokens: 0 });
  const on = needOf(QWEN, { draft_tokens: 4 });
  assert.equal(off.draft_bytes, 0);
  // Printed: states 149.62 MiB without and 748.12 MiB with four tokens drafted; cache of the layer 128.
  assert.equal(off.recurrent_bytes / MIB, 149.625);
  assert.equal(on.recurrent_bytes / MIB, 748.125);
  assert.equal((on.kv_bytes - on.recurrent_bytes) / MIB, 2_048 + 128);
  // Its tensors as printed when they are not loaded, to the byte.
  assert.equal(on.weights_bytes - off.weights_bytes, 263_292_928);
  const narrow = needOf(QWEN, { draft_tokens: 4, kv_type: 'q8_0' });
  assert.equal((narrow.kv_bytes - narrow.recurrent_bytes) / MIB, 1_088 + 128, 'drafts in f16');
  // Printed: 164.02 + 130.02 MiB.
  const compute = on.compute_bytes / MIB - 294.04;
  assert.ok(compute >= 0 && compute <= 64, `${compute}`);
  assert.equal(on.total_bytes - off.total_bytes, on.draft_bytes);
});

test('drafting keeps no more states where the engine cannot go back to one', () => {
  const on = needOf('deepseek-v3.2', { context_tokens: 4_096, slots: 2, draft_tokens: 4 });
  const off = needOf('deepseek-v3.2', { context_tokens: 4_096, slots: 2, draft_tokens: 0 });
  assert.equal((on.kv_bytes - off.kv_bytes) / MIB, 9, 'printed: the cache of one layer, no index');
  assert.equal(on.recurrent_bytes, 0);
});

test('whether it drafts: as told, as the model asks, as the version does; unknown is the larger', () => {
  const draftsWith = (engine_version: string | null, tokens: number | null = null) => {
    const { drafting, ...profile } = profileNamed(QWEN);
    assert.ok(drafting !== undefined);
    const asking = { ...profile, drafting: { ...drafting, tokens } };
    const { recurrent_bytes } = memoryNeed(asking, { ...OPTIONS, engine_version });
    return recurrent_bytes / profile.recurrent_bytes - 1;
  };
  for (const version of [null, '0.0.0', '0.33.2', '0.34.0', '1.0.0']) {
    assert.equal(draftsWith(version), 4, `${version}: nobody knows`);
    assert.equal(draftsWith(version, 2), 2, `${version}: the model says`);
    assert.equal(draftsWith(version, 0), 0, `${version}: the model says no`);
  }
  for (const version of ['0.30.0', '0.32.5']) {
    assert.equal(draftsWith(version), 0, `${version}: only where it is asked for`);
    assert.equal(draftsWith(version, 3), 3, `${version}: the model asks`);
  }
  assert.equal(draftsWith('0.17.4', 3), 0, 'its own runner has none');
  assert.equal(needOf('qwen3:8b').draft_bytes, 0, 'no such layer');
});

test('the parameters of an /api/show answer say how many tokens a model drafts', () => {
  const { metadata, tensors } = testModel(SHAPES[QWEN], 'Q4_K_M');
  const ofParameters = (parameters: unknown) =>
    profileOfShow({ model_info: metadata, tensors, parameters }, 18e9).drafting?.tokens;
  assert.equal(ofParameters('temperature   1\ndraft_num_predict              6\ntop_k 20'), 6);
  assert.equal(ofParameters('draft_num_predict 0'), 0);
  for (const silent of [undefined, '', 'temperature 1', 'draft_num_predict many', 7]) {
    assert.equal(ofParameters(silent), null);
  }
});

test('predicting layers with names of their own, and files that have none of those they speak of', () => {
  const { metadata, tensors } = testModel(SHAPES['qwen3.5:4b'], 'Q4_K_M');
  const mtp = ['mtp.fc.weight', 'mtp.layers.0.mlp.up_proj.weight'].map(name => ({
    ...{ name, type: 'Q8_0', shape: [2_560, 256] },
  }));
  const named = profileOfShow({ model_info: metadata, tensors: [...tensors, ...mtp] }, 3e9);
  assert.equal(named.drafting?.weights_bytes, 2 * 256 * 80 * 34);
  assert.deepEqual(named.drafting?.caches.length, 1);
  assert.equal(named.drafting?.caches[0]?.key_width, 4 * 256);
  const spoken = { ...metadata, 'qwen35.nextn_predict_layers': 1, 'qwen35.block_count': 33 };
  assert.equal(profileOfShow({ model_info: spoken, tensors }, 3e9).drafting, undefined);
  const bare = profileOfShow({ model_info: spoken }, 3e9).drafting;
  assert.ok((bare?.weights_bytes ?? 0) > 20e6, 'a share of the file where no tensors are listed');
});

test('slots that share a cache: one of all tokens, and a window for each of them', () => {
  const kvMib = (name: Name, options: Partial<MemoryOptions> = {}) =>
    needOf(name, { slots: 4, unified_slots: true, draft_tokens: 0, ...options }).kv_bytes / MIB;
  assert.equal(kvMib('llama3.1:8b'), 4_096, 'printed');
  assert.equal(kvMib('gemma3:12b'), 2_048 + 1_440, 'printed: 4608 cells for four windows of 1024');
  assert.equal(kvMib('gpt-oss:20b'), 768 + 24, 'printed: 1024 cells for four windows of 128');
  assert.equal(kvMib(QWEN, { context_tokens: 131_072 }), 8_192 + 598.5, 'printed: four states');
  assert.equal(kvMib('gemma3:12b', { slots: 1 }), needOf('gemma3:12b').kv_bytes / MIB);
  // Printed for 131072 tokens of four slots: 260.02 MiB.
  const compute = needOf(QWEN, {
    ...{ context_tokens: 131_072, slots: 4, unified_slots: true, draft_tokens: 0 },
  }).compute_bytes;
  assert.ok(Math.abs(compute / MIB - 260.02) <= 16);
});

test('sparse attention keeps an index, beside latent heads and beside plain ones', () => {
  const at = { context_tokens: 8_192, draft_tokens: 0 };
  assert.equal(needOf('deepseek-v3.2', at).kv_bytes / MIB, 549 + 122, 'printed');
  assert.equal(needOf('minimax-m3', at).kv_bytes / MIB, 960 + 228, 'printed: 57 layers of 60');
  const shared = testModel(
    { ...SHAPES['deepseek-v3.2'], architecture: 'glm-dsa', context: 1_048_576 },
    'Q4_K_M',
  );
  const { caches } = profileOfShow({ model_info: shared.metadata, tensors: shared.tensors }, 4e11);
  const index = caches.find(({ key_width }) => key_width === 128);
  assert.equal(index?.layers, 17, 'the first two of 61, then every fourth from the third on');
});

test('the compute buffer of sparse attention has the scores of its index', () => {
  // Printed for MiniMax M3, which no engine fuses: 252.55, 688.65 and 1296.77 MiB.
  for (const [context_tokens, mib] of [
    [8_192, 252.55],
    [32_768, 688.65],
    [65_536, 1_296.77],
  ] as const) {
    const ours = needOf('minimax-m3', { context_tokens }).compute_bytes / MIB;
    assert.ok(Math.abs(ours - mib) <= 16, `${context_tokens}: ${ours} for ${mib}`);
  }
  // 64 heads, twice, four bytes a score: 8 GiB, where engines that fuse them print 798 MiB.
  const ours = needOf('deepseek-v3.2', { draft_tokens: 0 }).compute_bytes;
  assert.ok(ours >= 8 * GIB && ours <= 8.5 * GIB);
  const { index_heads, ...dense } = profileNamed('deepseek-v3.2');
  assert.equal(index_heads, 64);
  const fused = memoryNeed(dense, { ...OPTIONS, context_tokens: 8_192, draft_tokens: 0 });
  assert.ok(Math.abs(fused.compute_bytes / MIB - 668.07) <= 16, 'printed: 128 latent heads');
});

const card = (gib: number) => ({
  ...{ index: 0, total_bytes: null, free_bytes: Math.round(gib * GIB) },
  ...{ bandwidth_bytes_per_s: null, integrated: false },
});
const roomOf = (gib: number): Room => ({
  ...{ cards: [card(gib)], ram_free_bytes: 600 * GIB, unified: false },
});

test('llama-server leaves a gibibyte of every card free, older engines fill it', () => {
  const profile = profileNamed('llama3.1:8b');
  const fitted = (engine_version: string | null, gib: number) => {
    const options = { ...OPTIONS, context_tokens: 8_192, engine_version };
    return fit(profile, options, roomOf(gib), { offload: true });
  };
  const total = fitted(null, 24).need.total_bytes;
  const [tight, roomy] = [total + reserveOf(total), total + GIB];
  for (const version of [null, '0.0.0', '0.17.4', '0.29.9']) {
    assert.equal(fitted(version, tight / GIB).kind, 'single', `${version}`);
  }
  for (const version of ['0.30.0', 'v0.33.2', '1.2.0']) {
    assert.equal(fitted(version, tight / GIB).kind, 'partial', version);
    assert.equal(fitted(version, roomy / GIB).kind, 'single', version);
    const { cards, need } = fitted(version, 4);
    const left = 4 * GIB - (cards[0]?.bytes ?? 0);
    assert.ok(left >= GIB && left < 1.5 * GIB, `${version} leaves ${left}`);
    assert.equal(need.reserve_bytes, GIB);
  }
  assert.ok(4 * GIB - (fitted('0.17.4', 4).cards[0]?.bytes ?? 0) < 0.75 * GIB);
  const inMain = memoryNeed(profile, { ...OPTIONS, backend: 'cpu', engine_version: '0.33.2' });
  assert.equal(inMain.kept_free_bytes, 0);
});

test('a model partly in main memory has room on the card for its largest tensor', () => {
  const profile = profileNamed('qwen3:30b-a3b');
  // 128 matrices of 768 times 2048 weights, six bits and a half each.
  const experts = (128 * 768 * 2_048 * 210) / 256;
  assert.equal(profile.largest_tensor_bytes, experts);
  const on = (largest_tensor_bytes: number | undefined, gib: number) => {
    const { largest_tensor_bytes: _, ...rest } = profile;
    const asked = largest_tensor_bytes === undefined ? rest : { ...rest, largest_tensor_bytes };
    return fit(asked, OPTIONS, roomOf(gib), { offload: true });
  };
  const sizes = Array.from({ length: 20 }, (_, at) => 10 + at / 10);
  for (const largest of [experts, undefined]) {
    const slower = sizes.filter(gib => {
      const [plain, copying] = [on(0, gib), on(largest, gib)];
      assert.deepEqual([plain.kind, copying.kind], ['partial', 'partial']);
      assert.ok(copying.slowdown >= plain.slowdown);
      return copying.slowdown > plain.slowdown;
    });
    assert.ok(slower.length >= 5, 'a layer less finds room, also with an advert that does not say');
  }
  assert.deepEqual(on(experts, 40).cards, on(0, 40).cards, 'wholly on the card nothing is copied');
});

test('profiles of older releases are read as before', () => {
  const { drafting, index_heads, largest_tensor_bytes, ...old } = profileNamed('deepseek-v3.2');
  assert.ok(drafting && index_heads && largest_tensor_bytes);
  const parsed = ModelProfile.parse(JSON.parse(JSON.stringify(old)));
  assert.deepEqual(parsed, old);
  assert.equal(memoryNeed(parsed, OPTIONS).draft_bytes, 0);
});

test('tables of every layer, and towers, are told from the size by the number of parameters', () => {
  const shape = SHAPES['gemma4:e4b'];
  const model = testModel(shape, 'Q4_K_M');
  const elements = (size: readonly number[]) => size.reduce((one, two) => one * two, 1);
  const tower = [
    ...[1, 2, 3].map(at => ({ name: `v.blk.0.ffn_${at}.weight`, shape: [768, 3_072 * 16] })),
    { name: 'v.blk.0.attn.weight', shape: [768, 4 * 768 * 16] },
  ].map(tensor => ({ ...tensor, type: 'F16' }));
  for (const type of ['Q4_K', 'Q6_K', 'Q8_0', 'F16']) {
    const tensors = [
      ...model.tensors.map(one =>
        one.name.startsWith('per_layer_token') ? { ...one, type } : one,
      ),
      ...tower,
    ];
    const size = fileBytes({ ...model, tensors }) + 40 * shape.vocabulary;
    const model_info = {
      ...model.metadata,
      ...{ 'gemma4.vision.block_count': 16, 'gemma4.vision.embedding_length': 768 },
      ...{ 'gemma4.vision.feed_forward_length': 3_072, 'general.file_type': 15 },
      'general.parameter_count': tensors.reduce((sum, one) => sum + elements(one.shape), 0),
      'tokenizer.ggml.tokens': { length: shape.vocabulary },
    };
    const whole = profileOfShow({ model_info, tensors }, size);
    const bare = profileOfShow({ model_info }, size);
    const off = (key: 'host_bytes' | 'projector_bytes') => Math.abs(bare[key] / whole[key] - 1);
    assert.ok(off('host_bytes') < 0.02, `${type}: ${bare.host_bytes} for ${whole.host_bytes}`);
    assert.ok(off('projector_bytes') < 0.01, `${type}: the tower`);
    const [told, known] = [memoryNeed(bare, OPTIONS), memoryNeed(whole, OPTIONS)];
    assert.ok(Math.abs(told.total_bytes / known.total_bytes - 1) < 0.02, type);
  }
});
