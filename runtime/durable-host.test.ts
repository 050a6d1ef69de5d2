/** The durable host from outside: submitting, listening, stopping, and what sets an entity aside. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CodeGodError } from '../protocol/errors.ts';
import {
  asked,
  done,
  type ErrandFact,
  factsOf,
  hostIn,
  NEVER,
  world,
} from '../test/durable-fixture.ts';

test('a fact is in the log before its effect starts', async () => {
  const place = await world();
  const seen: ErrandFact[][] = [];
  const host = hostIn(place, async key => {
    seen.push(await factsOf(place.log, 'e'));
    return [done(key)];
  });
  await host.submit('e', asked('bread'));
  await place.clock.advance(0);
  assert.deepEqual(seen, [[asked('bread')]]);
  assert.deepEqual(host.context('e')?.outcomes, { bread: 'the bread' });
  assert.deepEqual(await factsOf(place.log, 'e'), [asked('bread'), done('bread')]);
  await host.stop();
});

test('submissions of one entity are folded one after the other, in the order of the calls', async () => {
  const place = await world();
  const host = hostIn(place, NEVER);
  const keys = Array.from({ length: 50 }, (_, index) => `k${index}`);
  await Promise.all(keys.map(key => host.submit('e', asked(key))));
  assert.deepEqual(Object.keys(host.context('e')?.pending ?? {}), keys);
  assert.equal(host.state('e')?.position.bseq, 50);
  await host.stop();
});

test('listeners hear each new fact with the context after it; one that throws harms nobody', async () => {
  const place = await world();
  const host = hostIn(place, NEVER);
  const heard: unknown[] = [];
  host.onFact(() => {
    throw new Error('a bad listener');
  });
  const off = host.onFact((entity, fact, context, position) => {
    heard.push([entity, fact.type, Object.keys(context.pending), position.bseq]);
  });
  await host.submit('e', asked('a'));
  off();
  await host.submit('e', asked('b'));
  assert.deepEqual(heard, [['e', 'errand.asked', ['a'], 1]]);
  await host.stop();
});

test('stop aborts effects without facts, within its bound, and nothing is taken afterwards', async () => {
  const place = await world();
  const signals: AbortSignal[] = [];
  const host = hostIn(place, async (_key, signal) => {
    signals.push(signal);
    return await new Promise(() => {}); // Ignores its signal.
  });
  await host.submit('e', asked('bread'));
  await place.clock.advance(0);
  const stopped = host.stop();
  await place.clock.advance(5_000);
  await stopped;
  assert.deepEqual(
    signals.map(signal => signal.aborted),
    [true],
  );
  assert.deepEqual(await factsOf(place.log, 'e'), [asked('bread')]);
  await assert.rejects(host.submit('e', asked('salt')), { code: 'cancelled' });
});

test('a fact is chosen in its turn, over the state then; what does not fit is not appended', async () => {
  const place = await world();
  const host = hostIn(place, NEVER);
  await host.submit('e', asked('bread'));
  const withdrawn = { type: 'errand.withdrawn', at: 2, key: 'bread' } as const;
  const refusal = new CodeGodError('conflict', 'there is no such errand');
  const withdraw = () =>
    host.decide('e', ({ context }) => {
      if (!('bread' in context.pending)) throw refusal;
      return withdrawn;
    });
  const [first, second] = await Promise.allSettled([withdraw(), withdraw()]);
  assert.equal(first.status, 'fulfilled');
  assert.deepEqual(second, { status: 'rejected', reason: refusal });
  await host.decide('e', () => null);
  assert.deepEqual(await factsOf(place.log, 'e'), [asked('bread'), withdrawn]);
  await host.submit('e', asked('salt'));
  assert.ok(host.context('e')?.pending['salt'], 'a refusal sets nothing aside');
  await host.stop();
});

test('who waits behind the fact that closes an entity is decided over it as it is brought back', async () => {
  const place = await world();
  const host = hostIn(place, NEVER);
  host.onFact((entity, fact) => {
    if (fact.type === 'errand.withdrawn') void host.forget(entity);
  });
  await host.submit('e', asked('bread'));
  const seen: string[] = [];
  const [, waiting] = await Promise.allSettled([
    host.submit('e', { type: 'errand.withdrawn', at: 2, key: 'bread' }),
    host.decide('e', ({ context }) => {
      seen.push(JSON.stringify(context.outcomes));
      return null;
    }),
  ]);
  assert.equal(waiting.status, 'fulfilled');
  assert.deepEqual(seen, ['{"bread":"withdrawn"}']);
  await host.stop();
});
