/** Goal: what Anthropic's clients send is understood, and what they get is what they expect. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CodeGodError } from '../../../protocol/errors.ts';
import { anthropicMessages } from './anthropic.ts';
import type { Fields } from './fields.ts';
import {
  chatLine,
  eventsOf,
  lastLine,
  MODEL,
  NAME,
  played,
  THINKING,
  translate,
} from './test-dialect.ts';

const asked = { model: 'claude', max_tokens: 100, messages: [{ role: 'user', content: 'Hello' }] };
const weather = {
  ...{ name: 'weather', description: 'of a place' },
  input_schema: { type: 'object', properties: { place: { type: 'string' } } },
};
const call = { id: 'call_a', function: { name: 'weather', arguments: { place: 'Oslo' } } };
const refused = (body: Fields, param: string): void =>
  assert.throws(() => translate(anthropicMessages, { ...asked, ...body }), {
    code: 'bad_request',
    details: { param },
  });

describe('a request for messages', () => {
  it('keeps system, blocks, images, calls and results in their order', () => {
    const { body } = translate(anthropicMessages, {
      ...asked,
      system: [{ type: 'text', text: 'Be short.', cache_control: { type: 'ephemeral' } }],
      messages: [
        {
          role: 'user',
          content: [
            { type: 'text', text: 'What?' },
            { type: 'image', source: { type: 'base64', media_type: 'image/png', data: 'QUJD' } },
          ],
        },
        {
          role: 'assistant',
          content: [
            { type: 'thinking', thinking: 'hm', signature: '' },
            { type: 'text', text: 'Let me see.' },
            { type: 'tool_use', id: 't1', name: 'weather', input: { place: 'Oslo' } },
          ],
        },
        {
          role: 'user',
          content: [
            { type: 'tool_result', tool_use_id: 't1', content: [{ type: 'text', text: 'rain' }] },
            { type: 'tool_result', tool_use_id: 't1', content: 'no', is_error: true },
            { type: 'text', text: 'And now?' },
          ],
        },
      ],
    });
    const result = { role: 'tool', tool_call_id: 't1', tool_name: 'weather' };
    assert.deepEqual(body['messages'], [
      { role: 'system', content: 'Be short.' },
      { role: 'user', content: 'What?', images: ['QUJD'] },
      {
        ...{ role: 'assistant', content: 'Let me see.', thinking: 'hm' },
        tool_calls: [{ id: 't1', function: { name: 'weather', arguments: { place: 'Oslo' } } }],
      },
      { ...result, content: 'rain' },
      { ...result, content: 'Error: no' },
      { role: 'user', content: 'And now?' },
    ]);
  });

  it('has a bound, stop words and tools', () => {
    const more = { stop_sequences: ['END'], temperature: 0.5, top_k: 3, tools: [weather] };
    const { body, options } = translate(anthropicMessages, { ...asked, ...more });
    assert.deepEqual(options, { num_predict: 100, stop: ['END'], temperature: 0.5, top_k: 3 });
    const { name, description, input_schema: parameters } = weather;
    assert.deepEqual(body['tools'], [
      { type: 'function', function: { name, description, parameters } },
    ]);
  });

  it('makes a model think only where that is asked for', () => {
    assert.equal(translate(anthropicMessages, asked, THINKING).body['think'], false);
    const thinking = { type: 'enabled', budget_tokens: 1_024 };
    const on = translate(anthropicMessages, { ...asked, thinking }, THINKING);
    assert.equal(on.body['think'], true);
    assert.equal(translate(anthropicMessages, { ...asked, thinking }).body['think'], undefined);
  });

  it('is refused with the name of the field where it cannot be done', () => {
    refused({ max_tokens: undefined }, 'max_tokens');
    refused({ messages: [] }, 'messages');
    refused({ tools: [{ type: 'web_search_20250305', name: 'web_search' }] }, 'tools[0].type');
    refused({ mcp_servers: [{}] }, 'mcp_servers');
    refused({ tool_choice: { type: 'tool', name: 'nothing' } }, 'tool_choice');
    const image = [{ type: 'image', source: { type: 'url', url: 'https://example.org/a.png' } }];
    const messages = [{ role: 'user', content: image }];
    refused({ messages }, 'messages[0].content[0].source.type');
  });
});

describe('a message for Anthropic’s clients', () => {
  it('is one object with blocks, stop reason and usage', () => {
    const line = lastLine('stop', { content: 'Hi', tool_calls: [call] });
    assert.deepEqual(JSON.parse(played(translate(anthropicMessages, asked), line)), {
      ...{ id: `msg_${NAME}`, type: 'message', role: 'assistant', model: MODEL },
      content: [
        { type: 'text', text: 'Hi' },
        { type: 'tool_use', id: 'call_a', name: 'weather', input: { place: 'Oslo' } },
      ],
      ...{ stop_reason: 'tool_use', stop_sequence: null },
      usage: { input_tokens: 26, output_tokens: 7 },
    });
  });

  it('streams each block from its beginning to its end', () => {
    const text =
      chatLine({ thinking: 'hm' }) +
      chatLine({ thinking: '…' }) +
      chatLine({ content: 'Hé' }) +
      chatLine({ content: 'y' }) +
      chatLine({ tool_calls: [call] }) +
      lastLine();
    const thinking = { type: 'enabled', budget_tokens: 1_024 };
    for (const piece of [1, 80, 1e9]) {
      const body = { ...asked, thinking, stream: true };
      const events = eventsOf(played(translate(anthropicMessages, body, THINKING), text, piece));
      const seen = events.map(({ event, data }) => {
        const value = JSON.parse(data);
        assert.equal(value.type, event);
        return [event, value.index ?? null, value.delta ?? value.content_block ?? null];
      });
      assert.deepEqual(seen, [
        ['message_start', null, null],
        ['content_block_start', 0, { type: 'thinking', thinking: '', signature: '' }],
        ['content_block_delta', 0, { type: 'thinking_delta', thinking: 'hm' }],
        ['content_block_delta', 0, { type: 'thinking_delta', thinking: '…' }],
        ['content_block_stop', 0, null],
        ['content_block_start', 1, { type: 'text', text: '' }],
        ['content_block_delta', 1, { type: 'text_delta', text: 'Hé' }],
        ['content_block_delta', 1, { type: 'text_delta', text: 'y' }],
        ['content_block_stop', 1, null],
        ['content_block_start', 2, { type: 'tool_use', id: 'call_a', name: 'weather', input: {} }],
        ['content_block_delta', 2, { type: 'input_json_delta', partial_json: '{"place":"Oslo"}' }],
        ['content_block_stop', 2, null],
        ['message_delta', null, { stop_reason: 'tool_use', stop_sequence: null }],
        ['message_stop', null, null],
      ]);
      const delta = JSON.parse(events.at(-2)?.data ?? '');
      assert.deepEqual(delta.usage, { input_tokens: 26, output_tokens: 7 });
    }
  });

  it('says so where the bound of tokens ended it', () => {
    const text = lastLine('length', { content: 'Hi' });
    const { stop_reason } = JSON.parse(played(translate(anthropicMessages, asked), text));
    assert.equal(stop_reason, 'max_tokens');
  });

  it('is a call where one is insisted on', () => {
    const body = { ...asked, tools: [weather], tool_choice: { type: 'any' } };
    const translation = translate(anthropicMessages, body);
    const text = lastLine('stop', { content: '{"name":"weather","arguments":{"place":"Oslo"}}' });
    const { content, stop_reason } = JSON.parse(played(translation, text));
    assert.equal(stop_reason, 'tool_use');
    assert.deepEqual(content, [
      { type: 'tool_use', id: `toolu_${NAME}_1`, name: 'weather', input: { place: 'Oslo' } },
    ]);
  });

  it('tells of a failure in the middle as an event', () => {
    const { answer } = translate(anthropicMessages, { ...asked, stream: true });
    const failure = new CodeGodError('engine_unavailable', `${MODEL} is gone`);
    const [event] = eventsOf(answer.failure(failure));
    assert.equal(event?.event, 'error');
    assert.deepEqual(JSON.parse(event?.data ?? ''), {
      type: 'error',
      error: { type: 'overloaded_error', message: `${MODEL} is gone` },
    });
  });
});
