/** Counting tests from what Node's runner prints. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { packageRoot } from '../../runtime/paths.ts';
import { afterRetry, countTests, filesNote } from './test.ts';

test("the runner's own summary counts, with what was cancelled as failed", () => {
  const said = '✔ a (1ms)\n✖ b (1ms)\nℹ pass 41\nℹ fail 2\nℹ cancelled 1\nℹ skipped 3\n';
  assert.deepEqual(countTests(said), { passed: 41, failed: 3, skipped: 3, failedFiles: [] });
});

test('a run that was cut short is counted by its lines and is a failure', () => {
  const said = '▶ group\n  ✔ a (1ms)\n✔ group (2ms)\n✖ b (1ms)\n';
  assert.deepEqual(countTests(said), { passed: 2, failed: 2, skipped: 0, failedFiles: [] });
  assert.deepEqual(countTests(''), { passed: 0, failed: 1, skipped: 0, failedFiles: [] });
});

test('the files of what failed are known, and each once', () => {
  const said = `ℹ pass 41
ℹ fail 3

✖ failing tests:

test at dist/test/e2e/faults.test.js:160:5
✖ and retry (1ms)
  Error: not within 120000 ms
      at eventually (file:///t/dist/test/e2e/test-system.js:185:19)

test at dist/test/e2e/faults.test.js:170:5
✖ another (1ms)

test at dist/cli/up.test.js:3:1
✖ up (1ms)
`;
  const { failedFiles } = countTests(said);
  assert.deepEqual(failedFiles, ['dist/test/e2e/faults.test.js', 'dist/cli/up.test.js']);
});

test('after a retry only what failed again has failed', () => {
  const events = [{ file: 'a', at_ms: 1, is_end: false }];
  const first = { exitCode: 1, passed: 40, failed: 3, skipped: 2, failedFiles: ['a', 'b'], events };
  const again = { exitCode: 1, passed: 9, failed: 1, skipped: 1, failedFiles: ['b'], events: [] };
  const expected = { exitCode: 1, passed: 42, failed: 1, skipped: 2, failedFiles: ['b'], events };
  assert.deepEqual(afterRetry(first, again), expected);
});

test('a run tells the files that took longest, and those that were running when it was cut short', () => {
  const event = (name: string, at_ms: number, is_end: boolean) => ({
    file: join(packageRoot(), name),
    at_ms,
    is_end,
  });
  const whole = [
    event('a.test.js', 0, false),
    event('b.test.js', 1_000, false),
    event('a.test.js', 3_000, true),
    event('b.test.js', 61_000, true),
  ];
  assert.deepEqual(filesNote(whole), ['the longest:\n    60 s  b.test.js\n     3 s  a.test.js']);
  const [longest, running] = filesNote(whole.slice(0, 3));
  assert.equal(longest, 'the longest:\n     3 s  a.test.js');
  assert.equal(running, 'running when the run was cut short: b.test.js');
  assert.deepEqual(filesNote([]), []);
});
