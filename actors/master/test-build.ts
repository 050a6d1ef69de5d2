/**
 * A build driven by hand, for tests: facts in, state out, without host, log or bus.
 *
 * It plays the world: `answer(key)` gives the fact that a wish of the machine ends in when all goes
 * well; tests give other facts where it does not.
 */
import assert from 'node:assert/strict';
import { initialTransition, type SnapshotFrom, transition } from 'xstate';
import type { BuildRequest, BuildState } from '../../protocol/build.ts';
import type { FactBody } from '../../protocol/fact.ts';
import { GatewayId, LeaseId, NodeId, type TaskId } from '../../protocol/ids.ts';
import { Plan } from '../../protocol/plan.ts';
import { TaskReport } from '../../protocol/task.ts';
import type { BuildContext, BuildEffect, TaskRecord } from './build-context.ts';
import { buildMachine } from './build-machine.ts';
import { buildStateOf } from './build-summary.ts';

export const NODE = NodeId.parse('node-a');
export const GATEWAY = GatewayId.parse('node-a');
export const SHA = 'a'.repeat(40);
export const START_AT = 1_000_000;

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;
export type Untimed = DistributiveOmit<FactBody, 'at'>;

export interface TaskInput {
  readonly id: string;
  readonly depends_on?: readonly string[];
  readonly optional?: boolean;
  readonly type?: string;
  readonly priority?: number;
}

/** A plan whose tasks each own one file; the last one tests. */
export function planOf(tasks: readonly TaskInput[]): Plan {
  return Plan.parse({
    name: 'todo-list-api',
    summary: 'a list of things to do',
    stack: 'node',
    check: { command: ['node', '--test'], timeout_s: 60 },
    tasks: tasks.map(({ id, type = 'backend', ...rest }) => ({
      id,
      title: `Task ${id}`,
      type,
      goal: 'do it',
      owns: [`src/${id}.js`],
      ...rest,
    })),
  });
}

export const TWO_TASKS = planOf([
  { id: 'store' },
  { id: 'tests', depends_on: ['store'], type: 'testing' },
]);

export class TestBuild {
  snapshot: SnapshotFrom<typeof buildMachine>;
  now = START_AT;
  plan: Plan;
  readonly facts: FactBody[] = [];

  constructor(plan: Plan = TWO_TASKS) {
    this.plan = plan;
    this.snapshot = initialTransition(buildMachine)[0];
  }

  get context(): BuildContext {
    return this.snapshot.context;
  }

  get state(): BuildState {
    return buildStateOf(this.snapshot.value);
  }

  get wishes(): string[] {
    return Object.keys(this.context.pending).sort();
  }

  task(id: string): TaskRecord {
    const task = this.context.tasks.find(candidate => candidate.id === id);
    assert.ok(task, `there is a task ${id}`);
    return task;
  }

  wish(key: string): BuildEffect {
    const effect = this.context.pending[key];
    assert.ok(effect, `${key} is wished for; wished for are ${this.wishes.join(', ')}`);
    return effect;
  }

  send(fact: Untimed): this {
    const body = { ...fact, at: this.now } as FactBody;
    this.facts.push(body);
    this.snapshot = transition(buildMachine, this.snapshot, body)[0];
    return this;
  }

  receive(request: Partial<BuildRequest> = {}): this {
    const full = { prompt: 'Create a REST API for a todo list', ...request } as BuildRequest;
    return this.send({ type: 'build.received', request: full, name_hint: 'todo-list' });
  }

  control(action: 'cancel' | 'approve' | 'retry' | 'pause' | 'resume'): this {
    return this.send({ type: 'build.controlled', control: { action } });
  }

  /** The fact in which the wish ends when all goes well. */
  answer(key: string): this {
    return this.send(this.answerTo(this.wish(key)));
  }

  answerTo(effect: BuildEffect): Untimed {
    switch (effect.kind) {
      case 'admit':
        return { type: 'build.admitted' };
      case 'validate-plan':
        return { type: 'plan.accepted', plan: effect.plan };
      case 'create-workspace':
        return { type: 'workspace.created', gateway: GATEWAY, path: '/projects/todo', head: SHA };
      case 'place':
        return this.placed(effect.task, effect.attempt);
      case 'dispatch': {
        const { task, attempt } = effect.message;
        return { type: 'task.dispatched', task, attempt, deadline_at: this.now + 60_000 };
      }
      case 'withdraw': {
        const { task, attempt } = effect.withdrawal;
        return { type: 'task.withdrawn', task, attempt };
      }
      case 'merge':
        return { type: 'task.merged', task: effect.task, attempt: effect.attempt, commit: SHA };
      case 'check':
        return this.checked(true, { round: effect.request.round });
      case 'archive':
        return {
          type: 'build.archived',
          archive: {
            bucket: 'codegod_artifact',
            name: 'b1.tar.gz',
            sha256: 'b'.repeat(64),
            size: 1,
          },
          head: SHA,
          files: ['src/store.js'],
        };
      case 'end': {
        const { state, error, unmet } = effect;
        return { type: 'build.ended', state, error, unmet: [...unmet] };
      }
    }
  }

  placed(task: TaskId, attempt: number, node: NodeId = NODE): Untimed {
    return {
      type: 'task.placed',
      task,
      attempt,
      node,
      engine: 'ollama',
      model: 'qwen2.5-coder:7b',
      context_tokens: 16_384,
      gateway: GATEWAY,
      lease: LeaseId.parse(`${task}-${attempt}`),
      decision: { at: this.now, chosen: null, reason: 'it fits', candidates: [] },
    };
  }

  unplaced(task: string, tries: number): this {
    const record = this.task(task);
    return this.send({
      type: 'task.unplaced',
      task: record.id,
      attempt: record.attempt,
      tries,
      decision: { at: this.now, chosen: null, reason: 'no node is ready', candidates: [] },
    });
  }

  /** The report of a task's current attempt. */
  report(task: string, more: Partial<TaskReport> = {}): this {
    const record = this.task(task);
    return this.send({
      type: 'task.reported',
      task: record.id,
      attempt: record.attempt,
      report: this.reportOf(record, more),
    });
  }

  fail(task: string, code: string, blame: 'model' | 'infrastructure' = 'model'): this {
    const error = { code, message: `${code} happened` } as TaskReport['error'];
    return this.report(task, { outcome: 'failed', error, blame });
  }

  reportOf(record: TaskRecord, more: Partial<TaskReport> = {}): TaskReport {
    const plan = record.kind === 'plan' && (more.outcome ?? 'done') === 'done' ? this.plan : null;
    return TaskReport.parse({
      build: 'b1',
      task: record.id,
      attempt: record.attempt,
      lease: record.lease?.lease ?? 'none',
      node: record.lease?.node ?? NODE,
      engine: record.lease?.engine ?? 'ollama',
      model: record.lease?.model ?? 'none',
      outcome: 'done',
      error: null,
      blame: null,
      summary: 'done',
      plan,
      commit: record.kind === 'plan' ? null : SHA,
      files: [],
      tool_calls: [],
      usage: {
        turns: 1,
        prompt_tokens: 10,
        output_tokens: 5,
        generate_ms: 1,
        load_ms: 0,
        tool_calls: 1,
        remote_turns: 0,
      },
      ...more,
    });
  }

  checked(passed: boolean, more: { round?: number; tests_passed?: number; output?: string } = {}) {
    return {
      type: 'check.ended' as const,
      check: {
        round: more.round ?? this.context.checks.length,
        command: ['node', '--test'],
        passed,
        tests_passed: more.tests_passed ?? (passed ? 3 : 1),
        tests_failed: passed ? 0 : 2,
        exit_code: passed ? 0 : 1,
        sandbox: 'none',
        duration_ms: 5,
        output: more.output ?? (passed ? 'ok' : 'not ok 1 - store keeps'),
      },
    };
  }

  check(passed: boolean, more: { tests_passed?: number; output?: string } = {}): this {
    return this.send(this.checked(passed, more));
  }

  /** Lets the deadline of this key pass. */
  expire(key: string): this {
    const at = this.context.deadlines[key];
    assert.ok(at !== undefined, `${key} has a deadline`);
    this.now = Math.max(this.now, at);
    return this.send({ type: 'deadline.passed', key });
  }

  /** Places and dispatches whatever wishes it. */
  dispatchAll(): this {
    for (;;) {
      const key = this.wishes.find(wish => /^(place|dispatch):/.test(wish));
      if (key === undefined) return this;
      this.answer(key);
    }
  }

  /** Everything goes well from here, until the predicate holds or nothing is left to do. */
  run(until: (build: this) => boolean = () => false): this {
    for (let step = 0; step < 1_000 && !until(this); step++) {
      const key = this.wishes[0];
      const running = this.context.tasks.find(task => task.state === 'running');
      if (key !== undefined) this.answer(key);
      else if (running !== undefined) this.report(running.id);
      else return this;
    }
    return this;
  }

  runTo(state: BuildState): this {
    this.run(build => build.state === state);
    assert.equal(this.state, state);
    return this;
  }
}
