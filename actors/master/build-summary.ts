/**
 * A build as windows show it: the context of its machine, turned into `BuildSummary`. Pure.
 */
import type { BuildState, BuildSummary, TaskSummary } from '../../protocol/build.ts';
import type { BuildId } from '../../protocol/ids.ts';
import type { BuildContext, TaskRecord } from './build-context.ts';
import { waitingReason } from './build-wishes.ts';
import { isOver } from './task-graph.ts';

/** Value of the build machine: a name, or the name of a state and that of its part. */
export type BuildMachineValue = string | { readonly [state: string]: unknown };

/** The state as the protocol names it. */
export function buildStateOf(value: BuildMachineValue): BuildState {
  const [outer, inner] =
    typeof value === 'string' ? [value, null] : (Object.entries(value)[0] ?? []);
  return (typeof inner === 'string' ? inner : outer) as BuildState;
}

export function summaryOf(
  build: BuildId,
  value: BuildMachineValue,
  context: BuildContext,
): BuildSummary {
  const { workspace } = context;
  return {
    id: build,
    state: buildStateOf(value),
    prompt: context.request?.prompt ?? '',
    name: context.name,
    path: workspace?.path ?? null,
    gateway: workspace?.gateway ?? null,
    stack: context.plan?.stack ?? null,
    head: workspace?.head ?? null,
    created_at: context.created_at,
    updated_at: context.updated_at,
    ended_at: context.ended_at,
    tasks: context.tasks.map(taskSummaryOf),
    checks: context.checks.map(run => run.summary),
    usage: context.usage,
    models: [...context.models],
    archive: context.archive,
    files: [...context.files],
    unmet: [...context.unmet],
    error: context.error,
    waiting: context.ended_at === null ? waitingReason(context) : null,
  };
}

function taskSummaryOf(task: TaskRecord): TaskSummary {
  return {
    id: task.id,
    title: task.card?.title ?? 'Plan the build',
    type: task.card?.type ?? 'plan',
    state: task.kind === 'plan' && task.state === 'reported' ? 'running' : task.state,
    attempt: task.attempt,
    depends_on: [...(task.card?.depends_on ?? [])],
    owns: [...(task.card?.owns ?? [])],
    node: task.lease?.node ?? null,
    model: task.model,
    commit: task.commit,
    error:
      task.state === 'merged' || (!isOver(task) && task.state !== 'retry_wait') ? null : task.error,
  };
}
