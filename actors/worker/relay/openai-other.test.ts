/** Goal: OpenAI's text completions and embeddings on an engine that speaks Ollama's language. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { openaiCompletion } from './openai-completion.ts';
import { openaiEmbedding } from './openai-embedding.ts';
import { CREATED, eventsOf, FIGURES, MODEL, NAME, played, translate } from './test-dialect.ts';

const line = (response: string, more: object = {}): string =>
  `${JSON.stringify({ model: MODEL, response, done: false, ...more })}\n`;
const last = line('', { done: true, done_reason: 'stop', ...FIGURES });
const usage = { prompt_tokens: 26, completion_tokens: 7, total_tokens: 33 };

describe('text completions', () => {
  it('take one prompt and a suffix', () => {
    const body = { prompt: ['def f('], suffix: 'return', max_tokens: 9, stop: ['\n'] };
    const translation = translate(openaiCompletion, body);
    assert.equal(translation.path, '/api/generate');
    assert.deepEqual(translation.body, { prompt: 'def f(', suffix: 'return' });
    assert.deepEqual(translation.options, { num_predict: 9, stop: ['\n'] });
  });

  it('refuse what no engine here does', () => {
    for (const body of [
      { prompt: ['a', 'b'] },
      { prompt: [1, 2] },
      { prompt: 'a', echo: true },
      { prompt: 'a', best_of: 2 },
      { prompt: 'a', n: 3 },
    ]) {
      assert.throws(() => translate(openaiCompletion, body), { code: 'bad_request' });
    }
  });

  it('answer whole and as a stream', () => {
    const text = line('Hel') + line('lo') + last;
    const head = { id: `cmpl-${NAME}`, object: 'text_completion', created: CREATED, model: MODEL };
    const choice = { index: 0, logprobs: null };
    const body = { model: 'm', prompt: 'x' };
    assert.deepEqual(JSON.parse(played(translate(openaiCompletion, body), text)), {
      ...{ ...head, usage },
      choices: [{ ...choice, text: 'Hello', finish_reason: 'stop' }],
    });
    const events = eventsOf(
      played(translate(openaiCompletion, { ...body, stream: true }), text, 11),
    );
    assert.deepEqual(
      events.slice(0, -1).map(({ data }) => JSON.parse(data)),
      [
        ['Hel', null],
        ['lo', null],
        ['', 'stop'],
      ].map(([said, finish_reason]) => ({
        ...{ ...head, choices: [{ ...choice, text: said, finish_reason }] },
      })),
    );
    assert.equal(events.at(-1)?.data, '[DONE]');
  });
});

describe('embeddings', () => {
  const answer = JSON.stringify({
    ...{
      model: MODEL,
      embeddings: [
        [0.5, -0.25],
        [1, 0],
      ],
    },
    ...{ total_duration: 5, load_duration: 1, prompt_eval_count: 4 },
  });

  it('come as numbers, in the order of the texts', () => {
    const translation = translate(openaiEmbedding, {
      model: MODEL,
      input: ['a', 'b'],
      dimensions: 2,
    });
    assert.deepEqual(translation.body, { input: ['a', 'b'], dimensions: 2 });
    assert.deepEqual(JSON.parse(played(translation, answer)), {
      ...{ object: 'list', model: MODEL, usage: { prompt_tokens: 4, total_tokens: 4 } },
      data: [
        { object: 'embedding', index: 0, embedding: [0.5, -0.25] },
        { object: 'embedding', index: 1, embedding: [1, 0] },
      ],
    });
  });

  it('come as 32-bit floats in base64, as the official client asks', () => {
    const translation = translate(openaiEmbedding, { input: 'a', encoding_format: 'base64' });
    const { data } = JSON.parse(played(translation, answer));
    const bytes = new Uint8Array(Buffer.from(data[0].embedding, 'base64'));
    assert.deepEqual([...new Float32Array(bytes.buffer)], [0.5, -0.25]);
  });

  it('are refused for tokens and for nothing', () => {
    for (const input of [undefined, [], '', [[1, 2]], [1]]) {
      assert.throws(() => translate(openaiEmbedding, { input }), { code: 'bad_request' });
    }
  });
});
