/** Goal: what is expected of a model follows what it did, and is not led astray by what cost nothing. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SimulatedClock } from '../../runtime/clock.ts';
import { memoryJournal } from '../../runtime/journal.ts';
import { WORKER_KEYS } from '../../runtime/journal-keys.ts';
import { silentLogger } from '../../runtime/log.ts';
import { ModelMeasures } from './model-measures.ts';

const MODEL = { name: 'm:7b', digest: 'd' } as Parameters<ModelMeasures['spoke']>[0];

async function rateAfter(...readings: readonly (readonly [number, number])[]): Promise<number> {
  const journal = await memoryJournal(WORKER_KEYS);
  const clock = new SimulatedClock();
  const measures = await ModelMeasures.open({ journal, log: silentLogger, clock });
  for (const [prompt_tokens, prompt_ms] of readings) {
    measures.spoke(MODEL, { prompt_tokens, prompt_ms, output_tokens: null, output_ms: null });
  }
  await measures.close();
  return measures.of(MODEL).prompt_tokens_per_s ?? assert.fail('nothing was learnt');
}

test('one long reading corrects what short ones had made up', async () => {
  const cached = [20_000, 40] as const;
  const slow = [12_000, 300_000] as const;
  assert.ok((await rateAfter(cached, cached, slow)) < 60);
  assert.ok((await rateAfter(slow, slow, cached, cached)) < 45);
});

test('readings of a length are averaged', async () => {
  assert.equal(await rateAfter([1_000, 2_000], [3_000, 2_000]), 750);
  assert.equal(await rateAfter([3_000, 2_000], [1_000, 2_000]), 750);
});
