/**
 * A build as the command line shows it, folded from the facts of its log. Pure.
 *
 * The master folds the same facts into the whole truth; this is the part that a person watches: the
 * tasks, who writes them, whether the tests pass, how it ends.
 */
import type { BuildSummary, CheckSummary } from '../protocol/build.ts';
import type { WireError } from '../protocol/errors.ts';
import type { Fact } from '../protocol/fact.ts';
import type { ArtifactReference } from '../protocol/text.ts';

export interface TaskView {
  readonly id: string;
  readonly title: string;
  readonly state: 'waiting' | 'placed' | 'running' | 'reported' | 'merged' | 'retrying' | 'failed';
  readonly attempt: number;
  readonly node: string | null;
  readonly model: string | null;
  readonly error: string | null;
}

export interface BuildView {
  readonly phase: string;
  readonly name: string | null;
  readonly path: string | null;
  readonly stack: string | null;
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly tasks: readonly TaskView[];
  readonly check: CheckSummary | null;
  /** `scaffold`, or engine and model. */
  readonly writers: readonly string[];
  readonly archive: ArtifactReference | null;
  readonly waiting: string | null;
  readonly end: {
    readonly state: BuildSummary['state'];
    readonly error: WireError | null;
    readonly unmet: readonly string[];
  } | null;
}

export const NEW_BUILD: BuildView = {
  phase: 'starting',
  name: null,
  path: null,
  stack: null,
  startedAt: 0,
  endedAt: null,
  tasks: [],
  check: null,
  writers: [],
  archive: null,
  waiting: null,
  end: null,
};

export function foldFact(view: BuildView, fact: Fact): BuildView {
  switch (fact.type) {
    case 'build.received':
      return {
        ...view,
        phase: 'received',
        name: fact.request.name ?? null,
        startedAt: fact.at,
      };
    case 'build.rejected':
      return ended(view, fact.at, { state: 'failed', error: fact.error, unmet: [] });
    case 'build.admitted':
      return { ...view, phase: 'planning' };
    case 'plan.accepted':
      return {
        ...view,
        phase: 'building',
        name: fact.plan.name,
        stack: fact.plan.stack,
        tasks: [...view.tasks, ...fact.plan.tasks.map(task => newTask(task.id, task.title))],
      };
    case 'workspace.created':
      return { ...view, path: fact.path };
    case 'task.placed':
      return placed(view, fact);
    case 'task.unplaced':
      return { ...withTask(view, fact.task, { state: 'waiting' }), waiting: fact.decision.reason };
    case 'task.dispatched':
      return withTask(view, fact.task, { state: 'running' });
    case 'task.reported':
      return withTask(view, fact.task, {
        state: fact.report.outcome === 'done' ? 'reported' : 'retrying',
        error: fact.report.error?.message ?? null,
      });
    case 'task.merged':
      return withTask(view, fact.task, { state: 'merged', error: null });
    case 'task.conflicted':
      return withTask(view, fact.task, { state: 'retrying', error: 'merge conflict' });
    case 'task.failed':
      return withTask(view, fact.task, { state: 'failed', error: fact.error.message });
    case 'check.ended':
      return { ...view, phase: fact.check.passed ? 'finishing' : 'repairing', check: fact.check };
    case 'build.archived':
      return { ...view, archive: fact.archive };
    case 'build.ended':
      return ended(view, fact.at, fact);
    default:
      return view;
  }
}

function ended(
  view: BuildView,
  at: number,
  { state, error, unmet }: NonNullable<BuildView['end']>,
): BuildView {
  return { ...view, phase: state, endedAt: at, waiting: null, end: { state, error, unmet } };
}

function placed(view: BuildView, fact: Extract<Fact, { type: 'task.placed' }>): BuildView {
  const writer = fact.engine === 'scaffold' ? 'scaffold' : `${fact.engine} ${fact.model}`;
  const writers = view.writers.includes(writer) ? view.writers : [...view.writers, writer];
  const { attempt, node, model } = fact;
  return {
    ...withTask(view, fact.task, { state: 'placed', attempt, node, model, error: null }),
    writers,
    waiting: null,
  };
}

function withTask(view: BuildView, id: string, change: Partial<TaskView>): BuildView {
  const known = view.tasks.some(task => task.id === id)
    ? view.tasks
    : [...view.tasks, newTask(id, id === 'plan' ? 'Plan the build' : id)];
  return { ...view, tasks: known.map(task => (task.id === id ? { ...task, ...change } : task)) };
}

const newTask = (id: string, title: string): TaskView => ({
  id,
  title,
  state: 'waiting',
  attempt: 0,
  node: null,
  model: null,
  error: null,
});

/** The facts that a person wants to read about, as one line each; null for the others. */
export function describeFact(fact: Fact): string | null {
  switch (fact.type) {
    case 'build.received':
      return 'received';
    case 'build.rejected':
      return `rejected: ${fact.error.message}`;
    case 'build.controlled':
      return `asked to ${fact.control.action}`;
    case 'build.recovered':
      return 'the master has taken the build up again';
    case 'plan.accepted': {
      const count = fact.plan.tasks.length;
      return `planned ${fact.plan.name} (${fact.plan.stack}): ${count} task${count === 1 ? '' : 's'}`;
    }
    case 'plan.rejected':
      return `plan rejected: ${fact.error.message}`;
    case 'workspace.created':
      return `workspace ${fact.path}`;
    case 'workspace.failed':
      return `workspace: ${fact.error.message}`;
    case 'task.placed':
      return `${named(fact)} goes to ${fact.node} (${madeBy(fact)})`;
    case 'task.unplaced':
      return `${named(fact)} waits: ${fact.decision.reason}`;
    case 'task.reported':
      return fact.report.outcome === 'done'
        ? null
        : `${named(fact)} ${fact.report.outcome}: ${fact.report.error?.message ?? ''}`;
    case 'task.merged':
      return `${named(fact)} merged ${fact.commit.slice(0, 8)}`;
    case 'task.conflicted':
      return `${named(fact)} does not merge: ${fact.conflicts.slice(0, 3).join(', ')}`;
    case 'task.failed':
      return `${named(fact)} failed: ${fact.error.message}`;
    case 'check.ended': {
      const { passed, tests_passed, tests_failed } = fact.check;
      return `checks ${passed ? 'passed' : 'failed'}: ${tests_passed} passed, ${tests_failed} failed`;
    }
    case 'check.failed':
      return `checks could not run: ${fact.error.message}`;
    case 'archive.failed':
      return `archive: ${fact.error.message}`;
    case 'deadline.passed':
      return `deadline passed: ${fact.key}`;
    case 'build.ended':
      return fact.error === null ? fact.state : `${fact.state}: ${fact.error.message}`;
    default:
      return null;
  }
}

const named = ({ task, attempt }: { readonly task: string; readonly attempt: number }): string =>
  attempt === 1 ? task : `${task} (attempt ${attempt})`;

/** The engine and its model; an engine that is its own model is named once. */
function madeBy({ engine, model }: { readonly engine: string; readonly model: string }): string {
  return engine === model ? engine : `${engine} ${model}`;
}
