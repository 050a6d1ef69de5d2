/** What a person sees of a build, from the facts of its log. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Fact } from '../protocol/fact.ts';
import { type BuildView, describeFact, foldFact, NEW_BUILD } from './build-view.ts';

/** Facts are written here by their telling parts only. */
const fact = (type: Fact['type'], more: object): Fact =>
  ({ type, at: 5, build: 'b1', ...more }) as Fact;

const fold = (...facts: Fact[]): BuildView => facts.reduce(foldFact, NEW_BUILD);

const plan = fact('plan.accepted', {
  plan: { name: 'todo', stack: 'node', tasks: [{ id: 'store', title: 'The store' }] },
});
const placed = (task: string, engine: string, attempt = 1): Fact =>
  fact('task.placed', { task, attempt, engine, model: 'm', node: 'n1' });

test('a task goes from waiting over placed and running to merged', () => {
  const task = { task: 'store', attempt: 1 };
  const states = [
    plan,
    placed('store', 'ollama'),
    fact('task.dispatched', task),
    fact('task.reported', { ...task, report: { outcome: 'done', error: null } }),
    fact('task.merged', { ...task, commit: 'a'.repeat(40) }),
  ].map((_, index, facts) => fold(...facts.slice(0, index + 1)).tasks.at(-1)?.state);
  assert.deepEqual(states, ['waiting', 'placed', 'running', 'reported', 'merged']);
});

test('planning and repair tasks, which no plan names, are shown too', () => {
  const view = fold(placed('plan', 'scaffold'), plan, placed('repair-1', 'scaffold'));
  assert.deepEqual(
    view.tasks.map(task => task.title),
    ['Plan the build', 'The store', 'repair-1'],
  );
});

test('whoever wrote a part is named once, the scaffold engine without a model', () => {
  const view = fold(placed('a', 'scaffold'), placed('b', 'ollama'), placed('c', 'ollama'));
  assert.deepEqual(view.writers, ['scaffold', 'ollama m']);
});

test('a wait is told with its reason until the task is placed', () => {
  const unplaced = fact('task.unplaced', {
    task: 'plan',
    attempt: 1,
    decision: { reason: 'no gateway is ready' },
  });
  assert.equal(fold(unplaced).waiting, 'no gateway is ready');
  assert.equal(fold(unplaced, placed('plan', 'ollama')).waiting, null);
});

test('a failed attempt shows its error and the next attempt clears it', () => {
  const error = { code: 'answer_invalid', message: 'no envelope' };
  const failed = fact('task.reported', {
    task: 'store',
    attempt: 1,
    report: { outcome: 'failed', error },
  });
  assert.equal(fold(plan, failed).tasks[0]?.error, 'no envelope');
  const again = fold(plan, failed, placed('store', 'ollama', 2)).tasks[0];
  assert.deepEqual([again?.error, again?.attempt], [null, 2]);
});

test('the end of a build is its last word', () => {
  const ended = fact('build.ended', { state: 'partial', error: null, unmet: ['no tests'] });
  const view = fold(plan, ended);
  assert.deepEqual(view.end, { state: 'partial', error: null, unmet: ['no tests'] });
  assert.equal(view.phase, 'partial');
  assert.equal(describeFact(ended), 'partial');
});

test('a fact of a kind not known here changes nothing and says nothing', () => {
  const unknown = fact('build.imagined' as Fact['type'], {});
  assert.deepEqual(fold(unknown), NEW_BUILD);
  assert.equal(describeFact(unknown), null);
});
