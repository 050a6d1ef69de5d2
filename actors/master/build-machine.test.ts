/** The way of a build through planning, work, checks and repairs, fact by fact. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NodeId, TaskId } from '../../protocol/ids.ts';
import { ATTEMPTS_MAX, PLAN_ATTEMPTS_MAX, REPAIR_ROUNDS_MAX } from '../../protocol/limits.ts';
import { waitingReason } from './build-wishes.ts';
import { INFRASTRUCTURE_FAILURES_MAX } from './task-retry.ts';
import { planOf, TestBuild } from './test-build.ts';

test('a build where all goes well is planned, done, checked, archived and succeeds', () => {
  const build = new TestBuild().receive();
  assert.equal(build.state, 'received');
  build.answer('admit');
  assert.equal(build.state, 'planning');
  assert.deepEqual(build.wishes, ['place:plan.1.0']);
  build.dispatchAll().report('plan');
  assert.equal(build.state, 'validating_plan');
  build.answer('validate-plan:1');
  assert.equal(build.state, 'contracting');
  build.answer('workspace.create:0');
  assert.equal(build.state, 'executing');
  build.dispatchAll().report('store');
  assert.equal(build.task('tests').state, 'pending', 'not before its dependency is merged');
  build.answer('merge:store.1');
  build.dispatchAll().report('tests');
  assert.equal(build.state, 'integrating');
  build.answer('merge:tests.1');
  assert.equal(build.state, 'verifying');
  build.answer('check:0');
  assert.equal(build.state, 'finalizing');
  build.run();
  assert.equal(build.state, 'succeeded');
  assert.deepEqual(build.context.deadlines, {});
  assert.deepEqual(build.wishes, []);
  assert.equal(build.context.usage.turns, 3);
});

test('malformed messages end as failed and say why', () => {
  const error = { code: 'bad_message', message: 'not JSON' } as const;
  const build = new TestBuild().send({ type: 'build.rejected', error, excerpt: '\u0000' });
  assert.equal(build.state, 'failed');
  assert.equal(build.context.error?.code, 'bad_message');
  assert.equal(build.control('retry').state, 'failed', 'there is nothing to retry');
});

test('independent tasks run side by side within max_parallel_tasks, the most urgent first', () => {
  const plan = planOf([
    { id: 'a' },
    { id: 'b', priority: 9 },
    { id: 'c', type: 'testing' },
    { id: 'd' },
  ]);
  const build = new TestBuild(plan).receive({ max_parallel_tasks: 2 }).runTo('executing');
  assert.deepEqual(build.wishes, ['place:a.1.0', 'place:b.1.0']);
  build.dispatchAll().report('b');
  assert.equal(build.task('c').state, 'placing', 'a free slot is taken at once: no barrier');
  assert.equal(build.task('a').state, 'running');
});

test('contracts are merged before any other task begins', () => {
  const plan = planOf([
    { id: 'api', type: 'contract' },
    { id: 'store' },
    { id: 'tests', type: 'testing' },
  ]);
  const build = new TestBuild(plan).receive().runTo('contracting').answer('workspace.create:0');
  assert.equal(build.state, 'contracting');
  assert.deepEqual(build.wishes, ['place:api.1.0']);
  build.dispatchAll().report('api').answer('merge:api.1');
  assert.equal(build.state, 'executing');
  assert.deepEqual(build.wishes, ['place:store.1.0', 'place:tests.1.0']);
});

test('one merge at a time, in the order of the reports', () => {
  const plan = planOf([{ id: 'a' }, { id: 'b' }, { id: 'c', type: 'testing' }]);
  const build = new TestBuild(plan).receive().runTo('executing').dispatchAll();
  build.now += 1;
  build.report('c');
  build.now += 1;
  build.report('a');
  assert.deepEqual(build.wishes, ['merge:c.1']);
  build.answer('merge:c.1');
  assert.deepEqual(build.wishes, ['merge:a.1']);
});

test('a report that comes twice, or under an old lease or attempt, changes nothing', () => {
  const build = new TestBuild().receive().runTo('executing').dispatchAll();
  const first = build.reportOf(build.task('store'));
  build.fail('store', 'answer_invalid').expire('retry:store.1').dispatchAll();
  const before = build.context.tasks;
  const task = TaskId.parse('store');
  build.send({ type: 'task.reported', task, attempt: 1, report: first });
  build.send({ type: 'task.reported', task, attempt: 2, report: first });
  assert.deepEqual(build.context.tasks, before);
  build.report('store');
  assert.equal(build.task('store').state, 'merging');
  const usage = build.context.usage;
  build.report('store');
  assert.deepEqual(build.context.usage, usage);
});

test('a placement of an attempt that is over is not taken for the present one', () => {
  const build = new TestBuild().receive().runTo('executing');
  const late = build.answerTo(build.wish('place:store.1.0'));
  build.dispatchAll().fail('store', 'answer_invalid').expire('retry:store.1');
  build.send(late);
  assert.equal(build.task('store').state, 'placing');
});

test('a failure of the model is quoted in the next attempt, which comes after a pause', () => {
  const build = new TestBuild().receive().runTo('executing').dispatchAll();
  build.fail('store', 'answer_invalid');
  assert.equal(build.task('store').state, 'retry_wait');
  assert.deepEqual(build.wishes, []);
  build.expire('retry:store.1');
  build.answer('place:store.2.0');
  const effect = build.wish('dispatch:store.2');
  assert.equal(effect.kind, 'dispatch');
  assert.match(
    effect.kind === 'dispatch' ? (effect.message.previous_error ?? '') : '',
    /answer_invalid/,
  );
});

test('after its last attempt a task fails, its dependents are blocked, and the build ends', () => {
  const plan = planOf([
    { id: 'store' },
    { id: 'api', depends_on: ['store'] },
    { id: 'tests', depends_on: ['api'], type: 'testing' },
  ]);
  const build = new TestBuild(plan).receive().runTo('executing');
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
    build.dispatchAll().fail('store', 'answer_invalid');
    if (attempt < ATTEMPTS_MAX) build.expire(`retry:store.${attempt}`);
  }
  assert.equal(build.task('store').state, 'failed');
  assert.equal(build.task('api').state, 'blocked');
  assert.equal(build.task('tests').state, 'blocked', 'blocking is transitive');
  build.run();
  assert.equal(build.state, 'failed');
  assert.equal(build.context.error?.code, 'answer_invalid');
  assert.equal(build.context.unmet.length, 4);
});

test('failures of the machinery consume no attempt of the model and are bounded', () => {
  const build = new TestBuild().receive().runTo('executing');
  for (let failure = 1; failure <= INFRASTRUCTURE_FAILURES_MAX; failure++) {
    build.dispatchAll().fail('store', 'engine_failed', 'infrastructure');
    build.expire(`retry:store.${failure}`);
  }
  assert.equal(build.task('store').model_failures, 0);
  build.dispatchAll().fail('store', 'engine_failed', 'infrastructure');
  assert.equal(build.task('store').state, 'failed');
});

for (const code of ['engine_unavailable', 'no_responders', 'disk_full']) {
  test(`what is away for hours is waited for, and fails no build: ${code}`, () => {
    const build = new TestBuild().receive().runTo('executing');
    const began = build.now;
    for (let attempt = 1; build.now - began < 3 * 3_600_000; attempt++) {
      build.dispatchAll().fail('store', code, 'infrastructure');
      assert.equal(build.task('store').state, 'retry_wait');
      const { deadlines } = build.context;
      assert.ok((deadlines[`retry:store.${attempt}`] ?? 0) <= build.now + 90_000, 'soon again');
      assert.match(waitingReason(build.context) ?? '', /^store: .+ happened; it is tried again$/);
      build.expire(`retry:store.${attempt}`);
    }
    build.run();
    assert.equal(build.state, 'succeeded');
  });
}

test('what never comes back ends with the time of the build', () => {
  const build = new TestBuild().receive().runTo('executing');
  const endsAt = build.context.deadlines['budget'] ?? 0;
  for (;;) {
    build.dispatchAll().fail('store', 'engine_unavailable', 'infrastructure');
    const { state, attempt, retry_at } = build.task('store');
    assert.equal(state, 'retry_wait', `after attempt ${attempt}`);
    if ((retry_at ?? 0) >= endsAt) break;
    build.expire(`retry:store.${attempt}`);
  }
  build.expire('budget').run();
  assert.equal(build.state, 'failed');
});

test('an optional task that fails blocks nobody, and the build succeeds without it', () => {
  const plan = planOf([
    { id: 'docs', optional: true },
    { id: 'tests', depends_on: ['docs'], type: 'testing' },
  ]);
  const build = new TestBuild(plan).receive().runTo('executing').dispatchAll();
  build.fail('docs', 'scaffold_refused');
  assert.equal(build.task('tests').state, 'placing');
  build.run();
  assert.equal(build.state, 'succeeded');
  assert.match(build.context.unmet[0] ?? '', /^docs \(optional\)/);
});

test('an answer that did not fit is asked for again with twice the context', () => {
  const build = new TestBuild().receive().runTo('executing').dispatchAll();
  build.fail('store', 'answer_truncated').expire('retry:store.1');
  const effect = build.wish('place:store.2.0');
  assert.equal(effect.kind === 'place' && effect.request.context_tokens, 32_768);
});

test('a worker that never answers: the attempt is withdrawn and goes elsewhere', () => {
  const build = new TestBuild().receive().runTo('executing').dispatchAll();
  const late = build.reportOf(build.task('store'));
  build.expire('task:store.1');
  assert.deepEqual(build.wishes, ['withdraw:store.1']);
  build.answer('withdraw:store.1').expire('retry:store.1');
  const effect = build.wish('place:store.2.0');
  assert.deepEqual(effect.kind === 'place' && effect.request.avoid, [NodeId.parse('node-a')]);
  build.send({ type: 'task.reported', task: TaskId.parse('store'), attempt: 1, report: late });
  assert.equal(build.task('store').state, 'placing');
  build.run();
  assert.equal(build.state, 'succeeded');
});

test('a conflict is worked out on the new base twice, then the task fails', () => {
  const build = new TestBuild().receive().runTo('executing');
  for (let attempt = 1; attempt <= 3; attempt++) {
    build.dispatchAll().report('store');
    build.wish(`merge:store.${attempt}`);
    const task = TaskId.parse('store');
    build.send({ type: 'task.conflicted', task, attempt, conflicts: ['src/store.js'] });
  }
  assert.equal(build.task('store').state, 'failed');
  assert.equal(build.task('store').error?.code, 'merge_conflict');
});

test('a step that fails for good counts against the machinery, and the node is told', () => {
  const build = new TestBuild().receive().runTo('executing').answer('place:store.1.0');
  const error = { code: 'too_large', message: 'the task message is too large' } as const;
  build.send({ type: 'task.failed', task: TaskId.parse('store'), attempt: 1, error });
  assert.equal(build.task('store').state, 'retry_wait');
  assert.deepEqual(build.wishes, ['withdraw:store.1']);
});

test('failing checks are run again before anything is repaired', () => {
  const build = new TestBuild().receive().runTo('verifying').check(false);
  assert.equal(build.state, 'verifying');
  assert.deepEqual(build.wishes, ['check:1']);
  build.check(true);
  assert.equal(build.state, 'finalizing', 'the failure was a flake');
});

test('checks that fail twice are repaired, with their output in the prompt', () => {
  const build = new TestBuild().receive().runTo('verifying').check(false).check(false);
  assert.equal(build.state, 'repairing');
  const repair = build.task('repair-1');
  assert.equal(repair.card?.type, 'bugfix');
  assert.deepEqual(repair.card?.owns, ['src/store.js', 'src/tests.js']);
  assert.match(repair.previous_error ?? '', /not ok 1/);
  build.dispatchAll().report('repair-1').answer('merge:repair-1.1');
  assert.deepEqual(build.wishes, ['check:2']);
  build.check(true).run();
  assert.equal(build.state, 'succeeded');
});

test('what a repair is to repair stays in its prompts, however its attempts fail', () => {
  const output = Array.from({ length: 40 }, (_, line) => `not ok ${line} ${'x'.repeat(90)}`);
  const build = new TestBuild().receive().runTo('verifying');
  build.check(false, { output: output.join('\n') }).check(false, { output: output.join('\n') });
  const prompt = (): string => build.task('repair-1').previous_error ?? '';
  const again = (): void => void build.expire(`retry:repair-1.${build.task('repair-1').attempt}`);
  build.dispatchAll().fail('repair-1', 'answer_invalid');
  assert.match(prompt(), /^not ok 0 .*not ok 39 .*of no use: answer_invalid: /s);
  again();
  const long = prompt().length;
  build.dispatchAll().fail('repair-1', 'answer_truncated');
  assert.match(prompt(), /not ok 39 .*of no use: answer_truncated: /s);
  assert.doesNotMatch(prompt(), /answer_invalid/, 'only the latest failure is told');
  assert.ok(prompt().length < long * 0.6, 'what did not fit is shortened');
  again();
  build.dispatchAll().report('repair-1');
  const { attempt } = build.task('repair-1');
  const task = build.task('repair-1').id;
  build.send({ type: 'task.conflicted', task, attempt, conflicts: ['src/store.js'] });
  assert.match(prompt(), /not ok 39 .*of no use: merge_conflict: .*src\/store\.js/s);
});

test('repairing stops when the same failure comes twice', () => {
  const build = new TestBuild().receive().runTo('verifying').check(false).check(false);
  build.dispatchAll().report('repair-1').answer('merge:repair-1.1');
  build.check(false, { output: 'not ok 1 - store keeps' }).check(false);
  assert.equal(build.state, 'finalizing');
  build.run();
  assert.equal(build.state, 'partial');
  assert.equal(build.context.error?.code, 'checks_failed');
});

test('repairing stops after its last round', () => {
  const build = new TestBuild().receive().runTo('verifying').check(false).check(false);
  for (let round = 1; round <= REPAIR_ROUNDS_MAX; round++) {
    assert.equal(build.state, 'repairing');
    build.dispatchAll().report(`repair-${round}`).answer(`merge:repair-${round}.1`);
    const output = `not ok - ${'x'.repeat(round)}`;
    build.check(false, { output }).check(false, { output });
  }
  assert.equal(build.run().state, 'partial');
});

test('a repair that comes to nothing ends the build', () => {
  const build = new TestBuild().receive().runTo('verifying').check(false).check(false);
  build.dispatchAll().fail('repair-1', 'scaffold_refused').run();
  assert.equal(build.state, 'partial');
});

test('no test is no pass', () => {
  const build = new TestBuild().receive().runTo('verifying');
  build.check(true, { tests_passed: 0 }).check(true, { tests_passed: 0 });
  assert.equal(build.state, 'repairing');
  build.dispatchAll().fail('repair-1', 'scaffold_refused').run();
  assert.equal(build.state, 'failed');
  assert.match(build.context.unmet.join(), /no test/);
});

test('checks that cannot run end the build with their reason', () => {
  const build = new TestBuild().receive().runTo('verifying');
  const error = { code: 'sandbox_required', message: 'no sandbox here' } as const;
  build.send({ type: 'check.failed', round: 0, error }).run();
  assert.equal(build.state, 'failed');
  assert.equal(build.context.error?.code, 'sandbox_required');
});

test('a rejected plan is asked for again with its faults, then the build is unplannable', () => {
  const build = new TestBuild().receive().runTo('validating_plan');
  const error = { code: 'plan_invalid', message: 'store depends on nothing-known' } as const;
  for (let plans = 1; plans < PLAN_ATTEMPTS_MAX; plans++) {
    build.send({ type: 'plan.rejected', error });
    assert.equal(build.state, 'planning');
    assert.equal(build.task('plan').previous_error, error.message);
    build.dispatchAll().report('plan');
  }
  build.send({ type: 'plan.rejected', error }).run();
  assert.equal(build.state, 'failed');
  assert.equal(build.context.error?.code, 'unplannable');
});

test('what the scaffold engine refuses ends the build at once with its reason', () => {
  const build = new TestBuild().receive().runTo('planning').dispatchAll();
  build.fail('plan', 'scaffold_refused').run();
  assert.equal(build.state, 'failed');
  assert.equal(build.context.error?.code, 'scaffold_refused');
  assert.match(build.context.error?.message ?? '', /happened/);
});
