/**
 * Pure functions over what models, nodes and clients send, each with the worst that its limits let
 * through: while one of them runs, the master does nothing else.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CheckSummary } from '../../protocol/build.ts';
import { JSON_TYPE } from '../../protocol/codec.ts';
import { BuildId } from '../../protocol/ids.ts';
import { OWNS_MAX, PATH_LENGTH_MAX, TASKS_MAX } from '../../protocol/limits.ts';
import { ownsPath } from '../../protocol/owned-paths.ts';
import type { Plan } from '../../protocol/plan.ts';
import { nearestName } from '../../scheduling/model-names.ts';
import { excerptOf, nameHint, readBuildRequest } from './build-request.ts';
import { buildStateOf, summaryOf } from './build-summary.ts';
import { failureSignature } from './build-verdict.ts';
import { planFaults } from './plan-validation.ts';
import { lastLines } from './task-retry.ts';
import { planOf, TestBuild } from './test-build.ts';

/** A hundred times what they take; a loop that is not bounded takes minutes. */
const LIMIT_MS = 5_000;
const DEFAULTS = { max_parallel_tasks: 1, fallback: 'deny', prefer_local: true } as const;

const list = <T>(length: number, of: (index: number) => T): T[] =>
  Array.from({ length }, (_, index) => of(index));

/** A plan of so many tasks, each with these fields besides. */
function planWith(tasks: number, more: (task: number) => Partial<Plan['tasks'][number]>): Plan {
  const plan = planOf(list(tasks, index => ({ id: `task-${index}`, type: 'testing' })));
  return { ...plan, tasks: plan.tasks.map((task, index) => ({ ...task, ...more(index) })) };
}

const owning = (tasks: number, glob: (task: number, index: number) => string): Plan =>
  planWith(tasks, task => ({
    owns: list(OWNS_MAX, index => glob(task, index).slice(-PATH_LENGTH_MAX)),
  }));

const TOO_MANY = /patterns in what the tasks own are too many to be compared/;
const PLANS: readonly (readonly [string, Plan, RegExp])[] = [
  ['files', owning(TASKS_MAX, (task, index) => `src/part-${task}/module/file-${index}.js`), /^$/],
  [
    'deep files',
    owning(TASKS_MAX, (task, index) => `${'a/'.repeat(110)}${task}/${index}.js`),
    /^$/,
  ],
  ['one file for all', owning(TASKS_MAX, () => 'src/a.js'), /both own src\/a\.js/],
  ['patterns', owning(TASKS_MAX, (task, index) => `src/part-${task}/**/${index}*.js`), TOO_MANY],
  ['some patterns', owning(8, (task, index) => `src/part-${task}/**/${index}*.js`), /^$/],
  [
    'stars in one segment',
    owning(8, (task, index) => `**/**/${'a*b*c*'.repeat(36)}${task}x${index}.js`),
    TOO_MANY,
  ],
  [
    'stars in many segments',
    owning(8, (task, index) => `${'**/a*b/'.repeat(32)}${task}x${index}.js`),
    TOO_MANY,
  ],
  [
    'unknown dependencies',
    planWith(TASKS_MAX, () => ({
      depends_on: list(TASKS_MAX, index => `${'x'.repeat(40)}${index}`) as never,
    })),
    /which is not a task/,
  ],
  [
    'unknown tools',
    planWith(TASKS_MAX, () => ({ mcp_tools: list(8, index => `${'x'.repeat(120)}${index}`) })),
    /which does not exist/,
  ],
];

function within(what: string, work: () => unknown): unknown {
  const startedAt = performance.now();
  const result = work();
  const spentMs = Math.round(performance.now() - startedAt);
  assert.ok(spentMs < LIMIT_MS, `${what} took ${spentMs} ms`);
  return result;
}

const TOOLS = list(500, index => `server.${'y'.repeat(110)}${index}`);
for (const [what, plan, faults] of PLANS) {
  test(`a plan is judged in bounded time: ${what}`, () => {
    assert.match((within(what, () => planFaults(plan, TOOLS)) as string[]).join('\n'), faults);
  });
}

const FLOODS: readonly (readonly [string, string])[] = [
  ['blank lines', '\n'.repeat(250_000)],
  ['blanks', ' '.repeat(250_000)],
  ['one long line', 'x'.repeat(250_000)],
  ['dashes', '-'.repeat(250_000)],
  ['digits and dots', '1.'.repeat(125_000)],
  ['failures', 'not ok 1 - 0x0x0x0x\n'.repeat(12_000)],
  ['brackets', '['.repeat(125_000) + ']'.repeat(125_000)],
];

const READERS: readonly (readonly [string, (text: string) => unknown])[] = [
  ['the name of a project', text => nameHint(text)],
  ['the end of a text', text => lastLines(text)],
  ['the excerpt of a message', text => excerptOf(Buffer.from(text))],
  ['the signature of a failure', text => failureSignature({ output: text } as CheckSummary)],
  ['a bare prompt', text => requestOf(text, {})],
  ['a prompt in JSON', text => requestOf(JSON.stringify({ prompt: text }), JSON_HEADERS)],
  ['JSON', text => requestOf(`{"prompt":"x","more":${JSON.stringify(text)}}`, JSON_HEADERS)],
  [
    'the nearest name',
    text =>
      nearestName(
        text,
        list(10_000, index => `${'y'.repeat(120)}${index}`),
      ),
  ],
];
const JSON_HEADERS = { 'content-type': JSON_TYPE };

/** The request, or why it is none. */
function requestOf(text: string, headers: Record<string, string>): unknown {
  try {
    return readBuildRequest(Buffer.from(text), headers, DEFAULTS);
  } catch (error) {
    return error;
  }
}

for (const [reader, read] of READERS) {
  test(`${reader} is read in bounded time, whatever the text`, () => {
    for (const [what, text] of FLOODS) within(`${reader} of ${what}`, () => read(text));
  });
}

test('a path is looked up among patterns in bounded time', () => {
  const globs = list(OWNS_MAX, index => `${'**/*a/'.repeat(39)}b${index}`);
  within('64 patterns', () => ownsPath(globs, 'a/'.repeat(119)));
});

test('a build of the largest plan is summed up in bounded time', () => {
  const plan = owning(TASKS_MAX, (task, index) => `src/part-${task}/module/file-${index}.js`);
  const build = new TestBuild(plan).receive().runTo('succeeded');
  const { context, snapshot } = build;
  within('a summary', () => summaryOf(BuildId.parse('b1'), snapshot.value, context));
  assert.equal(buildStateOf(snapshot.value), 'succeeded');
});
