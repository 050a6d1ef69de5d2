/** Counting tests from what Node's runner prints. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { countTests } from './test.ts';

test("the runner's own summary counts, with what was cancelled as failed", () => {
  const said = '✔ a (1ms)\n✖ b (1ms)\nℹ pass 41\nℹ fail 2\nℹ cancelled 1\nℹ skipped 3\n';
  assert.deepEqual(countTests(said), { passed: 41, failed: 3, skipped: 3 });
});

test('a run that was cut short is counted by its lines and is a failure', () => {
  const said = '▶ group\n  ✔ a (1ms)\n✔ group (2ms)\n✖ b (1ms)\n';
  assert.deepEqual(countTests(said), { passed: 2, failed: 2, skipped: 0 });
  assert.deepEqual(countTests(''), { passed: 0, failed: 1, skipped: 0 });
});
