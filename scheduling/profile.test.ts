/** Profiles from `/api/show` answers and from GGUF headers: the same model gives the same profile. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ModelProfile } from '../protocol/model-profile.ts';
import { ggmlTypeOfName, ggmlTypeOfNumber, tensorBytes } from './ggml-types.ts';
import { type ByteSource, profileOfGguf, readGgufHeader } from './gguf.ts';
import { memoryNeed } from './memory.ts';
import { profileOfShow } from './profile-show.ts';
import { testGguf } from './test-gguf.ts';
import { fileBytes, type Shape, type TestModel, testModel } from './test-models.ts';
import { mixtureOf } from './test-profiles.ts';
import { SHAPES } from './test-shapes.ts';

const names = Object.keys(SHAPES) as (keyof typeof SHAPES)[];
const modelNamed = (name: keyof typeof SHAPES) => testModel(SHAPES[name], mixtureOf(name));
/** As Ollama answers with `verbose: true`. */
const showOf = (model: TestModel) => ({
  model_info: { ...model.metadata, 'tokenizer.ggml.tokens': [] },
  tensors: model.tensors,
});

/** Counts what was read, so that a test can see that no tensor was. */
function sourceOf(header: Uint8Array, size = header.length): ByteSource & { bytes_read: number } {
  const source = {
    size_bytes: size,
    bytes_read: 0,
    async read(offset: number, length: number): Promise<Uint8Array> {
      const part = header.subarray(offset, offset + length);
      source.bytes_read = Math.max(source.bytes_read, offset + part.length);
      return part;
    },
  };
  return source;
}

test('an answer and a header of the same model give the same profile', async () => {
  for (const name of names) {
    const model = modelNamed(name);
    for (const version of [2, 3]) {
      const { header, size_bytes } = testGguf(model, { version });
      const parsed = await readGgufHeader(sourceOf(header, size_bytes));
      const ofHeader = profileOfGguf([parsed], size_bytes);
      const ofShow = profileOfShow(showOf(model), size_bytes);
      assert.deepEqual({ ...ofHeader, source: 'show' }, ofShow, name);
      assert.deepEqual(ModelProfile.parse(ofHeader), ofHeader);
    }
  }
});

const shapes: fc.Arbitrary<Shape> = fc.record({
  architecture: fc.constantFrom('llama', 'qwen3', 'gemma3', 'gpt-oss', 'new-arch'),
  layers: fc.integer({ min: 1, max: 12 }),
  embd: fc.integer({ min: 1, max: 64 }).map(width => width * 32),
  heads: fc.integer({ min: 1, max: 16 }),
  kv: fc.oneof(
    fc.integer({ min: 1, max: 8 }),
    fc.array(fc.integer({ min: 0, max: 8 }), { minLength: 12, maxLength: 12 }),
  ),
  head: fc.constantFrom(64, 96, 128, 256),
  ff: fc.integer({ min: 1, max: 64 }).map(width => width * 32),
  vocabulary: fc.integer({ min: 3, max: 5_000 }),
  context: fc.integer({ min: 1, max: 262_144 }),
  tied: fc.boolean(),
  qkNorm: fc.boolean(),
  window: fc.constantFrom(0, 128, 4_096),
});

test('so do shapes that nobody has made yet', async () => {
  const mixtures = fc.constantFrom('Q4_K_M', 'Q4_0', 'Q8_0', 'F16', 'IQ4_XS');
  await fc.assert(
    fc.asyncProperty(shapes, mixtures, fc.boolean(), async (shape, mixture, vocabulary) => {
      const model = testModel(shape, mixture);
      const { header, size_bytes } = testGguf(model, { vocabulary });
      const parsed = await readGgufHeader(sourceOf(header, size_bytes));
      const profile = profileOfGguf([parsed], size_bytes);
      assert.deepEqual({ ...profile, source: 'show' }, profileOfShow(showOf(model), size_bytes));
      const all = profile.blocks.reduce((sum, { count, bytes }) => sum + count * bytes, 0);
      const shared = shape.tied === true ? profile.host_bytes : 0;
      assert.equal(all + profile.output_bytes + profile.host_bytes - shared, fileBytes(model));
    }),
    { numRuns: 60 },
  );
});

test('only the header is read, whatever the file holds', async () => {
  const { header, size_bytes } = testGguf(modelNamed('qwen3:4b'), { vocabulary: true });
  assert.ok(header.length > 256 * 1024, 'longer than one read');
  const source = sourceOf(header, size_bytes);
  const parsed = await readGgufHeader(source);
  assert.ok(source.bytes_read <= 4 * header.length);
  assert.equal(parsed.tensors.length, modelNamed('qwen3:4b').tensors.length);
  assert.deepEqual(parsed.metadata['tokenizer.ggml.tokens'], { length: 151_936 });
});

test('shards of one model are read as one', async () => {
  const model = modelNamed('llama3.2:1b');
  const half = Math.floor(model.tensors.length / 2);
  const parts = [model.tensors.slice(0, half), model.tensors.slice(half)];
  const headers = await Promise.all(
    parts.map(tensors => readGgufHeader(sourceOf(testGguf({ ...model, tensors }).header))),
  );
  const whole = profileOfShow(showOf(model), 1_000);
  assert.deepEqual({ ...profileOfGguf(headers, 1_000), source: 'show' }, whole);
});

test('an answer without its longer lists still gives a figure near the true one', () => {
  const options = {
    context_tokens: 8_192,
    slots: 1,
    kv_type: 'f16',
    flash_attention: true,
    backend: 'cuda',
  } as const;
  for (const name of names) {
    const model = modelNamed(name);
    const size = fileBytes(model) + 10e6;
    const blanked = Object.fromEntries(
      Object.entries(model.metadata).map(([key, value]) => [
        key,
        Array.isArray(value) && value.length > 5 ? null : value,
      ]),
    );
    const whole = memoryNeed(profileOfShow(showOf(model), size), options).total_bytes;
    for (const show of [
      { model_info: blanked },
      { model_info: blanked, tensors: [] },
      { model_info: { ...blanked, 'tokenizer.ggml.tokens': null }, tensors: null },
      { model_info: blanked, tensors: [{ name: 'x' }] },
    ]) {
      const part = memoryNeed(profileOfShow(show, size), options).total_bytes;
      assert.ok(part >= 0.93 * whole && part <= 1.7 * whole, `${name}: ${part / whole}`);
    }
  }
});

test('without tensors the size, the mixture and the number of parameters do', () => {
  const options = {
    context_tokens: 8_192,
    slots: 1,
    kv_type: 'f16',
    flash_attention: true,
    backend: 'cuda',
  } as const;
  for (const name of names) {
    for (const [mixture, type] of [
      ['Q4_K_M', 15],
      ['Q4_0', 2],
      ['Q8_0', 7],
      ['F16', 1],
    ] as const) {
      const model = testModel(SHAPES[name], mixture);
      const size = fileBytes(model) + 40 * model.vocabulary;
      const parameters = model.tensors.map(({ shape }) => shape.reduce((one, two) => one * two, 1));
      const model_info = {
        ...model.metadata,
        'general.file_type': type,
        'general.parameter_count': parameters.reduce((sum, count) => sum + count, 0),
        'tokenizer.ggml.tokens': { length: model.vocabulary },
      };
      const whole = memoryNeed(profileOfShow(showOf(model), size), options).total_bytes;
      const bare = memoryNeed(profileOfShow({ model_info }, size), options).total_bytes;
      assert.ok(Math.abs(bare / whole - 1) < 0.02, `${name} ${mixture}: ${bare / whole}`);
    }
  }
});

test('a projector lies beside the model, in the same file or in its own', () => {
  const model = modelNamed('gemma3:4b');
  const vision = { name: 'v.blk.0.attn_q.weight', type: 'F16', shape: [1_152, 1_152] };
  const size = fileBytes(model);
  const plain = profileOfShow(showOf(model), size);
  assert.equal(plain.projector_bytes, 0);
  const within = profileOfShow({ ...showOf(model), tensors: [...model.tensors, vision] }, size);
  assert.equal(within.projector_bytes, 2 * 1_152 * 1_152);
  assert.equal(within.output_bytes, plain.output_bytes);
  const apart = { ...showOf(model), projector_info: { 'general.architecture': 'clip' } };
  const beside = profileOfShow(apart, size + 900e6).projector_bytes;
  assert.ok(beside > 880e6 && beside <= 900e6);
});

test('a model that only reads keeps no cache', () => {
  for (const architecture of [
    'bert',
    'nomic-bert',
    'nomic-bert-moe',
    'jina-bert-v2',
    'modern-bert',
  ]) {
    const model = testModel({ ...SHAPES['llama3.2:1b'], architecture }, 'F16');
    assert.deepEqual(profileOfShow(showOf(model), fileBytes(model)).caches, []);
  }
});

test('an element type made after this release is taken for one of four bits', () => {
  const model = modelNamed('llama3.2:1b');
  const tensors = model.tensors.map(tensor =>
    tensor.type === 'Q4_K' ? { ...tensor, type: 'Q4_NEW' } : tensor,
  );
  const size = fileBytes(model);
  const known = profileOfShow(showOf(model), size);
  const fresh = profileOfShow({ ...showOf(model), tensors }, size);
  assert.deepEqual(fresh.blocks, known.blocks);
});

test('what is no answer of /api/show is refused in words', () => {
  for (const bad of [
    null,
    1,
    'x',
    [],
    {},
    { model_info: {} },
    { model_info: [] },
    { error: 'no' },
  ]) {
    assert.throws(() => profileOfShow(bad, 1), { code: 'bad_request', message: /model_info/ });
  }
  assert.equal(profileOfShow({ model_info: { 'general.architecture': 'llama' } }, null), null);
});

test('metadata of any kind gives a profile, never an exception', () => {
  const keys = fc.constantFrom(
    'block_count',
    'embedding_length',
    'attention.head_count',
    'attention.head_count_kv',
    'attention.sliding_window',
    'attention.sliding_window_pattern',
    'context_length',
    'ssm.state_size',
    'full_attention_interval',
    'nextn_predict_layers',
  );
  const values = fc.oneof(
    fc.nat(1e6),
    fc.double(),
    fc.string(),
    fc.constant(null),
    fc.array(fc.oneof(fc.nat(100), fc.boolean(), fc.constant(null)), { maxLength: 40 }),
  );
  fc.assert(
    fc.property(fc.dictionary(keys, values), fc.nat(1e12), (metadata, size) => {
      const entries = Object.entries(metadata).map(([key, value]) => [`llama.${key}`, value]);
      const model_info = { 'general.architecture': 'llama', ...Object.fromEntries(entries) };
      ModelProfile.parse(profileOfShow({ model_info }, size));
    }),
    { numRuns: 300 },
  );
});

test('rows are whole blocks, in every element type', () => {
  for (let number = 0; number < 64; number++) {
    const type = ggmlTypeOfNumber(number);
    if (type === null) continue;
    assert.equal(ggmlTypeOfName(type.name.toLowerCase()), type);
    assert.equal(tensorBytes(type, [type.block_elements, 3]), 3 * type.block_bytes);
    assert.equal(tensorBytes(type, [1]), type.block_bytes);
  }
});
