/**
 * The graph of tasks: who may begin, who never will, whose work is merged next.
 *
 * G1: a task is ready only when all it depends on is merged, or is optional and over.
 * G2: blocking is transitive and terminal: whoever depends on a required task that is over and not
 *     merged is over as well.
 * G3: tasks of type `contract` are merged before any other task begins.
 * G4: at most `max_parallel_tasks` attempts are placed or running; one merge at a time.
 */
import type { TaskState } from '../../protocol/build.ts';
import type { BuildContext, Phase, TaskRecord } from './build-context.ts';

const OVER: readonly TaskState[] = ['merged', 'blocked', 'failed', 'cancelled'];
const RUNNING: readonly TaskState[] = ['placing', 'leased', 'running'];
/** Phases in which tasks begin and are merged. */
const WORKING: readonly Phase[] = [
  'planning',
  'contracting',
  'executing',
  'integrating',
  'repairing',
];

export const MAX_PARALLEL_DEFAULT = 5;

/** Whether nothing will happen to the task any more. */
export const isOver = (task: TaskRecord): boolean => OVER.includes(task.state);
export const isRunning = (task: TaskRecord): boolean => RUNNING.includes(task.state);
const isContract = (task: TaskRecord): boolean => task.card?.type === 'contract';

/** Tasks of the plan: neither planning nor repairing. */
export const planTasks = (tasks: readonly TaskRecord[]): readonly TaskRecord[] =>
  tasks.filter(task => task.kind === 'code');

/** Moves every task as far as it goes by itself. */
export function schedule(context: BuildContext): BuildContext {
  if (context.paused || !WORKING.includes(context.phase)) return context;
  const tasks = startMerge(start(makeReady(context), context));
  return tasks === context.tasks ? context : { ...context, tasks };
}

/** `pending` → `ready` or `blocked`, until nothing moves (G1, G2, G3). */
function makeReady(context: BuildContext): readonly TaskRecord[] {
  let tasks = context.tasks;
  for (;;) {
    const byId = new Map(tasks.map(task => [task.id, task]));
    const contractsOpen = tasks.some(task => isContract(task) && !isOver(task));
    let moved = false;
    const next = tasks.map(task => {
      if (task.state !== 'pending') return task;
      const blocker = blockerOf(task, byId);
      if (blocker !== null) {
        moved = true;
        return block(task, blocker);
      }
      if (!isReady(task, byId, context, contractsOpen)) return task;
      moved = true;
      return { ...task, state: 'ready' as const };
    });
    if (!moved) return tasks;
    tasks = next;
  }
}

function blockerOf(task: TaskRecord, byId: ReadonlyMap<string, TaskRecord>): TaskRecord | null {
  for (const id of task.card?.depends_on ?? []) {
    const dependency = byId.get(id);
    if (dependency === undefined || dependency.card?.optional === true) continue;
    if (isOver(dependency) && dependency.state !== 'merged') return dependency;
  }
  return null;
}

function block(task: TaskRecord, blocker: TaskRecord): TaskRecord {
  const message = `it depends on ${blocker.id}, which is ${blocker.state}`;
  return { ...task, state: 'blocked', error: { code: 'cancelled', message } };
}

function isReady(
  task: TaskRecord,
  byId: ReadonlyMap<string, TaskRecord>,
  context: BuildContext,
  contractsOpen: boolean,
): boolean {
  if (task.kind !== 'plan' && context.workspace === null) return false;
  if (task.kind === 'code' && contractsOpen && !isContract(task)) return false;
  return (task.card?.depends_on ?? []).every(id => {
    const dependency = byId.get(id);
    if (dependency === undefined) return true;
    return (
      dependency.state === 'merged' || (dependency.card?.optional === true && isOver(dependency))
    );
  });
}

/** `ready` → `placing`, the most urgent first, within the limit (G4). Begins a new attempt. */
function start(tasks: readonly TaskRecord[], context: BuildContext): readonly TaskRecord[] {
  const limit = context.request?.max_parallel_tasks ?? MAX_PARALLEL_DEFAULT;
  const free = limit - tasks.filter(isRunning).length;
  if (free <= 0) return tasks;
  const chosen = tasks
    .filter(task => task.state === 'ready')
    .sort((left, right) => (right.card?.priority ?? 10) - (left.card?.priority ?? 10))
    .slice(0, free)
    .map(task => task.id);
  if (chosen.length === 0) return tasks;
  return tasks.map(task => (chosen.includes(task.id) ? beginAttempt(task) : task));
}

function beginAttempt(task: TaskRecord): TaskRecord {
  return {
    ...task,
    state: 'placing',
    attempt: task.attempt + 1,
    lease: null,
    deadline_at: null,
    retry_at: null,
    unplaced: null,
    commit: null,
    reported_at: null,
  };
}

/** `reported` → `merging`: the one that has waited longest (G4). */
function startMerge(tasks: readonly TaskRecord[]): readonly TaskRecord[] {
  if (tasks.some(task => task.state === 'merging')) return tasks;
  const next = tasks
    .filter(task => task.state === 'reported' && task.kind !== 'plan')
    .sort((left, right) => (left.reported_at ?? 0) - (right.reported_at ?? 0))[0];
  if (next === undefined) return tasks;
  return tasks.map(task => (task === next ? { ...task, state: 'merging' as const } : task));
}
