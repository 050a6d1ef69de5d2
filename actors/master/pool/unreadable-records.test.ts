/** Records of people that cannot be read: they count as none, and never as what stood there before. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { encode } from '../../../protocol/codec.ts';
import { BUCKETS } from '../../../protocol/streams.ts';
import { SimulatedClock } from '../../../runtime/clock.ts';
import { silentLogger } from '../../../runtime/log.ts';
import { createMemoryBroker } from '../../../runtime/memory-bus.ts';
import { ensureStores } from '../../../runtime/stores.ts';
import { ApiKeys } from './api-keys.ts';
import { Policies } from './policies.ts';

async function world() {
  const clock = new SimulatedClock();
  const bus = createMemoryBroker({ clock }).connect('test');
  await ensureStores(bus);
  const put = async (bucket: string, key: string, value: unknown): Promise<void> => {
    await bus.kv(bucket).put(key, encode(value));
    await clock.advance(10);
  };
  return { bus, clock, put, log: silentLogger };
}

test('a key whose shorter time cannot be read lets nobody in, and the door is no open one', async () => {
  const { bus, clock, put, log } = await world();
  const keys = new ApiKeys({ bus, clock, log });
  const stop = new AbortController();
  await keys.watch(stop.signal);
  const key = {
    ...{
      id: 'abcdef01',
      name: 'laptop',
      sha256: createHash('sha256').update('secret').digest('hex'),
    },
    ...{ models: [], created_at: 1, expires_at: null, in_flight_max: null },
    ...{ requests_per_minute: null, tokens_per_minute: null, priority: 0 },
  };
  await put(BUCKETS.key.name, 'k1', key);
  assert.equal(keys.find('secret').name, 'laptop');
  await put(BUCKETS.key.name, 'k1', { ...key, expires_at: 'soon' });
  assert.throws(() => keys.find('secret'), { code: 'unauthorized' });
  assert.equal(keys.isEmpty, false);
  await bus.kv(BUCKETS.key.name).delete('k1');
  await clock.advance(10);
  assert.equal(keys.isEmpty, true);
  stop.abort();
});

test('a rule that cannot be read is none', async () => {
  const { bus, put, log } = await world();
  const policies = new Policies({ bus, log });
  const stop = new AbortController();
  await policies.watch(stop.signal);
  const rule = { model: 'm', replicas_min: 1, nodes: [], priority: 0, context_tokens: null, at: 1 };
  await put(BUCKETS.policy.name, 'm', rule);
  assert.equal(policies.of('m')?.replicas_min, 1);
  await put(BUCKETS.policy.name, 'm', { ...rule, replicas_min: 'many' });
  assert.deepEqual(policies.all(), []);
  stop.abort();
});
