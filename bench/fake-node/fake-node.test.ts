/**
 * Goal: what only a fake node can show, cards and faults, follows its rules. What it has in common
 * with a real server is tested on both, by actors/worker/engines/ollama-suite.ts.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { Client, type Json, until } from '../../test/real-ollama/suite/client.ts';
import { parseModel } from './fake-model.ts';
import { type FakeNode, type FakeNodeOptions, startFakeNode } from './fake-node.ts';
import { chatBody, runLoad } from './load.ts';
import { writeNvidiaSmi } from './nvidia-smi.ts';
import { GIB, parseBytes, parseMs } from './sizes.ts';

const CTX = { options: { num_ctx: 4_096 } };

async function start(
  test: TestContext,
  options: FakeNodeOptions = {},
): Promise<{ readonly node: FakeNode; readonly client: Client; stats(): Json }> {
  const node = await startFakeNode(options);
  test.after(() => node.stop());
  return { node, client: new Client(node.url), stats: () => node.stats() as Json };
}

const cards = (...sizes: readonly number[]) => sizes.map(size => ({ totalBytes: size * GIB }));
const models = (...specs: readonly string[]) => specs.map(parseModel);

describe('the cards of a fake node', () => {
  it('take a model beside others only into four fifths of what is free', async test => {
    const { client, stats } = await start(test, {
      cards: cards(24),
      models: models('a,size=8GiB', 'b,size=8GiB', 'c,size=8GiB'),
    });
    await client.load('a', { ...CTX, keep_alive: '9m' });
    await client.load('b', { ...CTX, keep_alive: '5m' });
    assert.deepEqual(await client.loaded(), ['a', 'b']);
    await client.load('c', CTX);
    assert.deepEqual(await client.loaded(), ['a', 'c']);
    assert.deepEqual([stats()['loads'], stats()['unloads'], stats()['swaps']], [3, 1, 1]);
  });

  it('leave to main memory what does not fit, and then it is slower', async test => {
    const { client } = await start(test, { cards: cards(8), models: models('big,size=16GiB') });
    await client.load('big', CTX);
    const [running] = await client.running();
    const share = Number(running?.['size_vram']) / Number(running?.['size']);
    assert.ok(share > 0.3 && share < 0.6, `${share} on the card`);
  });

  it('are used one by one, the roomiest first, and together for what is larger', async test => {
    const { client, node } = await start(test, {
      cards: cards(8, 24),
      models: models('small,size=4GiB', 'big,size=22GiB'),
    });
    const used = async (): Promise<string[]> => {
      const args = ['--query-gpu=memory.used', '--format=csv,noheader,nounits'];
      return (await new Client(node.url).ask('/_fake/nvidia-smi', { args })).text.split('\n');
    };
    await client.load('small', CTX);
    assert.equal((await used())[0], '0');
    await client.unload('small');
    await client.load('big', CTX);
    const [first, second] = (await used()).map(Number);
    assert.ok((first ?? 0) > 4_000 && (second ?? 0) > 12_000, `${first} and ${second}`);
  });

  it('run out where more is taken than told: less context, if the node chose it', async test => {
    const { client, stats } = await start(test, {
      cards: cards(24),
      models: models('tight,size=18GiB,kv=160KiB,hidden=2GiB'),
    });
    const refused = await client.ask('/api/chat', {
      ...{ model: 'tight', messages: [], options: { num_ctx: 30_000 } },
    });
    assert.equal(refused.status, 500);
    assert.match(String(refused.json['error']), /out of memory/);
    assert.deepEqual(await client.loaded(), []);
    await client.load('tight');
    assert.equal((await client.running())[0]?.['context_length'], 4_096);
    assert.equal(stats()['out_of_memory'], 2);
  });

  it('get memory back late, and the next load waits for it', async test => {
    const { client } = await start(test, {
      ...{ cards: cards(24), recoveryMs: 400 },
      models: models('a,size=16GiB', 'b,size=16GiB'),
    });
    await client.load('a', CTX);
    const started = performance.now();
    await client.load('b', CTX);
    assert.ok(performance.now() - started >= 400);
  });

  it('are shown by a program called nvidia-smi, other users of them too', async test => {
    const foreignBytes = 2 * GIB;
    const { node, client } = await start(test, { cards: [{ totalBytes: 24 * GIB, foreignBytes }] });
    await client.load('chat:8b', CTX);
    const directory = await mkdtemp(join(tmpdir(), 'fake-smi-'));
    test.after(() => rm(directory, { recursive: true, force: true }));
    const smi = writeNvidiaSmi(directory, node.url);
    const ask = async (query: string): Promise<string> =>
      (await promisify(execFile)(smi, [query, '--format=csv,noheader,nounits'])).stdout;
    const gpu = await ask('--query-gpu=index,name,memory.total,memory.free,fan.speed');
    assert.match(gpu, /^0, NVIDIA GeForce RTX 3090, 24576, 2\d{4}, \[N\/A\]\n$/);
    const apps = await ask('--query-compute-apps=pid,used_memory');
    assert.match(apps, /^4242, \d{4}\n1717, 2048\n$/);
  });
});

describe('the answers of a fake node', () => {
  it('follow from the seed', async test => {
    const said = async (seed: number): Promise<unknown> => {
      const { client } = await start(test, { seed });
      return (await client.chat('chat:8b', 'hi'))['message'];
    };
    assert.deepEqual(await said(1), await said(1));
    assert.notDeepEqual(await said(1), await said(2));
  });

  it('call a tool where there is one, and speak when its result is there', async test => {
    const { client } = await start(test, { models: models('m,caps=completion+tools') });
    const parameters = { type: 'object', properties: { n: { type: 'integer' } } };
    const tools = [{ type: 'function', function: { name: 'add', parameters } }];
    const called = (await client.chat('m', 'hi', { tools }))['message'] as Json;
    const [call] = called['tool_calls'] as readonly { readonly function: Json }[];
    assert.equal(call?.function['name'], 'add');
    const messages = [{ role: 'user', content: 'hi' }, called, { role: 'tool', content: '3' }];
    const body = { model: 'm', messages, tools, stream: false };
    const spoken = (await client.ask('/api/chat', body)).json['message'] as Json;
    assert.ok(spoken['tool_calls'] === undefined && String(spoken['content']).length > 5);
  });

  it('see images where the model can, and then have at least 2048 tokens of context', async test => {
    const { client } = await start(test, { models: models('v,caps=completion+vision') });
    const messages = [{ role: 'user', content: 'hi', images: ['aGk='] }];
    const body = { model: 'v', messages, stream: false, options: { num_ctx: 512 } };
    const { json } = await client.ask('/api/chat', body);
    assert.ok(Number(json['prompt_eval_count']) > 768);
    assert.equal((await client.running())[0]?.['context_length'], 2_048);
  });

  it('come at the pace of the model, and no further when nobody listens', async test => {
    const { client, stats } = await start(test, { models: models('m,decode=200,tokens=100') });
    const started = performance.now();
    await client.chat('m', 'hi', { options: { num_predict: 20 } });
    assert.ok(performance.now() - started >= 95);
    const stream = await client.long('m', { format: null, options: {} });
    stream.hangUp();
    await until(() => stats()['hung_up'] === 1);
    assert.ok(Number(stats()['output_tokens']) < 120);
    assert.equal(stats()['in_flight'], 0);
  });

  it('load again for another shift where the version is one that does', async test => {
    for (const [version, loads] of [
      ['0.17.4', 1],
      ['0.33.0', 2],
    ] as const) {
      const { client, stats } = await start(test, { version });
      await client.chat('chat:8b', 'hi');
      await client.chat('chat:8b', 'hi', { shift: false });
      assert.equal(stats()['loads'], loads, version);
    }
  });

  it('include a pull with its progress', async test => {
    const { client, node } = await start(test, {
      registry: models('new:1b,size=1GB'),
      ...{ pullBytesPerS: 5e9, timeScale: 0.2 },
    });
    const { lines } = await client.ask('/api/pull', { model: 'new:1b' });
    const progress = lines.filter(({ total }) => total !== undefined);
    assert.equal(progress.at(-1)?.['completed'], progress.at(-1)?.['total']);
    assert.deepEqual(lines.at(-1), { status: 'success' });
    assert.equal((await new Client(node.url).chat('new:1b', 'hi'))['done'], true);
  });

  it('include a pull that goes on where it was left', async test => {
    // So slow that nobody, however hindered, sees its end.
    const { node } = await start(test, {
      registry: models('new:1b,size=1GB'),
      ...{ pullBytesPerS: 1e6, timeScale: 0.2 },
    });
    const left = await pulledUntil(node.url, completed => completed > 0);
    const [first = 0] = await pulledUntil(node.url, () => true);
    assert.ok(first >= Number(left.at(-1)), `${first} after ${left}`);
  });
});

/** What each line of a pull says it has, up to the one after which whoever asked leaves. */
async function pulledUntil(
  url: string,
  isEnough: (completed: number) => boolean,
): Promise<readonly number[]> {
  const leave = new AbortController();
  const body = JSON.stringify({ model: 'new:1b' });
  const response = await fetch(`${url}/api/pull`, { method: 'POST', body, signal: leave.signal });
  let text = '';
  let seen: number[] = [];
  for await (const chunk of response.body ?? []) {
    text += Buffer.from(chunk).toString('utf8');
    const whole = text.split('\n').slice(0, -1);
    const lines = whole.map(line => JSON.parse(line) as Record<string, number>);
    seen = lines.filter(({ total }) => total).map(({ completed = 0 }) => completed);
    if (seen.some(isEnough)) break;
  }
  leave.abort();
  return seen;
}

describe('the faults of a fake node', () => {
  const body = { model: 'chat:8b', messages: [{ role: 'user', content: 'hi' }] };
  const tell = async (client: Client, rule: object): Promise<void> => {
    const { status, text } = await client.ask('/_fake/behaviour', rule);
    assert.equal(status, 200, text);
  };

  it('refuse so many times', async test => {
    const { client } = await start(test);
    await tell(client, { kind: 'refuse', status: 503, times: 2 });
    const statuses: number[] = [];
    for (let tries = 0; tries < 3; tries++) {
      statuses.push((await client.ask('/api/chat', body)).status);
    }
    assert.deepEqual(statuses, [503, 503, 200]);
  });

  it('break a stream in every way there is', async test => {
    const { client } = await start(test);
    const contents = (lines: readonly Json[]): number =>
      lines.filter(({ message, done }) => message !== undefined && done === false).length;
    await tell(client, { kind: 'error', after_tokens: 3, message: 'CUDA error' });
    const failed = await client.ask('/api/chat', body);
    assert.deepEqual([failed.status, contents(failed.lines)], [200, 3]);
    assert.deepEqual(failed.lines.at(-1), { error: 'CUDA error' });
    await tell(client, { kind: 'stop', after_tokens: 2 });
    const stopped = await client.ask('/api/chat', body);
    assert.deepEqual([contents(stopped.lines), stopped.lines.length], [2, 2]);
    await tell(client, { kind: 'repeat', after_tokens: 0 });
    assert.equal(contents((await client.ask('/api/chat', body)).lines), 31);
    await tell(client, { kind: 'cut', after_tokens: 1 });
    await assert.rejects(client.ask('/api/chat', body));
    await tell(client, { kind: 'hang', after_tokens: 1 });
    await assert.rejects(
      client.long('chat:8b', { format: null }).then(({ rest, hangUp }) => {
        setTimeout(hangUp, 30);
        return rest;
      }),
    );
    await tell(client, { kind: 'slow', delay_ms: 10, model: 'chat:8b' });
    const started = performance.now();
    await client.ask('/api/chat', body);
    assert.ok(performance.now() - started >= 95);
    await tell(client, { rules: [] });
    assert.equal((await client.ask('/api/chat', body)).lines.at(-1)?.['done'], true);
  });

  it('hit loads only where they are told to', async test => {
    const { client } = await start(test);
    await tell(client, { kind: 'refuse', status: 500, path: 'load' });
    assert.equal((await client.ask('/api/chat', { ...body, messages: [] })).status, 500);
    assert.equal((await client.ask('/api/chat', body)).status, 200);
  });

  it('kill the node', async test => {
    const { client } = await start(test);
    await tell(client, { kind: 'die', after_tokens: 2 });
    await assert.rejects(client.ask('/api/chat', body));
    await assert.rejects(client.ask('/api/version'));
  });

  it('are refused where they make no sense', async test => {
    const { client } = await start(test);
    const { status, json } = await client.ask('/_fake/behaviour', { kind: 'sulk' });
    assert.deepEqual([status, json], [400, { error: 'no such fault: sulk' }]);
  });
});

describe('the load generator', () => {
  it('counts answers, their chunks, and what failed', async test => {
    const { node } = await start(test);
    const url = `${node.url}/api/chat`;
    const options = { url, body: chatBody(url, 'chat:8b'), inFlight: 4, seconds: 20, requests: 40 };
    const good = await runLoad(options);
    assert.deepEqual([good.requests, good.failed, good.chunks_per_request], [40, 0, 11]);
    assert.ok(good.first_ms.p50 > 0 && good.first_ms.p50 <= good.total_ms.p99);
    node.setFaults([
      { kind: 'refuse', times: 3 },
      { kind: 'cut', times: 2 },
    ]);
    const bad = await runLoad(options);
    assert.deepEqual([bad.requests, bad.failed], [35, 5]);
  });

  it('reads an answer that comes byte by byte, or with its length', async test => {
    const { node } = await start(test, { models: models('chat:8b,decode=2000') });
    for (const path of ['/v1/chat/completions', '/api/chat']) {
      const url = node.url + path;
      const streamed = {
        url,
        body: chatBody(url, 'chat:8b'),
        inFlight: 2,
        seconds: 9,
        requests: 4,
      };
      assert.equal((await runLoad(streamed)).failed, 0);
      const whole = streamed.body.replace('"stream":true', '"stream":false');
      const result = await runLoad({ ...streamed, body: whole });
      assert.deepEqual([result.requests, result.chunks_per_request], [4, 0]);
    }
  });
});

it('sizes, times and models are read as people write them, and nothing else is', () => {
  assert.deepEqual(['24GiB', '4.7 GB', '1e9'].map(parseBytes), [24 * GIB, 4.7e9, 1e9]);
  assert.deepEqual(['3s', '250ms', '2m', '1.5'].map(parseMs), [3_000, 250, 120_000, 1_500]);
  for (const odd of ['', 'GiB', '3 parsecs']) assert.throws(() => parseBytes(odd), /not a size/);
  assert.throws(() => parseMs('soon'), /not a time/);
  assert.throws(() => parseModel('a,colour=red'), /unknown words of a model: colour/);
  const found = parseModel('chat:8b,size=1GiB,load=2s,caps=completion+tools');
  assert.deepEqual(found, {
    ...{ name: 'chat:8b', size: GIB, loadMs: 2_000, capabilities: ['completion', 'tools'] },
  });
});
