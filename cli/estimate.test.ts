/** `codegod estimate` from outside: what it prints, what it refuses, and that it needs no system. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { testGguf } from '../scheduling/test-gguf.ts';
import { fileBytes, testModel } from '../scheduling/test-models.ts';
import { SHAPES } from '../scheduling/test-shapes.ts';
import { programOf } from '../test/source-tree.ts';
import { runCli } from './program.ts';
import { openHome } from './test-world.ts';

const MODEL = testModel(SHAPES['llama3.1:8b'], 'Q4_K_M');
const SIZE = fileBytes(MODEL);
const SHOW = { model_info: MODEL.metadata, tensors: MODEL.tensors };

function openWorld(t: TestContext) {
  const home = openHome(t);
  const write = (name: string, content: string | Uint8Array): string => {
    const path = join(home.folder, name);
    writeFileSync(path, content);
    return path;
  };
  return { home, write };
}

const KEYS = [
  'model',
  'architecture',
  'context_tokens',
  'slots',
  'kv_type',
  'backend',
  'weights_bytes',
  'kv_bytes',
  'recurrent_bytes',
  'draft_bytes',
  'compute_bytes',
  'projector_bytes',
  'overhead_bytes',
  'total_bytes',
  'host_bytes',
  'reserve_bytes',
  'fits',
  'largest_context_tokens',
  'source',
  'doubts',
];

test('an answer of /api/show: parts that add up, where it fits, the largest context', async t => {
  const { home, write } = openWorld(t);
  const show = write('show.json', JSON.stringify({ ...SHOW, size: SIZE }));
  const flags = ['--ctx', '16k', '--slots', '2', '--kv', 'q8_0', '--gpu', '24GiB,8GiB'];
  const { code, stdout } = await home.run('estimate', '--show', show, ...flags, '--json');
  assert.equal(code, 0);
  const said = JSON.parse(stdout);
  assert.deepEqual(Object.keys(said), KEYS);
  assert.equal(said.architecture, 'llama');
  assert.deepEqual([said.context_tokens, said.slots, said.kv_type], [16_384, 2, 'q8_0']);
  const { weights_bytes, kv_bytes, compute_bytes, projector_bytes, overhead_bytes } = said;
  const parts = weights_bytes + kv_bytes + compute_bytes + projector_bytes + overhead_bytes;
  assert.equal(parts, said.total_bytes);
  assert.equal(kv_bytes, (2 * 16_384 * 32 * 8 * 256 * 34) / 32);
  assert.equal(said.fits.kind, 'single');
  assert.deepEqual(said.fits.cards, [{ index: 0, bytes: said.total_bytes }]);
  assert.equal(said.largest_context_tokens % 256, 0);
  assert.ok(said.largest_context_tokens > 16_384);
});

test('a GGUF file is read by its header, by flag or by path; from stdin too', async t => {
  const { home, write } = openWorld(t);
  const { header } = testGguf(MODEL);
  const file = write('llama.gguf', header);
  const flags = ['--gpu', '8GiB', '--json'];
  const byFlag = JSON.parse((await home.run('estimate', '--gguf', file, ...flags)).stdout);
  const byPath = JSON.parse((await home.run('estimate', file, ...flags)).stdout);
  assert.deepEqual(byFlag, byPath);
  assert.equal(byFlag.model, 'llama');
  assert.equal(byFlag.source, 'gguf');
  assert.ok(byFlag.weights_bytes < SIZE && byFlag.weights_bytes > 0.9 * SIZE);
  const program = [...programOf('cli/test-cli.ts'), 'estimate', '--gguf', '-', ...flags];
  const piped = spawnSync(process.execPath, program, { input: header, encoding: 'utf8' });
  // Of a file the size is known too, and this one ends behind its header.
  assert.match(byFlag.doubts[0], /^its tensors take \d+ bytes, but it has \d+: it is cut/);
  assert.deepEqual(JSON.parse(piped.stdout), { ...byFlag, model: 'stdin', doubts: [] });
});

test('what does not say its shapes is guessed from its size, and that is said', async t => {
  const { home, write } = openWorld(t);
  const { metadata } = MODEL;
  const without = (...names: string[]) =>
    Object.fromEntries(Object.entries(metadata).filter(([key]) => !names.includes(key)));
  const unfit: readonly (readonly [string, object])[] = [
    ['no layers', without('llama.block_count')],
    ['no width', without('llama.embedding_length')],
    ['no heads', without('llama.attention.head_count', 'llama.attention.key_length')],
    ['another prefix', { ...metadata, 'general.architecture': 'qwen9' }],
    ['a number as text', { ...metadata, 'llama.block_count': '32' }],
    ['a negative count', { ...metadata, 'llama.embedding_length': -4_096 }],
    ['too many layers', { ...metadata, 'llama.block_count': 1_000_000 }],
    ['too wide', { ...metadata, 'llama.embedding_length': 16_000_000 }],
    ['one key', { 'general.architecture': 'llama' }],
  ];
  for (const [what, model_info] of unfit) {
    const show = write('show.json', JSON.stringify({ model_info, size: SIZE }));
    const { code, stdout } = await home.run('estimate', '--show', show, '--gpu', '8GiB', '--json');
    assert.equal(code, 0, what);
    const said = JSON.parse(stdout);
    assert.equal(said.source, 'size', what);
    assert.ok(said.kv_bytes > 0 && said.kv_bytes < 4 * 2 ** 30, `${what}: ${said.kv_bytes}`);
    assert.match(said.doubts[0], /^an upper guess from its size alone: /, what);
    const text = await home.run('estimate', '--show', show, '--gpu', '8GiB');
    assert.match(text.stderr, /an upper guess from its size alone/, what);
  }
});

test('what depends on an engine that nobody named is the larger of two, and said', async t => {
  const { home, write } = openWorld(t);
  const { metadata, tensors } = testModel(SHAPES['qwen3.6:27b'], 'Q4_K_M');
  const show = write('show.json', JSON.stringify({ model_info: metadata, tensors, size: 17e9 }));
  const saidOf = async (...flags: string[]) =>
    JSON.parse((await home.run('estimate', '--show', show, '--json', ...flags)).stdout);
  const unknown = await saidOf();
  assert.ok(unknown.draft_bytes > 2 ** 29);
  assert.match(unknown.doubts[0], /^\d+\.\d MiB are for drafting .*`--draft 0` leaves them out$/);
  const none = await saidOf('--draft', '0');
  assert.deepEqual([none.draft_bytes, none.doubts], [0, []]);
  assert.equal(unknown.total_bytes - none.total_bytes, unknown.draft_bytes);
  const shared = await saidOf('--draft', '0', '--slots', '4', '--unified');
  assert.equal(shared.recurrent_bytes, 4 * none.recurrent_bytes);
  assert.equal(shared.kv_bytes - shared.recurrent_bytes, none.kv_bytes - none.recurrent_bytes);
});

test('sizes that cannot be those of the model are said', async t => {
  const { home, write } = openWorld(t);
  const doubtsOf = async (show: object): Promise<string[]> => {
    const file = write('show.json', JSON.stringify(show));
    const { stdout } = await home.run('estimate', '--show', file, '--json');
    return JSON.parse(stdout).doubts;
  };
  assert.deepEqual(await doubtsOf({ ...SHOW, size: SIZE }), []);
  assert.match((await doubtsOf({ ...SHOW, size: 1 }))[0] ?? '', /but it has 1: it is cut/);
  const tensors = MODEL.tensors.slice(0, 1);
  assert.match((await doubtsOf({ ...SHOW, tensors, size: SIZE }))[0] ?? '', /tensors take only/);
});

test('byte order marks, parts and flags of an engine', async t => {
  const { home, write } = openWorld(t);
  const json = JSON.stringify({ ...SHOW, size: SIZE });
  const marked = Buffer.from(`\ufeff${json}`, 'utf8');
  const wide = Buffer.from(`\ufeff${json}`, 'utf16le');
  const plain = await home.run('estimate', '--show', write('show.json', json), '--json');
  for (const bytes of [marked, wide, Buffer.from(wide).swap16()]) {
    const { stdout } = await home.run('estimate', '--show', write('show.json', bytes), '--json');
    assert.deepEqual(JSON.parse(stdout), JSON.parse(plain.stdout));
  }
  const show = write('show.json', json);
  const partOf = async (...flags: string[]) =>
    JSON.parse((await home.run('estimate', '--show', show, '--json', ...flags)).stdout);
  const [known, old, narrow, slow] = [
    await partOf(),
    await partOf('--engine', '0.17.4'),
    await partOf('--batch', '128'),
    await partOf('--no-flash-attention'),
  ];
  // Room for the logits of all tokens of a batch, four bytes each.
  assert.equal(old.compute_bytes, 512 * 4 * (128_256 + 4_096));
  assert.ok(narrow.compute_bytes < known.compute_bytes / 4);
  assert.ok(slow.compute_bytes > 4 * known.compute_bytes);
  const inMain = await home.run('estimate', '--show', show, '--gpu', 'none', '--ram', '32GiB');
  assert.match(inMain.stdout, /in main memory/);
  assert.doesNotMatch(inMain.stdout, /cuda/);

  const { header } = testGguf(MODEL);
  const many = await home.run('estimate', write('m-00001-of-99999.gguf', header));
  assert.match(many.stderr, /m-00001-of-99999\.gguf calls itself one of 99999 parts; at most 1000/);
  const lonely = await home.run('estimate', write('m-00001-of-00003.gguf', header));
  assert.match(lonely.stderr, /is one of 3 parts; m-00002-of-00003\.gguf is not beside it/);
});

test('a model that is not there is guessed from its name, where that tells its size', async t => {
  const home = openHome(t, { OLLAMA_HOST: 'http://127.0.0.1:9' });
  const flags = ['--gpu', '24GiB', '--json'];
  const { code, stdout } = await home.run('estimate', 'qwen2.5-coder:14b', ...flags);
  assert.equal(code, 0);
  const said = JSON.parse(stdout);
  assert.equal(said.fits.kind, 'single');
  assert.match(said.doubts[0], /^an upper guess from its name alone: no Ollama answers/);
  assert.notEqual((await home.run('estimate', 'chat', ...flags)).code, 0);
});

test('an installed model is asked of Ollama by its name', async t => {
  const { home } = openWorld(t);
  const server = createServer((request, response) => {
    response.setHeader('connection', 'close');
    const answers: Record<string, unknown> = {
      '/api/tags': { models: [{ name: 'llama3.1:latest', size: SIZE }] },
      '/api/show': SHOW,
      '/api/version': { version: '0.33.2' },
    };
    response.end(JSON.stringify(answers[request.url ?? ''] ?? {}));
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const host = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const run = async (...argv: string[]) => {
    let stdout = '';
    const out = { write: (text: string) => (stdout += text) };
    const env = { ...home.env, OLLAMA_HOST: host };
    const code = await runCli(['estimate', ...argv, '--json'], { stdout: out, stderr: out, env });
    return { code, said: JSON.parse(stdout) };
  };
  const found = await run('llama3.1', '--gpu', '24GiB');
  assert.equal(found.said.model, 'llama3.1:latest');
  assert.equal(found.said.source, 'show');
  const missing = await run('mistral');
  assert.equal(missing.code, 1);
  assert.match(missing.said.error.hint, /llama3\.1:latest/);
});

test('a person reads a table, where it fits and what would be the largest context', async t => {
  const { home, write } = openWorld(t);
  const show = write('show.json', JSON.stringify({ ...SHOW, size: SIZE }));
  const { stdout, code } = await home.run('estimate', '--show', show, '--gpu', '24GiB');
  assert.equal(code, 0);
  for (const line of [/^weights +4403\.5 MiB/m, /^cache +1024\.0 MiB/m, /^total +\d/m]) {
    assert.match(stdout, line);
  }
  assert.match(stdout, /fits on one card \(card 0: 6\.\d\d GiB\)/);
  assert.match(stdout, /largest context that fits: 131072 tokens/);
  const tight = await home.run('estimate', '--show', show, '--gpu', '5GiB', '--ram', '16GiB');
  assert.match(tight.stdout, /fits partly .* times slower/);
  const none = await home.run('estimate', '--show', show, '--gpu', '2GiB');
  assert.match(none.stdout, /does not fit: .* short/);
});

test('without a card nothing is held against anything, and that is said', async t => {
  const { home, write } = openWorld(t);
  const show = write('show.json', JSON.stringify({ ...SHOW, size: SIZE }));
  const { stdout, stderr } = await home.run('estimate', '--show', show, '--gpu', 'none', '--json');
  const said = JSON.parse(stdout);
  assert.deepEqual([said.fits, said.largest_context_tokens], [null, null]);
  assert.match(stderr, /no card given/);
  const ram = await home.run(
    'estimate',
    '--show',
    show,
    '--gpu',
    'none',
    '--ram',
    '16GiB',
    '--json',
  );
  assert.equal(JSON.parse(ram.stdout).fits.kind, 'cpu');
});

test('what is wrong is said, with what would be right: exit code 2', async t => {
  const { home, write } = openWorld(t);
  const show = write('show.json', JSON.stringify({ ...SHOW, size: SIZE }));
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [[], /one of MODEL, --show FILE and --gguf FILE/],
    [['x', '--show', show], /one of MODEL/],
    [['--show', show, '--gpu', '24'], /24GiB/],
    [['--show', show, '--ram', 'lots'], /16GB/],
    [['--show', show, '--ctx', '0'], /8192 or 8k/],
    [['--show', show, '--kv', 'q9'], /f16, q8_0, q4_0/],
    [['--show', show, '--slots', '0'], /whole number/],
    [['--show', show, '--backend', 'tpu'], /cuda/],
    [['--show', join(home.folder, 'nowhere.json')], /cannot be read/],
    [['--show', write('text.json', 'hello')], /not JSON/],
    [['--show', write('list.json', '[]')], /model_info/],
    [['--show', write('bare.json', JSON.stringify({ model_info: MODEL.metadata }))], /size/],
    [['--show', write('odd.json', JSON.stringify({ ...SHOW, size: '5 GB' }))], /size/],
    [['--gguf', show], /GGUF/],
    [['--gguf', home.folder], /no file/],
  ];
  for (const [argv, words] of cases) {
    const { code, stdout } = await home.run('estimate', ...argv, '--json');
    assert.equal(code, 2, argv.join(' '));
    const { error } = JSON.parse(stdout);
    assert.match(`${error.message} ${error.hint}`, words, argv.join(' '));
  }
});
