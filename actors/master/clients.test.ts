/**
 * Goal: what people point at the pool works: the official clients of OpenAI, Ollama and Anthropic.
 * Method: they ask the real door; behind it a real bus, a real worker with its relay, and a fake
 * Ollama.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import { Ollama } from 'ollama';
import OpenAI from 'openai';
import { systemClock } from '../../runtime/clock.ts';
import { type NatsFixture, startNats } from '../../test/nats-fixture.ts';
import { TestMaster } from './test-master.ts';
import { TestNode } from './test-node.ts';

const FAST = { prefill: Number.POSITIVE_INFINITY, decode: Number.POSITIVE_INFINITY, loadMs: 1 };
const MODELS = [
  {
    ...FAST,
    ...{ name: 'chat:8b', size: 1e9, tokens: 12 },
    capabilities: ['completion', 'tools', 'vision'] as const,
  },
  { ...FAST, name: 'embed:latest', size: 1e8, capabilities: ['embedding'] as const },
  { name: 'slow:latest', size: 1e8, tokens: 10_000, prefill: 1e6, decode: 50, loadMs: 1 },
];
const PIXEL =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
const PARAMETERS = {
  type: 'object' as const,
  properties: { city: { type: 'string' } },
  required: ['city'],
};

describe('official clients', { timeout: 120_000 }, () => {
  let nats: NatsFixture;
  let master: TestMaster;
  let node: TestNode;
  let openai: OpenAI;
  let ollama: Ollama;
  let anthropic: Anthropic;

  before(async () => {
    nats = await startNats();
    master = await TestMaster.start({
      ...{ url: nats.url, aliases: { 'gpt-4o': 'chat:8b' }, queueMax: 4 },
    });
    node = await TestNode.start({
      url: nats.url,
      id: 'node-a',
      models: MODELS,
    });
    const { url } = master.http;
    openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'any', maxRetries: 0 });
    ollama = new Ollama({ host: url });
    anthropic = new Anthropic({ baseURL: url, apiKey: 'any', maxRetries: 0 });
    await until(async () => (await openai.models.list()).data.length > MODELS.length);
  });
  after(async () => {
    await node?.stop();
    await master?.remove();
    await nats?.stop();
  });

  test('openai: a chat, whole and streamed, with its usage and where it ran', async () => {
    const messages = [{ role: 'user' as const, content: 'Say something' }];
    const { data, response } = await openai.chat.completions
      .create({ model: 'gpt-4o', messages })
      .withResponse();
    assert.ok((data.choices[0]?.message.content ?? '').length > 0);
    assert.equal(data.choices[0]?.finish_reason, 'stop');
    assert.equal(data.usage?.completion_tokens, 12);
    assert.match(response.headers.get('x-codegod-request') ?? '', /^r-[0-9a-z]{26}$/);
    assert.equal(response.headers.get('x-codegod-node'), 'node-a');
    const stream = await openai.chat.completions.create({
      ...{ model: 'chat:8b', messages, stream: true },
      stream_options: { include_usage: true },
    });
    let text = '';
    let tokens = 0;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? '';
      tokens = chunk.usage?.completion_tokens ?? tokens;
    }
    assert.equal(text, data.choices[0]?.message.content);
    assert.equal(tokens, 12);
  });

  test('openai: tools, images and a JSON schema', async () => {
    const called = await openai.chat.completions.create({
      model: 'chat:8b',
      messages: [{ role: 'user', content: 'What is the weather in Paris?' }],
      tools: [{ type: 'function', function: { name: 'weather', parameters: PARAMETERS } }],
      tool_choice: 'required',
    });
    const call = called.choices[0]?.message.tool_calls?.[0];
    assert.ok(call?.type === 'function');
    assert.equal(call.function.name, 'weather');
    assert.equal(typeof JSON.parse(call.function.arguments).city, 'string');
    const seen = await openai.chat.completions.create({
      model: 'chat:8b',
      messages: [
        {
          role: 'user',
          content: [
            { type: 'text', text: 'What is this?' },
            { type: 'image_url', image_url: { url: `data:image/png;base64,${PIXEL}` } },
          ],
        },
      ],
    });
    assert.ok((seen.choices[0]?.message.content ?? '').length > 0);
    const shaped = await openai.chat.completions.create({
      model: 'chat:8b',
      messages: [{ role: 'user', content: 'A city, please' }],
      response_format: {
        type: 'json_schema',
        json_schema: { name: 'city', schema: PARAMETERS, strict: true },
      },
    });
    const value: unknown = JSON.parse(shaped.choices[0]?.message.content ?? '');
    assert.deepEqual(Object.keys(value as object), ['city']);
  });

  test('openai: completions, embeddings and the list of models', async () => {
    const completion = await openai.completions.create({ model: 'chat:8b', prompt: 'Once' });
    assert.ok((completion.choices[0]?.text ?? '').length > 0);
    const embedded = await openai.embeddings.create({ model: 'embed', input: ['one', 'two'] });
    assert.equal(embedded.data.length, 2);
    assert.ok((embedded.data[1]?.embedding.length ?? 0) > 0);
    const ids = (await openai.models.list()).data.map(({ id }) => id);
    assert.deepEqual(ids, ['chat:8b', 'embed:latest', 'slow:latest', 'auto', 'gpt-4o']);
    for (const id of ['chat:8b', 'auto', 'gpt-4o']) {
      assert.equal((await openai.models.retrieve(id)).id, id);
    }
  });

  test('auto is the largest model that can do what is asked', async () => {
    const messages = [{ role: 'user' as const, content: 'x' }];
    const { data: chat, response } = await openai.chat.completions
      .create({ model: 'auto', messages })
      .withResponse();
    assert.ok((chat.choices[0]?.message.content ?? '').length > 0);
    assert.equal(chat.model, 'chat:8b');
    assert.equal(response.headers.get('x-codegod-model'), 'chat:8b');
    const embedded = await openai.embeddings.create({ model: 'auto', input: 'one' });
    assert.equal(embedded.data.length, 1);
    const { requests } = (await master.get('/decisions/recent?limit=2')) as {
      requests: { tries: { model: string }[] }[];
    };
    const models = requests.flatMap(({ tries }) => tries.map(({ model }) => model));
    assert.deepEqual(models, ['embed:latest', 'chat:8b']);
  });

  test('openai: an unknown model, and a request that is wrong', async () => {
    const messages = [{ role: 'user' as const, content: 'x' }];
    const unknown = await caught(openai.chat.completions.create({ model: 'chat:7b', messages }));
    assert.ok(unknown instanceof OpenAI.NotFoundError);
    assert.equal(unknown.code, 'model_not_found');
    assert.equal(unknown.param, 'model');
    assert.equal(unknown.type, 'invalid_request_error');
    assert.match(unknown.message, /did you mean 'chat:8b'/);
    const wrong = await caught(
      openai.chat.completions.create({ model: 'chat:8b', messages: 'no' as never }),
    );
    assert.ok(wrong instanceof OpenAI.BadRequestError);
    assert.equal(wrong.param, 'messages');
  });

  test('openai: a client that hangs up ends the work at the engine', async () => {
    const stream = await openai.chat.completions.create({
      ...{ model: 'slow', messages: [{ role: 'user', content: 'x' }], stream: true },
    });
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta.content) break;
    }
    await until(async () => (await running(master)) === 0);
    const { requests } = (await master.get('/decisions/recent?limit=1')) as {
      requests: { state: string; tries: { outcome: string }[] }[];
    };
    assert.equal(requests[0]?.state, 'cancelled');
    assert.equal(requests[0]?.tries[0]?.outcome, 'cancelled');
  });

  test('ollama: no prompt and no time gives the memory back, and loads nothing', async () => {
    const loaded = async () => (await ollama.ps()).models.map(({ name }) => name);
    await ollama.generate({ model: 'chat:8b', prompt: 'Say something' });
    await until(async () => (await loaded()).includes('chat:8b'));
    const { done_reason } = await ollama.generate({ model: 'chat:8b', prompt: '', keep_alive: 0 });
    assert.equal(done_reason, 'unload');
    await until(async () => !(await loaded()).includes('chat:8b'));
  });

  test('ollama: chat, generate, tools, a schema and embeddings', async () => {
    const messages = [{ role: 'user', content: 'Say something' }];
    const chat = await ollama.chat({ model: 'chat:8b', messages });
    assert.ok(chat.message.content.length > 0);
    assert.equal(chat.eval_count, 12);
    let text = '';
    for await (const part of await ollama.chat({ model: 'chat:8b', messages, stream: true })) {
      text += part.message.content;
    }
    assert.equal(text, chat.message.content);
    const generated = await ollama.generate({ model: 'chat:8b', prompt: 'x', images: [PIXEL] });
    assert.ok((generated.response ?? '').length > 0);
    const shaped = await ollama.chat({ model: 'chat:8b', messages, format: PARAMETERS });
    assert.deepEqual(Object.keys(JSON.parse(shaped.message.content)), ['city']);
    const embedded = await ollama.embed({ model: 'embed', input: ['one', 'two'] });
    assert.equal(embedded.embeddings.length, 2);
    const older = await ollama.embeddings({ model: 'embed', prompt: 'one' });
    assert.deepEqual(older.embedding, embedded.embeddings[0]);
  });

  test('ollama: list, ps, show, version and an unknown model', async () => {
    const names = (await ollama.list()).models.map(({ name }) => name);
    assert.deepEqual(names, ['chat:8b', 'embed:latest', 'slow:latest', 'auto', 'gpt-4o']);
    const loaded = (await ollama.ps()).models.map(({ name }) => name);
    assert.ok(loaded.includes('chat:8b'), String(loaded));
    const shown = await ollama.show({ model: 'chat:8b' });
    assert.ok(shown.capabilities.includes('tools'));
    assert.match((await ollama.version()).version, /^\d+\.\d+\.\d+/);
    const unknown = await caught(ollama.chat({ model: 'chatt:8b' }));
    assert.match(String(unknown), /model 'chatt:8b' not found, did you mean 'chat:8b'/);
  });

  test('anthropic: a message, whole and streamed, with tools and images', async () => {
    const content = [
      { type: 'text' as const, text: 'What is this?' },
      {
        type: 'image' as const,
        source: { type: 'base64' as const, media_type: 'image/png' as const, data: PIXEL },
      },
    ];
    const messages = [{ role: 'user' as const, content }];
    const message = await anthropic.messages.create({
      ...{ model: 'chat:8b', max_tokens: 64, messages },
    });
    assert.ok(message.content[0]?.type === 'text' && message.content[0].text.length > 0);
    assert.equal(message.usage.output_tokens, 12);
    const stream = anthropic.messages.stream({ model: 'chat:8b', max_tokens: 64, messages });
    assert.equal(await stream.finalText(), message.content[0].text);
    const called = await anthropic.messages.create({
      ...{ model: 'chat:8b', max_tokens: 64 },
      messages: [{ role: 'user', content: 'What is the weather in Paris?' }],
      tools: [{ name: 'weather', input_schema: PARAMETERS }],
      tool_choice: { type: 'any' },
    });
    assert.ok(called.content.some(({ type }) => type === 'tool_use'));
    const counted = await anthropic.messages.countTokens({ model: 'chat:8b', messages });
    assert.ok(counted.input_tokens > 1_000, 'an image counts');
  });

  test('anthropic: errors have its classes', async () => {
    const messages = [{ role: 'user' as const, content: 'x' }];
    const unknown = await caught(
      anthropic.messages.create({ model: 'claude', max_tokens: 1, messages }),
    );
    assert.ok(unknown instanceof Anthropic.NotFoundError);
    assert.match(unknown.message, /not_found_error/);
    const models = await anthropic.models.list();
    assert.equal(models.data[0]?.id, 'chat:8b');
  });

  test('what waits in a full queue is refused with the time to come back', async () => {
    const hangUp = new AbortController();
    const asked = Array.from({ length: 6 }, () =>
      master.fetch('/api/chat', {
        method: 'POST',
        signal: hangUp.signal,
        body: JSON.stringify({ model: 'slow', messages: [{ role: 'user', content: 'x' }] }),
        headers: { 'content-type': 'application/json' },
      }),
    );
    const refused = await Promise.race(
      asked.map(async answer => {
        const response = await answer;
        return response.status === 503 ? response : await new Promise<never>(() => {});
      }),
    );
    assert.ok(Number(refused.headers.get('retry-after')) >= 1);
    assert.match(((await refused.json()) as { error: string }).error, /4 requests wait already/);
    hangUp.abort();
    await Promise.allSettled(asked);
    await until(async () => (await running(master)) === 0);
  });
});

async function running(master: TestMaster): Promise<number> {
  const { waiting, running: runs } = (await master.get('/pool')) as {
    waiting: unknown[];
    running: unknown[];
  };
  return waiting.length + runs.length;
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 400; tries++) {
    if (await holds()) return;
    await systemClock.sleep(25);
  }
  assert.fail('it never came there');
}

async function caught(asked: PromiseLike<unknown>): Promise<unknown> {
  try {
    await asked;
  } catch (error) {
    return error;
  }
  return assert.fail('nothing went wrong');
}
