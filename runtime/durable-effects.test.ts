/** Effects of a durable host: when they start, when they are aborted, how they are tried again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CodeGodError } from '../protocol/errors.ts';
import { asked, done, type ErrandFact, factsOf, hostIn, world } from '../test/durable-fixture.ts';
import type { FactLog } from './fact-log.ts';

test('an effect whose key leaves pending is aborted, and what it returns is dropped', async () => {
  const place = await world();
  let aborted = false;
  const host = hostIn(place, async (key, signal) => {
    await new Promise<void>(resolve => signal.addEventListener('abort', () => resolve()));
    aborted = true;
    return [done(key)];
  });
  await host.submit('e', asked('bread'));
  await place.clock.advance(0);
  await host.submit('e', { type: 'errand.withdrawn', at: 2, key: 'bread' });
  await place.clock.advance(0);
  assert.equal(aborted, true);
  assert.deepEqual(host.context('e')?.outcomes, { bread: 'withdrawn' });
  assert.equal((await factsOf(place.log, 'e')).length, 2);
  await host.stop();
});

test('one key never runs twice at once, also when it leaves and comes back', async () => {
  const place = await world();
  let running = 0;
  let most = 0;
  const endings: (() => void)[] = [];
  const host = hostIn(place, async key => {
    running += 1;
    most = Math.max(most, running);
    await new Promise<void>(resolve => endings.push(resolve));
    running -= 1;
    return [done(key)];
  });
  const withdrawn: ErrandFact = { type: 'errand.withdrawn', at: 0, key: 'bread' };
  for (const fact of [asked('bread'), withdrawn, asked('bread')]) {
    await host.submit('e', fact);
    await place.clock.advance(0);
  }
  assert.equal(endings.length, 1, 'the aborted run still winds down');
  endings[0]?.();
  await place.clock.advance(0);
  assert.deepEqual(host.context('e')?.outcomes, {}, 'the aborted run brought nothing');
  assert.equal(endings.length, 2);
  endings[1]?.();
  await place.clock.advance(0);
  assert.deepEqual(host.context('e')?.outcomes, { bread: 'the bread' });
  assert.equal(most, 1);
  await host.stop();
});

test('a retryable failure is tried again with growing pauses while the key is pending', async () => {
  const place = await world();
  const triesAt: number[] = [];
  const host = hostIn(place, async key => {
    triesAt.push(place.clock.monotonic());
    if (triesAt.length < 8) throw new CodeGodError('bus_unavailable', 'not now');
    return [done(key)];
  });
  await host.submit('e', asked('bread'));
  await place.clock.advance(60_000);
  assert.deepEqual(host.context('e')?.outcomes, { bread: 'the bread' });
  const pauses = triesAt.slice(1).map((at, index) => at - (triesAt[index] ?? 0));
  assert.equal(pauses.length, 7);
  assert(pauses.every((pause, index) => pause <= Math.min(10_000, 250 * 2 ** index)));
  assert((pauses.at(-1) ?? 0) >= 5_000, `the last pause is ${pauses.at(-1)} ms`);
  await host.stop();
});

test('a failure that cannot be retried becomes the fact of its failure, at once', async () => {
  const place = await world();
  let tries = 0;
  const host = hostIn(place, async () => {
    tries += 1;
    throw new CodeGodError('denied', 'never');
  });
  await host.submit('e', asked('bread'));
  await place.clock.advance(0);
  assert.deepEqual(host.context('e')?.outcomes, { bread: 'denied' });
  assert.equal(tries, 1);
  await host.stop();
});

for (const [what, error, code] of [
  ['a bug in an effect', new TypeError('undefined is not a function'), 'internal'],
  ['a disk without room', new CodeGodError('disk_full', 'no room left'), 'disk_full'],
] as const) {
  test(`${what} is tried five times and then is a failure`, async () => {
    const place = await world();
    let tries = 0;
    const host = hostIn(place, async () => {
      tries += 1;
      throw error;
    });
    await host.submit('e', asked('bread'));
    await place.clock.advance(60_000);
    assert.deepEqual(host.context('e')?.outcomes, { bread: code });
    assert.equal(tries, 5);
    await host.stop();
  });
}

test('a key that is still pending after its effect answered is run again', async () => {
  const place = await world();
  let tries = 0;
  const host = hostIn(place, async key => {
    tries += 1;
    return tries < 3 ? [] : [done(key)];
  });
  await host.submit('e', asked('bread'));
  await place.clock.advance(2_000);
  assert.equal(tries, 3);
  assert.deepEqual(host.context('e')?.pending, {});
  await host.stop();
});

test('facts of an effect survive a log that is away for a minute', async () => {
  const place = await world();
  let isAway = false;
  const log: FactLog<ErrandFact> = {
    read: place.log.read,
    append: async (...what) => {
      if (isAway) throw new CodeGodError('bus_unavailable', 'gone');
      return await place.log.append(...what);
    },
  };
  let performed = 0;
  const host = hostIn({ ...place, log }, async key => {
    performed += 1;
    isAway = true;
    return [done(key)];
  });
  await host.submit('e', asked('bread'));
  await place.clock.advance(60_000);
  assert.deepEqual(host.context('e')?.outcomes, {});
  isAway = false;
  await place.clock.advance(15_000);
  assert.deepEqual(host.context('e')?.outcomes, { bread: 'the bread' });
  assert.equal(performed, 1, 'the answer was kept, not produced again');
  await host.stop();
});

test('effects at work at once are bounded, the others wait in order', async () => {
  const place = await world();
  const started: string[] = [];
  const endings: (() => void)[] = [];
  const host = hostIn(
    place,
    async key => {
      started.push(key);
      await new Promise<void>(resolve => endings.push(resolve));
      return [done(key)];
    },
    { effectsMax: 2 },
  );
  for (const key of ['a', 'b', 'c', 'd']) await host.submit('e', asked(key));
  await place.clock.advance(0);
  assert.deepEqual(started, ['a', 'b']);
  endings.shift()?.();
  await place.clock.advance(0);
  assert.deepEqual(started, ['a', 'b', 'c']);
  for (let left = 3; left > 0; left--) {
    endings.shift()?.();
    await place.clock.advance(0);
  }
  assert.equal(Object.keys(host.context('e')?.outcomes ?? {}).length, 4);
  await host.stop();
});

test('an effect that is not wanted any more leaves the line for a place', async () => {
  const place = await world();
  const started: string[] = [];
  const host = hostIn(
    place,
    async (key, signal) => {
      started.push(key);
      await new Promise<void>(resolve => signal.addEventListener('abort', () => resolve()));
      return [];
    },
    { effectsMax: 1 },
  );
  await host.submit('busy', asked('long'));
  await place.clock.advance(0);
  await host.submit('e', asked('bread'));
  await place.clock.advance(0);
  await host.submit('e', { type: 'errand.withdrawn', at: 1, key: 'bread' });
  let isClosed = false;
  void host.close('e').then(() => {
    isClosed = true;
  });
  await place.clock.advance(0);
  assert.equal(isClosed, true, 'closing does not wait for a place that nobody wants');
  assert.deepEqual(started, ['long']);
  await host.stop();
});
