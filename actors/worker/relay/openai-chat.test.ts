/** Goal: what OpenAI's clients send is understood, and what they get is what they expect. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Fields } from './fields.ts';
import { nativeBody } from './node-options.ts';
import { openaiChat } from './openai-chat.ts';
import {
  CREATED,
  chatLine,
  eventsOf,
  lastLine,
  MODEL,
  NAME,
  played,
  THINKING,
  translate,
} from './test-dialect.ts';

const NODE = { context_tokens: 8_192, keep_alive: 900 };
const messages = [{ role: 'user', content: 'Hello' }];
const weather = {
  type: 'function',
  function: {
    name: 'weather',
    description: 'of a place',
    parameters: { type: 'object', properties: { place: { type: 'string' } } },
  },
};
const native = (body: Fields): Record<string, unknown> =>
  JSON.parse(nativeBody(translate(openaiChat, { model: 'tiny', messages, ...body }), NODE));
const refused = (body: Fields, param: string): void =>
  assert.throws(() => translate(openaiChat, { messages, ...body }), {
    code: 'bad_request',
    details: { param },
  });

describe('a chat request of OpenAI', () => {
  it('becomes one with the options of the node and the sampling of the client', () => {
    const sampling = { temperature: 0.2, top_p: 0.9, seed: 3, frequency_penalty: 1 };
    assert.deepEqual(native({ ...sampling, max_tokens: 5, stop: 'END', presence_penalty: 0 }), {
      ...{ model: MODEL, messages, stream: false, keep_alive: 900 },
      ...{ truncate: false, shift: false },
      options: {
        ...sampling,
        ...{ presence_penalty: 0, num_predict: 5, stop: ['END'], num_ctx: 8_192 },
      },
    });
  });

  it('may leave words empty that nobody chose', () => {
    assert.deepEqual(native({ reasoning_effort: '' }), native({}));
  });

  it('may say that there is no limit to the answer', () => {
    const none = native({ max_tokens: -1 })['options'] as Fields;
    assert.equal(none['num_predict'], -1);
    const newer = native({ max_completion_tokens: -7, max_tokens: 3 })['options'] as Fields;
    assert.equal(newer['num_predict'], -1);
  });

  it('may hold parts, images, calls and the answers of tools', () => {
    const call = { id: 'call_1', type: 'function' };
    const chat = [
      { role: 'developer', content: 'Be short.' },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'What is' },
          { type: 'image_url', image_url: { url: 'data:image/png;base64,QUJD' } },
          { type: 'text', text: 'this?' },
        ],
      },
      {
        ...{ role: 'assistant', content: null },
        tool_calls: [{ ...call, function: { name: 'weather', arguments: '{"place":"Oslo"}' } }],
      },
      { role: 'tool', tool_call_id: 'call_1', content: 'rain' },
    ];
    const args = { place: 'Oslo' };
    assert.deepEqual(native({ messages: chat, tools: [weather] })['messages'], [
      { role: 'system', content: 'Be short.' },
      { role: 'user', content: 'What is\nthis?', images: ['QUJD'] },
      {
        ...{ role: 'assistant', content: '' },
        tool_calls: [{ id: 'call_1', function: { name: 'weather', arguments: args } }],
      },
      { role: 'tool', content: 'rain', tool_call_id: 'call_1', tool_name: 'weather' },
    ]);
    assert.deepEqual(native({ tools: [weather] })['tools'], [weather]);
    assert.equal(native({ tools: [weather], tool_choice: 'none' })['tools'], undefined);
  });

  it('constrains the answer by a schema', () => {
    const schema = { type: 'object', properties: { a: { type: 'integer' } } };
    const wanted = { type: 'json_schema', json_schema: { name: 'a', schema } };
    assert.deepEqual(native({ response_format: wanted })['format'], schema);
    assert.equal(native({ response_format: { type: 'json_object' } })['format'], 'json');
  });

  it('asks only those models to think that can', () => {
    const body = { messages, reasoning_effort: 'low' };
    assert.equal(translate(openaiChat, body).body['think'], undefined);
    assert.equal(translate(openaiChat, body, THINKING).body['think'], true);
    const off = { messages, reasoning_effort: 'none' };
    assert.equal(translate(openaiChat, off, THINKING).body['think'], false);
    const oss = { capabilities: ['thinking'], family: 'gptoss' };
    assert.equal(translate(openaiChat, body, oss).body['think'], 'low');
    assert.equal(translate(openaiChat, off, oss).body['think'], 'low');
  });

  it('is refused with the name of the field where it cannot be done', () => {
    refused({ n: 2 }, 'n');
    refused({ messages: [] }, 'messages');
    refused({ messages: [{ role: 'king', content: 'x' }] }, 'messages[0].role');
    refused({ logit_bias: { 5: 1 } }, 'logit_bias');
    refused({ functions: [{}] }, 'functions');
    refused({ temperature: 'hot' }, 'temperature');
    refused({ max_tokens: 1.5 }, 'max_tokens');
    refused({ tool_choice: 'required' }, 'tool_choice');
    refused({ response_format: { type: 'xml' } }, 'response_format.type');
    const url = 'https://example.org/cat.png';
    const image = [{ type: 'image_url', image_url: { url } }];
    refused({ messages: [{ role: 'user', content: image }] }, 'messages[0].content[0].url');
  });
});

describe('an answer for OpenAI’s clients', () => {
  it('is one object with text, finish reason and usage', () => {
    const translation = translate(openaiChat, { model: 'gpt-4o', messages });
    assert.deepEqual(JSON.parse(played(translation, lastLine('length', { content: 'Hi' }))), {
      ...{ id: `chatcmpl-${NAME}`, object: 'chat.completion', created: CREATED, model: MODEL },
      choices: [
        {
          ...{ index: 0, logprobs: null, finish_reason: 'length' },
          message: { role: 'assistant', content: 'Hi', refusal: null },
        },
      ],
      usage: { prompt_tokens: 26, completion_tokens: 7, total_tokens: 33 },
    });
  });

  it('streams chunks that end with a finish reason, usage where asked for, and [DONE]', () => {
    const text = chatLine({ content: 'H"é' }) + chatLine({ content: 'i' }) + lastLine();
    for (const piece of [1, 50, 1e9]) {
      const options = { stream: true, stream_options: { include_usage: true } };
      const events = eventsOf(
        played(translate(openaiChat, { model: 'm', messages, ...options }), text, piece),
      );
      assert.equal(events.pop()?.data, '[DONE]');
      const chunks = events.map(({ data }) => JSON.parse(data));
      for (const chunk of chunks) {
        assert.equal(chunk.object, 'chat.completion.chunk');
        assert.equal(chunk.id, `chatcmpl-${NAME}`);
        assert.equal(chunk.created, CREATED);
      }
      assert.deepEqual(
        chunks.map(({ choices }) => [choices[0]?.delta, choices[0]?.finish_reason]),
        [
          [{ role: 'assistant', content: '' }, null],
          [{ content: 'H"é' }, null],
          [{ content: 'i' }, null],
          [{}, 'stop'],
          [undefined, undefined],
        ],
      );
      const usage = { prompt_tokens: 26, completion_tokens: 7, total_tokens: 33 };
      assert.deepEqual(
        chunks.map(chunk => chunk.usage),
        [null, null, null, null, usage],
      );
    }
  });

  it('gives calls and thoughts as they give them', () => {
    const call = { function: { index: 0, name: 'weather', arguments: { place: 'Oslo' } } };
    const text =
      chatLine({ thinking: 'hm' }) +
      chatLine({ tool_calls: [call, { id: 'c2', ...call }] }) +
      lastLine();
    const whole = JSON.parse(played(translate(openaiChat, { messages, tools: [weather] }), text));
    const [{ message, finish_reason }] = whole.choices;
    assert.equal(finish_reason, 'tool_calls');
    assert.equal(message.content, null);
    assert.equal(message.reasoning, 'hm');
    const told = { type: 'function', function: { name: 'weather', arguments: '{"place":"Oslo"}' } };
    assert.deepEqual(message.tool_calls, [
      { id: `call_${NAME}_0`, ...told },
      { id: 'c2', ...told },
    ]);
    const stream = translate(openaiChat, { messages, tools: [weather], stream: true });
    const chunks = eventsOf(played(stream, text)).slice(0, -1);
    const deltas = chunks.map(({ data }) => JSON.parse(data).choices[0].delta);
    assert.deepEqual(deltas[1], { reasoning: 'hm' });
    assert.deepEqual(deltas[2], { tool_calls: [{ index: 0, id: `call_${NAME}_0`, ...told }] });
    assert.deepEqual(deltas[3], { tool_calls: [{ index: 1, id: 'c2', ...told }] });
  });

  it('is a call where one is insisted on, in whatever pieces it is written', () => {
    const choice = { type: 'function', function: { name: 'weather' } };
    const body = { messages, tools: [weather], tool_choice: choice };
    const translation = translate(openaiChat, body);
    assert.equal(translation.body['tools'], undefined);
    assert.deepEqual((translation.body['format'] as { required: unknown }).required, [
      'name',
      'arguments',
    ]);
    const text =
      chatLine({ content: '{"name":"weather",' }) +
      chatLine({ content: '"arguments":{"place":"Oslo"}}' }) +
      lastLine();
    const { choices } = JSON.parse(played(translation, text));
    assert.equal(choices[0].finish_reason, 'tool_calls');
    assert.equal(choices[0].message.tool_calls[0].function.arguments, '{"place":"Oslo"}');
    const cut = played(
      translate(openaiChat, body),
      chatLine({ content: '{"na' }) + lastLine('length'),
    );
    assert.equal(JSON.parse(cut).choices[0].message.content, '{"na');
    assert.equal(JSON.parse(cut).choices[0].finish_reason, 'length');
  });

  it('tells of a failure in the middle so that the client throws', () => {
    const { answer } = translate(openaiChat, { messages, stream: true });
    let thrown: unknown;
    try {
      answer.take(Buffer.from(`${chatLine({ content: 'a' })}{"error":"cuda died"}\n`));
    } catch (error) {
      thrown = error;
    }
    const told = answer.failure(thrown as Parameters<typeof answer.failure>[0]);
    const [event] = eventsOf(told);
    assert.match(JSON.parse(event?.data ?? '').error.message, /cuda died/);
  });
});
