/**
 * Goal: an attempt has its time for work, not for waiting, and as long as it gets on; in the end it
 * ends. Method: attempts on their host under a simulated clock, with a turn that is never answered.
 */
import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import { CodeGodError } from '../../protocol/errors.ts';
import { TaskId } from '../../protocol/ids.ts';
import type { EngineAdvert } from '../../protocol/node.ts';
import type { TaskReport } from '../../protocol/task.ts';
import { SimulatedClock } from '../../runtime/clock.ts';
import { type Journal, memoryJournal } from '../../runtime/journal.ts';
import { WORKER_KEYS } from '../../runtime/journal-keys.ts';
import { silentLogger } from '../../runtime/log.ts';
import type { PerformAttempt } from './attempt-effects.ts';
import { AttemptProgress } from './attempt-progress.ts';
import { Attempts } from './attempts.ts';
import { forgetModels } from './model-records.ts';
import { taskOf } from './test-worker.ts';

const ATTEMPT = 'b1.store.1';
const LIMIT_MS = 60_000;

async function worldOf(changes: object) {
  const clock = new SimulatedClock();
  const progress = new AttemptProgress(clock);
  const reports: TaskReport[] = [];
  const journal = await memoryJournal(WORKER_KEYS);
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
  const open = (kept: Journal = journal): Attempts =>
    new Attempts({
      ...{ journal: kept, clock, log: silentLogger, perform, progress },
      begun: () => {},
      over: async () => {},
    });
  const attempts = open();
  await attempts.take(taskOf({ deadline_at: clock.now() + LIMIT_MS, ...changes }));
  await clock.advance(0);
  return { clock, progress, reports, attempts, open, journal };
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

describe('an attempt that cannot be read', () => {
  const DAY_MS = 86_400_000;
  const lastFact = async (journal: Journal): Promise<string> =>
    (await keysOf(journal, `fact/${ATTEMPT}/`)).at(-1) ?? '';
  it('is tried again at each start, kept for a day, and then forgotten; the others go on', async () => {
    const { clock, journal, attempts, open } = await worldOf(timed(86_400_000));
    const task = TaskId.parse('other');
    await attempts.take(taskOf({ task, deadline_at: clock.now() + LIMIT_MS }));
    await attempts.stop();
    const fact = await lastFact(journal);
    const whole = await journal.get(fact);
    await journal.put(fact, 'torn');
    const again = open();
    await again.resume();
    assert.deepEqual([...again.open().keys()], ['b1.other.1']);
    await clock.advance(DAY_MS - 1);
    await again.prune();
    await again.stop();
    assert.ok((await keysOf(journal)).includes(fact), 'a day has not gone by');

    await journal.put(fact, whole);
    const mended = open();
    await mended.resume();
    assert.deepEqual([...mended.open().keys()], [ATTEMPT]);
    assert.deepEqual(await keysOf(journal, 'unreadable/'), []);
    await mended.stop();

    await journal.put(await lastFact(journal), 'torn');
    for (const forMs of [DAY_MS / 2, DAY_MS]) {
      const later = open();
      await later.resume();
      await clock.advance(forMs);
      await later.prune();
      await later.stop();
    }
    assert.deepEqual(await keysOf(journal), []);
  });

  it('is known by its mark, also where that is damaged, and for a day more', async () => {
    const { clock, journal, attempts, open } = await worldOf(timed(LIMIT_MS));
    await clock.advance(3 * LIMIT_MS);
    await attempts.stop();
    const mark = `closed/${ATTEMPT}`;
    assert.ok((await keysOf(journal)).includes(mark));
    let isDamaged = true;
    const get = async (key: string): Promise<unknown> => {
      if (key === mark && isDamaged) throw new CodeGodError('log_corrupt', 'damaged');
      return await journal.get(key);
    };
    const put = async (key: string, value: unknown): Promise<void> => {
      if (key === mark) isDamaged = false;
      await journal.put(key, value);
    };
    const again = open({ ...journalAs(journal), get, put });
    await again.resume();
    assert.equal(await again.knows(taskOf({})), true);
    assert.deepEqual([...again.open()], []);
    await clock.advance(2 * DAY_MS);
    await again.prune();
    assert.ok((await keysOf(journal)).includes(mark), 'nobody knows since when');
    await clock.advance(DAY_MS);
    await again.prune();
    assert.deepEqual(await keysOf(journal), []);
    await again.stop();
  });
});

/** Without the shapes of values, which the journal keeps for itself. */
async function keysOf(journal: Journal, ...prefixes: string[]): Promise<string[]> {
  const keys: string[] = [];
  for (const one of prefixes.length > 0 ? prefixes : Object.values(WORKER_KEYS)) {
    for await (const key of journal.keys(one)) keys.push(key);
  }
  return keys;
}

const journalAs = (journal: Journal): Journal => ({
  get: key => journal.get(key),
  put: (key, value) => journal.put(key, value),
  batch: operations => journal.batch(operations),
  entries: (...range) => journal.entries(...range),
  keys: (...range) => journal.keys(...range),
  close: () => journal.close(),
});

test('what is kept of models goes when no engine has them any more, and not while one is away', async () => {
  const journal = await memoryJournal(WORKER_KEYS);
  for (const key of ['model/a1', 'probe/a1/thinking', 'model/b2', 'probe/b2/thinking']) {
    await journal.put(key, {});
  }
  const engine = (available: boolean, digests: readonly string[]) =>
    ({ available, models: digests.map(digest => ({ digest })) }) as unknown as EngineAdvert;
  await forgetModels(journal, [engine(true, []), engine(false, [])]);
  assert.equal((await keysOf(journal)).length, 4);
  await forgetModels(journal, [engine(true, []), engine(true, ['b2'])]);
  assert.deepEqual(await keysOf(journal), ['model/b2', 'probe/b2/thinking']);
});
