/**
 * Goal: the pool's routes let in whom they should, refuse in the shape of each client, and show what
 * goes on. Method: the real door on a real bus, with a stand-in for the node.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { request as httpRequest } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { encode, JSON_TYPE } from '../../../../protocol/codec.ts';
import { CodeGodError } from '../../../../protocol/errors.ts';
import { NodeId } from '../../../../protocol/ids.ts';
import { INFER_HEADER, PullRequest, ShowRequest } from '../../../../protocol/inference.ts';
import type { ApiKey } from '../../../../protocol/policy.ts';
import { BUCKETS } from '../../../../protocol/streams.ts';
import { advertKey, nodeSubject } from '../../../../protocol/subjects.ts';
import { systemClock } from '../../../../runtime/clock.ts';
import { GIB, nodeView } from '../../../../scheduling/test-nodes.ts';
import { type NatsFixture, startNats } from '../../../../test/nats-fixture.ts';
import { answering, encoder, type InferCall, type Play, telling } from '../../pool/test-pool.ts';
import { TestMaster } from '../../test-master.ts';

const NODE = NodeId.parse('node-a');
const CHAT = { model: 'chat:8b', messages: [{ role: 'user', content: 'x' }] };
const SECRET = 'cg_of-a-test';

describe('the door of the pool', { timeout: 60_000 }, () => {
  let nats: NatsFixture;
  let master: TestMaster;
  let play: Play = answering;

  before(async () => {
    nats = await startNats();
    master = await TestMaster.start({ url: nats.url, signOfLifeMs: 0 });
    const { bus, messenger } = master;
    bus.serveStream(nodeSubject(NODE, 'infer'), async ({ body }, context) => {
      await play(JSON.parse(Buffer.from(body).toString('utf8')) as InferCall, context);
    });
    messenger.serveStream(nodeSubject(NODE, 'pull'), PullRequest, async ({ model }, { send }) => {
      await send({ status: `pulling ${model}`, total_bytes: 10, completed_bytes: 5 });
      await send({ status: 'success' });
    });
    await advertise();
    await until(async () => (await get('/api/tags')).models.length > 0);
  });
  after(async () => {
    await master?.remove();
    await nats?.stop();
  });

  const advertise = async (): Promise<void> => {
    const models = [{ name: 'chat:8b', size_bytes: GIB, loaded: true, context_tokens: 8_192 }];
    const gpu = { free: 9 * GIB, total: 10 * GIB };
    const { capacity, runtime } = nodeView({ id: NODE, gpu, models });
    const kv = master.bus.kv(BUCKETS.node.name);
    await kv.put(advertKey(NODE, 'capacity'), encode(capacity?.advert));
    await kv.put(advertKey(NODE, 'runtime'), encode(runtime?.advert));
  };
  const get = async (path: string): Promise<Shape> => (await master.get(path)) as Shape;
  const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
    master.post(path, body, headers);
  const putKey = async (more: Partial<ApiKey> = {}): Promise<void> => {
    const key: ApiKey = {
      ...{ id: 'ab12cd34', name: 'laptop', created_at: 0, expires_at: null, models: [] },
      sha256: createHash('sha256').update(SECRET).digest('hex'),
      ...{ requests_per_minute: null, tokens_per_minute: null, in_flight_max: null, priority: 0 },
      ...more,
    };
    await master.bus.kv(BUCKETS.key.name).put(key.id, encode(key, JSON_TYPE));
    await until(async () => isDeepStrictEqual(master.master.keys.list(), [key]));
  };
  const dropKey = async (): Promise<void> => {
    await master.bus.kv(BUCKETS.key.name).delete('ab12cd34');
    await until(async () => master.master.keys.isEmpty);
  };

  test('each kind of client is told of errors in its own shape', async () => {
    const unknown = { ...CHAT, model: 'chat:7b' };
    const openai = await post('/v1/chat/completions', unknown);
    assert.equal(openai.status, 404);
    assert.deepEqual(await openai.json(), {
      error: {
        message: UNKNOWN,
        ...{ type: 'invalid_request_error', code: 'model_not_found', param: 'model' },
      },
    });
    const ollama = await post('/api/chat', unknown);
    assert.equal(ollama.status, 404);
    assert.deepEqual(await ollama.json(), { error: UNKNOWN });
    const anthropic = await post('/v1/messages', { ...unknown, max_tokens: 1 });
    assert.equal(anthropic.status, 404);
    assert.deepEqual(await anthropic.json(), {
      type: 'error',
      error: { type: 'not_found_error', message: UNKNOWN },
    });
    assert.match(anthropic.headers.get('x-codegod-request') ?? '', /^r-[0-9a-z]{26}$/);
    const nowhere = await post('/api/nowhere', {});
    assert.equal(nowhere.status, 404);
    assert.deepEqual(await nowhere.json(), { error: 'there is no POST /api/nowhere' });
  });

  test('what is no JSON, no object or too large is refused', async () => {
    const send = (body: string, headers: Record<string, string> = {}): Promise<Response> =>
      master.fetch('/v1/chat/completions', {
        method: 'POST',
        body,
        headers: { 'content-type': 'application/json', ...headers },
      });
    for (const body of ['', '{', '[]', '"x"']) assert.equal((await send(body)).status, 400, body);
    assert.equal((await send('{"messages":[]}')).status, 400);
    const deep = `{"model":"chat:8b","messages":[],"x":${'['.repeat(20_000)}${']'.repeat(20_000)}}`;
    const refused = await send(deep);
    assert.equal(refused.status, 400);
    assert.match(await refused.text(), /nests deeper than 512 levels/);
    assert.equal(await statusOf(master.http.url, { 'content-length': '99999999' }), 413);
  });

  test('clients that only ask whether something is there are told', async () => {
    assert.equal(await (await master.fetch('/')).text(), 'Ollama is running');
    for (const path of ['/', '/api/tags', '/api/version', '/v1/models']) {
      const { status, headers } = await master.fetch(path, { method: 'HEAD' });
      assert.equal(status, 200, path);
      assert.ok(headers.get('content-type') !== null, path);
    }
    assert.equal((await master.fetch('/api/chat', { method: 'HEAD' })).status, 404);
  });

  test('a name may be empty beside another, have blanks around it, or its place in full', async () => {
    const shown = await post('/api/show', { model: '', name: 'chat:8b' });
    assert.equal(shown.status, 200);
    assert.equal((await post('/api/pull', { model: '', name: 'new:1b' })).status, 200);
    const names = [' chat:8b', 'chat:8b ', 'library/chat:8b', 'registry.ollama.ai/library/chat:8b'];
    for (const model of names) {
      for (const path of ['/api/chat', '/api/generate', '/v1/chat/completions']) {
        const answer = await post(path, { ...CHAT, prompt: 'x', model });
        assert.equal(`${answer.status} ${await answer.text()}`, '200 hello', `${path} ${model}`);
      }
    }
    assert.equal((await post('/api/chat', { ...CHAT, model: ' ', name: '' })).status, 400);
  });

  test('a model is shown as its engine shows it, to the last list', async () => {
    const shown = { modelfile: 'FROM x', license: 'free', model_info: { list: [1, 2] } };
    let asked = 0;
    const text = JSON.stringify(shown);
    const service = master.messenger.serveStream(
      nodeSubject(NODE, 'show'),
      ShowRequest,
      async ({ model, verbose }, { send }) => {
        asked += 1;
        assert.equal(model, 'chat:8b');
        assert.equal(verbose, asked === 2);
        for (const part of [text.slice(0, 9), text.slice(9)]) await send({ text: part });
      },
    );
    const show = async (body: object): Promise<unknown> => (await post('/api/show', body)).json();
    const expected = { ...shown, nodes: ['node-a'] };
    assert.deepEqual(await show({ model: 'chat:8b' }), expected);
    assert.deepEqual(await show({ model: 'CHAT:8b', verbose: true }), expected);
    assert.deepEqual(await show({ model: 'auto' }), expected);
    assert.equal(asked, 2, 'what has been told once is known');
    await service.stop();
  });

  test('a key for some models lists those, and nothing else', async () => {
    await putKey({ models: ['other:1b'] });
    const headers = { authorization: `Bearer ${SECRET}` };
    const listed = async (path: string): Promise<unknown> => {
      const list = (await (await master.fetch(path, { headers })).json()) as Shape;
      return list.models ?? list.data;
    };
    for (const path of ['/api/tags', '/api/ps', '/v1/models']) {
      assert.deepEqual(await listed(path), [], path);
    }
    assert.equal((await master.fetch('/v1/models/chat:8b', { headers })).status, 403);
    assert.equal((await post('/api/show', { model: 'chat:8b' }, headers)).status, 403);
    await putKey({ models: ['chat:8b'] });
    assert.equal(((await listed('/v1/models')) as unknown[]).length, 1);
    assert.equal((await master.fetch('/v1/models/chat:8b', { headers })).status, 200);
    await dropKey();
  });

  test('a page that Ollama serves may ask for models, and for nothing else', async () => {
    play = answering;
    const origin = 'http://localhost:3000';
    const answer = await post('/api/chat', CHAT, { origin });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get('access-control-allow-origin'), origin);
    assert.match(answer.headers.get('vary') ?? '', /origin/i);
    const preflight = (path: string): Promise<Response> =>
      master.fetch(path, {
        method: 'OPTIONS',
        headers: { origin, 'access-control-request-headers': 'authorization, content-type' },
      });
    const allowed = await preflight('/v1/chat/completions');
    assert.equal(allowed.status, 204);
    assert.equal(
      allowed.headers.get('access-control-allow-headers'),
      'authorization, content-type',
    );
    assert.equal((await post('/build', { prompt: 'x' }, { origin })).status, 403);
    assert.equal((await preflight('/build')).status, 403);
    assert.equal((await post('/api/chat', CHAT, { origin: 'null' })).status, 403);
  });

  test('a body may say any type, or none, where no page can have sent it', async () => {
    play = answering;
    const body = Buffer.from(JSON.stringify(CHAT));
    for (const type of [undefined, 'text/plain', 'application/octet-stream']) {
      const headers: Record<string, string> = type === undefined ? {} : { 'content-type': type };
      const init = { method: 'POST', body, headers };
      const answer = await master.fetch('/api/chat', init);
      assert.equal(answer.status, 200, type);
      const page = { ...headers, origin: 'http://localhost:3000' };
      assert.equal((await master.fetch('/api/chat', { ...init, headers: page })).status, 400, type);
    }
  });

  test('no page of another origin gets in, and on loopback the Host must name it', async () => {
    const headers = { origin: 'http://evil.example' };
    assert.equal((await post('/api/chat', CHAT, headers)).status, 403);
    assert.equal(await statusOf(master.http.url, { host: 'evil.example' }), 403);
  });

  test('where no key is needed what is none of ours counts as none, whoever else has one', async () => {
    play = answering;
    const asked = (key?: string): Promise<Response> =>
      post(
        '/v1/chat/completions',
        CHAT,
        key === undefined ? {} : { authorization: `Bearer ${key}` },
      );
    const keyOf = ({ status, headers }: Response) => `${status} ${headers.get('x-codegod-key')}`;
    const alike = async (): Promise<void> => {
      assert.equal(keyOf(await asked()), '200 none');
      assert.equal(keyOf(await asked('anything')), '200 none');
      assert.equal((await asked('cg_of-nobody')).status, 401);
      const headers = { 'x-api-key': 'no' };
      assert.equal((await post('/v1/messages', { ...CHAT, max_tokens: 1 }, headers)).status, 200);
      assert.equal((await post('/api/chat', CHAT, { 'x-api-key': ' ' })).status, 200);
      assert.equal((await master.fetch('/builds', { headers })).status, 200);
    };
    await alike();
    assert.equal((await asked(SECRET)).status, 401, 'it was taken away');
    await putKey();
    await alike();
    assert.equal(keyOf(await asked(SECRET)), '200 laptop');
    const wrong = (await (await asked('cg_of-nobody')).json()) as Shape;
    assert.equal(wrong.error.code, 'invalid_api_key');
    assert.match(wrong.error.message, /none is needed on this machine/);
    const headers = { 'x-api-key': 'cg_of-nobody' };
    const anthropic = await post('/v1/messages', { ...CHAT, max_tokens: 1 }, headers);
    assert.equal(((await anthropic.json()) as Shape).error.type, 'authentication_error');
    const builds = await master.fetch('/builds', { headers });
    assert.equal(builds.status, 401, 'also at the other routes');
    assert.equal((await master.fetch('/healthz', { headers })).status, 200);
    await dropKey();
  });

  test('a key has limits: models, requests, tokens, requests at once, a time', async () => {
    const asked = (body: unknown = CHAT): Promise<Response> =>
      post('/v1/chat/completions', body, { authorization: `Bearer ${SECRET}` });
    await putKey({ models: ['other:1b'] });
    assert.equal((await asked()).status, 403);
    const build = await post('/build', { prompt: 'x' }, { authorization: `Bearer ${SECRET}` });
    assert.equal(build.status, 403, 'a build chooses its own models');
    await putKey({ models: ['chat:8b'], requests_per_minute: 1 });
    assert.equal((await asked()).status, 200);
    const limited = await asked();
    assert.equal(limited.status, 429);
    const retry = Number(limited.headers.get('retry-after'));
    assert.ok(retry > 30 && retry <= 60, String(retry));
    assert.equal(((await limited.json()) as Shape).error.type, 'rate_limit_error');
    await putKey({ tokens_per_minute: 5 });
    assert.equal(await (await asked()).text(), 'hello', 'the first may overdraw it');
    assert.equal((await asked()).status, 429);
    await putKey({ in_flight_max: 1 });
    let go = (): void => {};
    play = async (request, context) => {
      await new Promise<void>(resolve => {
        go = resolve;
      });
      await answering(request, context);
    };
    const first = asked();
    await until(async () => (await get('/pool')).running.length === 1);
    assert.equal((await asked()).status, 429);
    go();
    assert.equal((await first).status, 200);
    play = answering;
    await putKey({ expires_at: 1 });
    assert.equal((await asked()).status, 401);
    await dropKey();
  });

  test('a stream shows that a model is loaded, in comments, and what goes wrong then', async () => {
    play = async (_request, { send }) => {
      await send(new Uint8Array(0), telling({ phase: 'loading', fraction: 0.25 }));
      throw new CodeGodError('engine_failed', 'it does not load');
    };
    const response = await post('/v1/chat/completions', { ...CHAT, stream: true });
    assert.equal(response.status, 200);
    assert.equal(response.headers.get('content-type'), 'text/event-stream');
    const [comment, event] = (await response.text()).split('\n\n');
    assert.equal(comment, ': loading on node-a, 25 %');
    const { error } = JSON.parse((event ?? '').replace('data: ', '')) as Shape;
    assert.match(error.message, /it does not load/);
    const whole = await post('/v1/chat/completions', CHAT);
    assert.equal(whole.status, 502);
    play = answering;
  });

  test('an answer that is no stream and breaks off is cut', async () => {
    play = async (_request, { send }) => {
      await send(encoder.encode('{"half'), { [INFER_HEADER.status]: '200' });
      throw new CodeGodError('engine_failed', 'gone');
    };
    const answer = post('/api/chat', { ...CHAT, stream: false }).then(async response => {
      return await response.text();
    });
    await assert.rejects(answer);
    play = answering;
  });

  test('what became of a request is told afterwards, and where one would go', async () => {
    const response = await post('/v1/chat/completions', CHAT);
    const id = response.headers.get('x-codegod-request') ?? '';
    await response.text();
    const record = await get(`/decisions/${id}`);
    assert.equal(record.state, 'done');
    assert.equal(record.decision.chosen.node, 'node-a');
    assert.equal((await get('/decisions/recent?limit=1')).requests[0].id, id);
    assert.equal((await master.fetch('/decisions/r-no')).status, 404);
    const placed = await post('/place', { model: 'chat:8b', context_tokens: 4_096 });
    assert.equal(((await placed.json()) as Shape).chosen.node, 'node-a');
    const elsewhere = await post('/place', { model: 'chat:8b', selector: { room: 'attic' } });
    const decision = (await elsewhere.json()) as Shape;
    assert.equal(decision.chosen, null);
    assert.equal(decision.candidates[0].verdict, 'excluded');
  });

  test('a selector narrows an inference to nodes with its labels', async () => {
    const response = await post('/api/chat', CHAT, { 'x-codegod-selector': 'room=attic' });
    assert.equal(response.status, 503);
    assert.match(((await response.json()) as Shape).error, /attic/);
    assert.equal((await post('/api/chat', CHAT, { 'x-codegod-selector': '=' })).status, 400);
  });

  test('a model is pulled to a node, line by line or at once', async () => {
    const lines = await (await post('/api/pull', { model: 'new:1b' })).text();
    assert.deepEqual(
      lines
        .trim()
        .split('\n')
        .map(line => JSON.parse(line)),
      [{ status: 'pulling new:1b', total: 10, completed: 5 }, { status: 'success' }],
    );
    const whole = await post('/api/pull', { model: 'new:1b', stream: false });
    assert.deepEqual(await whole.json(), { status: 'success' });
    const nowhere = await post('/api/pull', { model: 'new:1b', node: 'node-z' });
    assert.equal(nowhere.status, 503);
  });

  test('figures of the pool are among the metrics', async () => {
    const text = await (await master.fetch('/metrics')).text();
    assert.match(text, /codegod_pool_placements_total\{verdict="loaded",actor="master"\} \d+/);
    assert.match(text, /codegod_pool_tokens_total\{kind="output",actor="master"\} \d+/);
  });
});

const UNKNOWN =
  "model 'chat:7b' not found, did you mean 'chat:8b'? (GET /v1/models lists what is installed; `codegod models pull NAME` brings more)";

/** Answers of many shapes, looked at by hand. */
// biome-ignore lint/suspicious/noExplicitAny: a test looks into answers of many shapes
type Shape = any;

/** What `fetch` does not let one send. */
function statusOf(url: string, headers: Record<string, string>): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(`${url}/api/chat`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
    });
    request.on('response', response => {
      response.resume();
      resolve(response.statusCode ?? 0);
      request.destroy();
    });
    request.on('error', reject);
    request.flushHeaders();
  });
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 400; tries++) {
    if (await holds()) return;
    await systemClock.sleep(10);
  }
  assert.fail('it never came there');
}
