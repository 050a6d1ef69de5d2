/** Deadlines of a durable host, under a simulated clock. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { done, factsOf, hostIn, NEVER, world } from '../test/durable-fixture.ts';

test('a deadline fires once when it is due, no earlier, and not when its key is gone', async () => {
  const place = await world();
  const host = hostIn(place, NEVER);
  const at = place.clock.now();
  await host.submit('e', { type: 'errand.asked', at, key: 'slow', limit_ms: 90_000 });
  await host.submit('e', { type: 'errand.asked', at, key: 'gone', limit_ms: 80_000 });
  await host.submit('e', done('gone'));
  await place.clock.advance(89_999);
  assert.deepEqual(host.context('e')?.outcomes, { gone: 'the gone' });
  await place.clock.advance(1);
  assert.deepEqual(host.context('e')?.outcomes, { gone: 'the gone', slow: 'too late' });
  const passed = (await factsOf(place.log, 'e')).filter(fact => fact.type === 'deadline.passed');
  assert.deepEqual(passed, [{ type: 'deadline.passed', at: at + 90_000, key: 'slow' }]);
  await host.stop();
});

test('a clock that is put back holds no deadline up, and one put forward passes none', async () => {
  for (const shiftMs of [-3_600_000, 3_600_000]) {
    const place = await world();
    const host = hostIn(place, NEVER);
    const at = place.clock.now();
    await host.submit('e', { type: 'errand.asked', at, key: 'slow', limit_ms: 90_000 });
    await place.clock.advance(1_000);
    place.clock.shift(shiftMs);
    await place.clock.advance(88_999);
    assert.deepEqual(host.context('e')?.outcomes, {});
    await place.clock.advance(1);
    assert.deepEqual(host.context('e')?.outcomes, { slow: 'too late' });
    const passed = (await factsOf(place.log, 'e')).find(fact => fact.type === 'deadline.passed');
    assert.equal(passed?.at, place.clock.now());
    await host.stop();
  }
});

test('a deadline that passed while nobody ran fires at the next start', async () => {
  const place = await world();
  const first = hostIn(place, NEVER);
  const at = place.clock.now();
  await first.submit('e', { type: 'errand.asked', at, key: 'slow', limit_ms: 1_000 });
  await first.stop();
  await place.clock.advance(60_000);
  const second = hostIn(place, NEVER);
  await second.open('e');
  await place.clock.advance(0);
  assert.deepEqual(second.context('e')?.outcomes, { slow: 'too late' });
  await second.stop();
});
