/** What is asked of an Ollama about its models, and how often. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Ollama } from 'ollama';
import type { ModelProfile } from '../../../protocol/model-profile.ts';
import { SimulatedClock } from '../../../runtime/clock.ts';
import { testModel } from '../../../scheduling/test-models.ts';
import { SHAPES } from '../../../scheduling/test-shapes.ts';
import { type DetailsStore, OllamaCatalog } from './ollama-catalog.ts';

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

test('what an older release kept of a model is asked for again, what this one kept is not', async () => {
  const kept = new Map<string, unknown>();
  let asked = 0;
  const client = {
    version: async () => ({ version: '0.33.2' }),
    list: async () => ({ models: [{ name: 'chat', digest: 'digest', size: 18e9 }] }),
    ps: async () => ({ models: [] }),
    show: async () => {
      asked += 1;
      const { metadata, tensors } = testModel(SHAPES['qwen3.6:27b'], 'Q4_K_M');
      return { model_info: metadata, tensors, capabilities: ['completion'] };
    },
  } as unknown as Ollama;
  const store: DetailsStore = {
    get: async key => kept.get(key),
    put: async (key, value) => void kept.set(key, value),
  };
  const look = async () => {
    const catalog = new OllamaCatalog(store, new SimulatedClock());
    const [model] = await catalog.describeAll(client, await catalog.list(client), () => {});
    return model?.profile?.drafting;
  };
  assert.ok((await look()) !== undefined);
  assert.ok((await look()) !== undefined);
  assert.equal(asked, 1);
  for (const [key, value] of kept) {
    const { profile, ...details } = value as { readonly profile: ModelProfile };
    const { drafting: _, ...older } = profile;
    kept.set(key, { ...details, version: 1, profile: older });
  }
  assert.ok((await look()) !== undefined, 'with what only this release knows to ask for');
  assert.equal(asked, 2);
});
