/** Both clocks: order of timers, cancelling, repeatable chance. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SimulatedClock, steadyClock, systemClock, WallMoments } from './clock.ts';

test('timers fire in order of time, and of setting where the time is equal', async () => {
  const clock = new SimulatedClock();
  const fired: string[] = [];
  clock.setTimeout(() => fired.push('b'), 20);
  clock.setTimeout(() => fired.push('a'), 10);
  clock.setTimeout(() => fired.push('c'), 20);
  await clock.advance(19);
  assert.deepEqual(fired, ['a']);
  await clock.advance(1);
  assert.deepEqual(fired, ['a', 'b', 'c']);
  assert.equal(clock.monotonic(), 20);
});

test('a timer that is set by a firing timer fires within the same advance', async () => {
  const clock = new SimulatedClock();
  const times: number[] = [];
  const tick = (): void => {
    times.push(clock.monotonic());
    clock.setTimeout(tick, 10);
  };
  clock.setTimeout(tick, 10);
  await clock.advance(35);
  assert.deepEqual(times, [10, 20, 30]);
});

test('code that awaits between timers is carried along by one advance', async () => {
  const clock = new SimulatedClock();
  const done = (async () => {
    await clock.sleep(5);
    await clock.sleep(5);
    return clock.monotonic();
  })();
  await clock.advance(10);
  assert.equal(await done, 10);
});

test('a cleared timer does not fire', async () => {
  const clock = new SimulatedClock();
  clock.clearTimeout(clock.setTimeout(() => assert.fail('fired'), 1));
  await clock.advance(2);
  assert.equal(clock.timersPending, 0);
});

test('a cancelled sleep rejects with cancelled and leaves no timer', async () => {
  const clock = new SimulatedClock();
  const abort = new AbortController();
  const sleeping = clock.sleep(1_000, abort.signal);
  abort.abort();
  await assert.rejects(sleeping, { code: 'cancelled' });
  await assert.rejects(clock.sleep(1, AbortSignal.abort()), { code: 'cancelled' });
  assert.equal(clock.timersPending, 0);
});

test('moments of the monotonic clock go with the clock on the wall, and stand still otherwise', async () => {
  const clock = new SimulatedClock();
  const moments = new WallMoments(clock);
  const [atMs, wall] = [clock.monotonic(), clock.now()];
  await clock.advance(5_000);
  assert.equal(moments.at(atMs), wall);
  clock.shift(300);
  assert.equal(moments.at(atMs), wall, 'a clock that is only kept right');
  clock.shift(-3_600_000);
  assert.equal(moments.at(atMs), clock.now() - 5_000);
});

test('a steady clock goes on from the clock on the wall, and does not follow it', async () => {
  const clock = new SimulatedClock();
  const steady = steadyClock(clock);
  const wall = clock.now();
  assert.equal(steady.now(), wall);
  clock.shift(-3_600_000);
  await clock.advance(5_000);
  assert.equal(steady.now(), wall + 5_000);
});

test('one seed gives one sequence of random numbers, evenly spread', () => {
  const draw = (seed: number): number[] => {
    const clock = new SimulatedClock({ seed });
    return Array.from({ length: 1_000 }, () => clock.random());
  };
  assert.deepEqual(draw(7), draw(7));
  assert.notDeepEqual(draw(7), draw(8));
  const mean = draw(7).reduce((sum, value) => sum + value, 0) / 1_000;
  assert(Math.abs(mean - 0.5) < 0.05, `mean ${mean}`);
});

test('the system clock waits in real time', async () => {
  const startMs = systemClock.monotonic();
  await systemClock.sleep(20);
  assert(systemClock.monotonic() - startMs >= 15);
});
