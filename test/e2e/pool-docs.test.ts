/**
 * Goal: what docs/pool.md prints can be pasted. Method: every command line of it is run against a
 * real master, two workers and the models that it names. The lines of other programs are run where
 * those programs are: `ollama-program.test.ts`, `python-clients.test.ts`.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import { TestMaster } from '../../actors/master/test-master.ts';
import { TestNode } from '../../actors/master/test-node.ts';
import { openHome } from '../../cli/test-world.ts';
import { systemClock } from '../../runtime/clock.ts';
import { type NatsFixture, startNats } from '../nats-fixture.ts';
import { sourcePath } from '../source-tree.ts';

const FAST = { prefill: Number.POSITIVE_INFINITY, decode: Number.POSITIVE_INFINITY, loadMs: 1 };
const MODELS = [
  { ...FAST, name: 'qwen2.5-coder:7b', size: 5e9, tokens: 4 },
  { ...FAST, name: 'big:70b', size: 9e9, tokens: 4 },
];
/** It paints until it is stopped. */
const ENDLESS = ['codegod top'];

describe('docs/pool.md', { timeout: 120_000 }, () => {
  let nats: NatsFixture;
  let master: TestMaster;
  let nodes: TestNode[] = [];
  let page: string;

  before(async () => {
    page = await readFile(sourcePath('docs/pool.md'), 'utf8');
    nats = await startNats();
    master = await TestMaster.start({ url: nats.url });
    nodes = await Promise.all(
      ['attic', 'nas'].map(id => TestNode.start({ url: nats.url, id, models: MODELS })),
    );
    await until(async () => JSON.stringify(await master.get('/api/tags')).includes('"nas"'));
  });
  after(async () => {
    await Promise.all(nodes.map(node => node.stop()));
    await master?.remove();
    await nats?.stop();
  });

  test('every command line of ours does what it says', async t => {
    const home = openHome(t);
    home.pretendRunning({ http: master.http.url, bus: nats.url });
    const chat = { model: 'qwen2.5-coder:7b', messages: [{ role: 'user', content: 'x' }] };
    const answer = await master.post('/api/chat', { ...chat, stream: false });
    const id = answer.headers.get('x-codegod-request') ?? '';
    const lines = [...page.matchAll(/^ {4}(codegod .*)$/gm)].map(([, line]) =>
      (line ?? '').replace(/ +#.*$/, '').replace('r-01kc…', id),
    );
    assert.ok(lines.length >= 10, `${lines.length} lines`);
    for (const line of lines.filter(line => !ENDLESS.includes(line))) {
      const { code, stderr } = await home.run(...line.split(' ').slice(1));
      assert.equal(code, 0, `${line}\n${stderr}`);
    }
    for (const line of ENDLESS) {
      const { code, stdout } = await home.run(...line.split(' ').slice(1), '--help');
      assert.equal(code, 0, line);
      assert.match(stdout, /Usage: codegod top/);
    }
  });

  test('the variable of Anthropic’s packages leads here', async () => {
    const [, url] = /`ANTHROPIC_BASE_URL=([^`]+)`/.exec(page) ?? [];
    assert.equal(url, 'http://127.0.0.1:8001');
    process.env['ANTHROPIC_BASE_URL'] = master.http.url;
    const client = new Anthropic({ apiKey: 'any', maxRetries: 0 });
    const messages = [{ role: 'user' as const, content: 'x' }];
    const message = await client.messages.create({ model: 'auto', max_tokens: 8, messages });
    assert.equal(message.content[0]?.type, 'text');
  });

  test('every path that it lists is there', async () => {
    const paths = [...page.matchAll(/`(\/(?:v1|api)\/[a-z_/]+)`/g)].map(([, path]) => path ?? '');
    assert.ok(paths.length > 12);
    for (const path of new Set(paths)) {
      const get = await master.fetch(path);
      const post = get.status === 404 ? await master.post(path, {}) : get;
      assert.notEqual(post.status, 404, path);
      await post.body?.cancel();
    }
  });
});

async function until(holds: () => Promise<boolean>, patienceMs = 30_000): Promise<void> {
  const endMs = systemClock.monotonic() + patienceMs;
  while (!(await holds())) {
    assert.ok(systemClock.monotonic() < endMs, 'it did not happen in time');
    await systemClock.sleep(50);
  }
}
