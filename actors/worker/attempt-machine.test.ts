/**
 * Goal: an attempt asks for each thing once, repairs within its bounds, blames the right one and
 * always ends in a report. Method: the pure machine is stepped with facts; after each, what it wants
 * done is in `pending`.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { initialTransition, transition } from 'xstate';
import type { ErrorCode } from '../../protocol/error-codes.ts';
import { TaskMessage, TaskReport } from '../../protocol/task.ts';
import { promptHash, readAnswer } from './attempt-answer.ts';
import {
  type AttemptContext,
  type AttemptEffect,
  type AttemptFact,
  MIGRATIONS,
} from './attempt-facts.ts';
import { attemptMachine } from './attempt-machine.ts';

const AT = 1_000;
const task = (changes: object = {}): TaskMessage =>
  TaskMessage.parse({
    kind: 'code',
    build: 'b7',
    task: 'store',
    attempt: 2,
    node: 'n1',
    lease: 'l1',
    gateway: 'g1',
    engine: 'ollama',
    model: 'tiny',
    context_tokens: 8_192,
    output_tokens_max: 2_048,
    temperature: 0.1,
    deadline_at: 99_000,
    prompt: 'a todo list',
    project: { name: 'todo', stack: 'node', summary: '' },
    card: {
      id: 'store',
      title: 'The store',
      type: 'database',
      goal: 'keep todos',
      owns: ['src/a.js', 'src/b.js'],
      reads: ['openapi.json'],
    },
    base_sha: null,
    previous_error: null,
    ...changes,
  });
const TOOLS = [
  {
    server: 'filesystem',
    name: 'write_file',
    description: '',
    input_schema: { type: 'object', properties: { path: {}, content: {} } },
  },
];
const GOOD =
  'src/a.js\n```js\nlet a;\n```\n\nsrc/b.js\n```js\nlet b;\n```\n{"success":true,"summary":"Done."}';

class Walk {
  #snapshot = initialTransition(attemptMachine)[0];

  tell(...facts: AttemptFact[]): this {
    for (const fact of facts) this.#snapshot = transition(attemptMachine, this.#snapshot, fact)[0];
    return this;
  }
  get context(): AttemptContext {
    return this.#snapshot.context;
  }
  get value(): unknown {
    return this.#snapshot.value;
  }
  get keys(): string[] {
    return Object.keys(this.context.pending);
  }
  effect<K extends AttemptEffect['kind']>(kind: K): Extract<AttemptEffect, { kind: K }> {
    const effect = Object.values(this.context.pending).find(pending => pending.kind === kind);
    assert.ok(effect, `${kind} is not pending: ${this.keys}`);
    return effect as Extract<AttemptEffect, { kind: K }>;
  }
  get report(): TaskReport {
    return TaskReport.parse(this.effect('report').report);
  }
  get error(): string {
    const text = this.effect('generate').request.messages[1]?.content ?? '';
    return text.split('## ERROR\n')[1] ?? '';
  }
}

const GOOD_WRITE = {
  ...{ server: 'filesystem', tool: 'write_file' },
  arguments: { path: 'src/a.js', content: 'let a;\n' },
};
const received = (changes: object = {}): AttemptFact => ({
  type: 'attempt.received',
  at: AT,
  task: task(changes),
});
const opened: AttemptFact = { type: 'workspace.opened', at: AT };
const read: AttemptFact = {
  type: 'files.read',
  at: AT,
  files: [{ path: 'openapi.json', text: '{}' }],
};
const listed: AttemptFact = { type: 'tools.listed', at: AT, tools: TOOLS };
const answered = (turn: number, text: string, changes: object = {}): AttemptFact => ({
  ...{ type: 'turn.answered', at: AT, turn, text, finish: 'stop' },
  ...{ prompt_tokens: 100, output_tokens: 10, load_ms: 5, total_ms: 25 },
  ...changes,
});
const called = (turn: number, index: number, code: ErrorCode | null = null): AttemptFact => ({
  type: 'call.ended',
  at: AT,
  turn,
  index,
  error: code === null ? null : { code, message: 'no good', did_you_mean: ['write_file'] },
});
const committed: AttemptFact = {
  type: 'attempt.committed',
  at: AT,
  commit: 'a'.repeat(40),
  files: ['src/a.js', 'src/b.js'],
};
const stepFailed = (key: string, code: ErrorCode): AttemptFact => ({
  type: 'step.failed',
  at: AT,
  key,
  error: { code, message: 'it failed' },
});
const asking = (changes: object = {}): Walk =>
  new Walk().tell(received(changes), opened, read, listed);
const calling = (): Walk => asking().tell(answered(1, GOOD));

describe('an attempt at code', () => {
  it('goes from the workspace over a turn and its calls to one commit and one report', () => {
    const walk = new Walk().tell(received());
    assert.deepEqual(walk.keys, ['open']);
    assert.deepEqual(walk.context.deadlines, { attempt: 99_000 });
    walk.tell(opened);
    assert.deepEqual(walk.effect('read').request.paths, ['openapi.json', 'src/a.js', 'src/b.js']);
    walk.tell(read);
    assert.deepEqual(walk.effect('tools').tools, ['filesystem.write_file']);
    walk.tell(listed);
    assert.deepEqual(walk.keys, ['generate:1']);
    walk.tell(answered(1, GOOD));
    assert.equal(walk.effect('call').request.call_id, 'b7.store.2.1.0');
    walk.tell(called(1, 0));
    assert.equal(walk.effect('call').request.call_id, 'b7.store.2.1.1');
    walk.tell(called(1, 1));
    assert.deepEqual(walk.effect('commit').request.owns, ['src/a.js', 'src/b.js']);
    walk.tell(committed);
    const { report } = walk;
    assert.equal(report.outcome, 'done');
    assert.equal(report.commit, 'a'.repeat(40));
    assert.equal(report.summary, 'Done.');
    assert.deepEqual(
      report.tool_calls.map(record => record.ok),
      [true, true],
    );
    assert.deepEqual(
      [report.usage.turns, report.usage.generate_ms, report.usage.tool_calls],
      [1, 20, 2],
    );
    walk.tell({ type: 'attempt.reported', at: AT });
    assert.equal(walk.value, 'closed');
    assert.deepEqual(walk.keys, []);
  });

  it('repairs a broken answer twice with the exact error, then blames the model', () => {
    const walk = asking().tell(answered(1, 'no'));
    assert.deepEqual(walk.keys, ['generate:2']);
    assert.match(walk.error, /neither a file block/);
    assert.equal(walk.effect('generate').request.temperature, 0.1);
    walk.tell(answered(2, 'no'));
    assert.equal(walk.effect('generate').request.temperature.toFixed(1), '0.3');
    walk.tell(answered(3, 'no'));
    assert.deepEqual([walk.report.error?.code, walk.report.blame], ['answer_invalid', 'model']);
    assert.equal(walk.report.usage.turns, 3);
  });

  it('asks only for the files that are missing, and makes those that were right with them', () => {
    const of = (name: string): string =>
      `src/${name}.js\n\`\`\`js\nlet ${name};\n\`\`\`\n{"success":true,"summary":"Done."}`;
    const asked = asking().tell(answered(1, of('a')));
    assert.match(
      asked.error,
      /missing: src\/b\.js\. Give only those, .*src\/a\.js are right and kept/,
    );
    const written = (walk: Walk) => walk.context.calls.map(one => one.arguments['path']);
    assert.deepEqual(written(asked.tell(answered(2, of('b')))), ['src/a.js', 'src/b.js']);
    const anew = asking().tell(answered(1, of('a')), answered(2, `${of('b')}\n\n${of('a')}`));
    assert.deepEqual(written(anew), ['src/b.js', 'src/a.js'], 'what is given again counts');
    // The same from what is written down, whatever a release reads in the texts.
    const first = { answer: { kind: 'invalid', error: 'b', kept: [GOOD_WRITE] } };
    const second = { answer: { kind: 'work', summary: '', calls: [], files: [], notes: [] } };
    const replayed = asking().tell(answered(1, '', first), answered(2, '', second));
    assert.deepEqual(replayed.context.calls, [GOOD_WRITE]);
  });

  it('repairs failed tools twice, with what the gateway said would be right', () => {
    const walk = calling().tell(called(1, 0, 'unknown_tool'));
    assert.deepEqual(walk.keys, ['generate:2']);
    assert.match(
      walk.error,
      /filesystem\.write_file failed:\nunknown_tool: no good\nDid you mean: write_file/,
    );
    walk.tell(answered(2, GOOD), called(2, 0, 'tool_failed'), answered(3, GOOD));
    assert.equal(walk.effect('call').request.call_id, 'b7.store.2.3.0');
    walk.tell(called(3, 0, 'tool_failed'));
    assert.deepEqual([walk.report.error?.code, walk.report.blame], ['tool_failed', 'model']);
  });

  it('ends where the fate of a call is unknown, and does not blame the model', () => {
    const { report } = calling().tell(called(1, 0, 'outcome_unknown'));
    assert.deepEqual([report.error?.code, report.blame], ['outcome_unknown', 'infrastructure']);
  });

  it('gives files that the model asks for once', () => {
    const need =
      '{"success":false,"reason":"need_context","summary":"?","needs":["db.sql","../x"]}';
    const walk = asking().tell(answered(1, need));
    assert.deepEqual(walk.keys, ['read:1']);
    assert.deepEqual(walk.effect('read').request.paths, ['db.sql']);
    walk.tell({ type: 'files.read', at: AT, files: [{ path: 'db.sql', text: 'TABLE todos' }] });
    assert.match(walk.effect('generate').request.messages[1]?.content ?? '', /TABLE todos/);
    walk.tell(answered(2, need));
    assert.deepEqual([walk.report.error?.code, walk.report.blame], ['model_refused', 'model']);
  });

  it('that a model refuses or cuts off ends at once', () => {
    const refusal = '{"success":false,"reason":"impossible","summary":"cannot"}';
    assert.equal(asking().tell(answered(1, refusal)).report.error?.code, 'model_refused');
    const scaffold = asking({ engine: 'scaffold' }).tell(answered(1, refusal));
    assert.equal(scaffold.report.error?.code, 'scaffold_refused');
    const cut = asking().tell(answered(1, GOOD.slice(0, 20), { finish: 'length' }));
    assert.deepEqual([cut.report.error?.code, cut.report.blame], ['answer_truncated', 'model']);
  });

  it('whose prompt does not fit is not sent', () => {
    const walk = asking({ context_tokens: 1_024, output_tokens_max: 512 });
    assert.deepEqual(walk.keys, ['report']);
    assert.equal(walk.report.error?.code, 'answer_truncated');
  });
});

describe('an attempt at a plan', () => {
  const plan = { kind: 'plan', task: 'plan', card: null, project: null };
  const answer = JSON.stringify({
    name: 'todo',
    summary: 'todos',
    stack: 'node',
    check: { command: ['node', '--test'] },
    tasks: [{ id: 'a', title: 'A', type: 'backend', goal: 'g', owns: ['a.js'] }],
  });
  it('needs no workspace and reports the plan', () => {
    const walk = new Walk().tell(received(plan));
    assert.equal(walk.effect('tools').tools, null);
    walk.tell(listed, answered(1, answer));
    assert.equal(walk.report.plan?.tasks[0]?.id, 'a');
    assert.equal(walk.report.summary, 'todos');
  });
  it('is repaired with the place of the fault', () => {
    const walk = new Walk().tell(
      received(plan),
      listed,
      answered(1, answer.replace('a.js', '/a.js')),
    );
    assert.match(walk.error, /tasks\[0\]\.owns\[0\]: the path is absolute/);
  });
  it('of a planner that cannot write one ends after two repairs, and says how many there were', () => {
    const walk = new Walk().tell(received(plan), listed);
    for (let turn = 1; turn <= 10; turn += 1) walk.tell(answered(turn, `no plan, ${turn}`));
    const { report } = walk;
    assert.deepEqual([report.error?.code, report.blame], ['answer_invalid', 'model']);
    assert.match(report.error?.message ?? '', /^none of 3 answers could be used; the last one:/);
    assert.equal(report.usage.turns, 3);
  });
});

describe('an answer', () => {
  const read = (path: string): AttemptFact =>
    answered(1, GOOD, {
      answer: {
        ...{ kind: 'work', summary: 'As read.', files: [path], notes: [] },
        calls: [{ server: 'filesystem', tool: 'write_file', arguments: { path, content: 'x' } }],
      },
    });
  it('means what it was read as when it came, whatever its text says to this release', () => {
    const walk = asking().tell(read('src/other.js'));
    assert.deepEqual(walk.effect('call').request.arguments, { path: 'src/other.js', content: 'x' });
    walk.tell(called(1, 0), committed);
    assert.equal(walk.report.summary, 'As read.');
  });
  it('that an older release wrote down unread is read now', () => {
    assert.deepEqual(calling().effect('call').request.arguments, {
      path: 'src/a.js',
      content: 'let a;\n',
    });
  });
  it('to another prompt than this release would make counts, and is noted', () => {
    const { messages } = asking().effect('generate').request;
    const same = answered(1, GOOD, { prompt_hash: promptHash(messages) });
    assert.deepEqual(asking().tell(same).context.drifted, []);
    const other = answered(1, GOOD, { prompt_hash: promptHash([...messages].reverse()) });
    const walk = asking().tell(other);
    assert.deepEqual([walk.context.drifted, walk.keys], [[1], ['call:1.0']]);
  });
  it('that refers to one text again and again is not multiplied', () => {
    const text = `big.js\n\`\`\`js\n${'x'.repeat(500_000)}\n\`\`\`\n`;
    const calls = Array.from({ length: 20 }, (_, index) => ({
      ...{ server: 'filesystem', tool: 'write_file' },
      arguments: { path: `copy-${index}.js`, content: { $file: 'big.js' } },
    }));
    const envelope = JSON.stringify({ success: true, summary: '', tool_calls: calls });
    const card = { ...{ id: 'a', title: 'A', type: 'backend', goal: 'g' }, owns: ['*.js'] };
    const context = { task: task({ card }), files: [], tools: TOOLS };
    const answer = readAnswer(context, text + envelope, 'stop');
    assert.equal(answer.kind, 'invalid');
    assert.match('error' in answer ? answer.error : '', /holds too much/);
  });
  it('of a snapshot of the release before is gone on with as it was read there', () => {
    const walk = asking().tell(read('src/other.js'));
    const { drifted: _, ...context } = walk.context;
    const frozen = { value: walk.value as string, context };
    const { context: present } = MIGRATIONS[1]?.(frozen) ?? assert.fail();
    assert.deepEqual(present, walk.context);
  });
});

describe('the end of an attempt', () => {
  const places: Record<string, () => Walk> = {
    opening: () => new Walk().tell(received()),
    reading: () => new Walk().tell(received(), opened),
    listing: () => new Walk().tell(received(), opened, read),
    asking,
    calling,
    committing: () => calling().tell(called(1, 0), called(1, 1)),
  };
  for (const [place, walk] of Object.entries(places)) {
    it(`${place}: cancelled, it stops what runs and reports that`, () => {
      const cancelled = walk().tell({ type: 'attempt.cancelled', at: AT });
      assert.deepEqual(cancelled.keys, ['report']);
      assert.equal(cancelled.report.outcome, 'cancelled');
    });
    it(`${place}: out of time, it blames the machinery`, () => {
      const late = walk().tell({ type: 'deadline.passed', at: AT, key: 'attempt' });
      assert.deepEqual(late.keys, ['report']);
      assert.deepEqual([late.report.error?.code, late.report.blame], ['timeout', 'infrastructure']);
      assert.deepEqual(late.context.deadlines, {});
    });
    it(`${place}: a failed step of the machinery costs the model nothing`, () => {
      const now = walk();
      const failed = now.tell(stepFailed(now.keys[0] ?? '', 'no_responders'));
      assert.deepEqual(
        [failed.report.error?.code, failed.report.blame],
        ['no_responders', 'infrastructure'],
      );
    });
    it(`${place}: a failure or answer that is not awaited changes nothing`, () => {
      const now = walk();
      const before = JSON.stringify([now.value, now.context]);
      now.tell(stepFailed('elsewhere', 'internal'), answered(9, GOOD), called(9, 9), received());
      assert.equal(JSON.stringify([now.value, now.context]), before);
    });
  }
  it('committing: files outside the owned ones and an unchanged tree are the model’s fault', () => {
    for (const code of ['outside_owned', 'nothing_changed'] as const) {
      const walk = calling().tell(called(1, 0), called(1, 1), stepFailed('commit', code));
      assert.deepEqual([walk.report.error?.code, walk.report.blame], [code, 'model']);
    }
  });
  it('committing: files that do not parse are asked for again, within the bound', () => {
    const broken = (): AttemptFact => ({
      ...{ type: 'step.failed', at: AT, key: 'commit' },
      error: {
        code: 'answer_invalid',
        message: 'does not parse:\nsrc/a.js line 3: Unexpected token',
      },
    });
    const walk = calling().tell(called(1, 0), called(1, 1), broken());
    assert.match(walk.error, /What you wrote does not parse:\nsrc\/a\.js line 3/);
    assert.match(walk.error, /all files of the task, each one whole: src\/a\.js, src\/b\.js/);
    walk.tell(answered(2, GOOD));
    const { tidy } = walk.effect('call');
    assert.deepEqual([tidy?.turn, tidy?.owns], [2, ['src/a.js', 'src/b.js']]);
    walk.tell(called(2, 0));
    assert.equal(walk.effect('call').tidy, undefined);
    walk.tell(called(2, 1), broken(), answered(3, GOOD), called(3, 0), called(3, 1), broken());
    const { error, blame } = walk.report;
    assert.deepEqual([error?.code, blame], ['answer_invalid', 'model']);
  });
  it('reporting: cancelled or late, it still reports what it came to', () => {
    const walk = calling().tell(called(1, 0), called(1, 1), committed);
    walk.tell(
      { type: 'attempt.cancelled', at: AT },
      { type: 'deadline.passed', at: AT, key: 'attempt' },
    );
    assert.equal(walk.report.outcome, 'done');
  });
  it('closed: nothing opens it again', () => {
    const walk = calling().tell(called(1, 0), called(1, 1), committed);
    walk.tell({ type: 'attempt.reported', at: AT }, received(), answered(1, GOOD));
    assert.deepEqual([walk.value, walk.keys], ['closed', []]);
  });
});
