/** Goal: an Ollama client gets Ollama's own bytes, and a node's options stay the node's. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CodeGodError } from '../../../protocol/errors.ts';
import { nativeBody } from './node-options.ts';
import { ollamaChat, ollamaEmbed, ollamaGenerate } from './ollama.ts';
import { chatLine, lastLine, MODEL, played, translate } from './test-dialect.ts';

const NODE = { context_tokens: 8_192, keep_alive: 900 };
const messages = [{ role: 'user', content: 'Hello' }];
const stream = chatLine({ content: 'hé' }) + chatLine({ content: 'llo' }) + lastLine();

test('bytes pass through unchanged, however they are cut, and the last line gives the figures', () => {
  for (const piece of [1, 7, 100, 1e9]) {
    const translation = translate(ollamaChat, { model: MODEL, messages });
    assert.equal(played(translation, stream, piece), stream);
    assert.deepEqual(translation.answer.figures, {
      ...{ prompt_tokens: 26, prompt_ms: 3, output_tokens: 7, output_ms: 4 },
    });
  }
});

test('chunks that need no change are the very same bytes', () => {
  const { answer } = translate(ollamaChat, { model: MODEL, messages });
  const bytes = Buffer.from(stream);
  assert.equal(answer.take(bytes), bytes);
});

test('a client reads its own spelling of the model in every line, and only there', () => {
  const text = chatLine({ content: `{"model":"${MODEL}"` }) + lastLine();
  for (const said of ['tiny', 'Tiny:latest', 'library/tiny', 'registry.ollama.ai/library/tiny']) {
    for (const piece of [1, 9, 1e9]) {
      const translation = translate(ollamaChat, { model: ` ${said} `, messages });
      assert.equal(translation.model, MODEL);
      const expected = text.replaceAll(`{"model":"${MODEL}",`, `{"model":"${said}",`);
      assert.equal(played(translation, text, piece), expected);
    }
  }
});

test('an alias is answered with the name of the model that spoke', () => {
  for (const model of ['gpt-4o', 'auto', '']) {
    const translation = translate(ollamaChat, { model, messages });
    assert.equal(translation.model, MODEL);
    assert.equal(played(translation, stream), stream);
  }
});

test('an empty name counts as absent', () => {
  const translation = translate(ollamaGenerate, { model: '', name: 'tiny', prompt: 'x' });
  assert.equal(translation.model, MODEL);
  assert.deepEqual(translation.body, { prompt: 'x' });
});

test('options that would load the model again are the node’s; sampling is the client’s', () => {
  const options = {
    num_ctx: 999,
    num_gpu: 1,
    num_batch: 4,
    temperature: 0.1,
    stop: ['x'],
    seed: 7,
  };
  const body = { model: 'tiny', messages, options, keep_alive: 0, shift: true, truncate: true };
  const translation = translate(ollamaChat, body);
  assert.deepEqual(translation.ignored, ['num_ctx', 'num_gpu', 'num_batch', 'shift']);
  assert.deepEqual(JSON.parse(nativeBody(translation, NODE)), {
    ...{ model: MODEL, messages, stream: true, keep_alive: 900, truncate: true, shift: false },
    options: { num_predict: 8_192, temperature: 0.1, stop: ['x'], seed: 7, num_ctx: 8_192 },
  });
});

test('how long a model is to stay is a wish, in any form that Ollama reads', () => {
  const wishOf = (keep_alive: unknown) =>
    translate(ollamaChat, { messages, keep_alive }).keep_alive;
  assert.deepEqual([60, '5m', 0, -1, '-1s', '', null].map(wishOf), [
    60,
    300,
    0,
    -1,
    -1,
    undefined,
    undefined,
  ]);
  assert.throws(() => wishOf('soon'), { code: 'bad_request' });
});

test('embeddings are never streamed, have no bound of tokens, and are cut where the client lets them', () => {
  const translation = translate(ollamaEmbed, { model: MODEL, input: ['a'] });
  assert.equal(translation.stream, false);
  assert.deepEqual(JSON.parse(nativeBody(translation, { ...NODE, context_tokens: 0 })), {
    ...{ model: MODEL, input: ['a'], stream: false, keep_alive: 900 },
    options: {},
  });
  const strict = translate(ollamaEmbed, { model: 'tiny', input: ['a'], truncate: false });
  assert.equal(JSON.parse(nativeBody(strict, NODE)).truncate, false);
  const text = `{"model":"${MODEL}","embeddings":[[0.1]],"total_duration":5,"prompt_eval_count":3}`;
  assert.equal(played(translation, text), text);
  assert.equal(translation.answer.figures?.prompt_tokens, 3);
});

test('an error in place of an answer is thrown before any byte is given', () => {
  const { answer } = translate(ollamaGenerate, { model: 'tiny', prompt: 'x' });
  assert.equal(answer.take(Buffer.from('{"error":"out of memory"}\n')).length, 0);
  assert.throws(
    () => answer.end(),
    (error: unknown) => error instanceof CodeGodError && /out of memory/.test(error.message),
  );
});

test('an error in the middle is told as Ollama tells it', () => {
  const { answer } = translate(ollamaChat, { model: MODEL, messages });
  const first = chatLine({ content: 'a' });
  const given = answer.take(Buffer.from(`${first}{"error":"cuda died"}\n`));
  assert.equal(given.toString(), first);
  let thrown: unknown;
  try {
    answer.end();
  } catch (error) {
    thrown = error;
  }
  assert.ok(thrown instanceof CodeGodError && thrown.code === 'engine_failed');
  assert.deepEqual(JSON.parse(answer.failure(thrown)), { error: 'the engine failed: cuda died' });
});

test('an answer that stops without its last line is a failure', () => {
  assert.throws(() => played(translate(ollamaChat, { messages }), chatLine({ content: 'a' })), {
    code: 'engine_failed',
  });
});
