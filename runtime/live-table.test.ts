/** Following a bucket: what comes, changes, goes and cannot be read, over the in-memory bus. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { z } from 'zod';
import { encode } from '../protocol/codec.ts';
import type { Kv } from './bus.ts';
import { SimulatedClock } from './clock.ts';
import { type Entry, followTable } from './live-table.ts';
import { silentLogger } from './log.ts';
import { createMemoryBroker } from './memory-bus.ts';

async function world() {
  const clock = new SimulatedClock();
  const broker = createMemoryBroker({ clock });
  const bus = broker.connect('test');
  const bucket = broker.connect('other').kv('b');
  await bucket.ensure({ storage: 'file' });
  await bus.kv('b').ensure({ storage: 'file' });
  const put = async (key: string, value: unknown): Promise<void> => {
    await bucket.put(key, value instanceof Uint8Array ? value : encode(value));
    await clock.advance(10);
  };
  const told: string[] = [];
  const warned: unknown[] = [];
  const over = new AbortController();
  const table = {
    ...{ bus, bucket: 'b' },
    log: {
      ...silentLogger,
      warn: (event: string, fields: object = {}) => warned.push({ event, ...fields }),
    },
    read: (value: unknown) => z.object({ n: z.number() }).parse(value).n,
    changed: (key: string, entry: Entry<number>) => {
      if (entry.is === 'there' && entry.value > 99) throw new Error('more than anybody can take');
      told.push(`${key} ${entry.is === 'there' ? entry.value : entry.is}`);
    },
  };
  return { clock, bus, bucket, put, told, warned, over, table };
}

test('what was there is known first, then each change in order', async () => {
  const { clock, bucket, put, told, over, table } = await world();
  await put('a', { n: 1 });
  const followed = followTable(table, over.signal);
  await followed.known;
  assert.deepEqual(told, ['a 1']);
  await put('a', { n: 2 });
  await put('b', { n: 3 });
  await bucket.delete('a');
  await clock.advance(10);
  assert.deepEqual(told, ['a 1', 'a 2', 'b 3', 'a gone']);
  over.abort();
  await followed.over;
});

test('what cannot be read counts as none, stops nothing else, and is told once', async () => {
  const { put, told, warned, over, table } = await world();
  await put('a', { n: 1 });
  const followed = followTable(table, over.signal);
  await followed.known;
  for (const bad of [
    { n: 'many' },
    { n: 100 },
    new Uint8Array([0xff]),
    encode('secret').subarray(1),
  ]) {
    await put('a', bad);
  }
  await put('b', { n: 2 });
  assert.deepEqual(told, ['a 1', ...Array.from({ length: 4 }, () => 'a unreadable'), 'b 2']);
  assert.equal(warned.length, 1);
  await put('a', { n: 3 });
  await put('a', encode('secret').subarray(1));
  assert.deepEqual(told.slice(-2), ['a 3', 'a unreadable']);
  assert.equal(warned.length, 2);
  assert.doesNotMatch(JSON.stringify(warned), /secret/);
  over.abort();
  await followed.over;
});

test('after the bus was away it is told what changed and what went', async () => {
  const { clock, bus, bucket, put, told, over, table } = await world();
  for (const key of ['a', 'b', 'c']) await put(key, { n: 1 });
  const followed = followTable(table, over.signal);
  await followed.known;
  told.length = 0;
  bus.disconnect();
  await put('a', { n: 2 });
  await bucket.delete('b');
  await clock.advance(10);
  assert.deepEqual(told, []);
  bus.reconnect();
  await clock.advance(5_000);
  assert.deepEqual(told.sort(), ['a 2', 'b gone']);
  over.abort();
  await followed.over;
});

test('whoever waits is let go when the following ends before all was seen', async () => {
  const { bus, over, table } = await world();
  bus.disconnect();
  const followed = followTable(table, over.signal);
  over.abort();
  await Promise.all([followed.known, followed.over]);
});

test('a table that cannot be read at the start is not an empty one', async () => {
  const { bus, over, table } = await world();
  const lost: string[] = [];
  const failure = new Error('no room for a consumer');
  const watch = (): never => {
    throw failure;
  };
  const kv = (): Kv => ({ ...bus.kv('b'), watch });
  const log = { ...table.log, error: (event: string) => void lost.push(event) };
  const followed = followTable({ ...table, bus: { ...bus, kv }, log }, over.signal);
  await assert.rejects(followed.known, failure);
  await followed.over;
  assert.deepEqual(lost, ['table.lost']);
});
