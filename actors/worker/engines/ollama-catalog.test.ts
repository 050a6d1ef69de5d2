/** What is asked of an Ollama about its models, and how often. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Ollama } from 'ollama';
import { SimulatedClock } from '../../../runtime/clock.ts';
import { OllamaCatalog } from './ollama-catalog.ts';

const MODELS = ['good', 'bad'].map(name => ({ name, digest: `digest-${name}`, size: 1 }));

test('a model that cannot be described is listed, and asked about with a growing pause', async () => {
  const clock = new SimulatedClock();
  const asked: string[] = [];
  let isMended = false;
  const client = {
    version: async () => ({ version: '0.17.4' }),
    list: async () => ({ models: MODELS }),
    ps: async () => ({ models: [] }),
    show: async ({ model }: { model: string }) => {
      asked.push(model);
      if (model === 'bad' && !isMended) throw new Error('unable to read its file');
      const model_info = { 'general.architecture': 'llama', 'llama.context_length': 4_096 };
      return { model_info, capabilities: ['completion'] };
    },
  } as unknown as Ollama;
  const catalog = new OllamaCatalog(null, clock);
  const look = async (): Promise<number[]> => {
    const models = await catalog.describeAll(client, await catalog.list(client), () => {});
    await clock.advance(10_000);
    return models.map(({ context_max }) => context_max);
  };
  for (let looks = 0; looks < 360; looks += 1) assert.deepEqual(await look(), [4_096, 0]);
  const times = asked.filter(name => name === 'bad').length;
  assert.ok(times > 5 && times < 15, `asked ${times} times in an hour`);
  assert.equal(asked.filter(name => name === 'good').length, 1);
  isMended = true;
  for (let looks = 0; looks < 60; looks += 1) await look();
  assert.deepEqual(await look(), [4_096, 4_096]);
});
