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
  'compute_bytes',
  'projector_bytes',
  'overhead_bytes',
  'total_bytes',
  'host_bytes',
  'reserve_bytes',
  'fits',
  'largest_context_tokens',
  'source',
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
  assert.deepEqual(JSON.parse(piped.stdout), { ...byFlag, model: 'stdin' });
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
