/**
 * Facts into context: what each fact means. Pure; the time is the fact's.
 *
 * D1: a report counts only for the current attempt under its current lease; all others are dropped.
 * D2: a fact that does not fit the state of its task changes nothing, so that duplicates and late
 *     arrivals are harmless.
 */
import type { Usage } from '../../protocol/build.ts';
import type { WireError } from '../../protocol/errors.ts';
import type { FactBody } from '../../protocol/fact.ts';
import { TaskId } from '../../protocol/ids.ts';
import { PLAN_ATTEMPTS_MAX } from '../../protocol/limits.ts';
import type { PlacementDecision } from '../../protocol/node.ts';
import type { TaskReport } from '../../protocol/task.ts';
import { type BuildContext, newTask, type TaskRecord } from './build-context.ts';
import { isOver } from './task-graph.ts';
import { afterConflict, afterFailure, isKeptFromMain, renewed } from './task-retry.ts';

type FactOf<T extends FactBody['type']> = Extract<FactBody, { type: T }>;

export const PLAN_TASK = TaskId.parse('plan');

/** The context after one fact. */
export function fold(before: BuildContext, fact: FactBody): BuildContext {
  const context = { ...before, updated_at: Math.max(before.updated_at, fact.at) };
  switch (fact.type) {
    case 'build.received':
      return received(context, fact);
    case 'build.rejected':
      return { ...context, created_at: fact.at, error: fact.error };
    case 'build.admitted':
      return { ...context, started_at: context.started_at ?? fact.at };
    case 'build.controlled':
      return controlled(context, fact);
    case 'build.recovered':
      return { ...context, leader: fact.leader };
    case 'plan.accepted':
      return planAccepted(context, fact);
    case 'plan.rejected':
      return planRejected(context, fact);
    case 'workspace.created': {
      const { gateway, path, head } = fact;
      return { ...context, workspace: context.workspace ?? { gateway, path, head }, error: null };
    }
    case 'workspace.failed':
      return {
        ...context,
        workspace_failures: context.workspace_failures + 1,
        error: fact.error,
      };
    case 'check.ended':
      return {
        ...context,
        checks: [...context.checks, { summary: fact.check, series: context.check_series }],
        check_error: null,
      };
    case 'check.failed':
      return { ...context, check_error: fact.error };
    case 'build.archived': {
      const { archive, files } = fact;
      return { ...withHead(context, fact.head), archive, files, archived: true };
    }
    case 'archive.failed':
      return { ...context, archived: true, error: context.error ?? fact.error };
    case 'deadline.passed':
      return deadlinePassed(context, fact);
    case 'build.ended': {
      const { error, unmet } = fact;
      return { ...context, error, unmet, ended_at: fact.at };
    }
    default:
      return foldTask(context, fact);
  }
}

type TaskFact = Extract<FactBody, { task: TaskId }>;

function foldTask(context: BuildContext, fact: TaskFact): BuildContext {
  const task = context.tasks.find(({ id }) => id === fact.task);
  // D2: of an attempt that is over, only its withdrawal still matters.
  if (fact.type === 'task.withdrawn') return withdrawn(context, fact);
  if (task === undefined || task.attempt !== fact.attempt) return context;
  switch (fact.type) {
    case 'task.placed':
      return task.state === 'placing' ? placed(seeing(context, fact), task, fact) : context;
    case 'task.unplaced':
      if (task.state !== 'placing') return context;
      return replace(seeing(context, fact), {
        ...task,
        unplaced: { tries: fact.tries, reason: fact.decision.reason },
      });
    case 'task.dispatched':
      if (task.state !== 'leased') return context;
      return replace(context, { ...task, state: 'running', deadline_at: fact.deadline_at });
    case 'task.extended':
      if (task.state !== 'running') return context;
      return replace(context, { ...task, deadline_at: fact.deadline_at });
    case 'task.reported':
      return reported(context, task, fact);
    case 'task.merged':
      if (task.state !== 'merging') return context;
      return merged(context, task, fact);
    case 'task.conflicted':
      if (task.state !== 'merging') return context;
      return replace(context, afterConflict(task, fact.conflicts));
    case 'task.failed':
      return taskFailed(context, task, fact);
  }
}

function replace(context: BuildContext, task: TaskRecord): BuildContext {
  return { ...context, tasks: context.tasks.map(old => (old.id === task.id ? task : old)) };
}

function withHead(context: BuildContext, head: string): BuildContext {
  if (context.workspace === null) return context;
  return { ...context, workspace: { ...context.workspace, head } };
}

function received(context: BuildContext, fact: FactOf<'build.received'>): BuildContext {
  if (context.request !== null) return context;
  return {
    ...context,
    ...(fact.stamp === undefined ? {} : { stamp: fact.stamp }),
    request: fact.request,
    name: fact.request.name ?? fact.name_hint,
    created_at: fact.at,
  };
}

function controlled(context: BuildContext, fact: FactOf<'build.controlled'>): BuildContext {
  switch (fact.control.action) {
    case 'approve':
      return context.plan === null ? context : { ...context, approved: true };
    case 'retry':
      return retried(context, fact.at);
    case 'cancel':
      return {
        ...context,
        error: { code: 'cancelled', message: fact.control.reason ?? 'somebody cancelled it' },
      };
    default:
      // Pausing and resuming are moves of the machine.
      return context;
  }
}

/**
 * Everything that is over without being merged is tried again, with a new time limit. Repairs are made
 * anew where they are wanted, but for those that are done and were only kept from main.
 */
function retried(context: BuildContext, at: number): BuildContext {
  const again = (task: TaskRecord): boolean =>
    isOver(task) && task.state !== 'merged' && (task.kind !== 'repair' || isKeptFromMain(task));
  const tasks = context.tasks.map(task => (again(task) ? renewed(task) : task));
  return {
    ...context,
    tasks,
    started_at: at,
    ended_at: null,
    plans_rejected: 0,
    workspace_failures: 0,
    repairs_before: context.repairs,
    check_error: null,
    archived: false,
    error: null,
    unmet: [],
  };
}

function planAccepted(context: BuildContext, fact: FactOf<'plan.accepted'>): BuildContext {
  if (context.plan !== null) return context;
  const plan = fact.plan;
  const planner = context.tasks.find(({ id }) => id === PLAN_TASK);
  const done = planner === undefined ? context : replace(context, { ...planner, state: 'merged' });
  return {
    ...done,
    plan,
    draft: null,
    error: null,
    name: context.request?.name ?? plan.name,
    tasks: [...done.tasks, ...plan.tasks.map(card => newTask(card.id, 'code', card))],
  };
}

function planRejected(context: BuildContext, fact: FactOf<'plan.rejected'>): BuildContext {
  const planner = context.tasks.find(({ id }) => id === PLAN_TASK);
  if (context.draft === null || planner === undefined) return context;
  const rejected = { ...context, draft: null, plans_rejected: context.plans_rejected + 1 };
  return replace(rejected, {
    ...planner,
    state: rejected.plans_rejected < PLAN_ATTEMPTS_MAX ? 'ready' : 'failed',
    lease: null,
    error: fact.error,
    previous_error: fact.error.message,
  });
}

/** Notes that a model was among what the task could have got, now or later. */
function seeing(
  context: BuildContext,
  { decision }: { readonly decision: PlacementDecision },
): BuildContext {
  if (context.needs_model === true) return context;
  const isThere = decision.candidates.some(
    ({ engine, model, verdict }) => engine !== 'scaffold' && model !== '' && verdict !== 'excluded',
  );
  return isThere ? { ...context, needs_model: true } : context;
}

function placed(
  context: BuildContext,
  task: TaskRecord,
  fact: FactOf<'task.placed'>,
): BuildContext {
  const { node, engine, model, context_tokens, gateway, lease } = fact;
  return replace(context, {
    ...task,
    state: 'leased',
    lease: { node, engine, model, context_tokens, gateway, lease },
    model,
    engine,
    unplaced: null,
  });
}

/** Whether a report is of an attempt that is current, under its lease (D1). */
export function reportCounts(context: BuildContext, report: TaskReport): boolean {
  const task = context.tasks.find(({ id }) => id === report.task);
  if (task === undefined || task.attempt !== report.attempt) return false;
  const isCurrent = task.state === 'leased' || task.state === 'running';
  return isCurrent && task.lease?.lease === report.lease;
}

function reported(
  context: BuildContext,
  task: TaskRecord,
  fact: FactOf<'task.reported'>,
): BuildContext {
  const report = fact.report;
  if (!reportCounts(context, report)) return context;
  const counted = { ...context, usage: addUsage(context.usage, report.usage) };
  if (report.outcome !== 'done') {
    const { error, blame } = failureOf(report);
    return replace(counted, afterFailure(task, error, blame, fact.at));
  }
  const models = [...new Set([...context.models, report.model])];
  const next: TaskRecord = {
    ...task,
    state: 'reported',
    deadline_at: null,
    error: null,
    commit: report.commit,
    reported_at: fact.at,
    model: report.model,
    engine: report.engine,
  };
  if (task.kind === 'plan') {
    if (report.plan === null)
      return replace(counted, afterFailure(task, NO_PLAN, 'model', fact.at));
    return replace({ ...counted, models, draft: report.plan }, next);
  }
  return replace({ ...counted, models }, next);
}

const NO_PLAN: WireError = { code: 'answer_invalid', message: 'the report holds no plan' };

function failureOf(report: TaskReport): { error: WireError; blame: 'model' | 'infrastructure' } {
  if (report.outcome === 'cancelled') {
    const message = `the worker on ${report.node} gave the attempt up`;
    return { error: report.error ?? { code: 'cancelled', message }, blame: 'infrastructure' };
  }
  const message = report.summary || 'the attempt failed without a reason';
  return {
    error: report.error ?? { code: 'internal', message },
    blame: report.blame ?? 'infrastructure',
  };
}

function merged(
  context: BuildContext,
  task: TaskRecord,
  fact: FactOf<'task.merged'>,
): BuildContext {
  const next: TaskRecord = { ...task, state: 'merged', commit: fact.commit, previous_error: null };
  return withHead(replace(context, next), fact.commit);
}

/** A step of the machinery around the attempt failed for good. */
function taskFailed(
  context: BuildContext,
  task: TaskRecord,
  fact: FactOf<'task.failed'>,
): BuildContext {
  if (!['placing', 'leased', 'merging'].includes(task.state)) return context;
  return replace(
    withdraw(context, task),
    afterFailure(task, fact.error, 'infrastructure', fact.at),
  );
}

function withdrawn(context: BuildContext, fact: FactOf<'task.withdrawn'>): BuildContext {
  const withdrawals = context.withdrawals.filter(
    ({ task, attempt }) => task !== fact.task || attempt !== fact.attempt,
  );
  return { ...context, withdrawals };
}

function deadlinePassed(context: BuildContext, fact: FactOf<'deadline.passed'>): BuildContext {
  const [subject, id, attempt] = fact.key.split(/[:.]/);
  if (subject === 'budget') return { ...context, error: overBudget(context) };
  if (subject === 'finalize' || subject === 'cancel') {
    const tasks = context.tasks.map(task => (isOver(task) ? task : stopped(task)));
    return { ...context, tasks, archived: true, withdrawals: [] };
  }
  const task = context.tasks.find(candidate => candidate.id === id);
  if (task === undefined || task.attempt !== Number(attempt)) return context;
  if (subject === 'retry' && task.state === 'retry_wait') {
    return replace(context, { ...task, state: 'ready', retry_at: null });
  }
  if (subject === 'task' && task.state === 'running') return silent(context, task, fact.at);
  return context;
}

/** The worker never answered: its attempt is withdrawn and the next one goes elsewhere. */
function silent(context: BuildContext, task: TaskRecord, at: number): BuildContext {
  const node = task.lease?.node;
  const message = `no report came from ${node ?? 'the node'} in time`;
  const next = afterFailure(task, { code: 'timeout', message }, 'infrastructure', at);
  const avoid = node === undefined ? task.avoid : [...new Set([...task.avoid, node])].slice(-16);
  return replace(withdraw(context, task), { ...next, avoid });
}

/**
 * Whatever is not over is cancelled, and workers that are on it are told. A merge that has begun goes
 * on: what is on main and not known to be would be done again for nothing.
 */
export function stopTasks(context: BuildContext): BuildContext {
  const isOpen = (task: TaskRecord): boolean => !isOver(task) && task.state !== 'merging';
  if (!context.tasks.some(isOpen)) return context;
  let told = context;
  for (const task of context.tasks) {
    if (task.state === 'leased' || task.state === 'running') told = withdraw(told, task);
  }
  return { ...told, tasks: told.tasks.map(task => (isOpen(task) ? stopped(task) : task)) };
}

const stopped = (task: TaskRecord): TaskRecord => ({
  ...task,
  state: 'cancelled',
  lease: null,
  deadline_at: null,
});

/** Notes that the node of the current attempt is to be told to stop. */
function withdraw(context: BuildContext, task: TaskRecord): BuildContext {
  if (task.lease === null) return context;
  const { node, lease } = task.lease;
  const withdrawal = { task: task.id, attempt: task.attempt, node, lease };
  return { ...context, withdrawals: [...context.withdrawals, withdrawal] };
}

/** What it waited for last says more than that the time is up. */
function overBudget(context: BuildContext): WireError {
  const limit = context.request?.constraints?.max_execution_time;
  const spent = `the build took longer than ${limit === undefined ? 'a day' : `${limit} s`}`;
  const open = context.tasks.find(task => !isOver(task));
  const last = context.error?.message ?? open?.unplaced?.reason ?? open?.error?.message;
  const message = last === undefined ? spent : `${spent}; last: ${last}`;
  return { code: 'budget_exceeded', message };
}

function addUsage(sum: Usage, more: Usage): Usage {
  return {
    turns: sum.turns + more.turns,
    prompt_tokens: sum.prompt_tokens + more.prompt_tokens,
    output_tokens: sum.output_tokens + more.output_tokens,
    generate_ms: sum.generate_ms + more.generate_ms,
    load_ms: sum.load_ms + more.load_ms,
    tool_calls: sum.tool_calls + more.tool_calls,
    remote_turns: sum.remote_turns + more.remote_turns,
  };
}
