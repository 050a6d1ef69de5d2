/** How entities come back: from snapshots, from logs, from damage, and which are set aside. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  asked,
  done,
  type ErrandFact,
  factsOf,
  hostIn,
  NEVER,
  world,
} from '../test/durable-fixture.ts';
import type { FactLog } from './fact-log.ts';

test('after a crash between append and effect, the effect runs again under the same key', async () => {
  const place = await world();
  const first = hostIn(place, NEVER);
  await first.submit('e', asked('bread'));
  // The first host is abandoned here: nothing of it is stopped or saved.
  const keys: string[] = [];
  const second = hostIn(place, async key => {
    keys.push(key);
    return [done(key)];
  });
  await second.open('e');
  await place.clock.advance(0);
  assert.deepEqual(keys, ['bread']);
  assert.deepEqual(second.context('e')?.pending, {});
  await second.stop();
});

test('a fact that the machine does not handle is folded without harm, also after its end', async () => {
  const place = await world();
  const host = hostIn(place, async key => [done(key)]);
  await host.submit('e', { type: 'nobody.knows', at: 1 });
  assert.equal(host.state('e')?.position.bseq, 1);
  await host.submit('e', { type: 'end', at: 2 });
  await host.submit('e', { type: 'host.resumed', at: 3 });
  assert.equal(host.context('e')?.resumed, 0, 'a machine that has ended ignores facts');
  await host.stop();
  const again = hostIn(place, async key => [done(key)]);
  await again.open('e');
  assert.equal(again.state('e')?.value, 'ended');
  await again.stop();
});

test('a machine that throws sets its own entity aside, and the fact is not in the log', async () => {
  const place = await world();
  const host = hostIn(place, NEVER);
  await host.submit('sick', asked('bread'));
  await host.submit('well', asked('bread'));
  const thrown = { name: 'CodeGodError', code: 'internal', message: /a bug in the machine/ };
  await assert.rejects(host.submit('sick', { type: 'blow.up', at: 1 }), thrown);
  await assert.rejects(host.submit('sick', asked('salt')), thrown);
  assert.deepEqual([...host.quarantined().keys()], ['sick']);
  assert.deepEqual(await factsOf(place.log, 'sick'), [asked('bread')]);
  await host.submit('well', done('bread'));
  assert.deepEqual(host.context('well')?.outcomes, { bread: 'the bread' });
  await host.close('sick');
  assert.deepEqual(
    Object.keys((await host.open('sick')).pending),
    ['bread'],
    'it can be tried again',
  );
  await host.stop();
});

test('a log that is damaged sets its entity aside as log_corrupt, and no other', async () => {
  const place = await world();
  const first = hostIn(place, NEVER);
  for (const entity of ['sick', 'well']) {
    for (const key of ['a', 'b', 'c']) await first.submit(entity, asked(key));
  }
  const key = 'fact/sick/000000000002';
  const text = String(await place.journal.get(key));
  await place.journal.put(key, text.replace('"key":"b"', '"key":"x"'));
  const second = hostIn(place, NEVER);
  await assert.rejects(second.open('sick'), { code: 'log_corrupt' });
  assert.equal(second.quarantined().get('sick')?.code, 'log_corrupt');
  assert.deepEqual(Object.keys((await second.open('well')).pending), ['a', 'b', 'c']);
  await second.stop();
});

for (const withSnapshot of [true, false]) {
  const how = withSnapshot ? 'from its snapshot' : 'without its snapshot';
  test(`${how} an entity comes back in the same state, history included`, async () => {
    const place = await world();
    const first = hostIn(place, NEVER, { snapshotEvery: 2 });
    await first.submit('e', asked('a'));
    for (const type of ['pause', 'nobody.knows', 'nobody.knows'] as const) {
      await first.submit('e', { type, at: 1 });
    }
    const before = first.state('e');
    await first.stop();
    assert((await place.journal.get('snapshot/e')) !== undefined);
    if (!withSnapshot) await place.journal.batch([{ type: 'del', key: 'snapshot/e' }]);
    const second = hostIn(place, NEVER);
    await second.open('e');
    assert.deepEqual(second.state('e'), before);
    await second.submit('e', { type: 'resume', at: 2 });
    assert.deepEqual(second.state('e')?.value, { open: 'busy' }, 'it remembers what it did');
    await second.stop();
  });
}

test('the snapshots of what is not open go, and it comes back from its facts', async () => {
  const place = await world();
  const host = hostIn(place, NEVER);
  for (const entity of ['open', 'over']) await host.submit(entity, asked('a'));
  await host.close('over');
  await host.close('open');
  await host.open('open');
  await place.journal.put('snapshot/of another log', {});
  await host.forgetOthers();
  const kept: string[] = [];
  for await (const key of place.journal.keys('snapshot/')) kept.push(key);
  assert.deepEqual(kept, ['snapshot/open']);
  assert.deepEqual(Object.keys((await host.open('over')).pending), ['a']);
  await host.stop();
});

test('only the tail after a snapshot is read', async () => {
  const place = await world();
  const first = hostIn(place, NEVER, { snapshotEvery: 5 });
  for (const key of ['a', 'b', 'c', 'd', 'e', 'f', 'g']) await first.submit('e', asked(key));
  const read: number[] = [];
  const log: FactLog<ErrandFact> = {
    append: place.log.append,
    async *read(entity, after) {
      for await (const stored of place.log.read(entity, after)) {
        read.push(stored.position.bseq);
        yield stored;
      }
    },
  };
  const second = hostIn({ ...place, log }, NEVER);
  await second.open('e');
  assert.deepEqual(read, [6, 7]);
  assert.equal(Object.keys(second.context('e')?.pending ?? {}).length, 7);
  await second.stop();
});

test('an old snapshot is migrated; one that nobody can migrate costs a replay', async () => {
  const place = await world();
  const first = hostIn(place, NEVER);
  await first.submit('e', asked('a'));
  await first.stop();
  const migrated = hostIn(place, NEVER, {
    schemaVersion: 2,
    migrations: {
      1: state => ({ ...state, context: { ...(state.context as object), resumed: 7 } }),
    },
  });
  assert.equal((await migrated.open('e')).resumed, 7);
  await migrated.stop();
  const replayed = hostIn(place, NEVER, { schemaVersion: 3 });
  assert.equal((await replayed.open('e')).resumed, 0);
  await replayed.stop();
});

test('a log that ends before its own snapshot has lost facts; another log is just another one', async () => {
  const place = await world();
  const first = hostIn(place, NEVER);
  for (const key of ['a', 'b', 'c']) await first.submit('e', asked(key));
  await first.stop();
  await place.journal.batch([{ type: 'del', key: 'fact/e/000000000003' }]);
  const second = hostIn(place, NEVER);
  await assert.rejects(second.open('e'), { code: 'log_corrupt', message: /ends at fact 2/ });
  for (const bseq of ['1', '2']) {
    await place.journal.batch([{ type: 'del', key: `fact/e/00000000000${bseq}` }]);
  }
  const third = hostIn(place, NEVER);
  assert.deepEqual((await third.open('e')).pending, {}, 'nothing is left of that log');
  await Promise.all([second.stop(), third.stop()]);
});

test('facts said on resuming are appended before effects go on', async () => {
  const place = await world();
  const resumed = (): readonly ErrandFact[] => [{ type: 'host.resumed', at: 9 }];
  const first = hostIn(place, NEVER, { resumed });
  await first.submit('e', asked('bread'));
  assert.equal(first.context('e')?.resumed, 0, 'a new entity has no past');
  const second = hostIn(place, async key => [done(key)], { resumed });
  await second.open('e');
  await place.clock.advance(0);
  const types = (await factsOf(place.log, 'e')).map(fact => fact.type);
  assert.deepEqual(types, ['errand.asked', 'host.resumed', 'errand.done']);
  await second.stop();
});
