/** What a server says: streams, counts, limits, schemas, tools, thoughts, refusals. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { Client, Json } from './client.ts';
import { LONG_FORMAT } from './client.ts';

const HI = [{ role: 'user', content: 'hi' }];
/** Tokens of `hi` in the template: a byte is one, a mark is one. */
const HI_TOKENS = 21;
const OPTIONS = { num_ctx: 512, num_predict: 24, temperature: 0 };
const WEATHER = {
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'Says how the weather is.',
    parameters: {
      type: 'object',
      properties: { city: { type: 'string', enum: ['Paris'] } },
      required: ['city'],
    },
  },
};
/** What makes even noise call a tool. */
const CALL_FORMAT = {
  type: 'object',
  properties: {
    name: { type: 'string', enum: ['get_weather'] },
    arguments: WEATHER.function.parameters,
  },
  required: ['name', 'arguments'],
};

export function answers(client: () => Client): void {
  it('streams lines of JSON, the last one with a reason, counts and durations', async () => {
    const body = { model: 'tiny', messages: HI, options: OPTIONS };
    const { status, type, lines } = await client().ask('/api/chat', body);
    assert.deepEqual([status, type], [200, 'application/x-ndjson']);
    const last = lines.at(-1) ?? {};
    assert.ok(lines.length > 1);
    for (const line of lines) {
      assert.equal(line['model'], 'tiny');
      assert.match(String(line['created_at']), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
      assert.equal((line['message'] as Json)['role'], 'assistant');
      assert.equal(line['done'], line === last);
    }
    assert.ok(['stop', 'length'].includes(String(last['done_reason'])));
    for (const name of ['total_duration', 'load_duration', 'prompt_eval_duration']) {
      assert.ok(Number(last[name]) > 0, name);
    }
    assert.equal(last['prompt_eval_count'], HI_TOKENS);
    assert.ok(Number(last['eval_count']) > 0);
  });

  it('counts a prompt in full though its beginning is known already', async () => {
    const first = await client().chat('tiny', 'hi', { options: OPTIONS });
    const again = await client().chat('tiny', 'hi', { options: OPTIONS });
    assert.deepEqual(
      [first['prompt_eval_count'], again['prompt_eval_count']],
      [HI_TOKENS, HI_TOKENS],
    );
  });

  it('ends with `length` where the limit of the output is', async () => {
    const options = { ...OPTIONS, num_predict: 3 };
    const reply = await client().chat('tiny', 'hi', { options, format: LONG_FORMAT });
    assert.deepEqual([reply['done_reason'], reply['eval_count']], ['length', 3]);
  });

  it('cuts a prompt that does not fit, unless that is forbidden', async () => {
    const options = { ...OPTIONS, num_predict: 1 };
    const cut = await client().chat('tiny', 'x'.repeat(3_000), { options });
    assert.equal(cut['prompt_eval_count'], 512);
    const messages = [{ role: 'user', content: 'x'.repeat(3_000) }];
    const body = { model: 'tiny', messages, options, truncate: false };
    const { status, json } = await client().ask('/api/chat', body);
    assert.equal(status, 400);
    assert.deepEqual(json, { error: 'the input length exceeds the context length' });
  });

  it('forgets the oldest messages first, but never the system message', async () => {
    const messages = [
      { role: 'system', content: 'sys' },
      { role: 'user', content: 'x'.repeat(600) },
      { role: 'assistant', content: 'ok' },
      ...HI,
    ];
    const options = { ...OPTIONS, num_predict: 1 };
    const body = { model: 'tiny', messages, options, stream: false };
    const { json } = await client().ask('/api/chat', body);
    // system: 13 tokens, assistant: 15, user: 10, the beginning of the answer: 11.
    assert.equal(json['prompt_eval_count'], 49);
  });

  it('goes on past its context, unless that is forbidden', async () => {
    const options = { ...OPTIONS, num_ctx: 64, num_predict: 80 };
    const more = { options, format: LONG_FORMAT };
    const shifted = await client().chat('tiny', 'hi', more);
    assert.deepEqual([shifted['done_reason'], shifted['eval_count']], ['length', 80]);
    const stopped = await client().chat('tiny', 'hi', { ...more, shift: false });
    assert.deepEqual([stopped['done_reason'], stopped['eval_count']], ['length', 44]);
  });

  it('keeps to a schema, and knows no other word than `json`', async () => {
    const format = {
      type: 'object',
      properties: { answer: { type: 'string', enum: ['yes', 'no'] } },
      required: ['answer'],
    };
    const options = { ...OPTIONS, num_predict: 200 };
    const reply = await client().chat('tiny', 'hi', { options, format });
    const { content } = reply['message'] as { readonly content: string };
    assert.match((JSON.parse(content) as { answer: string }).answer, /^(yes|no)$/);
    const odd = { model: 'tiny', messages: HI, options, format: 'yaml' };
    const { status, json } = await client().ask('/api/chat', odd);
    assert.equal(status, 500);
    assert.match(
      String(json['error']),
      /^invalid format: .*expected "json" or a valid JSON Schema/,
    );
  });

  it('takes an image though the model cannot see: it reads a tag instead', async () => {
    const messages = [{ role: 'user', content: 'hi', images: ['aGk='] }];
    const body = { model: 'tiny', messages, options: OPTIONS, stream: false };
    const { json } = await client().ask('/api/chat', body);
    assert.equal(json['prompt_eval_count'], HI_TOKENS + '[img-0]'.length);
    const odd = { ...body, messages: [{ role: 'user', content: 'hi', images: ['?'] }] };
    assert.equal((await client().ask('/api/chat', odd)).status, 400);
  });

  it('refuses thoughts where the model has none', async () => {
    for (const think of [true, 'high']) {
      const { status, json } = await client().ask('/api/chat', {
        model: 'tiny',
        messages: HI,
        think,
      });
      assert.deepEqual([status, json], [400, { error: '"tiny" does not support thinking' }]);
    }
    const reply = await client().chat('tiny', 'hi', { options: OPTIONS, think: false });
    assert.equal(reply['done'], true);
  });

  it('thinks where it can and nobody said no, and then the prompt ends inside of a thought', async () => {
    const options = { ...OPTIONS, num_predict: 40 };
    const thinking = await client().chat('thinks', 'hi', { options });
    assert.ok(String((thinking['message'] as Json)['thinking']).length > 1);
    assert.equal(thinking['prompt_eval_count'], HI_TOKENS + '<think>'.length);
    const plain = await client().chat('thinks', 'hi', { options, think: false });
    assert.equal((plain['message'] as Json)['thinking'], undefined);
    assert.equal(plain['prompt_eval_count'], HI_TOKENS);
    const level = { model: 'thinks', messages: HI, options, think: 'low' };
    const { status, json } = await client().ask('/api/chat', level);
    const error = 'think value "low" is not supported for this model';
    assert.deepEqual([status, json], [400, { error }]);
  });

  it('calls a tool in one line of its own, whole', async () => {
    const body = { model: 'tools', messages: HI, tools: [WEATHER], format: CALL_FORMAT };
    const options = { ...OPTIONS, num_predict: 200 };
    const { lines } = await client().ask('/api/chat', { ...body, options });
    const called = lines.filter(line => (line['message'] as Json)['tool_calls'] !== undefined);
    assert.equal(called.length, 1);
    const message = called[0]?.['message'] as { content: string; tool_calls: readonly Json[] };
    const [call] = message.tool_calls;
    assert.equal(message.content, '');
    assert.match(String(call?.['id']), /^call_[a-z0-9]{8}$/);
    const given = { index: 0, name: 'get_weather', arguments: { city: 'Paris' } };
    assert.deepEqual(call?.['function'], given);
    const last = lines.at(-1);
    assert.deepEqual([last?.['done'], last?.['done_reason']], [true, 'stop']);
    assert.equal(lines.map(line => (line['message'] as Json)['content']).join(''), '');
  });

  it('refuses tools where the model has no place for them', async () => {
    const body = { model: 'tiny', messages: HI, tools: [WEATHER] };
    const { status, json } = await client().ask('/api/chat', body);
    assert.equal(status, 400);
    // Before the name stands the host it would be pulled from.
    assert.match(String(json['error']), /\blibrary\/tiny:latest does not support tools$/);
  });

  it('generates from a prompt, in the template or raw', async () => {
    const body = { model: 'tiny', prompt: 'hi', options: OPTIONS };
    const { type, lines } = await client().ask('/api/generate', body);
    assert.equal(type, 'application/x-ndjson');
    assert.ok(lines.every(({ response }) => typeof response === 'string'));
    assert.equal(lines.at(-1)?.['prompt_eval_count'], HI_TOKENS);
    const raw = await client().ask('/api/generate', { ...body, raw: true, stream: false });
    assert.equal(raw.json['prompt_eval_count'], 2);
    const insert = await client().ask('/api/generate', { ...body, suffix: 'x' });
    assert.equal(insert.status, 400);
    assert.match(String(insert.json['error']), /does not support insert$/);
  });

  it('answers with models of other shapes as well: sliding layers, experts, tied matrices', async () => {
    for (const model of ['slides', 'mixes']) {
      const reply = await client().chat(model, 'hi', { options: { ...OPTIONS, num_predict: 2 } });
      assert.equal(reply['prompt_eval_count'], HI_TOKENS, model);
    }
  });

  it('says what is wrong with a request, each endpoint in its own words', async () => {
    const odd = 'a value that is no JSON';
    const response = await fetch(`${client().host}/api/chat`, { method: 'POST', body: odd });
    assert.equal(response.status, 400);
    await response.text();
    const cases = [
      ['/api/chat', { model: 'nope', messages: HI }, 404, "model 'nope' not found"],
      ['/api/chat', { messages: HI }, 400, 'model is required'],
      ['/api/generate', { model: 'nope', prompt: 'x' }, 404, "model 'nope' not found"],
      ['/api/show', { model: 'nope' }, 404, "model 'nope' not found"],
      [
        '/api/embed',
        { model: 'nope', input: 'x' },
        404,
        'model "nope" not found, try pulling it first',
      ],
      ['/api/embed', { model: 'embeds', input: 5 }, 400, 'invalid input type'],
      ['/api/chat', { model: 'embeds', messages: HI }, 400, '"embeds" does not support chat'],
      [
        '/api/generate',
        { model: 'embeds', prompt: 'x' },
        400,
        '"embeds" does not support generate',
      ],
      [
        ...['/api/chat', { model: 'tiny', messages: HI, options: { num_ctx: 'big' } }],
        ...[500, 'option "num_ctx" must be of type integer'],
      ],
    ] as const;
    for (const [path, body, status, error] of cases) {
      const reply = await client().ask(path as string, body as object);
      assert.deepEqual([reply.status, reply.json], [status, { error }], `${path} ${error}`);
    }
    assert.equal((await client().ask('/api/nope')).status, 404);
    assert.equal((await client().ask('/api/chat')).status, 405);
  });
}
