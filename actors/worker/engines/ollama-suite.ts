/**
 * Goal: what a server of Ollama does is known and pinned, and the emulator does the same. Method:
 * one suite, run on both: over plain HTTP, and through the engine that the worker uses.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { CodeGodError } from '../../../protocol/errors.ts';
import { systemClock } from '../../../runtime/clock.ts';
import { answers } from '../../../test/real-ollama/suite/answers.ts';
import { catalog } from '../../../test/real-ollama/suite/catalog.ts';
import {
  Client,
  LONG_FORMAT,
  LONG_OPTIONS,
  type Subject,
  type SuiteServer,
  until,
} from '../../../test/real-ollama/suite/client.ts';
import { loading } from '../../../test/real-ollama/suite/loading.ts';
import { QUEUEING_ENV, queueing } from '../../../test/real-ollama/suite/queueing.ts';
import type { Engine, GenerateChunk, GenerateRequest } from './engine.ts';
import { createOllamaEngine } from './ollama.ts';

export type { Subject, SuiteServer };

const SIGNAL = new AbortController().signal;

export function ollamaSuite(subject: Subject): void {
  describe('with room for three models', () => {
    const client = server(subject);
    describe('loading', () => loading(client));
    describe('what it has', () => catalog(client));
    describe('answers', () => answers(client));
  });
  describe('with two slots and room for one model', () => {
    const client = server(subject, QUEUEING_ENV);
    describe('queueing', () => queueing(client));
    describe('behind the engine', () => engine(client));
  });
  it('with a cache of eight bits: it tells a byte per element, without the scales', async () => {
    const env = { OLLAMA_KV_CACHE_TYPE: 'q8_0', OLLAMA_FLASH_ATTENTION: '1' };
    const started = await subject.start(env);
    const client = new Client(started.host);
    assert.equal(await client.bytesPerToken('wide'), 2 * 2 * 2 * 32);
    assert.equal((await client.chat('wide', 'hi', { options: { num_predict: 1 } }))['done'], true);
    await started.stop();
  });
  it('killed in mid-stream: the stream breaks, and then nobody is there', async () => {
    const started = await subject.start();
    const client = new Client(started.host);
    const stream = await client.long('tiny');
    await started.kill();
    await assert.rejects(stream.rest);
    await assert.rejects(client.ask('/api/version'));
    await started.stop();
  });
}

function server(subject: Subject, env: Readonly<Record<string, string>> = {}): () => Client {
  let started: SuiteServer | null = null;
  before(async () => {
    started = await subject.start(env);
  });
  after(() => started?.stop());
  return () => new Client(started?.host ?? '');
}

function engine(client: () => Client): void {
  const create = (): Engine => createOllamaEngine({ host: client().host, clock: systemClock });
  const request: GenerateRequest = {
    model: 'tiny:latest',
    messages: [{ role: 'user', content: 'hi' }],
    context_tokens: LONG_OPTIONS.num_ctx,
    output_tokens_max: LONG_OPTIONS.num_predict,
    temperature: 0,
    think: false,
    format: LONG_FORMAT,
  };

  it('loads, answers with counts, is seen as loaded, and unloads', async () => {
    const ollama = create();
    const chunks: GenerateChunk[] = [];
    for await (const chunk of ollama.generate({ ...request, output_tokens_max: 20 }, SIGNAL)) {
      chunks.push(chunk);
    }
    const last = chunks.at(-1);
    assert.ok(last?.kind === 'done' && last.reason === 'length', JSON.stringify(last));
    assert.deepEqual([last.prompt_tokens, last.output_tokens], [21, 20]);
    const tiny = async () => {
      const { models } = await ollama.inventory(SIGNAL);
      return models.find(({ name }) => name === 'tiny:latest');
    };
    assert.deepEqual(
      [(await tiny())?.loaded, (await tiny())?.context_tokens],
      [true, LONG_OPTIONS.num_ctx],
    );
    await ollama.unload('tiny:latest', SIGNAL);
    await until(async () => (await tiny())?.loaded === false);
  });

  it('loads a model that only embeds, which cannot be chatted with', async () => {
    const ollama = create();
    await ollama.inventory(SIGNAL);
    const copy = await ollama.load('embeds:latest', { context_tokens: 128 }, SIGNAL);
    assert.equal(copy?.context_tokens, 128);
    await ollama.unload('embeds:latest', SIGNAL);
    await until(async () => !(await client().loaded()).includes('embeds'));
  });

  it('cancelled in mid-answer: it says so, and the slot is free at once', async () => {
    const abort = new AbortController();
    const cancelled = (async () => {
      for await (const _ of create().generate(request, abort.signal)) abort.abort();
    })();
    await assert.rejects(cancelled, isError('cancelled'));
    const next = await client().chat('tiny', 'hi', {
      options: { ...LONG_OPTIONS, num_predict: 1 },
    });
    assert.equal(next['done'], true);
  });

  it('refuses a prompt that does not fit', async () => {
    const long = { ...request, messages: [{ role: 'user', content: 'x'.repeat(12_000) }] } as const;
    const work = (async () => {
      for await (const _ of create().generate(long, SIGNAL)) assert.fail('an answer');
    })();
    await assert.rejects(work, isError('answer_truncated'));
  });
}

const isError =
  (code: string) =>
  (error: unknown): boolean =>
    error instanceof CodeGodError && error.code === code;
