/** The memory formula, term by term, held against figures that engines printed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { KvType } from '../protocol/model-profile.ts';
import {
  gib,
  KV_ELEMENT_BYTES,
  type MemoryOptions,
  memoryNeed,
  ollamaBatch,
  profileOfSize,
  reserveOf,
} from './memory.ts';
import { profileNamed } from './test-profiles.ts';
import { SHAPES } from './test-shapes.ts';

const MIB = 2 ** 20;
const OPTIONS: MemoryOptions = {
  context_tokens: 8_192,
  slots: 1,
  kv_type: 'f16',
  flash_attention: true,
  backend: 'cuda',
  draft_tokens: 0,
};
type Name = keyof typeof SHAPES;
const needOf = (name: Name, options: Partial<MemoryOptions> = {}) =>
  memoryNeed(profileNamed(name), { ...OPTIONS, ...options });
const kvMib = (name: Name, options: Partial<MemoryOptions> = {}) =>
  needOf(name, options).kv_bytes / MIB;
const plain = (all_outputs: boolean) => ({ engine: { ubatch_tokens: 512, all_outputs } });

test('full attention with grouped heads: the cache that llama.cpp prints', () => {
  assert.equal(kvMib('qwen3:1.7b', { context_tokens: 40_960 }), 4_480);
  assert.equal(kvMib('qwen3:1.7b', { context_tokens: 16_384 }), 1_792);
  assert.equal(kvMib('llama2:7b', { context_tokens: 4_096 }), 2_048);
  assert.equal(kvMib('qwen2.5:3b'), 288);
});

test('windows: 256-token steps, window and batch, heads of their own width', () => {
  assert.equal(kvMib('gemma3:4b'), 160 + 174);
  assert.equal(kvMib('gemma3:1b'), 32 + 22);
  assert.equal(kvMib('gemma2:9b'), 1_344 + 756);
  assert.equal(kvMib('gpt-oss:20b'), 192 + 18);
  assert.equal(kvMib('gemma3:4b', { context_tokens: 1_024 }), 34 * 4, 'shorter than the window');
  const larger = { engine: { ubatch_tokens: 1_024, all_outputs: false } };
  assert.equal(kvMib('gemma3:4b', larger), 160 + 232);
});

test('layers that share a cache own none', () => {
  assert.equal(kvMib('gemma4:e4b'), 128 + 40);
});

test('one latent head, whatever the number of heads', () => {
  assert.equal(kvMib('deepseek-v2:16b'), 243);
  assert.equal(kvMib('glm-4.7-flash'), 423);
});

test('recurrent state: per slot, in 32 bits, beside one full layer in four', () => {
  const options = { context_tokens: 32_768, slots: 4, kv_type: 'q8_0' } as const;
  const need = needOf('qwen3.6:27b', options);
  assert.equal(need.recurrent_bytes / MIB, 598.5);
  assert.equal((need.kv_bytes - need.recurrent_bytes) / MIB, 4_352);
  assert.equal(needOf('qwen3.5:4b').recurrent_bytes / MIB, 50.25);
});

test('Mamba layers have state, attention layers a cache, feed-forward layers neither', () => {
  assert.equal(kvMib('nemotron-h:9b'), 128 + 138.796875);
});

test('slots multiply the cache; each is padded by itself', () => {
  assert.equal(kvMib('qwen3:4b', { slots: 3 }), 3 * kvMib('qwen3:4b'));
  assert.equal(
    kvMib('qwen3:4b', { context_tokens: 8_193 }),
    kvMib('qwen3:4b', { context_tokens: 8_448 }),
  );
});

test('layers that only predict further tokens are neither cached nor loaded', () => {
  const { blocks } = profileNamed('qwen3.6:27b');
  assert.equal(
    blocks.reduce((sum, { count }) => sum + count, 0),
    64,
  );
});

test('of weights the table of embeddings stays in main memory; a shared one lies on both sides', () => {
  const apart = profileNamed('llama3.1:8b');
  assert.equal(apart.host_bytes, (128_256 * 4_096 * 144) / 256);
  const shared = profileNamed('qwen3:1.7b');
  assert.equal(shared.host_bytes, (151_936 * 2_048 * 210) / 256);
  assert.equal(
    Math.round(needOf('qwen3:1.7b').weights_bytes / MIB),
    1_050,
    'as llama.cpp b8211 says',
  );
  assert.equal(
    needOf('qwen3:1.7b', { backend: 'cpu' }).weights_bytes,
    needOf('qwen3:1.7b').weights_bytes,
  );
  const perLayer = profileNamed('gemma4:e4b');
  assert.ok(perLayer.host_bytes > (256 * 42 * 262_144 * 18) / 32 - 1);
});

test('the compute buffer of older builds is that of the logits', () => {
  const logits = (name: Name) => needOf(name, plain(true)).compute_bytes / MIB;
  assert.equal(logits('qwen2.5:3b'), 300.75);
  assert.equal(logits('qwen2.5:7b'), 304);
  assert.equal(
    needOf('qwen3.6:27b', { ...plain(true), context_tokens: 131_072 }).compute_bytes / MIB,
    495,
  );
});

test('the compute buffer of newer builds is that of the widest block', () => {
  // Printed by llama.cpp v0.5.0 for the same shapes at 8192 tokens, one output, 512 at once.
  const printed: Partial<Record<Name, number>> = {
    'llama3.1:8b': 124.01,
    'llama3.2:1b': 72.01,
    'llama3.2:3b': 80.01,
    'llama2:7b': 104.51,
    'mistral-nemo:12b': 130.01,
    'mixtral:8x7b': 208.01,
    'qwen2.5:3b': 88.51,
    'qwen2.5:7b': 147.01,
    'qwen3:1.7b': 60.01,
    'qwen3:4b': 88.01,
    'qwen3:8b': 112.01,
    'qwen3:32b': 204.01,
    'qwen3:30b-a3b': 96.01,
    'qwen3.5:4b': 77.02,
    'qwen3.6:27b': 140.02,
    'gemma2:9b': 125.52,
    'gemma3:1b': 58.27,
    'gemma3:4b': 88.52,
    'gemma3:12b': 130.02,
    'gemma3:27b': 175.02,
    'gemma4:e4b': 121.02,
    'phi4:14b': 143.01,
    'gpt-oss:20b': 101.14,
    'deepseek-v2:16b': 97.01,
    'glm-4.7-flash': 90.01,
    'nemotron-h:9b': 158.29,
  };
  for (const [name, mib] of Object.entries(printed)) {
    const ours = needOf(name as Name, plain(false)).compute_bytes / MIB;
    assert.ok(Math.abs(ours - mib) <= 16, `${name}: ${ours} for ${mib}`);
  }
});

test('without flash attention every head keeps its scores', () => {
  const off = needOf('llama3.1:8b', { ...plain(false), flash_attention: false });
  assert.ok(off.compute_bytes / MIB > 512);
});

test('the batch of Ollama follows its version and the context', () => {
  assert.deepEqual(ollamaBatch('0.17.4', 65_536), { ubatch_tokens: 512, all_outputs: true });
  assert.deepEqual(ollamaBatch('v0.33.2', 4_096), { ubatch_tokens: 512, all_outputs: false });
  assert.deepEqual(ollamaBatch('0.33.2', 8_192), { ubatch_tokens: 1_024, all_outputs: false });
  assert.deepEqual(ollamaBatch('1.0.0', 65_536), { ubatch_tokens: 2_048, all_outputs: false });
  for (const unknown of [null, '', 'HEAD', '0.32.1'])
    assert.equal(ollamaBatch(unknown, 8_192), undefined);
});

test('bytes for a sentence', () => {
  assert.equal(gib(6.14 * 2 ** 30), '6.1 GiB');
});

const arbitraryProfile = fc.oneof(
  fc.constantFrom(...(Object.keys(SHAPES) as Name[])).map(name => profileNamed(name)),
  fc
    .integer({ min: 1, max: 2 ** 37 })
    .map(size_bytes => profileOfSize({ size_bytes, context_max: 0, family: 'any' })),
);
const arbitraryOptions = fc.record({
  context_tokens: fc.integer({ min: 1, max: 1_048_576 }),
  slots: fc.integer({ min: 1, max: 64 }),
  kv_type: fc.constantFrom(...KvType.options),
  flash_attention: fc.boolean(),
  backend: fc.constantFrom('cuda', 'rocm', 'metal', 'vulkan', 'cpu'),
  unified_slots: fc.boolean(),
  engine_version: fc.constantFrom(null, '0.17.4', '0.32.5', '0.33.2'),
});

test('the parts add up, and none falls as context, slots or width of the cache grow', () => {
  const more = fc.integer({ min: 0, max: 65_536 });
  fc.assert(
    fc.property(
      arbitraryProfile,
      arbitraryOptions,
      more,
      fc.nat(8),
      (profile, options, tokens, slots) => {
        const need = memoryNeed(profile, options);
        const { weights_bytes, kv_bytes, compute_bytes, projector_bytes, overhead_bytes } = need;
        const parts = [weights_bytes, kv_bytes, compute_bytes, projector_bytes, overhead_bytes];
        assert.equal(
          parts.reduce((sum, part) => sum + part, 0),
          need.total_bytes,
        );
        assert.ok(
          [...parts, need.host_bytes].every(part => Number.isSafeInteger(part) && part >= 0),
        );
        assert.ok(need.recurrent_bytes <= need.kv_bytes);
        assert.equal(need.reserve_bytes, reserveOf(need.total_bytes, need.kept_free_bytes));
        assert.ok(need.draft_bytes <= weights_bytes + kv_bytes + compute_bytes);
        const wider = KvType.options.filter(
          type => KV_ELEMENT_BYTES[type] >= KV_ELEMENT_BYTES[options.kv_type],
        );
        for (const grown of [
          { ...options, context_tokens: options.context_tokens + tokens },
          { ...options, slots: options.slots + slots },
          ...wider.map(kv_type => ({ ...options, kv_type })),
        ]) {
          const larger = memoryNeed(profile, grown);
          assert.ok(larger.kv_bytes >= kv_bytes, 'cache');
          assert.ok(larger.compute_bytes >= compute_bytes, 'compute');
          assert.ok(larger.total_bytes >= need.total_bytes, 'total');
        }
      },
    ),
    { numRuns: 300 },
  );
});
