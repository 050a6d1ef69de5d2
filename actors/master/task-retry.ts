/**
 * What follows when an attempt comes to nothing: another attempt, or the end of the task.
 *
 * R1: failures of the model are bounded by ATTEMPTS_MAX, failures of the machinery by their own
 *     bound; the second do not count as the first. What is only away is neither: it is waited for
 *     as long as the build has time.
 * R2: an attempt is repeated after a pause that grows, held as a deadline, not as a timer.
 * R3: what a repair is to repair stays in its prompts until it is done; how its attempts fail is
 *     told beside it, never in its place.
 * R4: work that a person's uncommitted changes keep from main is not done again: it waits, merged at
 *     once when somebody tries the build again.
 */
import type { ErrorCode } from '../../protocol/error-codes.ts';
import type { WireError } from '../../protocol/errors.ts';
import { ATTEMPT_MAX } from '../../protocol/ids.ts';
import { ATTEMPTS_MAX } from '../../protocol/limits.ts';
import { isHeldUp } from '../../protocol/workspace.ts';
import type { TaskRecord } from './build-context.ts';

export const INFRASTRUCTURE_FAILURES_MAX = 8;
export const CONFLICTS_MAX = 2;
const CONTEXT_TOKENS_MAX = 131_072;
const PAUSE_AFTER_MODEL_MS = 250;
const PAUSE_AFTER_INFRASTRUCTURE_MS = 1_000;
const PAUSE_MAX_MS = 60_000;
/** So long that the numbers of attempts last for a day. */
const AWAY_PAUSE_MAX_MS = 90_000;
/** Lines of an error that go into the next prompt. */
const ERROR_LINES_MAX = 50;
const ERROR_LENGTH_MAX = 8_192;
/** Of what failed in a repair, beside the output of the check. */
const NOTE_LENGTH_MAX = 2_048;
/** So much of a check's output is left in a prompt however often the prompt was too long. */
const OUTPUT_LENGTH_MIN = 1_024;

/** What the attempt stands on was not there, or had no room: nothing went wrong that a bound is for. */
const AWAY: ReadonlySet<ErrorCode> = new Set([
  'engine_unavailable',
  'no_responders',
  'bus_unavailable',
  'disk_full',
]);

export const isAway = (error: WireError | null): boolean => error !== null && AWAY.has(error.code);

export type Blame = 'model' | 'infrastructure';

/** The task after its current attempt failed at `at` (R1, R2). */
export function afterFailure(
  task: TaskRecord,
  error: WireError,
  blame: Blame,
  at: number,
): TaskRecord {
  const counted: TaskRecord = {
    ...task,
    ...countedFailure(task, error, blame),
    ...{ error, lease: null, deadline_at: null, unplaced: null },
  };
  if (isHopeless(counted, error)) return { ...counted, state: 'failed' };
  return {
    ...counted,
    state: 'retry_wait',
    retry_at: at + pauseMs(counted, error, blame),
    // The model learns from its own errors; those of the machinery say nothing to it.
    ...(blame === 'model' ? told(task, error) : {}),
    context_tokens:
      error.code === 'answer_truncated'
        ? Math.min(CONTEXT_TOKENS_MAX, task.context_tokens * 2)
        : task.context_tokens,
  };
}

/** R1 */
function countedFailure(task: TaskRecord, error: WireError, blame: Blame): Partial<TaskRecord> {
  if (blame === 'model') return { model_failures: task.model_failures + 1 };
  if (isAway(error)) return { absences: (task.absences ?? 0) + 1 };
  return { infrastructure_failures: task.infrastructure_failures + 1 };
}

/** The task after its work did not fit onto main: done again on the new base, at most twice. */
export function afterConflict(task: TaskRecord, conflicts: readonly string[]): TaskRecord {
  const files = conflicts.slice(0, 16).join(', ');
  const error: WireError = {
    code: 'merge_conflict',
    message: `the work does not fit onto main; in conflict: ${files}`,
  };
  const counted = { ...task, conflicts: task.conflicts + 1, error, lease: null, commit: null };
  if (counted.conflicts > CONFLICTS_MAX) return { ...counted, state: 'failed' };
  return { ...counted, state: 'ready', ...told(task, error) };
}

/** What the next prompt quotes: the failure, in a repair after the output of the check (R3). */
function told(
  task: TaskRecord,
  error: WireError,
): Partial<Pick<TaskRecord, 'previous_error' | 'check_output'>> {
  const failure = lastLines(`${error.code}: ${error.message}`);
  const { check_output: output } = task;
  if (output === undefined) return { previous_error: failure };
  // What is too long for the model's context is shortened from its start, where it says least.
  const length = Math.max(OUTPUT_LENGTH_MIN, Math.floor(output.length / 2));
  const kept = error.code === 'answer_truncated' ? output.slice(-length) : output;
  const note = `The attempt before this one was of no use: ${failure.slice(0, NOTE_LENGTH_MAX)}`;
  return { check_output: kept, previous_error: `${kept}\n\n${note}` };
}

/** It is done, and a person's uncommitted changes keep it from main (R4). */
export const isKeptFromMain = ({ state, error, commit }: TaskRecord): boolean =>
  state === 'failed' && error !== null && commit !== null && isHeldUp(error);

/** A failed task gets its whole allowance again; attempts go on counting. */
export function renewed(task: TaskRecord): TaskRecord {
  return {
    ...task,
    state: isKeptFromMain(task) ? 'reported' : 'pending',
    model_failures: 0,
    infrastructure_failures: 0,
    absences: 0,
    conflicts: 0,
    lease: null,
    retry_at: null,
    unplaced: null,
    avoid: [],
  };
}

/** The scaffold engine refuses always what it refuses once; a person's changes only a person removes. */
function isHopeless(task: TaskRecord, error: WireError): boolean {
  return (
    error.code === 'scaffold_refused' ||
    isHeldUp(error) ||
    task.model_failures >= ATTEMPTS_MAX ||
    task.infrastructure_failures > INFRASTRUCTURE_FAILURES_MAX ||
    task.attempt >= ATTEMPT_MAX
  );
}

function pauseMs(task: TaskRecord, error: WireError, blame: Blame): number {
  const { model_failures, infrastructure_failures, absences = 0 } = task;
  if (blame === 'model') return growing(PAUSE_AFTER_MODEL_MS, model_failures, PAUSE_MAX_MS);
  const failures = infrastructure_failures + absences;
  const maxMs = isAway(error) ? AWAY_PAUSE_MAX_MS : PAUSE_MAX_MS;
  return growing(PAUSE_AFTER_INFRASTRUCTURE_MS, failures, maxMs);
}

const growing = (baseMs: number, failures: number, maxMs: number): number =>
  Math.min(maxMs, baseMs * 2 ** (failures - 1));

/** The end of a text, where errors say what they are. */
export function lastLines(text: string): string {
  return text.split('\n').slice(-ERROR_LINES_MAX).join('\n').slice(-ERROR_LENGTH_MAX);
}
