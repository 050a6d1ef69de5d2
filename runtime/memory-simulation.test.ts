/**
 * The in-memory bus under a simulated clock: nothing moves but time that is advanced by hand.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ADVERT_TTL_MS, BUCKETS } from '../protocol/streams.ts';
import type { BusEvent, Outcome } from './bus.ts';
import { watching } from './bus-buckets-suite.ts';
import { streamOf } from './bus-streams-suite.ts';
import { bytes, text } from './bus-suite.ts';
import { SimulatedClock } from './clock.ts';
import { createMemoryBroker, type MemoryBrokerOptions, type MemoryBus } from './memory-bus.ts';
import { ensureStores } from './stores.ts';

interface World {
  readonly clock: SimulatedClock;
  connect(): MemoryBus;
  restart(): void;
}

function simulate(options: Partial<MemoryBrokerOptions> = {}): World {
  const clock = new SimulatedClock({ seed: 42 });
  const broker = createMemoryBroker({ clock, ...options });
  return { clock, connect: () => broker.connect('test'), restart: () => broker.restart() };
}

test('an hour of ack waits passes in no time', async () => {
  const { clock, connect } = simulate();
  const bus = connect();
  await bus.streams.ensure(streamOf('s'));
  const deliveries: string[] = [];
  const options = {
    durable: 'worker',
    filter: 's.>',
    ack_wait_ms: 30_000,
    max_deliver: 4,
    max_ack_pending: 1,
    concurrency: 1,
  };
  await bus.consume('S', options, async (delivery): Promise<Outcome> => {
    deliveries.push(`${clock.monotonic()}:${delivery.deliveries}`);
    return { kind: 'retry', delay_ms: 600_000, reason: 'later' };
  });
  const events: BusEvent[] = [];
  bus.status(event => events.push(event));
  await bus.streams.append('s.a', bytes('x'));
  await clock.advance(3_600_000);
  assert.deepEqual(deliveries, ['0:1', '600000:2', '1200000:3', '1800000:4']);
  assert.deepEqual(events, [{ type: 'deliveries_exhausted', stream: 'S', seq: 1 }]);
});

test('an advert expires at its time to live, not before', async () => {
  const { clock, connect } = simulate();
  const kv = connect().kv('node');
  await kv.ensure({ storage: 'memory', ttl_ms: 15_000 });
  const changes = watching(kv, new AbortController().signal);
  await clock.advance(0);
  await kv.put('n1', bytes('a'));
  await clock.advance(14_999);
  assert.deepEqual(changes, ['initial_done', 'put n1=a']);
  await clock.advance(1);
  assert.equal(changes.at(-1), 'expired n1');
});

test('a disconnected bus fails asks, drops publishes, and stores appends once it is back', async () => {
  const { clock, connect } = simulate();
  const [cut, other] = [connect(), connect()];
  const events: string[] = [];
  cut.status(event => events.push(event.type));
  await other.streams.ensure(streamOf('s'));
  other.serve('echo', async ({ body }) => ({ body }));
  cut.disconnect();
  await assert.rejects(cut.ask('echo', bytes(''), { timeout_ms: 1_000 }), {
    code: 'bus_unavailable',
  });
  cut.publish('s.a', bytes('dropped'));
  const appending = cut.streams.append('s.a', bytes('kept'), { timeout_ms: 60_000 });
  await clock.advance(30_000);
  cut.reconnect();
  await clock.advance(2_000);
  assert.deepEqual(await appending, { kind: 'appended', seq: 1, duplicate: false });
  assert.equal(text((await cut.ask('echo', bytes('x'), { timeout_ms: 1_000 })).body), 'x');
  assert.deepEqual(events, ['disconnected', 'publishes_dropped', 'reconnected']);
  cut.disconnect();
  const late = assert.rejects(cut.streams.append('s.a', bytes('late')), {
    code: 'bus_unavailable',
  });
  await clock.advance(20_000);
  await late;
});

test('a restarted broker keeps files, forgets memory, and watchers converge', async () => {
  const { clock, connect, restart } = simulate();
  const bus = connect();
  await bus.streams.ensure(streamOf('s'));
  await bus.streams.append('s.a', bytes('kept'));
  const kv = bus.kv('node');
  await kv.ensure({ storage: 'memory', ttl_ms: 60_000 });
  await kv.put('n1', bytes('a'));
  const changes = watching(kv, new AbortController().signal);
  await clock.advance(1);
  restart();
  await clock.advance(1_000);
  await kv.put('n2', bytes('b'));
  await clock.advance(1_000);
  assert.deepEqual(changes, ['put n1=a', 'initial_done', 'expired n1', 'put n2=b']);
  assert.equal((await bus.streams.info('S'))?.messages, 1);
});

test('lost, doubled and late messages follow from the fault, and a lost chunk is an error', async () => {
  let chunks = 0;
  const fault = (subject: string) => {
    if (!subject.startsWith('_INBOX')) return 'deliver' as const;
    chunks += 1;
    return chunks === 4 ? ('drop' as const) : ('deliver' as const);
  };
  const { clock, connect } = simulate({ fault });
  const [client, server] = [connect(), connect()];
  server.serveStream('tokens', async (_message, { send }) => {
    for (let i = 0; i < 10; i += 1) await send(bytes(String(i)));
  });
  const got: string[] = [];
  const reading = (async () => {
    const options = { first_ms: 1_000, idle_ms: 1_000 };
    for await (const { body } of client.askStream('tokens', bytes(''), options)) {
      got.push(text(body));
    }
  })();
  const failed = assert.rejects(reading, { code: 'bus_unavailable' });
  await clock.advance(1_000);
  await failed;
  assert.deepEqual(got.join(''), '01'.slice(0, got.length));
});

test('the same seed gives the same run', async () => {
  const run = async (): Promise<string> => {
    const { clock, connect } = simulate();
    const buses = [connect(), connect(), connect()];
    const log: string[] = [];
    for (const [index, bus] of buses.entries()) {
      bus.subscribe('work', ({ body }) => log.push(`${index}:${text(body)}`), { queue: 'q' });
    }
    for (let i = 0; i < 50; i += 1) buses[i % 3]?.publish('work', bytes(String(i)));
    await clock.advance(1);
    return log.join(' ');
  };
  assert.equal(await run(), await run());
});

test('a server that nobody is connected to sets no timer, and forgets what got too old meanwhile', async () => {
  const clock = new SimulatedClock();
  const broker = createMemoryBroker({ clock });
  const first = broker.connect('first');
  await ensureStores(first);
  await first.kv(BUCKETS.node.name).put('a.capacity', new Uint8Array([1]));
  await first.close();
  assert.equal(clock.timersPending, 0);
  await clock.advance(10 * ADVERT_TTL_MS);
  const second = broker.connect('second');
  await clock.advance(1);
  assert.equal(await second.kv(BUCKETS.node.name).get('a.capacity'), null);
  await second.close();
});
