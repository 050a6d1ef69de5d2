/** Waiting, pausing, cancelling, running out of time, trying again: the ways off the straight path. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TaskId } from '../../protocol/ids.ts';
import { sourcePath } from '../../test/source-tree.ts';
import { assertReadmeDiagram } from '../../test/state-diagram.ts';
import { buildMachine } from './build-machine.ts';
import { NODE, planOf, TestBuild } from './test-build.ts';

test('the README shows the machine as it is', () => {
  assertReadmeDiagram(sourcePath('actors/master/README.md'), buildMachine);
});

test('plan_mode approve waits for approval', () => {
  const build = new TestBuild().receive({ plan_mode: 'approve' }).runTo('awaiting_approval');
  assert.deepEqual(build.wishes, []);
  build.control('approve');
  assert.equal(build.state, 'contracting');
});

test('a plan that nobody approved is not carried out by trying again', () => {
  const build = new TestBuild().receive({ plan_mode: 'approve' }).runTo('awaiting_approval');
  build.control('cancel').run().control('retry');
  assert.equal(build.state, 'awaiting_approval');
});

test('where nothing can be placed the build waits for capacity, and goes on where it was', () => {
  const build = new TestBuild().receive().runTo('planning');
  build.unplaced('plan', 1);
  assert.equal(build.state, 'waiting_capacity');
  assert.deepEqual(build.wishes, ['place:plan.1.1'], 'it is tried again');
  build.answer('place:plan.1.1');
  assert.equal(build.state, 'planning');
});

test('once a model was used or waited for, nothing but a model will do', () => {
  const needsModel = (build: TestBuild, key: string): boolean | undefined => {
    const effect = build.wish(key);
    return effect.kind === 'place' ? effect.request.needs_model : undefined;
  };
  const waiting = new TestBuild().receive().runTo('planning');
  assert.equal(needsModel(waiting, 'place:plan.1.0'), undefined);
  assert.equal(needsModel(waiting.unplaced('plan', 1), 'place:plan.1.1'), undefined);
  const candidate = { node: NODE, engine: 'ollama', model: 'qwen', verdict: 'not_ready' } as const;
  const away = { ...candidate, need_bytes: 0, free_bytes: null, reason: 'it is away' };
  const decision = { at: 1, chosen: null, reason: 'it is away', candidates: [away] };
  const { id: task, attempt } = waiting.task('plan');
  waiting.send({ type: 'task.unplaced', task, attempt, tries: 2, decision });
  assert.equal(needsModel(waiting, 'place:plan.1.2'), true);
  const used = new TestBuild().receive().runTo('executing');
  assert.equal(needsModel(used, 'place:store.1.0'), true, 'the plan came from a model');
});

test('while one task runs, another that waits does not hold the build up', () => {
  const plan = planOf([{ id: 'a' }, { id: 'b', type: 'testing' }]);
  const build = new TestBuild(plan).receive().runTo('executing').answer('place:a.1.0');
  build.unplaced('b', 1);
  assert.equal(build.state, 'executing');
});

test('a paused build begins nothing, keeps what comes in, and goes on when resumed', () => {
  const build = new TestBuild().receive().runTo('executing').dispatchAll().control('pause');
  assert.equal(build.state, 'paused');
  build.report('store');
  assert.deepEqual(build.wishes, []);
  assert.equal(build.task('store').state, 'reported');
  build.control('resume');
  assert.equal(build.state, 'executing');
  assert.deepEqual(build.wishes, ['merge:store.1']);
});

test('pausing while the checks run repeats them under the same number', () => {
  const build = new TestBuild().receive().runTo('verifying').control('pause');
  assert.deepEqual(build.wishes, [], 'nothing is begun');
  build.control('resume');
  assert.equal(build.state, 'verifying');
  assert.deepEqual(build.wishes, ['check:0']);
});

test('a pause between two runs of the checks does not give them a third', () => {
  const build = new TestBuild().receive().runTo('verifying').check(false);
  build.control('pause').control('resume').check(false);
  assert.equal(build.state, 'repairing');
});

test('a workspace that cannot be made ends the build, and trying again makes another try', () => {
  const build = new TestBuild().receive().runTo('contracting');
  const error = { code: 'disk_full', message: 'no room' } as const;
  for (const failures of [0, 1, 2]) {
    build.wish(`workspace.create:${failures}`);
    build.send({ type: 'workspace.failed', error });
  }
  build.run();
  assert.equal(build.state, 'failed');
  assert.equal(build.context.error?.code, 'disk_full');
  build.control('retry').run();
  assert.equal(build.state, 'succeeded');
});

test('who tries again gets the whole time again', () => {
  const build = new TestBuild().receive({ constraints: { max_execution_time: 5 } });
  build.runTo('executing').expire('budget').run();
  build.now += 60_000;
  build.control('retry');
  assert.equal(build.context.deadlines['budget'], build.now + 5_000);
});

test('the time limit ends a build with what is merged', () => {
  const build = new TestBuild().receive({ constraints: { max_execution_time: 5 } });
  build.runTo('executing').dispatchAll().expire('budget');
  assert.equal(build.state, 'finalizing');
  assert.equal(build.task('store').state, 'cancelled');
  build.run();
  assert.equal(build.state, 'failed');
  assert.equal(build.context.error?.code, 'budget_exceeded');
});

test('the time limit ends waiting and paused builds too', () => {
  const waiting = new TestBuild().receive().runTo('planning').unplaced('plan', 1);
  assert.equal(waiting.expire('budget').run().state, 'failed');
  const paused = new TestBuild().receive().runTo('executing').control('pause');
  assert.equal(paused.expire('budget').run().state, 'failed');
});

test('an archive that never comes does not keep a build from ending', () => {
  const build = new TestBuild().receive().runTo('finalizing').expire('finalize');
  assert.deepEqual(build.wishes, ['end']);
  assert.equal(build.run().state, 'succeeded');
});

const CANCELLABLE = [
  'received',
  'planning',
  'validating_plan',
  'awaiting_approval',
  'contracting',
  'executing',
  'integrating',
  'verifying',
  'repairing',
  'finalizing',
  'waiting_capacity',
  'paused',
] as const;

function buildIn(state: (typeof CANCELLABLE)[number]): TestBuild {
  const build = new TestBuild().receive(
    state === 'awaiting_approval' ? { plan_mode: 'approve' } : {},
  );
  switch (state) {
    case 'waiting_capacity':
      return build.runTo('planning').unplaced('plan', 1);
    case 'paused':
      return build.runTo('executing').dispatchAll().control('pause');
    case 'repairing':
      return build.runTo('verifying').check(false).check(false).dispatchAll();
    default:
      return build.runTo(state);
  }
}

for (const state of CANCELLABLE) {
  test(`a build that is ${state} can be cancelled, and ends`, () => {
    const build = buildIn(state);
    const running = build.context.tasks.filter(task => ['leased', 'running'].includes(task.state));
    build.control('cancel');
    assert.equal(build.state, 'cancelling');
    assert.deepEqual(
      build.wishes.filter(key => key.startsWith('withdraw:')),
      running.map(task => `withdraw:${task.id}.${task.attempt}`),
      'workers on it are told',
    );
    build.run();
    assert.equal(build.state, 'cancelled');
    assert.deepEqual(build.context.deadlines, {});
  });
}

test('cancelling ends even where nobody answers', () => {
  const build = new TestBuild().receive().runTo('executing').dispatchAll().control('cancel');
  build.expire('cancel');
  assert.deepEqual(build.wishes, ['end.cancelled']);
});

test('a merge that has begun is brought to its end before the build is, and is not done again', () => {
  const build = new TestBuild().receive().runTo('executing').dispatchAll().report('store');
  build.control('cancel');
  assert.deepEqual(build.wishes, ['merge:store.1'], 'neither archive nor end yet');
  build.answer('merge:store.1').run();
  assert.equal(build.state, 'cancelled');
  assert.equal(build.task('store').state, 'merged');
  build.control('retry');
  assert.deepEqual(build.wishes, ['place:tests.1.0']);
  assert.equal(build.run().state, 'succeeded');
});

test('a merge in conflict is not tried again in a build that is being cancelled', () => {
  const build = new TestBuild().receive().runTo('executing').dispatchAll().report('store');
  build.control('cancel');
  build.send({
    type: 'task.conflicted',
    task: TaskId.parse('store'),
    attempt: 1,
    conflicts: ['a'],
  });
  assert.equal(build.task('store').state, 'cancelled');
  assert.equal(build.run().state, 'cancelled');
  assert.equal(build.control('retry').run().state, 'succeeded');
});

test('a merge that is never answered does not keep a build from being cancelled', () => {
  const build = new TestBuild().receive().runTo('executing').dispatchAll().report('store');
  build.control('cancel').expire('cancel');
  assert.deepEqual(build.wishes, ['end.cancelled']);
  assert.equal(build.task('store').state, 'cancelled');
});

test('a build that did not succeed can be tried again and keeps what was merged', () => {
  const build = new TestBuild().receive().runTo('executing').dispatchAll().report('store');
  build.answer('merge:store.1').dispatchAll().fail('tests', 'scaffold_refused').run();
  assert.equal(build.state, 'partial');
  build.control('retry');
  assert.equal(build.state, 'executing');
  assert.deepEqual(build.wishes, ['place:tests.2.0'], 'attempts go on counting');
  build.run();
  assert.equal(build.state, 'succeeded');
});

test('a build whose checks failed is checked and repaired again when retried', () => {
  const build = new TestBuild().receive().runTo('verifying').check(false).check(false);
  build.dispatchAll().fail('repair-1', 'scaffold_refused').run().control('retry');
  assert.equal(build.state, 'verifying');
  build.check(false).check(false);
  assert.equal(build.task('repair-2').state, 'placing', 'repairs are numbered on');
});

const HELD = {
  code: 'conflict' as const,
  message: 'changes that are not committed are in the way: src/store.js',
  details: { in_the_way: ['src/store.js'] },
};

test("a repair that a person's changes keep from main is merged when retried, and checked then", () => {
  const build = new TestBuild().receive().runTo('verifying').check(false).check(false);
  build.dispatchAll().report('repair-1');
  const { id: task, attempt } = build.task('repair-1');
  const refuse = (): void => {
    build.send({ type: 'task.failed', task, attempt, error: HELD });
  };
  refuse();
  build.run();
  assert.equal(build.state, 'partial');
  assert.match(build.context.error?.message ?? '', /^task repair-1: .*src\/store\.js/);
  build.control('retry');
  assert.deepEqual(build.wishes, ['merge:repair-1.1'], 'before anything is checked');
  refuse();
  assert.equal(build.state, 'verifying');
  build.check(false).check(false).run();
  assert.equal(build.state, 'partial', 'no other repair is made that would be refused as well');
  assert.match(build.context.error?.message ?? '', /^task repair-1/);
  build.control('retry').answer('merge:repair-1.1');
  assert.equal(build.state, 'verifying');
  build.check(true).run();
  assert.equal(build.state, 'succeeded');
  assert.equal(build.task('repair-1').attempt, 1);
  assert.equal(build.context.repairs, 1);
});

test('a repair that was kept from main and then does not fit is done again before the checks', () => {
  const build = new TestBuild().receive().runTo('verifying').check(false).check(false);
  build.dispatchAll().report('repair-1');
  const { id: task, attempt } = build.task('repair-1');
  build.send({ type: 'task.failed', task, attempt, error: HELD }).run().control('retry');
  build.send({ type: 'task.conflicted', task, attempt, conflicts: ['src/store.js'] });
  assert.equal(build.state, 'executing');
  build.dispatchAll().report('repair-1').answer('merge:repair-1.2');
  assert.equal(build.state, 'verifying');
  build.check(true).run();
  assert.equal(build.state, 'succeeded');
});

test("work that a person's changes keep from main is not done again, but merged when retried", () => {
  const build = new TestBuild().receive().runTo('executing');
  build.run(({ context }) => context.pending['merge:store.1'] !== undefined);
  const { id: task, attempt } = build.task('store');
  build.send({ type: 'task.failed', task, attempt, error: HELD }).run();
  assert.equal(build.state, 'failed');
  assert.equal(build.context.error?.code, 'conflict');
  assert.match(build.context.error?.message ?? '', /src\/store\.js/);
  assert.equal(build.task('store').attempt, 1, 'it was not generated again');
  build.control('retry');
  assert.deepEqual(build.wishes, ['merge:store.1']);
  build.send({ type: 'task.failed', task, attempt, error: HELD }).run().control('retry');
  assert.deepEqual(build.wishes, ['merge:store.1'], 'as often as somebody asks');
  build.run();
  assert.equal(build.state, 'succeeded');
  assert.equal(build.task('store').attempt, 1);
});

test('any other failure of a merge is mended by another attempt', () => {
  const build = new TestBuild().receive().runTo('executing');
  build.run(({ context }) => context.pending['merge:store.1'] !== undefined);
  const { id: task, attempt } = build.task('store');
  const error = { code: 'conflict' as const, message: 'attempt store.1 has no commit' };
  build.send({ type: 'task.failed', task, attempt, error });
  assert.equal(build.task('store').state, 'retry_wait');
});

test('a cancelled build can be tried again', () => {
  const build = new TestBuild().receive().runTo('planning').control('cancel').run();
  assert.equal(build.control('retry').run().state, 'succeeded');
});

test('the context is plain data at every step', () => {
  const build = new TestBuild().receive();
  build.run(current => {
    const { context } = current;
    assert.deepEqual(JSON.parse(JSON.stringify(context)), context);
    return false;
  });
  assert.equal(build.state, 'succeeded');
});
