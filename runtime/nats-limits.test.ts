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
