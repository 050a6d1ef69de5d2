/** Which plans are refused, and that the refusal names everything that is wrong. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ownsPath } from '../../protocol/owned-paths.ts';
import type { Plan } from '../../protocol/plan.ts';
import { globsOverlap, overlapsOf } from './glob-overlap.ts';
import { planFaults } from './plan-validation.ts';
import { planOf, TWO_TASKS } from './test-build.ts';

const TOOLS = ['filesystem.write_file', 'git.git_add'];

/** The plan with some fields of one task replaced, schema or not: models write anything. */
function altered(index: number, fields: Record<string, unknown>): Plan {
  const tasks = TWO_TASKS.tasks.map((task, at) => (at === index ? { ...task, ...fields } : task));
  return { ...TWO_TASKS, tasks } as Plan;
}

test('a good plan has no faults', () => {
  assert.deepEqual(planFaults(altered(0, { mcp_tools: ['git.git_add'] }), TOOLS), []);
});

const FAULTY: readonly (readonly [string, Plan, RegExp])[] = [
  [
    'an unknown dependency',
    altered(1, { depends_on: ['stor'] }),
    /stor, which is not a task.*store/,
  ],
  ['an id used twice', altered(1, { id: 'store', depends_on: [] }), /store is used twice/],
  ['a reserved id', altered(0, { id: 'repair-1' }), /reserved/],
  ['a circle', altered(0, { depends_on: ['tests'] }), /circle/],
  ['a task that waits for itself', altered(0, { depends_on: ['store'] }), /store → store/],
  ['two owners of one file', altered(1, { owns: ['src/store.js'] }), /both own src\/store\.js/],
  ['a glob over a file of another', altered(1, { owns: ['src/*.js'] }), /both own/],
  ['a folder of another', altered(1, { owns: ['src'] }), /both own/],
  ['an absolute path', altered(0, { owns: ['/etc/passwd'] }), /is absolute/],
  ['a way out', altered(0, { reads: ['../secrets'] }), /leaves the project/],
  ['an unknown tool', altered(0, { mcp_tools: ['git.add'] }), /git\.add.*nearest is git\.git_add/],
  [
    'nothing that tests',
    altered(1, { type: 'backend', owns: ['src/x.js'] }),
    /no task writes tests/,
  ],
  ['no check', { ...TWO_TASKS, check: { command: [''], timeout_s: 1 } }, /no check command/],
  ['no task', { ...TWO_TASKS, tasks: [] }, /no task/],
  ['a contract on code', altered(1, { type: 'contract' }), /which is not a contract/],
];

for (const [what, plan, fault] of FAULTY) {
  test(`refused: ${what}`, () => assert.match(planFaults(plan, TOOLS).join('\n'), fault));
}

test('refused: more than forty tasks', () => {
  const tasks = Array.from({ length: 40 }, (_, index) => ({ id: `t${index}`, type: 'testing' }));
  const plan = planOf(tasks);
  const extra = plan.tasks.slice(0, 1).map(task => ({ ...task, id: 'one-more', owns: ['x'] }));
  const long = { ...plan, tasks: [...plan.tasks, ...extra] } as Plan;
  assert.match(planFaults(long, []).join(), /41 tasks/);
});

test('all faults are listed at once', () => {
  const plan = altered(1, { depends_on: ['nobody'], owns: ['src/store.js'], mcp_tools: ['a.b'] });
  assert.equal(planFaults(plan, TOOLS).length, 3);
});

test('paths with tests in them count as tests, in every usual spelling', () => {
  for (const path of ['test/a.js', 'src/a.test.ts', 'tests/x.py', 'test_app.py', 'a_test.go']) {
    const plan = altered(1, { type: 'backend', owns: [path] });
    assert.deepEqual(planFaults(plan, TOOLS), [], path);
  }
});

test('globs overlap exactly where they share a path', () => {
  const pairs: readonly (readonly [string, string, boolean])[] = [
    ['src/a.js', 'src/b.js', false],
    ['src/a.js', 'SRC/A.js', true],
    ['src/**', 'src/deep/x.js', true],
    ['**', 'anything', true],
    ['src/*.js', 'src/*.ts', false],
    ['src/a*.js', 'src/*b.js', true],
    ['**/index.js', 'src/a/index.js', true],
    ['**/index.js', 'src/a/main.js', false],
    ['test', 'tests', false],
    ['a?c', 'abc', true],
    ['docs/', 'docs/guide.md', true],
    ['.github', '.github/ci.yml', true],
    ['Makefile', '**/*.md', false],
    ['src', '**/*.test.js', true],
  ];
  for (const [left, right, overlap] of pairs) {
    assert.equal(globsOverlap(left, right), overlap, `${left} ~ ${right}`);
    assert.equal(globsOverlap(right, left), overlap, `${right} ~ ${left}`);
  }
});

test('whatever two globs both own, they overlap', () => {
  const segment = fc.constantFrom('a', 'b', 'ab', '*', '**', '?', 'a*', '*b');
  const glob = fc
    .tuple(fc.array(segment, { minLength: 1, maxLength: 4 }), fc.constantFrom('', '.js', '/*.js'))
    .map(([parts, ending]) => parts.join('/') + ending);
  const path = fc
    .array(fc.constantFrom('a', 'b', 'ab', 'aab'), { minLength: 1, maxLength: 5 })
    .map(parts => `${parts.join('/')}.js`);
  fc.assert(
    fc.property(glob, glob, path, (left, right, file) => {
      fc.pre(ownsPath([left], file) && ownsPath([right], file));
      assert.ok(globsOverlap(left, right));
    }),
  );
});

test('owners overlap where some of their globs do, however those are found', () => {
  const segment = fc.constantFrom('a', 'b', 'A', '*', '**', 'a*', '?b');
  const glob = fc
    .tuple(
      fc.array(segment, { minLength: 1, maxLength: 3 }),
      fc.constantFrom('', '/', '.js', '/x.js'),
    )
    .map(([parts, ending]) => parts.join('/') + ending);
  const owners = fc.array(fc.array(glob, { minLength: 1, maxLength: 4 }), { maxLength: 4 });
  fc.assert(
    fc.property(owners, lists => {
      const tasks = lists.map((owns, index) => ({ id: `t${index}`, owns }));
      const expected = tasks.flatMap((left, index) =>
        tasks.slice(index + 1).flatMap(right => {
          const isShared = left.owns.some(mine =>
            right.owns.some(theirs => globsOverlap(mine, theirs)),
          );
          return isShared ? [`${left.id} ${right.id}`] : [];
        }),
      );
      const { overlaps, isCut } = overlapsOf(tasks);
      assert.equal(isCut, false);
      assert.deepEqual(
        overlaps.map(({ left, right }) => `${left} ${right}`),
        expected,
      );
      for (const { mine, theirs } of overlaps) assert.ok(globsOverlap(mine, theirs));
    }),
  );
});
