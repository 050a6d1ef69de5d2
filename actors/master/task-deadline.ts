/**
 * Whether an attempt whose deadline has come is over: not while its node says that it is at work. The
 * worker ends what gets no further, and what outlives the build's time. Pure.
 */
import type { FactBody } from '../../protocol/fact.ts';
import type { Attempt, BuildId } from '../../protocol/ids.ts';
import { ADVERT_TTL_MS } from '../../protocol/streams.ts';
import type { NodeView } from '../../scheduling/node-view.ts';
import { type BuildContext, budgetEndsAt, type TaskRecord } from './build-context.ts';

export interface DeadlineNews {
  readonly now: number;
  /** For how long an attempt may get no further. */
  readonly limitMs: number;
  /** For how long adverts have been listened to. */
  readonly heardForMs: number;
  readonly views: readonly NodeView[];
}

/** The fact that a deadline of a build becomes when it has come. */
export function deadlineFact(
  build: BuildId,
  context: BuildContext,
  key: string,
  news: DeadlineNews,
): FactBody {
  const { now } = news;
  const task = context.tasks.find(({ id, attempt }) => key === `task:${id}.${attempt}`);
  const until = task === undefined ? null : extended(build, context, task, news);
  if (task === undefined || until === null) return { type: 'deadline.passed', at: now, key };
  const { id, attempt } = task;
  return {
    type: 'task.extended',
    at: now,
    task: id,
    attempt: attempt as Attempt,
    deadline_at: until,
  };
}

function extended(
  build: BuildId,
  context: BuildContext,
  task: TaskRecord,
  { now, limitMs, heardForMs, views }: DeadlineNews,
): number | null {
  if (task.state !== 'running' || task.lease === null) return null;
  const view = views.find(({ node }) => node === task.lease?.node);
  // After a change of masters the adverts are not all there yet.
  const isUnheard = heardForMs < ADVERT_TTL_MS;
  if (!isUnheard && !saysAtWork(view, build, task)) return null;
  const endsAt = budgetEndsAt(context);
  if (endsAt === null || task.deadline_at === null || task.deadline_at >= endsAt) return null;
  const deadline_at = Math.min(now + (isUnheard ? ADVERT_TTL_MS : limitMs), endsAt);
  return deadline_at === task.deadline_at ? null : deadline_at;
}

function saysAtWork(
  view: NodeView | undefined,
  build: BuildId,
  { id, attempt }: TaskRecord,
): boolean {
  return (view?.runtime?.advert.leases ?? []).some(
    lease =>
      lease.at_work === true &&
      lease.build === build &&
      lease.task === id &&
      lease.attempt === attempt,
  );
}
