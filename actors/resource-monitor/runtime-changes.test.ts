/** What makes the monitor measure between its beats. On a bus in memory, in simulated time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from '../../protocol/codec.ts';
import { NodeId } from '../../protocol/ids.ts';
import { BUCKETS } from '../../protocol/streams.ts';
import { advertKey } from '../../protocol/subjects.ts';
import { SimulatedClock, systemClock } from '../../runtime/clock.ts';
import { silentLogger } from '../../runtime/log.ts';
import { createMemoryBroker } from '../../runtime/memory-bus.ts';
import { ensureStores } from '../../runtime/stores.ts';
import { watchRuntime } from './runtime-changes.ts';

const NODE = NodeId.parse('n1');
const model = (name: string, loaded: boolean, state: string) => ({
  ...{ name, loaded, state, vram_bytes: loaded ? 2 ** 30 : null },
});
const settled = async (): Promise<void> => {
  for (let turn = 0; turn < 20; turn += 1) await new Promise(resolve => setImmediate(resolve));
};

test('what is loaded or unloaded is measured soon, once; what only runs is not', async () => {
  const bus = createMemoryBroker({ clock: systemClock }).connect('monitor');
  await ensureStores(bus);
  const clock = new SimulatedClock();
  const over = new AbortController();
  let changes = 0;
  const changed = (): void => {
    changes += 1;
  };
  const parts = { bus, node: NODE, clock, log: silentLogger, changed };
  const watching = watchRuntime(parts, over.signal);
  const say = async (...models: readonly object[]): Promise<void> => {
    const advert = { engines: [{ name: 'ollama', models }] };
    await bus.kv(BUCKETS.node.name).put(advertKey(NODE, 'runtime'), encode(advert));
    await settled();
  };
  const pass = async (): Promise<number> => {
    await clock.advance(500);
    return changes;
  };
  await say(model('a', false, 'absent'));
  assert.equal(await pass(), 0, 'the first advert is no change');
  await say({ ...model('a', false, 'absent'), in_flight: 3 }, model('b', false, 'absent'));
  assert.equal(await pass(), 0);
  await say(model('a', false, 'loading'));
  await say(model('a', true, 'loaded'));
  assert.equal(await pass(), 1, 'changes that come together are one');
  await say({ nonsense: true });
  await say(model('a', false, 'absent'));
  assert.equal(await pass(), 2);
  over.abort();
  await watching;
  await bus.close();
});
