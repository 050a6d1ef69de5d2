/**
 * Goal: the Ollama engine says the truth about what is there, streams, cancels and fails with the
 * right code. Method: what both can do is asked of a real Ollama with a tiny model and of the
 * stand-in; what only a stand-in can be brought to do is asked of it alone.
 */
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ErrorCode } from '../../../protocol/error-codes.ts';
import { CodeGodError } from '../../../protocol/errors.ts';
import { ModelAdvert } from '../../../protocol/node.ts';
import { systemClock } from '../../../runtime/clock.ts';
import { memoryJournal } from '../../../runtime/journal.ts';
import { WORKER_KEYS } from '../../../runtime/journal-keys.ts';
import { freePort } from '../../../test/nats-fixture.ts';
import { startRealOllama } from '../../../test/real-ollama/real-ollama.ts';
import { LONG_FORMAT } from '../../../test/real-ollama/suite/client.ts';
import type { Engine, GenerateChunk, GenerateRequest } from './engine.ts';
import { createOllamaEngine, type OllamaTimeouts } from './ollama.ts';
import { type FakeOllama, finish, line, refuse, say, startFakeOllama } from './test-ollama.ts';

const SIGNAL = new AbortController().signal;
const engineAt = (host: string, timeouts: Partial<OllamaTimeouts> = {}): Engine =>
  createOllamaEngine({ host, clock: systemClock, timeouts });
const request = (changes: Partial<GenerateRequest> = {}): GenerateRequest => ({
  model: 'tiny:latest',
  messages: [{ role: 'user', content: 'Say hello.' }],
  context_tokens: 512,
  output_tokens_max: 24,
  temperature: 0,
  think: false,
  ...changes,
});
async function all(chunks: AsyncIterable<GenerateChunk>): Promise<GenerateChunk[]> {
  const list: GenerateChunk[] = [];
  for await (const chunk of chunks) list.push(chunk);
  return list;
}
async function failure(work: Promise<unknown>): Promise<CodeGodError> {
  const error = await work.then(
    value => assert.fail(`no failure but ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof CodeGodError, String(error));
  return error;
}
const codeOf = async (work: Promise<unknown>): Promise<ErrorCode> => (await failure(work)).code;

/** What any Ollama does. */
function contract(host: () => string): void {
  it('lists its models with their sizes and contexts', async () => {
    const { available, version, models } = await engineAt(host()).inventory(SIGNAL);
    assert.equal(available, true);
    assert.match(version ?? '', /^\d+\.\d+\.\d+$/);
    const tiny = models.find(model => model.name === 'tiny:latest');
    assert.ok(tiny !== undefined && tiny.size_bytes > 100_000 && tiny.context_max >= 2_048);
    ModelAdvert.parse(tiny);
    assert.deepEqual(tiny.capabilities, ['completion']);
  });

  it('streams an answer and counts it', async () => {
    const chunks = await all(engineAt(host()).generate(request(), SIGNAL));
    assert.ok(chunks.filter(chunk => chunk.kind === 'text').length >= 1);
    const last = chunks.at(-1);
    assert.ok(last?.kind === 'done' && ['stop', 'length'].includes(last.reason));
    assert.ok(last.prompt_tokens > 10 && last.output_tokens > 1 && last.total_ms >= last.load_ms);
  });

  it('names the nearest installed model where one is missing', async () => {
    const error = await failure(
      all(engineAt(host()).generate(request({ model: 'tinny' }), SIGNAL)),
    );
    assert.equal(error.code, 'model_missing');
    assert.match(error.message, /nearest installed one is tiny:latest/);
    assert.match(error.hint ?? '', /ollama pull tinny/);
  });

  it('is cancelled before it begins', async () => {
    const signal = AbortSignal.abort();
    assert.equal(await codeOf(all(engineAt(host()).generate(request(), signal))), 'cancelled');
  });
}

describe('an Ollama that is not there', () => {
  for (const [name, host] of [
    ['refuses', async () => `http://127.0.0.1:${await freePort()}`],
    ['has no such name', async () => 'http://no-such-host.invalid:11434'],
    ['swallows packets', async () => 'http://192.0.2.1:11434'],
  ] as const) {
    it(`${name}: is an inventory with a reason, in half a second`, async () => {
      const engine = engineAt(await host());
      const started = performance.now();
      const { available, reason, models } = await engine.inventory(SIGNAL);
      assert.ok(performance.now() - started < 600);
      assert.deepEqual([available, models.length], [false, 0]);
      assert.ok((reason ?? '').length > 10, reason ?? '');
    });
  }
  it('cannot generate, and says that it is unavailable', async () => {
    const engine = engineAt(`http://127.0.0.1:${await freePort()}`);
    assert.equal(await codeOf(all(engine.generate(request(), SIGNAL))), 'engine_unavailable');
  });
});

describe('a stand-in for Ollama', () => {
  let fake: FakeOllama;
  before(async () => {
    fake = await startFakeOllama();
  });
  after(() => fake.stop());
  beforeEach(async () => {
    await fake.stop();
    fake = await startFakeOllama();
  });

  contract(() => fake.host);

  it('is asked for the same options at load and at chat, with nothing cut', async () => {
    const engine = engineAt(fake.host);
    await engine.load('tiny:latest', { context_tokens: 512, keep_alive: -1 }, SIGNAL);
    await all(engine.generate(request({ format: { type: 'object' }, keep_alive: -1 }), SIGNAL));
    const [load, chat] = fake.chats;
    assert.deepEqual(load?.['messages'], []);
    for (const body of [load, chat]) {
      const options = (body?.['options'] ?? {}) as Record<string, unknown>;
      assert.equal(options['num_ctx'], 512);
      assert.deepEqual([body?.['truncate'], body?.['shift']], [false, false]);
      assert.equal(body?.['keep_alive'], -1);
    }
    assert.deepEqual(chat?.['options'], { num_ctx: 512, num_predict: 24, temperature: 0 });
    assert.deepEqual(chat?.['format'], { type: 'object' });
    assert.ok(!('think' in (chat ?? {})));
  });

  it('is told to think or not only where the model can', async () => {
    const thinks = { name: 'tiny:latest', capabilities: ['completion', 'thinking'] };
    fake.setModels([thinks]);
    const engine = engineAt(fake.host);
    await all(engine.generate(request(), SIGNAL));
    assert.equal(fake.chats.at(-1)?.['think'], false);
    fake.setModels([{ ...thinks, family: 'gptoss', digest: 'other' }]);
    await all(engineAt(fake.host).generate(request(), SIGNAL));
    assert.equal(fake.chats.at(-1)?.['think'], 'low');
  });

  it('is asked once per digest whether it really thinks, before it is told to', async () => {
    fake.setModels([{ name: 'tiny:latest', capabilities: ['completion', 'thinking'] }]);
    let thinks = true;
    fake.onChat((response, body) => {
      if (body['stream'] !== false) {
        say(response, 'yes');
        return finish(response);
      }
      const message = { role: 'assistant', content: '42', thinking: thinks ? '17 + 25' : '' };
      response.end(JSON.stringify({ message, done: true, done_reason: 'stop' }));
    });
    const store = await memoryJournal(WORKER_KEYS);
    const engine = createOllamaEngine({ host: fake.host, clock: systemClock, store });
    await engine.inventory(SIGNAL);
    await all(engine.generate(request({ think: true }), SIGNAL));
    await all(engine.generate(request({ think: true }), SIGNAL));
    const restarted = createOllamaEngine({ host: fake.host, clock: systemClock, store });
    await restarted.inventory(SIGNAL);
    await all(restarted.generate(request({ think: true }), SIGNAL));
    assert.deepEqual(
      fake.chats.map(chat => [chat['stream'], chat['think']]),
      [[false, true], ...Array.from({ length: 3 }, () => [true, true])],
    );
    thinks = false;
    fake.setModels([
      { name: 'tiny:latest', digest: 'new', capabilities: ['completion', 'thinking'] },
    ]);
    await engine.inventory(SIGNAL);
    await all(engine.generate(request({ think: true }), SIGNAL));
    assert.ok(!('think' in (fake.chats.at(-1) ?? {})), 'what it cannot do it is not told to do');
  });

  it('shows reasoning apart from the answer', async () => {
    fake.onChat(response => {
      line(response, { message: { role: 'assistant', content: '', thinking: 'hm' }, done: false });
      say(response, 'yes');
      finish(response, { done_reason: 'length' });
    });
    const chunks = await all(engineAt(fake.host).generate(request(), SIGNAL));
    assert.deepEqual(chunks.slice(0, 2), [
      { kind: 'thinking', text: 'hm' },
      { kind: 'text', text: 'yes' },
    ]);
    assert.equal(chunks[2]?.kind === 'done' && chunks[2].reason, 'length');
  });

  it('is asked about a model once per digest, also over restarts', async () => {
    const store = await memoryJournal(WORKER_KEYS);
    const first = createOllamaEngine({ host: fake.host, clock: systemClock, store });
    await first.inventory(SIGNAL);
    const engine = createOllamaEngine({ host: fake.host, clock: systemClock, store });
    await engine.inventory(SIGNAL);
    await engine.inventory(SIGNAL);
    assert.equal(fake.shows, 1);
    fake.setModels([{ name: 'tiny:latest', digest: 'new' }]);
    await engine.inventory(SIGNAL);
    assert.equal(fake.shows, 2);
  });

  it('says where a loaded model lies', async () => {
    fake.setModels([{ name: 'tiny:latest', loaded: true }]);
    const [model] = (await engineAt(fake.host).inventory(SIGNAL)).models;
    assert.deepEqual(
      [model?.loaded, model?.vram_bytes, model?.ram_bytes, model?.context_tokens],
      [true, 4e9, 2e9, 8_192],
    );
  });

  for (const [status, code] of [
    [400, 'bad_request'],
    [403, 'unauthorized'],
    [500, 'engine_failed'],
    [503, 'engine_unavailable'],
  ] as const) {
    it(`answers ${status}: the error is ${code}`, async () => {
      fake.onChat(response => refuse(response, status, 'no'));
      assert.equal(await codeOf(all(engineAt(fake.host).generate(request(), SIGNAL))), code);
      fake.onLoad(response => refuse(response, status, 'no'));
      const load = engineAt(fake.host).load('tiny:latest', { context_tokens: 512 }, SIGNAL);
      assert.equal(await codeOf(load), code);
    });
  }

  for (const [name, behave] of Object.entries({
    'an error line in mid-stream': (response: Parameters<typeof say>[0]) => {
      say(response, 'hel');
      line(response, { error: 'CUDA error: out of memory' });
      response.end();
    },
    'a connection that breaks off': (response: Parameters<typeof say>[0]) => {
      say(response, 'hel');
      setTimeout(() => response.destroy(), 20);
    },
    'a stream that ends without its end': (response: Parameters<typeof say>[0]) => {
      say(response, 'hel');
      response.end();
    },
    'a page of something else': (response: Parameters<typeof say>[0]) => {
      response.end('<html>proxy</html>\n');
    },
  })) {
    it(`${name} is a failure of the engine, not an answer`, async () => {
      fake.onChat(behave);
      assert.equal(
        await codeOf(all(engineAt(fake.host).generate(request(), SIGNAL))),
        'engine_failed',
      );
    });
  }

  it('that repeats itself until Ollama gives up is a repetition', async () => {
    fake.onChat(response => {
      for (let index = 0; index < 31; index++) say(response, 'la');
      response.end();
    });
    const last = (await all(engineAt(fake.host).generate(request(), SIGNAL))).at(-1);
    assert.equal(last?.kind === 'done' && last.reason, 'repetition');
  });

  it('that read only half of a long prompt is not believed', async () => {
    fake.onChat(response => {
      say(response, 'yes');
      finish(response, { prompt_eval_count: 2_051 });
    });
    const long = request({
      context_tokens: 4_096,
      messages: [{ role: 'user', content: 'word '.repeat(12_000) }],
    });
    assert.equal(await codeOf(all(engineAt(fake.host).generate(long, SIGNAL))), 'answer_truncated');
  });

  for (const [name, hang, limit] of [
    ['the first token', (it: FakeOllama) => it.onChat(() => {}), { firstTokenMs: 50 }],
    ['between tokens', (it: FakeOllama) => it.onChat(r => say(r, 'a')), { betweenTokensMs: 50 }],
  ] as const) {
    it(`that hangs at ${name} is given up in time, and its stream is closed`, async () => {
      hang(fake);
      const engine = engineAt(fake.host, limit);
      assert.equal(await codeOf(all(engine.generate(request(), SIGNAL))), 'timeout');
      await sleep(50);
      assert.equal(fake.closed, 1);
    });
  }

  it('that loads for ever without getting on is given up, and its stream is closed', async () => {
    fake.onLoad(() => {});
    const engine = engineAt(fake.host, { loadMs: 50 });
    const load = engine.load('tiny:latest', { context_tokens: 512 }, SIGNAL);
    assert.equal(await codeOf(load), 'timeout');
    await sleep(50);
    assert.equal(fake.closed, 1);
  });

  it('hears of a cancellation by the closed stream', async () => {
    fake.onChat(response => say(response, 'a'));
    const cancel = new AbortController();
    const work = all(engineAt(fake.host).generate(request(), cancel.signal));
    setTimeout(() => cancel.abort(), 50);
    assert.equal(await codeOf(work), 'cancelled');
    await sleep(50);
    assert.equal(fake.closed, 1);
  });

  it('hears of a listener that leaves early as well', async () => {
    fake.onChat(response => say(response, 'a'));
    for await (const _ of engineAt(fake.host).generate(request(), SIGNAL)) break;
    await sleep(50);
    assert.equal(fake.closed, 1);
  });
});

const real = await startRealOllama();
if (real.kind === 'skipped') process.stdout.write(`# skipped, because ${real.reason}\n`);
describe('a real Ollama', { skip: real.kind === 'skipped' ? real.reason : false }, () => {
  if (real.kind === 'skipped') return;
  const { ollama } = real;
  after(() => ollama.stop());

  contract(() => ollama.host);

  it('loads a model with the context asked for, keeps it over a chat, and unloads it', async () => {
    const engine = engineAt(ollama.host);
    await engine.load('tiny:latest', { context_tokens: 1_024 }, SIGNAL);
    const loaded = async () => (await engine.inventory(SIGNAL)).models[0];
    assert.deepEqual([(await loaded())?.loaded, (await loaded())?.context_tokens], [true, 1_024]);
    assert.ok(((await loaded())?.ram_bytes ?? 0) > 100_000);
    const chunks = await all(engine.generate(request({ context_tokens: 1_024 }), SIGNAL));
    const last = chunks.at(-1);
    assert.ok(last?.kind === 'done' && last.load_ms < 200, 'the chat must not load it again');
    await engine.unload('tiny:latest', SIGNAL);
    assert.equal((await loaded())?.loaded, false);
  });

  it('refuses a prompt that does not fit instead of cutting it', async () => {
    const long = request({ messages: [{ role: 'user', content: 'x'.repeat(3_000) }] });
    const error = await failure(all(engineAt(ollama.host).generate(long, SIGNAL)));
    assert.equal(error.code, 'answer_truncated');
  });

  it('says so when the output limit ends the answer', async () => {
    const chunks = await all(
      engineAt(ollama.host).generate(request({ output_tokens_max: 3 }), SIGNAL),
    );
    const last = chunks.at(-1);
    assert.ok(last?.kind === 'done' && last.reason === 'length' && last.output_tokens === 3);
  });

  it('keeps to a schema', async () => {
    const format = {
      type: 'object',
      properties: { answer: { enum: ['yes', 'no'] } },
      required: ['answer'],
    };
    const asked = request({ format, output_tokens_max: 200, temperature: 0 });
    const chunks = await all(engineAt(ollama.host).generate(asked, SIGNAL));
    const text = chunks.map(chunk => (chunk.kind === 'text' ? chunk.text : '')).join('');
    assert.match((JSON.parse(text) as { answer: string }).answer, /^(?:yes|no)$/);
  });

  /** Reads a long answer to its end, and does something once it has begun. */
  async function meddle(
    engine: Engine,
    signal: AbortSignal,
    act: () => unknown,
    output_tokens_max = 4_000,
  ): Promise<void> {
    const long = request({ context_tokens: 8_192, output_tokens_max, format: LONG_FORMAT });
    let begun = false;
    for await (const _ of engine.generate(long, signal)) {
      if (!begun) await act();
      begun = true;
    }
  }

  // About once in twenty times this server's runner stands still after a cancellation, for everybody.
  const quick = (): Engine => engineAt(ollama.host, { firstTokenMs: 30_000 });

  it('stops working when it is cancelled', async () => {
    const engine = quick();
    const timed = async (work: Promise<unknown>): Promise<number> => {
      const started = performance.now();
      await work;
      return performance.now() - started;
    };
    const part = (): Promise<number> => timed(meddle(engine, SIGNAL, () => {}, 100));
    const partMs = await part();
    const cancel = new AbortController();
    const work = meddle(engine, cancel.signal, () => cancel.abort());
    assert.equal(await codeOf(work), 'cancelled');
    const nextMs = await timed(all(engine.generate(request({ context_tokens: 8_192 }), SIGNAL)));
    // The whole takes nearly twenty parts; the machine may be busier now than it was before.
    const limitMs = 8 * Math.max(partMs, await part());
    assert.ok(nextMs < limitMs, `the next request waited ${nextMs} ms for a cancelled one`);
  });

  it('that is killed in mid-answer is a failure, and afterwards an absence', async () => {
    const engine = quick();
    const { code } = await failure(meddle(engine, SIGNAL, () => ollama.kill()));
    assert.equal(code, 'engine_failed');
    assert.equal((await engine.inventory(SIGNAL)).available, false);
  });
});
