/**
 * What survives a killed server: everything acknowledged, every consumer, follower and watcher.
 *
 * Each test has a server of its own, kills it with SIGKILL and starts it again on the same port.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type NatsFixture, startNats } from '../test/nats-fixture.ts';
import type { Bus, BusEvent } from './bus.ts';
import { watching } from './bus-buckets-suite.ts';
import { readAll, streamOf } from './bus-streams-suite.ts';
import { bytes, text, until } from './bus-suite.ts';
import { systemClock } from './clock.ts';
import { connectNats } from './nats-bus.ts';

interface World {
  readonly server: NatsFixture;
  readonly events: BusEvent[];
  readonly bus: Bus;
}

function restartTest(name: string, body: (world: World) => Promise<void>): void {
  test(name, { timeout: 60_000 }, async () => {
    const server = await startNats();
    const bus = await connectNats({ servers: [server.url], name: 'test', clock: systemClock });
    const events: BusEvent[] = [];
    bus.status(event => events.push(event));
    try {
      await body({ server, events, bus });
    } finally {
      await bus.close();
      await server.stop();
    }
  });
}

const reconnected = ({ events }: World): Promise<void> =>
  until('a reconnect', () => events.some(event => event.type === 'reconnected'), 15_000);

restartTest('asks fail at once while the server is down, then succeed', async world => {
  const { server, bus, events } = world;
  bus.serve('echo', async ({ body }) => ({ body }));
  bus.subscribe('mute', () => undefined);
  await bus.rtt();
  const inFlight = bus.ask('mute', bytes(''), { timeout_ms: 20_000 });
  const failed = assert.rejects(inFlight, { code: 'bus_unavailable' });
  await server.kill9();
  await failed;
  const startMs = Date.now();
  await assert.rejects(bus.ask('echo', bytes('x'), { timeout_ms: 20_000 }), {
    code: 'bus_unavailable',
  });
  assert(Date.now() - startMs < 200);
  assert.equal(bus.info().connected, false);
  bus.publish('lost', bytes('x'));
  bus.publish('lost', bytes('x'));
  await server.restart();
  await reconnected(world);
  assert.equal(text((await bus.ask('echo', bytes('x'), { timeout_ms: 5_000 })).body), 'x');
  assert.deepEqual(
    events.map(event => event.type),
    ['disconnected', 'publishes_dropped', 'reconnected'],
  );
  assert.deepEqual(events[1], { type: 'publishes_dropped', count: 2 });
});

restartTest('nothing acknowledged is lost and nothing is stored twice', async world => {
  const { server, bus } = world;
  await bus.streams.ensure(streamOf('s'));
  const acknowledged = new Map<string, number>();
  let sent = 0;
  let writing = true;
  const write = async (): Promise<void> => {
    while (writing) {
      sent += 1;
      const body = String(sent);
      const ack = await bus.streams.append('s.a', bytes(body), { timeout_ms: 20_000 });
      assert(ack.kind === 'appended');
      acknowledged.set(body, ack.seq);
    }
  };
  const writers = Array.from({ length: 8 }, write);
  await until('some writes', () => acknowledged.size > 100);
  await server.kill9();
  const before = acknowledged.size;
  await sleep(300);
  await server.restart();
  await until('writes after the restart', () => acknowledged.size > before + 100, 20_000);
  writing = false;
  await Promise.all(writers);
  const stored = await readAll(bus, 'S', 's.>');
  assert.equal(stored.length, new Set(stored).size, 'a message is stored twice');
  assert.deepEqual([...acknowledged.keys()].sort(), [...stored].sort());
});

restartTest('the single writer of a log goes on where it was', async world => {
  const { server, bus } = world;
  await bus.streams.ensure(streamOf('s'));
  let last = 0;
  const killing = sleep(150).then(() => server.restart());
  for (let i = 0; i < 400; i += 1) {
    const ack = await bus.streams.append('s.b1.fact', bytes(String(i)), {
      timeout_ms: 20_000,
      expect: { last_subject_sequence: last, filter_subject: 's.b1.>' },
    });
    assert(ack.kind === 'appended', `fact ${i}: ${ack.kind}`);
    last = ack.seq;
  }
  await killing;
  const stored = await readAll(bus, 'S', 's.>');
  assert.deepEqual(
    stored,
    Array.from({ length: 400 }, (_, i) => String(i)),
  );
});

restartTest('a follower misses nothing and repeats nothing', async world => {
  const { server, bus } = world;
  await bus.streams.ensure(streamOf('s'));
  const got: string[] = [];
  const abort = new AbortController();
  const options = { filter: 's.>', from_seq: 1, signal: abort.signal };
  const following = (async () => {
    for await (const { body } of bus.streams.follow('S', options)) got.push(text(body));
  })();
  for (let i = 0; i < 50; i += 1) await bus.streams.append('s.a', bytes(String(i)));
  await until('the first half', () => got.length === 50);
  await server.restart();
  const patience = { timeout_ms: 20_000 };
  for (let i = 50; i < 100; i += 1) await bus.streams.append('s.a', bytes(String(i)), patience);
  await until('the second half', () => got.length === 100, 20_000);
  assert.deepEqual(
    got,
    Array.from({ length: 100 }, (_, i) => String(i)),
  );
  abort.abort();
  await following;
});

restartTest('a consumer goes on, and one message never has two handlers', async world => {
  const { server, bus } = world;
  await bus.streams.ensure(streamOf('s'));
  const running = new Set<number>();
  const done = new Set<string>();
  let deliveriesMax = 0;
  const options = {
    durable: 'worker',
    filter: 's.>',
    ack_wait_ms: 900,
    max_deliver: -1,
    max_ack_pending: 10,
    concurrency: 3,
  };
  await bus.consume('S', options, async ({ seq, body, deliveries }) => {
    assert(!running.has(seq), `two handlers run for #${seq}`);
    running.add(seq);
    deliveriesMax = Math.max(deliveriesMax, deliveries);
    // The first handler outlives the server's absence, so its message is delivered again.
    await sleep(text(body) === 'slow' ? 4_000 : 10);
    running.delete(seq);
    done.add(text(body));
    return { kind: 'done' };
  });
  await bus.streams.append('s.a', bytes('slow'));
  await until('it runs', () => running.size === 1);
  await server.kill9();
  await sleep(1_200);
  await server.restart();
  const patience = { timeout_ms: 20_000 };
  for (let i = 0; i < 20; i += 1) await bus.streams.append('s.a', bytes(String(i)), patience);
  await until('all are done', () => done.size === 21, 20_000);
  await sleep(1_500);
  assert.equal(running.size, 0, 'a message was delivered again after done');
  assert.equal(deliveriesMax, 1);
});

restartTest('a watcher is told what vanished with a bucket in memory', async world => {
  const { server, bus } = world;
  const kv = bus.kv('node');
  await kv.ensure({ storage: 'memory', ttl_ms: 60_000 });
  await kv.put('n1', bytes('a'));
  await kv.put('n2', bytes('b'));
  const abort = new AbortController();
  const changes = watching(kv, abort.signal);
  await until('the start', () => changes.length === 3);
  await server.restart();
  await reconnected(world);
  await kv.put('n1', bytes('c'));
  await until('the new picture', () => changes.includes('put n1=c'), 20_000);
  await until('what vanished', () => changes.includes('expired n2'), 20_000);
  assert.equal(await kv.get('n2'), null);
  await kv.put('n3', bytes('d'));
  await until('what comes', () => changes.at(-1) === 'put n3=d');
  abort.abort();
});

restartTest('a watcher of a bucket on disk is told only what changed', async world => {
  const { server, bus } = world;
  const kv = bus.kv('lease');
  await kv.ensure({ storage: 'file' });
  await kv.put('a', bytes('1'));
  const abort = new AbortController();
  const changes = watching(kv, abort.signal);
  await until('the start', () => changes.length === 2);
  await server.restart();
  await reconnected(world);
  await kv.put('b', bytes('2'));
  await until('the change', () => changes.length === 3, 20_000);
  assert.deepEqual(changes, ['put a=1', 'initial_done', 'put b=2']);
  abort.abort();
});

restartTest('a reply stream that is cut fails on both sides', async world => {
  const { server, bus } = world;
  const other = await connectNats({ servers: [server.url], name: 'other', clock: systemClock });
  let ended = '';
  other.serveStream('tokens', async (_message, { send, signal }) => {
    await send(bytes('one'));
    await new Promise(resolve => signal.addEventListener('abort', resolve));
    ended = signal.reason.code;
  });
  await other.rtt();
  const chunks = bus.askStream('tokens', bytes(''), { first_ms: 5_000, idle_ms: 20_000 });
  const iterator = chunks[Symbol.asyncIterator]();
  await iterator.next();
  await server.kill9();
  await assert.rejects(iterator.next(), { code: 'bus_unavailable' });
  await until('the sender ends', () => ended !== '');
  assert.equal(ended, 'bus_unavailable');
  await server.restart();
  await other.close();
});

restartTest('closing while the server is down takes no longer than its bound', async world => {
  await world.bus.streams.ensure(streamOf('s'));
  await world.server.kill9();
  const startMs = Date.now();
  await world.bus.close();
  assert(Date.now() - startMs < 6_000);
});

restartTest('a server that hangs is noticed, and everything goes on when it wakes', async world => {
  const { server, bus, events } = world;
  await bus.streams.ensure(streamOf('s'));
  const followed: string[] = [];
  const consumed: string[] = [];
  const abort = new AbortController();
  void (async () => {
    const options = { filter: 's.>', from_seq: 1, signal: abort.signal };
    for await (const { body } of bus.streams.follow('S', options)) followed.push(text(body));
  })();
  const options = {
    durable: 'worker',
    filter: 's.>',
    ack_wait_ms: 30_000,
    max_deliver: -1,
    max_ack_pending: 10,
    concurrency: 1,
  };
  await bus.consume('S', options, async ({ body }) => {
    consumed.push(text(body));
    return { kind: 'done' };
  });
  await bus.streams.append('s.a', bytes('before'));
  await until('before', () => followed.length === 1 && consumed.length === 1);
  process.kill(server.pid, 'SIGSTOP');
  try {
    await until('it is noticed', () => events.some(({ type }) => type === 'disconnected'), 25_000);
  } finally {
    process.kill(server.pid, 'SIGCONT');
  }
  await bus.streams.append('s.a', bytes('after'), { timeout_ms: 20_000 });
  await until('after', () => followed.length === 2 && consumed.length === 2, 20_000);
  assert.deepEqual(
    [followed, consumed],
    [
      ['before', 'after'],
      ['before', 'after'],
    ],
  );
  abort.abort();
});
