/**
 * Whatever the plan, whatever comes of its tasks and in whatever order: every build ends, and on the
 * way no rule is broken. A failing case prints its seed and path; pass them to `fc.assert` to replay.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BUILD_ENDS } from '../../protocol/build.ts';
import type { ErrorCode } from '../../protocol/error-codes.ts';
import { ATTEMPTS_MAX, REPAIR_ROUNDS_MAX } from '../../protocol/limits.ts';
import type { Plan } from '../../protocol/plan.ts';
import type { BuildEffect } from './build-context.ts';
import { isOver, isRunning } from './task-graph.ts';
import { CONFLICTS_MAX, INFRASTRUCTURE_FAILURES_MAX } from './task-retry.ts';
import { planOf, TestBuild } from './test-build.ts';

const STEPS_MAX = 4_000;
const CODES: readonly ErrorCode[] = [
  'answer_invalid',
  'answer_truncated',
  'model_refused',
  'engine_failed',
  'engine_unavailable',
  'scaffold_refused',
];

const plans: fc.Arbitrary<Plan> = fc
  .array(
    fc.record({
      optional: fc.boolean(),
      priority: fc.integer({ min: 1, max: 10 }),
      contract: fc.boolean(),
      dependencies: fc.array(fc.nat(), { maxLength: 3 }),
    }),
    { minLength: 1, maxLength: 9 },
  )
  .map(tasks =>
    planOf(
      tasks.map(({ optional, priority, contract, dependencies }, index) => ({
        id: `task-${index}`,
        optional,
        priority,
        type: contract && index < 2 ? 'contract' : 'backend',
        depends_on:
          index === 0 || contract
            ? []
            : [...new Set(dependencies.map(nat => `task-${nat % index}`))],
      })),
    ),
  );

/** Plays the world with a stream of numbers: each chooses what happens next and how it turns out. */
class World {
  readonly build: TestBuild;
  readonly #dice: Iterator<number>;
  readonly #unanswered: ReturnType<TestBuild['answerTo']>[] = [];

  constructor(plan: Plan, parallel: number, dice: Iterator<number>) {
    this.build = new TestBuild(plan).receive({ max_parallel_tasks: parallel });
    this.#dice = dice;
  }

  roll(sides: number): number {
    return (this.#dice.next().value ?? 0) % sides;
  }

  pick<T>(items: readonly T[]): T | undefined {
    return items.length === 0 ? undefined : items[this.roll(items.length)];
  }

  /** One thing happens. */
  step(): void {
    const { build } = this;
    build.now += this.roll(50);
    const running = build.context.tasks.filter(task => task.state === 'running');
    const moves = [
      ...build.wishes.map(key => () => this.answer(build.wish(key))),
      ...running.map(task => () => this.report(task.id)),
    ];
    const chance = this.roll(100);
    if (chance === 0) this.#control();
    else if (chance < 4) this.#repeat();
    else if (moves.length === 0 || chance < 8) this.#expire();
    else this.pick(moves)?.();
  }

  answer(effect: BuildEffect): void {
    const { build } = this;
    const fact = this.#answerOf(effect);
    this.#unanswered.push(fact);
    build.send(fact);
  }

  #answerOf(effect: BuildEffect): ReturnType<TestBuild['answerTo']> {
    const good = this.build.answerTo(effect);
    if (this.roll(5) > 0) return good;
    const error = { code: 'internal', message: 'the world is unkind' } as const;
    switch (effect.kind) {
      case 'validate-plan':
        return { type: 'plan.rejected', error };
      case 'create-workspace':
        return { type: 'workspace.failed', error };
      case 'place': {
        const decision = { at: 0, chosen: null, reason: 'no room', candidates: [] };
        const { task, attempt, tries } = effect;
        return { type: 'task.unplaced', task, attempt, tries: tries + 1, decision };
      }
      case 'merge': {
        const { task, attempt } = effect;
        if (this.roll(2) === 0) return { type: 'task.failed', task, attempt, error };
        return { type: 'task.conflicted', task, attempt, conflicts: ['src/a.js'] };
      }
      case 'check':
        if (this.roll(4) === 0) return { type: 'check.failed', round: 0, error };
        return this.build.checked(false, { output: `not ok ${'x'.repeat(this.roll(3))}` });
      case 'archive':
        return { type: 'archive.failed', error };
      default:
        return good;
    }
  }

  report(task: string): void {
    const { build } = this;
    if (this.roll(3) > 0) build.report(task);
    else {
      const blame = this.roll(2) === 0 ? 'model' : 'infrastructure';
      build.fail(task, this.pick(CODES) ?? 'internal', blame);
    }
  }

  /** Something that was already said is said again, however late. */
  #repeat(): void {
    const fact = this.pick(this.#unanswered.filter(({ type }) => !type.startsWith('build.')));
    if (fact !== undefined) this.build.send(fact);
  }

  #expire(): void {
    const keys = Object.keys(this.build.context.deadlines);
    const early = keys.filter(key => !['budget', 'finalize', 'cancel'].includes(key));
    const key = this.pick(early.length > 0 ? early : keys);
    if (key !== undefined) this.build.expire(key);
  }

  #control(): void {
    const action = this.pick(['pause', 'resume', 'approve', 'cancel'] as const);
    if (action !== undefined) this.build.control(action);
  }
}

function assertRules(build: TestBuild, parallel: number): void {
  const { tasks } = build.context;
  const byId = new Map(tasks.map(task => [String(task.id), task]));
  assert.ok(tasks.filter(isRunning).length <= parallel, 'no more than max_parallel_tasks run');
  assert.ok(tasks.filter(task => task.state === 'merging').length <= 1, 'one merge at a time');
  for (const task of tasks) {
    const begun = isRunning(task) || ['reported', 'merging', 'merged'].includes(task.state);
    for (const id of begun ? (task.card?.depends_on ?? []) : []) {
      const dependency = byId.get(id);
      assert.ok(
        dependency?.state === 'merged' ||
          (dependency?.card?.optional === true && isOver(dependency)),
        `${task.id} began before ${id} was merged`,
      );
    }
    assert.ok(task.model_failures <= ATTEMPTS_MAX, 'failures of the model are bounded');
    const bounded = ATTEMPTS_MAX + INFRASTRUCTURE_FAILURES_MAX + CONFLICTS_MAX + 3;
    const most = bounded + (task.absences ?? 0);
    assert.ok(task.attempt <= most, `${task.id} is at attempt ${task.attempt}`);
  }
  assert.ok(build.context.repairs <= REPAIR_ROUNDS_MAX, 'repairs are bounded');
}

test('every build ends, and no rule is broken on the way', () => {
  fc.assert(
    fc.property(
      plans,
      fc.integer({ min: 1, max: 4 }),
      fc.infiniteStream(fc.nat({ max: 10_000 })),
      (plan, parallel, dice) => {
        const world = new World(plan, parallel, dice);
        const { build } = world;
        for (let step = 0; !BUILD_ENDS.includes(build.state); step++) {
          assert.ok(step < STEPS_MAX, `the build never ends: ${build.state}`);
          world.step();
          assertRules(build, parallel);
        }
        assert.deepEqual(build.wishes, []);
        assert.deepEqual(build.context.deadlines, {});
        assert.ok(build.context.tasks.every(isOver), 'no task is left behind');
      },
    ),
    { numRuns: 150 },
  );
});

test('the same facts give the same build', () => {
  fc.assert(
    fc.property(plans, fc.infiniteStream(fc.nat({ max: 10_000 })), (plan, dice) => {
      const world = new World(plan, 2, dice);
      for (let step = 0; step < 120; step++) world.step();
      const replayed = new TestBuild(plan);
      for (const fact of world.build.facts) {
        replayed.now = fact.at;
        replayed.send(fact);
      }
      assert.deepEqual(replayed.snapshot.value, world.build.snapshot.value);
      assert.deepEqual(replayed.context, world.build.context);
    }),
    { numRuns: 50 },
  );
});
