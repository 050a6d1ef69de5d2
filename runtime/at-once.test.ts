/** A bounded number of things at once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eachAtOnce } from './at-once.ts';

const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve));

test('all are worked on, in their order, never more than the limit at once', async () => {
  const begun: number[] = [];
  let running = 0;
  let most = 0;
  await eachAtOnce([1, 2, 3, 4, 5, 6, 7], 3, async item => {
    begun.push(item);
    running += 1;
    most = Math.max(most, running);
    for (let turns = 0; turns < item % 3; turns++) await turn();
    running -= 1;
  });
  assert.deepEqual(begun, [1, 2, 3, 4, 5, 6, 7]);
  assert.equal(most, 3);
  assert.equal(running, 0);
});

test('after an error nothing more is begun, and what was begun is waited for', async () => {
  const over: number[] = [];
  const work = async (item: number): Promise<void> => {
    await turn();
    if (item === 1) throw new Error('the first');
    await turn();
    over.push(item);
  };
  await assert.rejects(eachAtOnce([1, 2, 3, 4], 2, work), /the first/);
  assert.deepEqual(over, [2]);
});
