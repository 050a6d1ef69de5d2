/** What a server has: lists, details, embeddings, OpenAI's dialect, copies, pulls. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { Client, Json } from './client.ts';

const HI = [{ role: 'user', content: 'hi' }];

export function catalog(client: () => Client): void {
  it('says that it runs, and which version it is', async () => {
    assert.equal((await client().ask('/')).text, 'Ollama is running');
    const { json } = await client().ask('/api/version');
    assert.match(String(json['version']), /^\d+\.\d+\.\d+$/);
  });

  it('lists the models on its disk with the size of their files', async () => {
    const models = (await client().ask('/api/tags')).json['models'] as readonly Json[];
    const tiny = models.find(({ name }) => name === 'tiny:latest');
    assert.equal(tiny?.['model'], 'tiny:latest');
    assert.match(String(tiny?.['digest']), /^[0-9a-f]{64}$/);
    assert.ok(Math.abs(Number(tiny?.['size']) - 430_000) < 10_000, String(tiny?.['size']));
    const { parent_model: _, ...details } = detailsOf(tiny);
    assert.deepEqual(details, {
      ...{ format: 'gguf', family: 'llama', families: ['llama'] },
      ...{ parameter_size: '107K', quantization_level: 'unknown' },
    });
    const mixes = detailsOf(models.find(({ name }) => name === 'mixes:latest'));
    assert.deepEqual([mixes['parameter_size'], mixes['quantization_level']], ['239K', 'F16']);
  });

  it('shows the shape of a model and its tensors', async () => {
    const { json } = await client().ask('/api/show', { model: 'tiny', verbose: true });
    assert.deepEqual(json['capabilities'], ['completion']);
    const info = json['model_info'] as Json;
    const shape = {
      'general.architecture': 'llama',
      'general.parameter_count': 107_200,
      'llama.block_count': 2,
      'llama.context_length': 32_768,
      'llama.embedding_length': 64,
      'llama.feed_forward_length': 128,
      'llama.attention.head_count': 4,
      'llama.attention.head_count_kv': 2,
      'llama.attention.key_length': 16,
      'llama.attention.value_length': 16,
      'llama.vocab_size': 259,
    };
    for (const [key, value] of Object.entries(shape)) assert.equal(info[key], value, key);
    assert.equal((info['tokenizer.ggml.tokens'] as string[]).length, 259);
    const tensors = json['tensors'] as readonly Json[];
    assert.equal(tensors.length, 21);
    const first = { name: 'token_embd.weight', type: 'F32', shape: [64, 259] };
    assert.deepEqual(tensors[0], first);
  });

  it('blanks lists of more than five unless everything is asked for, but not the tensors', async () => {
    const key = 'gemma3.attention.sliding_window_pattern';
    const brief = (await client().ask('/api/show', { model: 'slides' })).json;
    const full = (await client().ask('/api/show', { model: 'slides', verbose: true })).json;
    assert.deepEqual((full['model_info'] as Json)[key], [true, true, true, true, true, false]);
    assert.equal((brief['model_info'] as Json)[key], null);
    assert.equal((brief['model_info'] as Json)['tokenizer.ggml.tokens'], null);
    assert.deepEqual(brief['tensors'], full['tensors']);
  });

  it('knows what each model can', async () => {
    for (const [model, capabilities] of [
      ['tools', ['completion', 'tools']],
      ['thinks', ['completion', 'thinking']],
      ['embeds', ['embedding']],
    ] as const) {
      const { json } = await client().ask('/api/show', { model });
      assert.deepEqual(json['capabilities'], capabilities, model);
    }
  });

  it('embeds texts as directions of length one, the same text always the same', async () => {
    const embed = async (more: object): Promise<{ vectors: number[][]; tokens: unknown }> => {
      const { status, json, text } = await client().ask('/api/embed', { model: 'embeds', ...more });
      assert.equal(status, 200, text);
      return { vectors: json['embeddings'] as number[][], tokens: json['prompt_eval_count'] };
    };
    const { vectors, tokens } = await embed({ input: ['hi', 'ho', 'hi'] });
    assert.deepEqual([vectors.length, vectors[0]?.length, tokens], [3, 64, 6]);
    const near = vectors[0]?.reduce((sum, value, at) => sum + value * (vectors[2]?.[at] ?? 0), 0);
    assert.ok(Math.abs((near ?? 0) - 1) < 0.001, 'the same text in the same direction');
    assert.notDeepEqual(vectors[0], vectors[1]);
    const short = await embed({ input: 'hi', dimensions: 3 });
    assert.equal(short.vectors[0]?.length, 3);
    assert.ok(Math.abs(Math.hypot(...(short.vectors[0] ?? [])) - 1) < 0.001);
    assert.deepEqual(await embed({ input: '' }), { vectors: [], tokens: undefined });
    // Of a context of 128 two are kept for marks at the ends.
    assert.equal((await embed({ input: 'x'.repeat(500) })).tokens, 126);
    const uncut = { model: 'embeds', input: 'x'.repeat(500), truncate: false };
    const { status, json } = await client().ask('/api/embed', uncut);
    assert.equal(status, 400);
    assert.deepEqual(json, { error: 'the input length exceeds the context length' });
    const older = await client().ask('/api/embeddings', { model: 'embeds', prompt: 'hi' });
    assert.equal((older.json['embedding'] as number[]).length, 64);
  });

  it("speaks OpenAI's dialect", async () => {
    const body = { model: 'tiny', messages: HI, max_tokens: 3 };
    const { json, type } = await client().ask('/v1/chat/completions', body);
    assert.equal(type, 'application/json');
    assert.equal(json['object'], 'chat.completion');
    const usage = { prompt_tokens: 21, completion_tokens: 3, total_tokens: 24 };
    assert.deepEqual(json['usage'], usage);
    const [choice] = json['choices'] as readonly Json[];
    assert.equal(choice?.['finish_reason'], 'length');
    assert.match(JSON.stringify(choice), /"message":\{"role":"assistant"/);

    const streamed = await client().ask('/v1/chat/completions', {
      ...{ ...body, stream: true, stream_options: { include_usage: true } },
    });
    assert.equal(streamed.type, 'text/event-stream');
    assert.ok(streamed.text.endsWith('data: [DONE]\n\n'));
    const [told, ended] = [...streamed.lines].reverse();
    assert.deepEqual([told?.['choices'], told?.['usage']], [[], usage]);
    assert.match(JSON.stringify(ended), /"finish_reason":"length"/);
    for (const line of streamed.lines) assert.equal(line['object'], 'chat.completion.chunk');

    const completed = await client().ask('/v1/completions', {
      model: 'tiny',
      prompt: 'hi',
      max_tokens: 2,
    });
    assert.equal(completed.json['object'], 'text_completion');
    const listed = (await client().ask('/v1/models')).json;
    const ids = (listed['data'] as readonly Json[]).map(({ id }) => id);
    assert.ok(ids.includes('tiny:latest'));
    assert.equal((await client().ask('/v1/models/tiny')).json['id'], 'tiny');
    const embedded = await client().ask('/v1/embeddings', { model: 'embeds', input: ['hi'] });
    const [first] = embedded.json['data'] as readonly Json[];
    assert.deepEqual([first?.['object'], first?.['index']], ['embedding', 0]);
    assert.deepEqual(embedded.json['usage'], { prompt_tokens: 2, total_tokens: 2 });
  });

  it("refuses in OpenAI's shape there", async () => {
    const cases = [
      [{ model: 'nope', messages: HI }, 404, "model 'nope' not found", 'api_error'],
      [{ model: 'embeds', messages: HI }, 400, '"embeds" does not support chat', 'api_error'],
      [
        { model: 'tiny', messages: [] },
        400,
        "[] is too short - 'messages'",
        'invalid_request_error',
      ],
    ] as const;
    for (const [body, status, message, type] of cases) {
      const reply = await client().ask('/v1/chat/completions', body);
      const error = { message, type, param: null, code: null };
      assert.deepEqual([reply.status, reply.json], [status, { error }]);
    }
  });

  it('copies a model under another name and deletes it', async () => {
    const names = { source: 'tiny', destination: 'copied' };
    assert.equal((await client().ask('/api/copy', names)).status, 200);
    assert.equal((await client().ask('/api/show', { model: 'copied' })).status, 200);
    assert.equal((await client().ask('/api/delete', { model: 'copied' }, 'DELETE')).status, 200);
    const again = await client().ask('/api/delete', { model: 'copied' }, 'DELETE');
    assert.deepEqual([again.status, again.json], [404, { error: "model 'copied' not found" }]);
    const missing = await client().ask('/api/copy', { ...names, source: 'nope' });
    assert.deepEqual([missing.status, missing.json], [404, { error: 'model "nope" not found' }]);
  });

  it('tells in the stream that a model cannot be pulled', async () => {
    // Nobody listens there, so nothing is asked of the world.
    const model = '127.0.0.1:1/library/nope';
    const { status, lines } = await client().ask('/api/pull', { model });
    assert.equal(status, 200);
    assert.deepEqual(lines[0], { status: 'pulling manifest' });
    assert.match(String(lines[1]?.['error']), /^pull model manifest: /);
    const whole = await client().ask('/api/pull', { model, stream: false });
    assert.equal(whole.status, 500);
    assert.match(String(whole.json['error']), /^pull model manifest: /);
  });
}

const detailsOf = (model: Json | undefined): Json => (model?.['details'] ?? {}) as Json;
