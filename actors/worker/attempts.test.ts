/**
 * Goal: an attempt has its time for work, not for waiting, and as long as it gets on; in the end it
 * ends. Method: attempts on their host under a simulated clock, with a turn that is never answered.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TaskReport } from '../../protocol/task.ts';
import { SimulatedClock } from '../../runtime/clock.ts';
import { memoryJournal } from '../../runtime/journal.ts';
import { silentLogger } from '../../runtime/log.ts';
import type { PerformAttempt } from './attempt-effects.ts';
import { AttemptProgress } from './attempt-progress.ts';
import { Attempts } from './attempts.ts';
import { taskOf } from './test-worker.ts';

const ATTEMPT = 'b1.store.1';
const LIMIT_MS = 60_000;

async function worldOf(changes: object) {
  const clock = new SimulatedClock();
  const progress = new AttemptProgress(clock);
  const reports: TaskReport[] = [];
  const journal = await memoryJournal();
  const perform: PerformAttempt = async (_entity, _key, effect, signal) => {
    const at = clock.now();
    switch (effect.kind) {
      case 'open':
        return [{ type: 'workspace.opened', at }];
      case 'read':
        return [{ type: 'files.read', at, files: [] }];
      case 'tools':
        return [{ type: 'tools.listed', at, tools: [] }];
      case 'report':
        reports.push(effect.report);
        return [{ type: 'attempt.reported', at }];
      default:
        return new Promise((_, reject) => signal.addEventListener('abort', reject));
    }
  };
  const open = (): Attempts =>
    new Attempts({
      ...{ journal, clock, log: silentLogger, perform, progress },
      begun: () => {},
      over: async () => {},
    });
  const attempts = open();
  await attempts.take(taskOf({ deadline_at: clock.now() + LIMIT_MS, ...changes }));
  await clock.advance(0);
  return { clock, progress, reports, attempts, open };
}
const timed = (budgetMs: number) => ({
  limit_ms: LIMIT_MS,
  budget_until: new SimulatedClock().now() + budgetMs,
});

describe('the time of an attempt', () => {
  it('does not run while it waits for its turn', async () => {
    const { clock, progress, reports, attempts } = await worldOf(timed(86_400_000));
    progress.waits(ATTEMPT);
    await clock.advance(20 * LIMIT_MS);
    assert.equal(reports.length, 0);
    progress.moved(ATTEMPT);
    await clock.advance(3 * LIMIT_MS);
    assert.deepEqual([reports[0]?.error?.code, reports[0]?.blame], ['timeout', 'infrastructure']);
    assert.match(reports[0]?.error?.message ?? '', /nothing came of `generate:1` for 60 s/);
    await attempts.stop();
  });

  it('is prolonged while it gets on, also over a restart, but not beyond that of its build', async () => {
    const budgetMs = 30 * LIMIT_MS;
    const { clock, progress, reports, attempts, open } = await worldOf(timed(budgetMs));
    const getOn = async (forMs: number): Promise<void> => {
      for (let ms = 0; ms < forMs; ms += LIMIT_MS / 4) {
        progress.moved(ATTEMPT);
        await clock.advance(LIMIT_MS / 4);
      }
    };
    await getOn(budgetMs / 2);
    await attempts.stop();
    const again = open();
    await again.resume();
    await getOn(budgetMs / 2 - LIMIT_MS);
    assert.equal(reports.length, 0);
    await getOn(2 * LIMIT_MS);
    assert.match(reports[0]?.error?.message ?? '', /the time that the build has was over/);
    await again.stop();
  });

  it('of an older master ends when that says', async () => {
    const { clock, progress, reports, attempts } = await worldOf({});
    progress.waits(ATTEMPT);
    await clock.advance(LIMIT_MS);
    assert.equal(reports[0]?.error?.message, 'the attempt did not end before its deadline');
    await attempts.stop();
  });
});
