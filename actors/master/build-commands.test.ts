/**
 * Commands and reports that come while the build goes on: whatever they wait behind, only what fits
 * the build when its turn comes becomes a fact. A failing case prints its seed and path; pass them
 * to `fc.assert` to replay.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BUILD_ENDS, type BuildState, type ControlRequest } from '../../protocol/build.ts';
import { toWireError } from '../../protocol/errors.ts';
import type { FactBody } from '../../protocol/fact.ts';
import { BuildId } from '../../protocol/ids.ts';
import { SimulatedClock } from '../../runtime/clock.ts';
import { createDurableHost } from '../../runtime/durable-host.ts';
import { type FactLog, LOG_START } from '../../runtime/fact-log.ts';
import { createJournalFactLog } from '../../runtime/fact-log-journal.ts';
import { memoryJournal } from '../../runtime/journal.ts';
import { silentLogger } from '../../runtime/log.ts';
import type { BuildContext, BuildEffect } from './build-context.ts';
import { controlApplies, controlFact } from './build-control.ts';
import { reportCounts } from './build-fold.ts';
import { buildMachine } from './build-machine.ts';
import { START_AT, TestBuild } from './test-build.ts';

const B1 = BuildId.parse('b1');
const ACTIONS = ['cancel', 'approve', 'retry', 'pause', 'resume'] as const;
const LATE: readonly BuildState[] = ['finalizing', 'cancelling', ...BUILD_ENDS];
type Action = (typeof ACTIONS)[number];

/** A build in a real host, whose appends and effects end when they are told to. */
class HeldBuild {
  readonly clock = new SimulatedClock({ startMs: START_AT });
  readonly outcomes: { readonly action: Action; outcome: string | null }[] = [];
  readonly running: { readonly effect: BuildEffect; readonly end: (facts: FactBody[]) => void }[] =
    [];
  readonly log: FactLog<FactBody>;
  readonly host: ReturnType<typeof createDurableHost<typeof buildMachine>>;
  readonly #held: (() => void)[] = [];
  readonly #answers = new TestBuild();
  #isHolding = true;

  constructor(log: FactLog<FactBody>, snapshots: Awaited<ReturnType<typeof memoryJournal>>) {
    const held = this.#held;
    this.log = {
      read: (...range) => log.read(...range),
      append: async (...fact) => {
        if (this.#isHolding) await new Promise<void>(resolve => held.push(resolve));
        return await log.append(...fact);
      },
    };
    this.host = createDurableHost({
      ...{ machine: buildMachine, log: this.log, snapshots, clock: this.clock },
      ...{ schemaVersion: 1, migrations: {}, logger: silentLogger },
      perform: (_entity, _key, effect: BuildEffect, signal) =>
        new Promise<FactBody[]>(end => {
          this.running.push({ effect, end });
          signal.addEventListener('abort', () => end([]));
        }),
      failed: () => [],
      onDeadline: (key, at) => ({ type: 'deadline.passed' as const, key, at }),
    });
    // As the master does: what has ended is closed at once.
    this.host.onFact((_entity, _fact, context) => {
      if (BUILD_ENDS.includes(context.phase) && Object.keys(context.pending).length === 0)
        void this.host.forget('b1');
    });
  }

  static async create(): Promise<HeldBuild> {
    const journal = await memoryJournal();
    return new HeldBuild(createJournalFactLog(journal), journal);
  }

  get context(): BuildContext | undefined {
    return this.host.context('b1');
  }

  receive(plan_mode: 'auto' | 'approve'): void {
    const request = { prompt: 'a list of things to do', plan_mode };
    const at = this.clock.now();
    void this.host.submit('b1', { type: 'build.received', at, request, name_hint: 'todo' });
  }

  command(action: Action): void {
    const entry: { action: Action; outcome: string | null } = { action, outcome: null };
    this.outcomes.push(entry);
    const control = { action } as ControlRequest;
    let isFact = false;
    this.host
      .decide('b1', state => {
        const fact = controlFact(B1, control, state, this.clock.now());
        isFact = fact !== null;
        return fact;
      })
      .then(
        () => {
          entry.outcome = isFact ? 'fact' : 'as it is';
        },
        error => {
          entry.outcome = toWireError(error).code;
        },
      );
  }

  /** The report of a task at work: good, of another lease, or failed. */
  report(task: BuildContext['tasks'][number], dice: number): void {
    const more = [{}, {}, { lease: 'another-lease' }, { outcome: 'failed' }][dice % 4];
    const report = this.#answers.reportOf(task, more as object);
    void this.host.decide('b1', ({ context }) => {
      const { attempt } = report;
      if (!reportCounts(context, report)) return null;
      return { type: 'task.reported', at: this.clock.now(), task: report.task, attempt, report };
    });
  }

  endOne(dice: number): void {
    const [running] = this.running.splice(dice % Math.max(1, this.running.length), 1);
    if (running === undefined) return;
    const fact = { ...this.#answers.answerTo(running.effect), at: this.clock.now() } as FactBody;
    running.end([fact]);
  }

  /** The append that is under way is stored. */
  async release(): Promise<void> {
    this.#held.shift()?.();
    await this.turn();
  }

  async turn(): Promise<void> {
    for (let round = 0; round < 4; round++) await this.clock.advance(0);
  }

  /** Everything comes to its end. */
  async settle(): Promise<void> {
    this.#isHolding = false;
    for (let round = 0; round < 40; round++) {
      for (const release of this.#held.splice(0)) release();
      await this.turn();
    }
  }
}

/** Each fact of the log with the states of the build around it. */
async function story(log: FactLog<FactBody>) {
  const build = new TestBuild();
  const steps: { fact: FactBody; before: BuildState; after: BuildState; context: BuildContext }[] =
    [];
  for await (const { fact } of log.read('b1', LOG_START)) {
    const before = build.state;
    build.now = fact.at;
    build.send(fact);
    steps.push({ fact, before, after: build.state, context: build.context });
  }
  return steps;
}

function assertFits({ fact, before, after, context }: Awaited<ReturnType<typeof story>>[0]): void {
  if (BUILD_ENDS.includes(before)) {
    const isRetry = fact.type === 'build.controlled' && fact.control.action === 'retry';
    assert.ok(isRetry, `${fact.type} came after the build was ${before}`);
  }
  if (fact.type === 'build.controlled') {
    const { action } = fact.control;
    assert.equal(controlApplies(B1, before, action), true, `${action} in ${before}`);
    const isMoved = action === 'approve' ? context.approved : after !== before;
    assert.ok(isMoved, `${action} in ${before} changed something`);
  }
  if (fact.type === 'build.ended') {
    assert.equal(after, fact.state);
    assert.equal(before === 'cancelling', after === 'cancelled', `${before} ends as ${after}`);
  }
  if (after === 'succeeded') assert.equal(context.error, null, 'what succeeded has no error');
  if (BUILD_ENDS.includes(after)) {
    assert.notEqual(context.ended_at, null, 'what has ended says when');
    assert.deepEqual(context.deadlines, {});
  }
}

test('whatever commands and ends wait behind each other, only what fits becomes a fact', async () => {
  const dice = fc.array(fc.nat({ max: 10_000 }), { minLength: 150, maxLength: 250 });
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom('auto' as const, 'approve' as const),
      dice,
      async (mode, rolls) => {
        const build = await HeldBuild.create();
        build.receive(mode);
        await build.turn();
        for (const roll of rolls) {
          const what = roll % 100;
          const dice = Math.floor(roll / 100);
          const atWork = build.context?.tasks.filter(({ state }) => state === 'running') ?? [];
          const task = atWork[dice % Math.max(1, atWork.length)];
          // Most of all at the ends, where a command finds little to do.
          const isLate = LATE.includes(build.context?.phase ?? 'succeeded');
          if (what < (isLate ? 30 : 3)) build.command(ACTIONS[dice % ACTIONS.length] ?? 'cancel');
          else if (what < 50 && task !== undefined) build.report(task, dice);
          else if (what < 75) build.endOne(dice);
          else await build.release();
          await build.turn();
        }
        await build.settle();
        const steps = await story(build.log);
        for (const step of steps) assertFits(step);
        const facts = steps.filter(({ fact }) => fact.type === 'build.controlled').length;
        const outcomes = build.outcomes.map(({ outcome }) => outcome);
        assert.ok(
          outcomes.every(outcome => ['fact', 'as it is', 'conflict'].includes(outcome ?? 'none')),
          `every command is answered: ${outcomes.join(', ')}`,
        );
        assert.equal(facts, outcomes.filter(outcome => outcome === 'fact').length);
        await build.host.stop();
      },
    ),
    { numRuns: 60 },
  );
});
