/**
 * The shapes that scripts of the system this one follows know: what `POST /build` answers in the
 * end, and `GET /status`. Our own fields stand beside them. Pure.
 */
import type { BuildSummary, TaskState, TaskSummary } from '../../../protocol/build.ts';

/** The answer of a build that was waited for. */
export function originBuild(summary: BuildSummary, now: number) {
  const check = summary.checks.at(-1) ?? null;
  const merged = tasksOf(summary).filter(task => task.state === 'merged');
  return {
    id: summary.id,
    project_id: summary.id,
    status: summary.state,
    state: summary.state,
    path: summary.path,
    files: summary.files,
    success: summary.state === 'succeeded',
    project: {
      name: summary.name,
      files: summary.files,
      tasks_completed: merged.length,
      timestamp: new Date(summary.ended_at ?? now).toISOString(),
    },
    statistics: statisticsOf([summary]),
    validation: {
      passed: check?.passed === true && check.tests_passed > 0,
      tests_passed: check?.tests_passed ?? 0,
      tests_failed: check?.tests_failed ?? 0,
      command: check?.command ?? [],
      unmet: summary.unmet,
    },
    error: summary.error,
  };
}

export interface Statistics {
  readonly total: number;
  readonly pending: number;
  readonly ready: number;
  readonly in_progress: number;
  readonly completed: number;
  readonly failed: number;
  readonly blocked: number;
}

const GROUPS: Readonly<Record<TaskState, keyof Statistics>> = {
  pending: 'pending',
  ready: 'ready',
  placing: 'ready',
  leased: 'in_progress',
  running: 'in_progress',
  reported: 'in_progress',
  merging: 'in_progress',
  retry_wait: 'pending',
  merged: 'completed',
  failed: 'failed',
  cancelled: 'failed',
  blocked: 'blocked',
};

/** Tasks of these builds, counted by what became of them. */
export function statisticsOf(builds: readonly BuildSummary[]): Statistics {
  const counts = {
    total: 0,
    pending: 0,
    ready: 0,
    in_progress: 0,
    completed: 0,
    failed: 0,
    blocked: 0,
  };
  for (const task of builds.flatMap(tasksOf)) {
    counts.total += 1;
    counts[GROUPS[task.state]] += 1;
  }
  return counts;
}

const tasksOf = (summary: BuildSummary): readonly TaskSummary[] =>
  summary.tasks.filter(task => task.type !== 'plan');
