/** Goal: no runner's summary is read as a pass that is none. Texts are what the runners print. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { countTests, isPass } from './check-outcome.ts';

const counted = (text: string) => countTests(text);

test('node --test: TAP and spec summaries are counted, skipped tests are neither', () => {
  const tap = '# tests 4\n# suites 0\n# pass 2\n# fail 1\n# cancelled 0\n# skipped 1\n# todo 0\n';
  assert.deepEqual(counted(tap), { passed: 2, failed: 1 });
  const spec = 'ℹ tests 2\nℹ suites 1\nℹ pass 2\nℹ fail 0\nℹ cancelled 0\nℹ skipped 0\n';
  assert.deepEqual(counted(spec), { passed: 2, failed: 0 });
});

test('node --test: a file without a test in it is not a test', () => {
  const tap = [
    'TAP version 13',
    '# Subtest: /work/test/empty.test.js',
    'ok 1 - /work/test/empty.test.js',
    '1..1\n# tests 1\n# suites 0\n# pass 1\n# fail 0\n# cancelled 0\n',
  ].join('\n');
  assert.deepEqual(counted(tap), { passed: 0, failed: 0 });
  const spec = '✔ /work/a.test.mjs (81.8ms)\nℹ tests 1\nℹ pass 1\nℹ fail 0\n';
  assert.deepEqual(counted(spec), { passed: 0, failed: 0 });
});

test('text of the tested program before the summary does not count', () => {
  assert.deepEqual(counted('# tests 9\n# pass 9\n# fail 0\n# tests 1\n# pass 0\n# fail 1\n'), {
    passed: 0,
    failed: 1,
  });
});

test('pytest: passes, failures, errors and nothing collected', () => {
  assert.deepEqual(counted('..F\n1 failed, 2 passed in 0.12s\n'), { passed: 2, failed: 1 });
  assert.deepEqual(counted('==== 3 passed, 1 warning in 0.50s ====\n'), { passed: 3, failed: 0 });
  assert.deepEqual(counted('=== 1 passed, 2 errors in 61.00s (0:01:01) ==='), {
    passed: 1,
    failed: 2,
  });
  assert.deepEqual(counted('no tests ran in 0.01s\n'), { passed: 0, failed: 0 });
});

test('unittest, jest, vitest, mocha, cargo and go are counted', () => {
  assert.deepEqual(counted('Ran 3 tests in 0.001s\n\nFAILED (failures=1, errors=1)\n'), {
    passed: 1,
    failed: 2,
  });
  assert.deepEqual(counted('Tests:       1 failed, 3 passed, 4 total\n'), { passed: 3, failed: 1 });
  assert.deepEqual(counted('      Tests  3 passed (3)\n'), { passed: 3, failed: 0 });
  assert.deepEqual(counted('  2 passing (5ms)\n  1 failing\n'), { passed: 2, failed: 1 });
  assert.deepEqual(
    counted(
      'test result: ok. 3 passed; 0 failed; 0 ignored\ntest result: FAILED. 1 passed; 2 failed;',
    ),
    { passed: 4, failed: 2 },
  );
  assert.deepEqual(counted('--- PASS: TestA (0.00s)\n--- FAIL: TestB (0.00s)\nFAIL\n'), {
    passed: 1,
    failed: 1,
  });
});

test('only a clean end with at least one passed test and no failed one is a pass', () => {
  assert.equal(isPass(0, { passed: 1, failed: 0 }), true);
  assert.equal(isPass(0, { passed: 0, failed: 0 }), false);
  assert.equal(isPass(0, null), false);
  assert.equal(isPass(1, { passed: 1, failed: 0 }), false);
  assert.equal(isPass(0, { passed: 1, failed: 1 }), false);
  assert.equal(isPass(null, { passed: 1, failed: 0 }), false);
});
