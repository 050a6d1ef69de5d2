/** How much a stream or a bucket may hold, on a server that can promise it and on one that cannot. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type NatsFixture, startNats } from '../test/nats-fixture.ts';
import type { Bus, StreamConfig } from './bus.ts';
import { until } from './bus-suite.ts';
import { systemClock } from './clock.ts';
import { connectNats } from './nats-bus.ts';

const MIB = 1024 * 1024;
let server: NatsFixture;
let bus: Bus;

before(async () => {
  server = await startNats();
  const { url, monitorUrl } = server;
  bus = await connectNats({ servers: [url], name: 'test', clock: systemClock, monitorUrl });
});

after(async () => {
  await bus.close();
  await server.stop();
});

const streamOf = (name: string, max_bytes: number): StreamConfig => ({
  name: name.toUpperCase(),
  subjects: [`${name}.>`],
  storage: 'file',
  discard: 'new',
  max_bytes,
});

const append = (name: string) => bus.streams.append(`${name}.x`, new Uint8Array(100_000));

test('a full stream refuses, and leaves room for the others', async () => {
  await bus.streams.ensure(streamOf('flooded', MIB));
  await bus.streams.ensure(streamOf('calm', MIB));
  let kind = 'appended';
  for (let count = 0; count < 20 && kind === 'appended'; count += 1) {
    kind = (await append('flooded')).kind;
  }
  assert.equal(kind, 'stream_full');
  assert.equal((await append('calm')).kind, 'appended');
});

test('a stream of an earlier release gets its bound, and keeps what it holds', async () => {
  const { max_bytes: _, ...unbounded } = streamOf('earlier', 0);
  await bus.streams.ensure(unbounded);
  await append('earlier');
  await append('earlier');
  await bus.streams.ensure(streamOf('earlier', 150_000));
  assert.equal((await bus.streams.info('EARLIER'))?.messages, 2);
  assert.equal((await append('earlier')).kind, 'stream_full');
});

test('where the server cannot set so much aside, a stream works without a bound', async () => {
  await bus.streams.ensure(streamOf('large', 700 * MIB));
  await bus.streams.ensure(streamOf('larger', 2_000 * MIB));
  assert.equal((await append('larger')).kind, 'appended');
});

test('a bucket has a bound of its own, in memory and on the disk; a value that is there stays', async () => {
  for (const storage of ['memory', 'file'] as const) {
    const bucket = bus.kv(`bounded_${storage}`);
    await bucket.ensure({ storage, max_bytes: MIB });
    const put = (key: string) => bucket.put(key, new Uint8Array(400_000));
    await put('a');
    await put('b');
    await assert.rejects(put('c'), { code: 'disk_full' });
    await assert.rejects(bucket.update('a', new Uint8Array(400_000), 1), { code: 'disk_full' });
    assert.deepEqual([...(await bucket.keys())].sort(), ['a', 'b']);
    await bucket.delete('b');
    await put('c');
  }
});

test('where the server has no such memory to set aside, a bucket works without a bound', async () => {
  const bucket = bus.kv('immense');
  await bucket.ensure({ storage: 'memory', max_bytes: 2 ** 50 });
  await bucket.put('a', new Uint8Array(1));
});

const api = async (verb: string, request: object = {}): Promise<Record<string, unknown>> => {
  const body = new TextEncoder().encode(JSON.stringify(request));
  const reply = await bus.ask(`$JS.API.${verb}`, body, { timeout_ms: 5_000 });
  return JSON.parse(new TextDecoder().decode(reply.body));
};

test('a stream with as many consumers as it may have says so, to those who take and who follow', async () => {
  const config = { name: 'CROWDED', subjects: ['crowded.>'], max_consumers: 1 };
  await api('STREAM.CREATE.CROWDED', config);
  const take = (durable: string) =>
    bus.consume(
      'CROWDED',
      {
        ...{ durable, filter: 'crowded.>', ack_wait_ms: 30_000, max_deliver: 5 },
        ...{ max_ack_pending: 1, concurrency: 1, forgotten_after_ms: 86_400_000 },
      },
      async () => ({ kind: 'done' }),
    );
  const first = await take('first');
  const full = { code: 'overloaded', message: /maximum consumers .* too many nodes/ };
  await assert.rejects(take('second'), full);
  const told: Error[] = [];
  const forget = bus.status(event => event.type === 'error' && told.push(event.error));
  const over = new AbortController();
  const followed = bus.streams.follow('CROWDED', { filter: '>', from_seq: 1, signal: over.signal });
  const following = followed[Symbol.asyncIterator]().next();
  await until('the follower is told', () => told.length > 0);
  assert.match(told[0]?.message ?? '', full.message);
  over.abort();
  await following;
  forget();
  const { config: kept } = await api('CONSUMER.INFO.CROWDED.first');
  assert.equal((kept as Record<string, unknown>)['inactive_threshold'], 86_400_000 * 1e6);
  await first.stop();
});

test('a consumer of an earlier release is forgotten when nobody pulls from it, too', async () => {
  const durable = { durable_name: 'old', name: 'old', filter_subject: 'calm.>' };
  const config = { ...durable, ack_policy: 'explicit', ack_wait: 3e10, max_deliver: 5 };
  await api('CONSUMER.CREATE.CALM.old.calm.>', { stream_name: 'CALM', config });
  const settings = { ack_wait_ms: 30_000, max_deliver: 5, max_ack_pending: 1, concurrency: 1 };
  const options = { durable: 'old', filter: 'calm.>', ...settings, forgotten_after_ms: 1_000 };
  const { url, monitorUrl } = server;
  const worker = await connectNats({ servers: [url], name: 'w', clock: systemClock, monitorUrl });
  await worker.consume('CALM', options, async () => ({ kind: 'done' }));
  assert.ok((await api('CONSUMER.INFO.CALM.old'))['name'], 'it is pulled from');
  await worker.close();
  let info = await api('CONSUMER.INFO.CALM.old');
  for (const endMs = Date.now() + 15_000; info['error'] === undefined; ) {
    assert.ok(Date.now() < endMs, 'it stays');
    await systemClock.sleep(50);
    info = await api('CONSUMER.INFO.CALM.old');
  }
});

test('on a disk that has less room than was set aside, all comes up again', async () => {
  await append('large');
  await server.restart('always', '100M');
  await until('it is connected again', () => bus.info().connected);
  for (const name of ['flooded', 'calm', 'earlier', 'larger']) {
    await bus.streams.ensure(streamOf(name, 500 * MIB));
  }
  await bus.streams.ensure(streamOf('large', 700 * MIB));
  assert.equal((await append('large')).kind, 'appended');
  assert.equal((await bus.streams.info('LARGE'))?.messages, 2);
});
