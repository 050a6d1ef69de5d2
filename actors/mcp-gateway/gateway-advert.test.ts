/** What a gateway says of itself, and when. Method: a bus in memory that is cut and joined again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode } from '../../protocol/codec.ts';
import { NodeId } from '../../protocol/ids.ts';
import { GatewayAdvert } from '../../protocol/node.ts';
import { BUCKETS } from '../../protocol/streams.ts';
import { advertKey } from '../../protocol/subjects.ts';
import { until } from '../../runtime/bus-suite.ts';
import { systemClock } from '../../runtime/clock.ts';
import { silentLogger } from '../../runtime/log.ts';
import { createMemoryBroker } from '../../runtime/memory-bus.ts';
import { createMessenger } from '../../runtime/messages.ts';
import { advertise } from './gateway.ts';

/** Less than the pause between two adverts. */
const SOON_MS = 2_500;

test('a gateway that has lost the bus says so as soon as it is back, also to a new bus', async () => {
  const clock = systemClock;
  const node = NodeId.parse('attic');
  const broker = createMemoryBroker({ clock });
  const [bus, watcher] = [broker.connect('gateway'), broker.connect('watcher')];
  const bucket = watcher.kv(BUCKETS.node.name);
  await bucket.ensure({ storage: 'memory' });
  const messenger = createMessenger(bus, { source: '/node/attic/actor/mcp-gateway', clock });
  const advertising = advertise({
    ...{ messenger, clock, node, host: 'attic', epoch: 3, log: silentLogger },
    sandbox: () => 'none',
    onState: () => () => {},
    state: () => 'ready',
    status: async () => ({ servers: [] }),
  });
  let connections = 0;
  const over = new AbortController();
  const follow = async (): Promise<void> => {
    for await (const change of bucket.watch(over.signal, advertKey(node, 'gateway'))) {
      if (change.op !== 'put') continue;
      connections = GatewayAdvert.parse(decode(change.value, undefined)).connections ?? 0;
    }
  };
  const following = follow();
  await until('the first advert', () => connections === 1);
  bus.disconnect();
  bus.reconnect();
  await until('the second connection', () => connections === 2, SOON_MS);
  broker.restart();
  await until('the third connection', () => connections === 3, SOON_MS);
  await advertising.stop();
  assert.equal(await bucket.get(advertKey(node, 'gateway')), null);
  over.abort();
  await Promise.all([following, bus.close(), watcher.close()]);
});
