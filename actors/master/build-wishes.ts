/**
 * What a build wants done and when it loses patience, derived from its context: `pending` and
 * `deadlines` of the durable host. Nothing here is kept; it follows from the rest every time.
 *
 * W1: a wish has the same key as long as it is the same wish, so that a restart repeats it under the
 *     key its port already knows.
 * W2: every phase that waits for the world has a deadline above it: every build ends.
 */
import type { GatewayId } from '../../protocol/ids.ts';
import {
  type BuildContext,
  type BuildEffect,
  budgetEndsAt,
  type TaskRecord,
} from './build-context.ts';
import { stopTasks } from './build-fold.ts';
import { verdict } from './build-verdict.ts';
import { isOver, schedule } from './task-graph.ts';
import { taskMessage } from './task-message.ts';
import { isAway } from './task-retry.ts';

/** Archiving may take this long before the build ends without an archive. */
const FINALIZE_MS = 600_000;
/** Workers and gateway are told to stop for this long; then the build is cancelled regardless. */
const CANCEL_MS = 20_000;

type Wishes = Record<string, BuildEffect>;

/**
 * Schedules what can go on by itself, or stops it in a build that is ending, then derives wishes and
 * deadlines. The last act of a step.
 */
export function settle(context: BuildContext): BuildContext {
  const isEnding = context.phase === 'finalizing' || context.phase === 'cancelling';
  const scheduled = isEnding ? stopTasks(context) : schedule(context);
  return { ...scheduled, pending: wishesOf(scheduled), deadlines: deadlinesOf(scheduled) };
}

function wishesOf(context: BuildContext): Wishes {
  const wishes: Wishes = {};
  for (const withdrawal of context.withdrawals) {
    const key = `withdraw:${withdrawal.task}.${withdrawal.attempt}`;
    wishes[key] = { kind: 'withdraw', withdrawal };
  }
  if (context.paused) return wishes;
  for (const task of context.tasks) Object.assign(wishes, taskWish(context, task));
  return Object.assign(wishes, phaseWish(context));
}

function taskWish(context: BuildContext, task: TaskRecord): Wishes {
  const attempt = `${task.id}.${task.attempt}`;
  const gateway = context.workspace?.gateway ?? null;
  if (task.state === 'placing') {
    const tries = task.unplaced?.tries ?? 0;
    return { [`place:${attempt}.${tries}`]: placeWish(context, task, tries, gateway) };
  }
  if (task.state === 'leased' && task.lease !== null) {
    const message = taskMessage(context, task, task.lease);
    return { [`dispatch:${attempt}`]: { kind: 'dispatch', message } };
  }
  if (task.state === 'merging' && gateway !== null) {
    return {
      [`merge:${attempt}`]: { kind: 'merge', task: task.id, attempt: task.attempt, gateway },
    };
  }
  return {};
}

function placeWish(
  context: BuildContext,
  task: TaskRecord,
  tries: number,
  gateway: GatewayId | null,
): BuildEffect {
  return {
    kind: 'place',
    task: task.id,
    attempt: task.attempt,
    task_kind: task.kind,
    tries,
    request: {
      model: context.request?.model ?? null,
      context_tokens: task.context_tokens,
      remote: remoteOf(context),
      avoid: task.avoid,
      prefers: modelsOf(context),
      ...(needsModel(context) ? { needs_model: true } : {}),
    },
    gateway,
  };
}

/** What this build has used so far: its roles share models rather than push each other out. */
function modelsOf({ tasks }: BuildContext): readonly string[] {
  const models = tasks.flatMap(({ engine, model }) =>
    engine === 'ollama' && model !== null ? [model] : [],
  );
  return [...new Set(models)].sort();
}

/** A build of an earlier release has not noted it, but knows its models. */
const needsModel = (context: BuildContext): boolean =>
  context.needs_model === true || modelsOf(context).length > 0;

function remoteOf(context: BuildContext): 'deny' | 'last' | 'first' {
  if (context.request?.fallback !== 'allow') return 'deny';
  return context.request['prefer_local'] === false ? 'first' : 'last';
}

function phaseWish(context: BuildContext): Wishes {
  switch (context.phase) {
    case 'received':
      return context.request === null ? {} : { admit: { kind: 'admit' } };
    case 'validating_plan':
      return validateWish(context);
    case 'contracting':
      return workspaceWish(context);
    case 'verifying':
      return checkWish(context);
    case 'finalizing':
    case 'cancelling':
      return endWish(context);
    default:
      return {};
  }
}

function validateWish(context: BuildContext): Wishes {
  const planner = context.tasks.find(task => task.kind === 'plan');
  if (context.draft === null || planner === undefined || planner.lease === null) return {};
  const { gateway } = planner.lease;
  const key = `validate-plan:${planner.attempt}`;
  return { [key]: { kind: 'validate-plan', plan: context.draft, gateway } };
}

function workspaceWish(context: BuildContext): Wishes {
  if (context.workspace !== null || context.name === null) return {};
  const key = `workspace.create:${context.workspace_failures}`;
  return { [key]: { kind: 'create-workspace', name: context.name, gateway: null } };
}

function checkWish(context: BuildContext): Wishes {
  const { plan, workspace } = context;
  if (plan === null || workspace === null || context.check_error !== null) return {};
  const round = context.checks.length;
  return {
    [`check:${round}`]: {
      kind: 'check',
      gateway: workspace.gateway,
      request: {
        round,
        command: plan.check.command,
        stack: plan.stack,
        timeout_s: plan.check.timeout_s,
      },
    },
  };
}

/** When nothing is under way any more, first the archive, where there is a project, then the end. */
function endWish(context: BuildContext): Wishes {
  if (context.withdrawals.length > 0 || !context.tasks.every(isOver)) return {};
  const { workspace } = context;
  if (workspace !== null && !context.archived) {
    const key = `archive:${workspace.head}`;
    return { [key]: { kind: 'archive', gateway: workspace.gateway } };
  }
  if (context.phase === 'cancelling') {
    const { unmet } = verdict(context);
    // A key of its own: the other end may be on its way, and must not count any more (W1).
    return { 'end.cancelled': { kind: 'end', state: 'cancelled', error: context.error, unmet } };
  }
  return { end: { kind: 'end', ...verdict(context) } };
}

/** W2 */
function deadlinesOf(context: BuildContext): Record<string, number> {
  const deadlines: Record<string, number> = {};
  if (context.ended_at !== null) return deadlines;
  for (const task of context.tasks) {
    const attempt = `${task.id}.${task.attempt}`;
    if (task.state === 'running' && task.deadline_at !== null) {
      deadlines[`task:${attempt}`] = task.deadline_at;
    }
    if (task.state === 'retry_wait' && task.retry_at !== null) {
      deadlines[`retry:${attempt}`] = task.retry_at;
    }
  }
  if (context.phase === 'finalizing') deadlines['finalize'] = context.phase_at + FINALIZE_MS;
  else if (context.phase === 'cancelling') deadlines['cancel'] = context.phase_at + CANCEL_MS;
  else {
    const endsAt = budgetEndsAt(context);
    if (endsAt !== null) deadlines['budget'] = endsAt;
  }
  return deadlines;
}

/** Whether nothing goes on but waiting for a node that can take a task. */
export function waitsForCapacity(context: BuildContext): boolean {
  const open = context.tasks.filter(task => !isOver(task));
  const waiting = open.filter(task => task.state === 'placing' && task.unplaced !== null);
  if (waiting.length === 0) return false;
  return open.every(
    task => waiting.includes(task) || task.state === 'pending' || task.state === 'ready',
  );
}

/** Why it waits, where it waits. */
export function waitingReason(context: BuildContext): string | null {
  if (context.paused) return 'somebody paused it';
  if (context.phase === 'awaiting_approval') return 'the plan waits for approval';
  if (context.phase === 'received') return 'it waits for its turn';
  const task = context.tasks.find(
    ({ state, unplaced }) => state === 'placing' && unplaced !== null,
  );
  if (task !== undefined) return `${task.id}: ${task.unplaced?.reason ?? ''}`;
  const stopped = context.tasks.find(({ state, error }) => state === 'retry_wait' && isAway(error));
  if (stopped !== undefined) {
    return `${stopped.id}: ${stopped.error?.message ?? ''}; it is tried again`;
  }
  if (context.phase === 'contracting' && context.workspace === null && context.error !== null) {
    return context.error.message;
  }
  return null;
}
