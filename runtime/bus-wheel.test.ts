/** The timer wheel under a simulated clock. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TimerWheel } from './bus-wheel.ts';
import { SimulatedClock } from './clock.ts';

test('a deadline fires once, not early and at most a tick late', async () => {
  const clock = new SimulatedClock();
  const wheel = new TimerWheel(clock);
  await clock.advance(7);
  const firedMs: number[] = [];
  for (const delayMs of [0, 5, 100, 333]) {
    wheel.after(delayMs, () => firedMs.push(clock.monotonic() - 7 - delayMs));
  }
  await clock.advance(1_000);
  assert.equal(firedMs.length, 4);
  assert(
    firedMs.every(lateMs => lateMs >= 0 && lateMs <= 20),
    `late by ${firedMs}`,
  );
});

test('deadlines fire in order, also when an earlier one is set later', async () => {
  const clock = new SimulatedClock();
  const wheel = new TimerWheel(clock);
  const fired: string[] = [];
  wheel.after(500, () => fired.push('late'));
  wheel.after(100, () => fired.push('early'));
  wheel.after(300, () => fired.push('middle'));
  await clock.advance(120);
  assert.deepEqual(fired, ['early']);
  await clock.advance(1_000);
  assert.deepEqual(fired, ['early', 'middle', 'late']);
});

test('a cancelled deadline does not fire, even when cancelled by one of the same tick', async () => {
  const clock = new SimulatedClock();
  const wheel = new TimerWheel(clock);
  wheel.after(100, () => second.cancel());
  const second = wheel.after(100, () => assert.fail('fired'));
  wheel.after(50, () => assert.fail('fired')).cancel();
  await clock.advance(1_000);
});

test('ten thousand deadlines need one timer, and none when nothing waits', async () => {
  const clock = new SimulatedClock();
  const wheel = new TimerWheel(clock);
  const deadlines = Array.from({ length: 10_000 }, (_, i) => wheel.after(i, () => undefined));
  assert.equal(clock.timersPending, 1);
  for (const deadline of deadlines) deadline.cancel();
  await clock.advance(10_100);
  assert.equal(clock.timersPending, 0);
});

test('a stopped wheel fires nothing and leaves no timer', async () => {
  const clock = new SimulatedClock();
  const wheel = new TimerWheel(clock);
  wheel.after(10, () => assert.fail('fired'));
  wheel.stop();
  assert.equal(clock.timersPending, 0);
  await clock.advance(100);
});
