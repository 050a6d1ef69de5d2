/**
 * Whether a build is good, and what is missing. The machine's judgement, never a model's.
 *
 * J1: no test is no pass. A command that succeeds without one proves nothing.
 * J2: `succeeded`: every required task is merged and the checks pass. `partial`: something is merged
 *     and at least one test passes. `failed`: the rest.
 */
import type { CheckSummary } from '../../protocol/build.ts';
import type { WireError } from '../../protocol/errors.ts';
import { TaskId } from '../../protocol/ids.ts';
import { OWNS_MAX, REPAIR_ROUNDS_MAX, TOOLS_PER_TASK_MAX } from '../../protocol/limits.ts';
import type { PlanTask } from '../../protocol/plan.ts';
import { type BuildContext, type BuildEnd, newTask, type TaskRecord } from './build-context.ts';
import { planTasks } from './task-graph.ts';
import { isKeptFromMain, lastLines } from './task-retry.ts';

/** Runs of one series: a failure is confirmed once before anything is repaired. */
const RUNS_PER_SERIES = 2;
const UNMET_MAX = 64;

export interface Verdict {
  readonly state: BuildEnd;
  readonly error: WireError | null;
  readonly unmet: readonly string[];
}

/** J1 */
export const passes = (check: CheckSummary): boolean => check.passed && check.tests_passed > 0;

const runsOf = (context: BuildContext, series: number): readonly CheckSummary[] =>
  context.checks.filter(run => run.series === series).map(run => run.summary);

const latestCheck = (context: BuildContext): CheckSummary | null =>
  context.checks.at(-1)?.summary ?? null;

/** Whether the present series of checks is over: it passed, cannot run, or failed twice. */
export function checksSettled(context: BuildContext): boolean {
  if (context.check_error !== null) return true;
  const runs = runsOf(context, context.check_series);
  return runs.some(passes) || runs.length >= RUNS_PER_SERIES;
}

export function checksPass(context: BuildContext): boolean {
  const latest = latestCheck(context);
  return context.check_error === null && latest !== null && passes(latest);
}

/** Done, and kept from main: another repair would meet the same changes of the same person. */
const repairKept = ({ tasks }: BuildContext): TaskRecord | undefined =>
  tasks.findLast(task => task.kind === 'repair' && isKeptFromMain(task));

/** Whether another repair is worth its while: within the bound, and the failure is a new one. */
export function repairWorthwhile(context: BuildContext): boolean {
  const latest = latestCheck(context);
  if (context.check_error !== null || latest === null || context.plan === null) return false;
  if (repairKept(context) !== undefined) return false;
  const rounds = context.repairs - context.repairs_before;
  if (rounds >= REPAIR_ROUNDS_MAX) return false;
  if (rounds === 0) return true;
  const before = runsOf(context, context.check_series - 1).at(-1);
  return before === undefined || failureSignature(before) !== failureSignature(latest);
}

/** What a failure looks like without what differs from run to run. */
export function failureSignature(check: CheckSummary): string {
  const lines = check.output
    .split('\n')
    .filter(line => /not ok|fail|error|assert|✖|expected/i.test(line))
    .map(line => line.replace(/0x[0-9a-f]+|\d+(\.\d+)?/gi, '#').trim());
  return [String(check.tests_failed), ...new Set(lines)].join('\n');
}

/** The task that mends what the checks found: it owns all that the plan's tasks own. */
export function repairTask(context: BuildContext): TaskRecord | null {
  const latest = latestCheck(context);
  const plan = context.plan;
  if (latest === null || plan === null) return null;
  const round = context.repairs + 1;
  const command = plan.check.command.join(' ');
  const merged = planTasks(context.tasks).filter(task => task.state === 'merged');
  const cards = merged.flatMap(task => (task.card === null ? [] : [task.card]));
  const card: PlanTask = {
    id: TaskId.parse(`repair-${round}`),
    title: `Repair the failing checks, round ${round}`,
    type: 'bugfix',
    goal: `The check \`${command}\` fails. Find the cause in the files and correct it.`,
    acceptance: [`\`${command}\` passes with at least one test`],
    owns: [...new Set(cards.flatMap(({ owns }) => owns))].slice(0, OWNS_MAX),
    reads: [],
    depends_on: [],
    mcp_tools: [...new Set(cards.flatMap(tool => tool.mcp_tools))].slice(0, TOOLS_PER_TASK_MAX),
    optional: false,
    priority: 10,
  };
  const check_output = lastLines(latest.output);
  return { ...newTask(card.id, 'repair', card, check_output), check_output };
}

/** How the build ends, as it stands now. */
export function verdict(context: BuildContext): Verdict {
  const tasks = planTasks(context.tasks);
  const missing = tasks.filter(task => task.state !== 'merged');
  const required = missing.filter(task => task.card?.optional !== true);
  const passed = checksPass(context);
  const unmet = unmetCriteria(context, missing);
  if (tasks.length > 0 && required.length === 0 && passed) {
    return { state: 'succeeded', error: null, unmet };
  }
  const someMerged = tasks.some(task => task.state === 'merged');
  const someTest = (latestCheck(context)?.tests_passed ?? 0) > 0 && context.check_error === null;
  return {
    state: someMerged && someTest ? 'partial' : 'failed',
    error: reasonOf(context, required),
    unmet,
  };
}

function unmetCriteria(context: BuildContext, missing: readonly TaskRecord[]): string[] {
  const sentences = missing.map(task => {
    const why = task.error === null ? 'it was not done' : task.error.message;
    const optional = task.card?.optional === true ? ' (optional)' : '';
    return `${task.id}${optional}: ${task.card?.title ?? task.id}: ${why}`.slice(0, 1_024);
  });
  if (context.plan === null) sentences.push('there is no plan');
  else if (!checksPass(context)) sentences.push(checkSentence(context));
  return sentences.slice(0, UNMET_MAX);
}

function checkSentence(context: BuildContext): string {
  if (context.check_error !== null) return `the checks did not run: ${context.check_error.message}`;
  const latest = latestCheck(context);
  if (latest === null) return 'the checks did not run';
  if (latest.tests_passed + latest.tests_failed === 0) return 'the checks found no test';
  return `the checks fail: ${latest.tests_failed} tests fail, ${latest.tests_passed} pass`;
}

/** The one reason that comes first: what stopped the build, else what failed in it. */
function reasonOf(context: BuildContext, required: readonly TaskRecord[]): WireError {
  if (context.error !== null) return context.error;
  const planner = context.tasks.find(task => task.kind === 'plan');
  if (context.plan === null) return unplannable(planner);
  const kept = repairKept(context);
  const failed = required.find(task => task.state === 'failed') ?? required[0] ?? kept;
  if (failed !== undefined && failed.error !== null) {
    const { code, message } = failed.error;
    return { code, message: `task ${failed.id}: ${message}` };
  }
  if (context.check_error !== null) return context.check_error;
  return { code: 'checks_failed', message: checkSentence(context) };
}

function unplannable(planner: TaskRecord | undefined): WireError {
  const error = planner?.error ?? null;
  if (error?.code === 'scaffold_refused') return error;
  const why = error === null ? 'no plan was made' : error.message;
  return { code: 'unplannable', message: `no valid plan came out of the prompt: ${why}` };
}
