/**
 * The part of the bus suite about key-value buckets and objects.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Kv, KvChange } from './bus.ts';
import { type Behaviour, behaviour, bytes, text, until } from './bus-suite.ts';

/** Watches into an array of readable changes, until the signal. */
export function watching(kv: Kv, signal: AbortSignal, filter?: string): string[] {
  const changes: string[] = [];
  void (async () => {
    for await (const change of kv.watch(signal, filter)) changes.push(shown(change));
  })();
  return changes;
}

const shown = (change: KvChange): string => {
  if (change.op === 'initial_done') return change.op;
  return change.op === 'put'
    ? `put ${change.key}=${text(change.value)}`
    : `${change.op} ${change.key}`;
};

export const KV_BEHAVIOURS: readonly Behaviour[] = [
  behaviour('a key is created once, updated only from its latest revision', async scene => {
    const bus = await scene.connect();
    const kv = bus.kv(scene.unique);
    await kv.ensure({ storage: 'memory' });
    assert.equal(await kv.get('leader'), null);
    const first = await kv.create('leader', bytes('a'));
    assert(first !== null);
    assert.equal(await kv.create('leader', bytes('b')), null);
    const second = await kv.update('leader', bytes('a2'), first);
    assert(second !== null && second > first);
    assert.equal(await kv.update('leader', bytes('stale'), first), null);
    assert.equal(await kv.delete('leader', first), false);
    const entry = await kv.get('leader');
    assert.deepEqual([entry && text(entry.value), entry?.revision], ['a2', second]);
    assert.equal(await kv.delete('leader', second), true);
    assert.equal(await kv.get('leader'), null);
    assert((await kv.create('leader', bytes('b'))) !== null, 'a deleted key can be created');
  }),

  behaviour('keys lists what has a value', async scene => {
    const kv = (await scene.connect()).kv(scene.unique);
    await kv.ensure({ storage: 'memory', history: 3 });
    assert.deepEqual(await kv.keys(), []);
    for (const key of ['n1.capacity', 'n2.capacity', 'n1.runtime']) await kv.put(key, bytes('x'));
    await kv.put('n1.capacity', bytes('y'));
    await kv.delete('n2.capacity');
    assert.deepEqual([...(await kv.keys())].sort(), ['n1.capacity', 'n1.runtime']);
    await assert.rejects(kv.put('no spaces', bytes('')), { code: 'bad_request' });
    await assert.rejects(kv.get('a.*'), { code: 'bad_request' });
  }),

  behaviour('a watcher sees what is there, then each change', async scene => {
    const bus = await scene.connect();
    const kv = bus.kv(scene.unique);
    await kv.ensure({ storage: 'memory' });
    await kv.put('a', bytes('1'));
    await kv.put('a', bytes('2'));
    await kv.put('gone', bytes('x'));
    await kv.delete('gone');
    const abort = new AbortController();
    const all = watching(kv, abort.signal);
    const some = watching(kv, abort.signal, 'b.*');
    await until('the past', () => all.includes('initial_done') && some.includes('initial_done'));
    await kv.put('b.x', bytes('3'));
    await kv.delete('a');
    await kv.put('a', bytes('4'));
    await until('the changes', () => all.length === 5 && some.length === 2);
    assert.deepEqual(all, ['put a=2', 'initial_done', 'put b.x=3', 'delete a', 'put a=4']);
    assert.deepEqual(some, ['initial_done', 'put b.x=3']);
    abort.abort();
    await kv.put('a', bytes('5'));
    await sleep(50);
    assert.equal(all.length, 5);
  }),

  behaviour('a key that is not renewed expires, and a watcher is told', async scene => {
    const bus = await scene.connect();
    const kv = bus.kv(scene.unique);
    await kv.ensure({ storage: 'memory', ttl_ms: 1_000, marker_ttl_ms: 3_000 });
    const abort = new AbortController();
    const changes = watching(kv, abort.signal);
    await until('the start', () => changes.length === 1);
    await kv.put('silent', bytes('x'));
    const renewed = await kv.create('lease', bytes('1'));
    assert(renewed !== null);
    await sleep(600);
    const revision = await kv.update('lease', bytes('2'), renewed);
    assert(revision !== null);
    await until('the expiry', () => changes.includes('expired silent'), 5_000);
    assert.equal(text((await kv.get('lease'))?.value ?? bytes('')), '2');
    await until('the expiry of the lease', () => changes.includes('expired lease'), 5_000);
    assert.equal(await kv.get('lease'), null);
    assert.equal(await kv.update('lease', bytes('3'), revision), null);
    assert((await kv.create('lease', bytes('4'))) !== null, 'an expired key can be created');
    abort.abort();
  }),

  behaviour('a value over the bound of its bucket is refused', async scene => {
    const kv = (await scene.connect()).kv(scene.unique);
    await kv.ensure({ storage: 'memory', max_value_bytes: 1_000 });
    await assert.rejects(kv.put('a', new Uint8Array(2_000)), { code: 'too_large' });
  }),
];

export const OBJECT_BEHAVIOURS: readonly Behaviour[] = [
  behaviour('an object comes back byte for byte, whole or in pieces', async scene => {
    const [writer, reader] = [await scene.connect(), await scene.connect()];
    const data = new Uint8Array(5 * 1024 * 1024 + 17).map((_, i) => (i * 2_654_435_761) >>> 24);
    const sha256 = createHash('sha256').update(data).digest('hex');
    await writer.objects(scene.unique).ensure({ storage: 'file' });
    const pieces = async function* (): AsyncGenerator<Uint8Array> {
      for (let from = 0; from < data.length; from += 300_001) {
        yield data.subarray(from, from + 300_001);
      }
    };
    for (const source of [data, pieces()]) {
      const put = await writer.objects(scene.unique).put('project.tar', source);
      assert.deepEqual(put, { name: 'project.tar', size: data.length, sha256 });
      const content = await reader.objects(scene.unique).get('project.tar');
      const hash = createHash('sha256');
      for await (const chunk of content ?? []) hash.update(chunk);
      assert.equal(hash.digest('hex'), sha256);
    }
    assert.deepEqual(await reader.objects(scene.unique).info('project.tar'), {
      name: 'project.tar',
      size: data.length,
      sha256,
    });
  }),

  behaviour(
    'a missing object is null, an empty one is empty, a deleted one is gone',
    async scene => {
      const bus = await scene.connect();
      const objects = bus.objects(scene.unique);
      await objects.ensure({ storage: 'file' });
      assert.equal(await objects.get('nothing'), null);
      assert.equal(await objects.info('nothing'), null);
      assert.equal(await objects.delete('nothing'), false);
      await objects.put('empty', new Uint8Array(0));
      const content = await objects.get('empty');
      assert(content !== null);
      for await (const _ of content) assert.fail('an empty object has no bytes');
      assert.equal(await objects.delete('empty'), true);
      assert.equal(await objects.get('empty'), null);
    },
  ),

  behaviour('replacing an object frees the bytes of the old one', async scene => {
    const bus = await scene.connect();
    const objects = bus.objects(scene.unique);
    await objects.ensure({ storage: 'file' });
    await objects.put('a', new Uint8Array(400_000));
    await objects.put('a', bytes('small'));
    const info = await bus.streams.info(`OBJ_${scene.unique}`);
    assert.equal(info?.messages, 2);
  }),

  behaviour('an object that does not fit into its bucket is refused', async scene => {
    const bus = await scene.connect();
    const objects = bus.objects(scene.unique);
    await objects.ensure({ storage: 'file', max_bytes: 300_000 });
    await assert.rejects(objects.put('a', new Uint8Array(500_000)), { code: 'too_large' });
    assert.equal(await objects.get('a'), null);
  }),

  behaviour('an object store that is full is emptied from its oldest object on', async scene => {
    const bus = await scene.connect();
    const objects = bus.objects(scene.unique);
    await objects.ensure({ storage: 'file', max_bytes: 300_000 });
    assert.equal(await objects.deleteOldest(), false);
    for (const name of ['a', 'b']) await objects.put(name, new Uint8Array(120_000));
    await assert.rejects(objects.put('c', new Uint8Array(150_000)), { code: 'too_large' });
    assert.equal(await objects.deleteOldest(), true);
    await objects.put('c', new Uint8Array(150_000));
    const infos = await Promise.all(['a', 'b', 'c'].map(name => objects.info(name)));
    assert.deepEqual(
      infos.map(info => info?.size ?? null),
      [null, 120_000, 150_000],
    );
  }),
];
