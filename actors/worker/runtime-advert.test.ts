/** Goal: an advert always fits its message, and what it leaves out is what is wanted least. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RuntimeAdvert } from '../../protocol/node.ts';
import { systemClock } from '../../runtime/clock.ts';
import { memoryJournal } from '../../runtime/journal.ts';
import { WORKER_KEYS } from '../../runtime/journal-keys.ts';
import { silentLogger } from '../../runtime/log.ts';
import { profileOfSize } from '../../scheduling/memory.ts';
import { ModelMeasures } from './model-measures.ts';
import { boundedAdvert, boundedLeases, LEASES_MAX } from './runtime-advert.ts';

const model = (index: number, changes: object = {}) => ({
  ...{ name: `m${index}`, digest: `d${index}`, size_bytes: 1, family: '', parameter_size: '' },
  ...{ quantization: '', context_max: 4_096, capabilities: [], loaded: false, used_at: index },
  ...{ vram_bytes: null, ram_bytes: null, context_tokens: null },
  profile: profileOfSize({ size_bytes: 5e9, context_max: 4_096, family: 'llama' }),
  ...changes,
});
const advert = (models: object[]): RuntimeAdvert =>
  RuntimeAdvert.parse({
    ...{ node: 'n1', epoch: 1, host: 'h', state: 'ready', at: 1, leases: [] },
    ...{ slots: 1, slots_used: 0 },
    engines: [{ name: 'ollama', available: true, version: '1', reason: null, models }],
  });

describe('an advert', () => {
  it('that fits goes out whole', () => {
    const whole = advert([model(1)]);
    assert.deepEqual(boundedAdvert(whole, 100_000), { advert: whole, dropped: 0 });
  });

  it('that is too large leaves out profiles, of models used longest ago first', () => {
    const models = Array.from({ length: 512 }, (_, index) =>
      model(index, index === 0 ? { loaded: true } : {}),
    );
    const bound = 250_000;
    const { advert: sent, dropped } = boundedAdvert(advert(models), bound);
    assert.ok(Buffer.byteLength(JSON.stringify(sent)) <= bound);
    const told = (sent.engines[0]?.models ?? []).map(({ profile }) => profile !== undefined);
    assert.equal(told.length, 512);
    assert.deepEqual([told[0], told[1], told[511]], [true, false, true]);
    assert.equal(told.filter(isTold => !isTold).length, dropped);
    assert.ok(dropped < 512);
    RuntimeAdvert.parse(sent);
  });

  it('with too many leases keeps the largest of every model', () => {
    const lease = (index: number) => ({
      ...{ lease: `1-${index}`, model: index === 400 ? 'rare' : 'common', bytes: index },
      expires_at: 1,
    });
    const leases = Array.from({ length: 401 }, (_, index) => lease(index)) as never[];
    const kept = boundedLeases(leases);
    assert.equal(kept.length, LEASES_MAX);
    assert.ok(kept.some(({ model: name }) => name === 'rare'));
    assert.ok(kept.some(({ bytes }) => bytes === 399));
  });
});

describe('what was measured of a model', () => {
  const named = model(1) as never as Parameters<ModelMeasures['of']>[0];

  it('is a mean of late, kept over restarts, and void for another file of that name', async () => {
    const journal = await memoryJournal(WORKER_KEYS);
    const measures = await ModelMeasures.open({ journal, log: silentLogger, clock: systemClock });
    const observed = {
      ...{ measured_bytes: 6, estimated_bytes: 7, context_tokens: 4_096 },
      ...{ engine_version: '1', backend: 'cuda' as const, kv_type: 'f16' as const },
    };
    const load = { model: named as never, load_ms: 1_000, observed };
    measures.loaded(load);
    measures.loaded({ ...load, observed: { ...observed, measured_bytes: 5 } });
    measures.loaded({ ...load, load_ms: 2_000, observed: null });
    measures.spoke(named as never, {
      ...{ prompt_tokens: 8, prompt_ms: 1, output_tokens: 100, output_ms: 2_000 },
    });
    await measures.close();
    const again = await ModelMeasures.open({ journal, log: silentLogger, clock: systemClock });
    assert.deepEqual(again.of(named), {
      ...{ load_ms: 1_300, prompt_tokens_per_s: null, output_tokens_per_s: 50 },
      observed,
    });
    assert.deepEqual(again.of({ ...named, digest: 'other' }), {});
  });
});
