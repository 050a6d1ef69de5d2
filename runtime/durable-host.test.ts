/**
 * The durable host over the journal log, under a simulated clock. Goal: state is a fold of facts
 * whatever happens between them. Method: a machine of errands, effects that the test controls, and
 * a process that dies at a chosen step.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type AnyMachineSnapshot, transition } from 'xstate';
import { CodeGodError } from '../protocol/errors.ts';
import { type Errand, type ErrandFact, errandMachine, Mortality } from '../test/durable-fixture.ts';
import { SimulatedClock } from './clock.ts';
import { MachineFold } from './durable-fold.ts';
import { createDurableHost, type DurableHostOptions } from './durable-host.ts';
import { type FactLog, LOG_START } from './fact-log.ts';
import { createJournalFactLog } from './fact-log-journal.ts';
import { type Journal, memoryJournal } from './journal.ts';
import { silentLogger } from './log.ts';

type Options = DurableHostOptions<typeof errandMachine>;
type Perform = (key: string, signal: AbortSignal) => Promise<readonly ErrandFact[]>;

/** Goes on until it is aborted. */
const NEVER: Perform = (_key, signal) =>
  new Promise(resolve => signal.addEventListener('abort', () => resolve([])));

interface World {
  readonly clock: SimulatedClock;
  readonly journal: Journal;
  readonly log: FactLog<ErrandFact>;
}

async function world(): Promise<World> {
  const journal = await memoryJournal();
  return { clock: new SimulatedClock(), journal, log: createJournalFactLog(journal) };
}

function hostIn({ clock, journal, log }: World, perform: Perform, more: Partial<Options> = {}) {
  return createDurableHost<typeof errandMachine>({
    machine: errandMachine,
    log,
    snapshots: journal,
    schemaVersion: 1,
    migrations: {},
    clock,
    logger: silentLogger,
    perform: (_entity, key, _effect: Errand, signal) => perform(key, signal),
    failed: (_entity, key, _effect, error, at) => [
      { type: 'errand.failed', at, key, code: error.code },
    ],
    onDeadline: (key, at) => ({ type: 'deadline.passed', at, key }),
    ...more,
  });
}

const asked = (key: string, limitMs?: number): ErrandFact =>
  limitMs === undefined
    ? { type: 'errand.asked', at: 0, key }
    : { type: 'errand.asked', at: 0, key, limit_ms: limitMs };
const done = (key: string): ErrandFact => ({
  type: 'errand.done',
  at: 1,
  key,
  brought: `the ${key}`,
});

async function factsOf(log: FactLog<ErrandFact>, entity: string): Promise<ErrandFact[]> {
  const facts: ErrandFact[] = [];
  for await (const stored of log.read(entity, LOG_START)) facts.push(stored.fact);
  return facts;
}

function foldOf(entity: string, facts: readonly ErrandFact[]): AnyMachineSnapshot {
  const initial = new MachineFold(errandMachine).initial(entity);
  return facts.reduce<AnyMachineSnapshot>(
    (snapshot, fact) => transition(errandMachine, snapshot as never, fact)[0],
    initial,
  );
}

test('a fact is in the log before its effect starts', async () => {
  const place = await world();
  const seen: ErrandFact[][] = [];
  const host = hostIn(place, async key => {
    seen.push(await factsOf(place.log, 'e'));
    return [done(key)];
  });
  await host.submit('e', asked('bread'));
  await place.clock.advance(0);
  assert.deepEqual(seen, [[asked('bread')]]);
  assert.deepEqual(host.context('e')?.outcomes, { bread: 'the bread' });
  assert.deepEqual(await factsOf(place.log, 'e'), [asked('bread'), done('bread')]);
  await host.stop();
});

test('an effect whose key leaves pending is aborted, and what it returns is dropped', async () => {
  const place = await world();
  let aborted = false;
  const host = hostIn(place, async (key, signal) => {
    await new Promise<void>(resolve => signal.addEventListener('abort', () => resolve()));
    aborted = true;
    return [done(key)];
  });
  await host.submit('e', asked('bread'));
  await place.clock.advance(0);
  await host.submit('e', { type: 'errand.withdrawn', at: 2, key: 'bread' });
  await place.clock.advance(0);
  assert.equal(aborted, true);
  assert.deepEqual(host.context('e')?.outcomes, { bread: 'withdrawn' });
  assert.equal((await factsOf(place.log, 'e')).length, 2);
  await host.stop();
});

test('after a crash between append and effect, the effect runs again under the same key', async () => {
  const place = await world();
  const first = hostIn(place, NEVER);
  await first.submit('e', asked('bread'));
  // The first host is abandoned here: nothing of it is stopped or saved.
  const keys: string[] = [];
  const second = hostIn(place, async key => {
    keys.push(key);
    return [done(key)];
  });
  await second.open('e');
  await place.clock.advance(0);
  assert.deepEqual(keys, ['bread']);
  assert.deepEqual(second.context('e')?.pending, {});
  await second.stop();
});

test('one key never runs twice at once, also when it leaves and comes back', async () => {
  const place = await world();
  let running = 0;
  let most = 0;
  const endings: (() => void)[] = [];
  const host = hostIn(place, async key => {
    running += 1;
    most = Math.max(most, running);
    await new Promise<void>(resolve => endings.push(resolve));
    running -= 1;
    return [done(key)];
  });
  const withdrawn: ErrandFact = { type: 'errand.withdrawn', at: 0, key: 'bread' };
  for (const fact of [asked('bread'), withdrawn, asked('bread')]) {
    await host.submit('e', fact);
    await place.clock.advance(0);
  }
  assert.equal(endings.length, 1, 'the aborted run still winds down');
  endings[0]?.();
  await place.clock.advance(0);
  assert.deepEqual(host.context('e')?.outcomes, {}, 'the aborted run brought nothing');
  assert.equal(endings.length, 2);
  endings[1]?.();
  await place.clock.advance(0);
  assert.deepEqual(host.context('e')?.outcomes, { bread: 'the bread' });
  assert.equal(most, 1);
  await host.stop();
});

test('a retryable failure is tried again with growing pauses while the key is pending', async () => {
  const place = await world();
  const triesAt: number[] = [];
  const host = hostIn(place, async key => {
    triesAt.push(place.clock.monotonic());
    if (triesAt.length < 8) throw new CodeGodError('bus_unavailable', 'not now');
    return [done(key)];
  });
  await host.submit('e', asked('bread'));
  await place.clock.advance(60_000);
  assert.deepEqual(host.context('e')?.outcomes, { bread: 'the bread' });
  const pauses = triesAt.slice(1).map((at, index) => at - (triesAt[index] ?? 0));
  assert.equal(pauses.length, 7);
  assert(pauses.every((pause, index) => pause <= Math.min(10_000, 250 * 2 ** index)));
  assert((pauses.at(-1) ?? 0) >= 5_000, `the last pause is ${pauses.at(-1)} ms`);
  await host.stop();
});

test('a failure that cannot be retried becomes the fact of its failure, at once', async () => {
  const place = await world();
  let tries = 0;
  const host = hostIn(place, async () => {
    tries += 1;
    throw new CodeGodError('denied', 'never');
  });
  await host.submit('e', asked('bread'));
  await place.clock.advance(0);
  assert.deepEqual(host.context('e')?.outcomes, { bread: 'denied' });
  assert.equal(tries, 1);
  await host.stop();
});

test('a bug in an effect is tried five times and then is a failure', async () => {
  const place = await world();
  let tries = 0;
  const host = hostIn(place, async () => {
    tries += 1;
    throw new TypeError('undefined is not a function');
  });
  await host.submit('e', asked('bread'));
  await place.clock.advance(60_000);
  assert.deepEqual(host.context('e')?.outcomes, { bread: 'internal' });
  assert.equal(tries, 5);
  await host.stop();
});

test('a key that is still pending after its effect answered is run again', async () => {
  const place = await world();
  let tries = 0;
  const host = hostIn(place, async key => {
    tries += 1;
    return tries < 3 ? [] : [done(key)];
  });
  await host.submit('e', asked('bread'));
  await place.clock.advance(2_000);
  assert.equal(tries, 3);
  assert.deepEqual(host.context('e')?.pending, {});
  await host.stop();
});

test('facts of an effect survive a log that is away for a minute', async () => {
  const place = await world();
  let isAway = false;
  const log: FactLog<ErrandFact> = {
    read: place.log.read,
    append: async (...what) => {
      if (isAway) throw new CodeGodError('bus_unavailable', 'gone');
      return await place.log.append(...what);
    },
  };
  let performed = 0;
  const host = hostIn({ ...place, log }, async key => {
    performed += 1;
    isAway = true;
    return [done(key)];
  });
  await host.submit('e', asked('bread'));
  await place.clock.advance(60_000);
  assert.deepEqual(host.context('e')?.outcomes, {});
  isAway = false;
  await place.clock.advance(15_000);
  assert.deepEqual(host.context('e')?.outcomes, { bread: 'the bread' });
  assert.equal(performed, 1, 'the answer was kept, not produced again');
  await host.stop();
});

test('effects at work at once are bounded, the others wait in order', async () => {
  const place = await world();
  const started: string[] = [];
  const endings: (() => void)[] = [];
  const host = hostIn(
    place,
    async key => {
      started.push(key);
      await new Promise<void>(resolve => endings.push(resolve));
      return [done(key)];
    },
    { effectsMax: 2 },
  );
  for (const key of ['a', 'b', 'c', 'd']) await host.submit('e', asked(key));
  await place.clock.advance(0);
  assert.deepEqual(started, ['a', 'b']);
  endings.shift()?.();
  await place.clock.advance(0);
  assert.deepEqual(started, ['a', 'b', 'c']);
  for (let left = 3; left > 0; left--) {
    endings.shift()?.();
    await place.clock.advance(0);
  }
  assert.equal(Object.keys(host.context('e')?.outcomes ?? {}).length, 4);
  await host.stop();
});

test('a deadline fires once when it is due, no earlier, and not when its key is gone', async () => {
  const place = await world();
  const host = hostIn(place, NEVER);
  const at = place.clock.now();
  await host.submit('e', { type: 'errand.asked', at, key: 'slow', limit_ms: 90_000 });
  await host.submit('e', { type: 'errand.asked', at, key: 'gone', limit_ms: 80_000 });
  await host.submit('e', done('gone'));
  await place.clock.advance(89_999);
  assert.deepEqual(host.context('e')?.outcomes, { gone: 'the gone' });
  await place.clock.advance(1);
  assert.deepEqual(host.context('e')?.outcomes, { gone: 'the gone', slow: 'too late' });
  const passed = (await factsOf(place.log, 'e')).filter(fact => fact.type === 'deadline.passed');
  assert.deepEqual(passed, [{ type: 'deadline.passed', at: at + 90_000, key: 'slow' }]);
  await host.stop();
});

test('a deadline that passed while nobody ran fires at the next start', async () => {
  const place = await world();
  const first = hostIn(place, NEVER);
  const at = place.clock.now();
  await first.submit('e', { type: 'errand.asked', at, key: 'slow', limit_ms: 1_000 });
  await first.stop();
  await place.clock.advance(60_000);
  const second = hostIn(place, NEVER);
  await second.open('e');
  await place.clock.advance(0);
  assert.deepEqual(second.context('e')?.outcomes, { slow: 'too late' });
  await second.stop();
});

test('a fact that the machine does not handle is folded without harm, also after its end', async () => {
  const place = await world();
  const host = hostIn(place, async key => [done(key)]);
  await host.submit('e', { type: 'nobody.knows', at: 1 });
  assert.equal(host.state('e')?.position.bseq, 1);
  await host.submit('e', { type: 'end', at: 2 });
  await host.submit('e', { type: 'host.resumed', at: 3 });
  assert.equal(host.context('e')?.resumed, 0, 'a machine that has ended ignores facts');
  await host.stop();
  const again = hostIn(place, async key => [done(key)]);
  await again.open('e');
  assert.equal(again.state('e')?.value, 'ended');
  await again.stop();
});

test('a machine that throws sets its own entity aside, and the fact is not in the log', async () => {
  const place = await world();
  const host = hostIn(place, NEVER);
  await host.submit('sick', asked('bread'));
  await host.submit('well', asked('bread'));
  const thrown = { name: 'CodeGodError', code: 'internal', message: /a bug in the machine/ };
  await assert.rejects(host.submit('sick', { type: 'blow.up', at: 1 }), thrown);
  await assert.rejects(host.submit('sick', asked('salt')), thrown);
  assert.deepEqual([...host.quarantined().keys()], ['sick']);
  assert.deepEqual(await factsOf(place.log, 'sick'), [asked('bread')]);
  await host.submit('well', done('bread'));
  assert.deepEqual(host.context('well')?.outcomes, { bread: 'the bread' });
  await host.close('sick');
  assert.deepEqual(
    Object.keys((await host.open('sick')).pending),
    ['bread'],
    'it can be tried again',
  );
  await host.stop();
});

test('a log that is damaged sets its entity aside as log_corrupt, and no other', async () => {
  const place = await world();
  const first = hostIn(place, NEVER);
  for (const entity of ['sick', 'well']) {
    for (const key of ['a', 'b', 'c']) await first.submit(entity, asked(key));
  }
  const key = 'fact/sick/000000000002';
  const text = String(await place.journal.get(key));
  await place.journal.put(key, text.replace('"key":"b"', '"key":"x"'));
  const second = hostIn(place, NEVER);
  await assert.rejects(second.open('sick'), { code: 'log_corrupt' });
  assert.equal(second.quarantined().get('sick')?.code, 'log_corrupt');
  assert.deepEqual(Object.keys((await second.open('well')).pending), ['a', 'b', 'c']);
  await second.stop();
});

for (const withSnapshot of [true, false]) {
  const how = withSnapshot ? 'from its snapshot' : 'without its snapshot';
  test(`${how} an entity comes back in the same state, history included`, async () => {
    const place = await world();
    const first = hostIn(place, NEVER, { snapshotEvery: 2 });
    await first.submit('e', asked('a'));
    for (const type of ['pause', 'nobody.knows', 'nobody.knows'] as const) {
      await first.submit('e', { type, at: 1 });
    }
    const before = first.state('e');
    await first.stop();
    assert((await place.journal.get('snapshot/e')) !== undefined);
    if (!withSnapshot) await place.journal.batch([{ type: 'del', key: 'snapshot/e' }]);
    const second = hostIn(place, NEVER);
    await second.open('e');
    assert.deepEqual(second.state('e'), before);
    await second.submit('e', { type: 'resume', at: 2 });
    assert.deepEqual(second.state('e')?.value, { open: 'busy' }, 'it remembers what it did');
    await second.stop();
  });
}

test('only the tail after a snapshot is read', async () => {
  const place = await world();
  const first = hostIn(place, NEVER, { snapshotEvery: 5 });
  for (const key of ['a', 'b', 'c', 'd', 'e', 'f', 'g']) await first.submit('e', asked(key));
  const read: number[] = [];
  const log: FactLog<ErrandFact> = {
    append: place.log.append,
    async *read(entity, after) {
      for await (const stored of place.log.read(entity, after)) {
        read.push(stored.position.bseq);
        yield stored;
      }
    },
  };
  const second = hostIn({ ...place, log }, NEVER);
  await second.open('e');
  assert.deepEqual(read, [6, 7]);
  assert.equal(Object.keys(second.context('e')?.pending ?? {}).length, 7);
  await second.stop();
});

test('an old snapshot is migrated; one that nobody can migrate costs a replay', async () => {
  const place = await world();
  const first = hostIn(place, NEVER);
  await first.submit('e', asked('a'));
  await first.stop();
  const migrated = hostIn(place, NEVER, {
    schemaVersion: 2,
    migrations: {
      1: state => ({ ...state, context: { ...(state.context as object), resumed: 7 } }),
    },
  });
  assert.equal((await migrated.open('e')).resumed, 7);
  await migrated.stop();
  const replayed = hostIn(place, NEVER, { schemaVersion: 3 });
  assert.equal((await replayed.open('e')).resumed, 0);
  await replayed.stop();
});

test('a log that ends before its own snapshot has lost facts; another log is just another one', async () => {
  const place = await world();
  const first = hostIn(place, NEVER);
  for (const key of ['a', 'b', 'c']) await first.submit('e', asked(key));
  await first.stop();
  await place.journal.batch([{ type: 'del', key: 'fact/e/000000000003' }]);
  const second = hostIn(place, NEVER);
  await assert.rejects(second.open('e'), { code: 'log_corrupt', message: /ends at fact 2/ });
  for (const bseq of ['1', '2']) {
    await place.journal.batch([{ type: 'del', key: `fact/e/00000000000${bseq}` }]);
  }
  const third = hostIn(place, NEVER);
  assert.deepEqual((await third.open('e')).pending, {}, 'nothing is left of that log');
  await Promise.all([second.stop(), third.stop()]);
});

test('facts said on resuming are appended before effects go on', async () => {
  const place = await world();
  const resumed = (): readonly ErrandFact[] => [{ type: 'host.resumed', at: 9 }];
  const first = hostIn(place, NEVER, { resumed });
  await first.submit('e', asked('bread'));
  assert.equal(first.context('e')?.resumed, 0, 'a new entity has no past');
  const second = hostIn(place, async key => [done(key)], { resumed });
  await second.open('e');
  await place.clock.advance(0);
  const types = (await factsOf(place.log, 'e')).map(fact => fact.type);
  assert.deepEqual(types, ['errand.asked', 'host.resumed', 'errand.done']);
  await second.stop();
});

test('submissions of one entity are folded one after the other, in the order of the calls', async () => {
  const place = await world();
  const host = hostIn(place, NEVER);
  const keys = Array.from({ length: 50 }, (_, index) => `k${index}`);
  await Promise.all(keys.map(key => host.submit('e', asked(key))));
  assert.deepEqual(Object.keys(host.context('e')?.pending ?? {}), keys);
  assert.equal(host.state('e')?.position.bseq, 50);
  await host.stop();
});

test('listeners hear each new fact with the context after it; one that throws harms nobody', async () => {
  const place = await world();
  const host = hostIn(place, NEVER);
  const heard: unknown[] = [];
  host.onFact(() => {
    throw new Error('a bad listener');
  });
  const off = host.onFact((entity, fact, context, position) => {
    heard.push([entity, fact.type, Object.keys(context.pending), position.bseq]);
  });
  await host.submit('e', asked('a'));
  off();
  await host.submit('e', asked('b'));
  assert.deepEqual(heard, [['e', 'errand.asked', ['a'], 1]]);
  await host.stop();
});

test('stop aborts effects without facts, within its bound, and nothing is taken afterwards', async () => {
  const place = await world();
  const signals: AbortSignal[] = [];
  const host = hostIn(place, async (_key, signal) => {
    signals.push(signal);
    return await new Promise(() => {}); // Ignores its signal.
  });
  await host.submit('e', asked('bread'));
  await place.clock.advance(0);
  const stopped = host.stop();
  await place.clock.advance(5_000);
  await stopped;
  assert.deepEqual(
    signals.map(signal => signal.aborted),
    [true],
  );
  assert.deepEqual(await factsOf(place.log, 'e'), [asked('bread')]);
  await assert.rejects(host.submit('e', asked('salt')), { code: 'cancelled' });
});

interface Step {
  readonly fact: ErrandFact;
  readonly waitMs: number;
}

const steps = fc.array(
  fc.record({
    fact: fc.oneof(
      fc.record({
        type: fc.constant('errand.asked' as const),
        at: fc.constant(Date.UTC(2026, 0, 1)),
        key: fc.constantFrom('a', 'b', 'c', 'd'),
      }),
      fc.record({
        type: fc.constantFrom('pause' as const, 'resume' as const, 'nobody.knows' as const),
        at: fc.constant(1),
      }),
    ),
    waitMs: fc.constantFrom(0, 0, 40, 2_000),
  }),
  { minLength: 1, maxLength: 8 },
);
const crashes = fc.array(
  fc.record({
    after: fc.integer({ min: 1, max: 40 }),
    when: fc.constantFrom('before' as const, 'after' as const),
  }),
  { maxLength: 5 },
);

test('whatever the schedule of crashes, state is the fold of the facts and nothing pending is lost', async () => {
  await fc.assert(
    fc.asyncProperty(steps, crashes, async (script, deaths) => {
      const place = await world();
      let next = 0;
      for (const death of [...deaths, null]) {
        const life = death === null ? null : new Mortality(death.after, death.when);
        next = await live(place, life, script, next);
      }
      const facts = await factsOf(place.log, 'e');
      const undisturbed = foldOf('e', facts);
      const host = hostIn(place, NEVER);
      await host.open('e');
      assert.deepEqual(host.context('e'), undisturbed.context);
      assert.deepEqual(host.state('e')?.value, undisturbed.value);
      const context = host.context('e');
      assert.deepEqual(context?.pending, {}, 'every errand has come to its end');
      for (const [key, outcome] of Object.entries(context?.outcomes ?? {})) {
        assert.equal(outcome, `the ${key}`);
      }
      await host.stop();
    }),
    { numRuns: 150 },
  );
});

/** One life of a process: goes on with the script where the last one died. Answers where it got. */
async function live(
  place: World,
  life: Mortality | null,
  script: readonly Step[],
  from: number,
): Promise<number> {
  const clock = new SimulatedClock({ startMs: place.clock.now() });
  const journal = life === null ? place.journal : life.journal(place.journal);
  const log = createJournalFactLog<ErrandFact>(journal);
  const running = new Set<string>();
  const host = hostIn(
    { clock, journal, log },
    async key => {
      assert(!running.has(key), `${key} runs twice at once`);
      running.add(key);
      const work = async (): Promise<readonly ErrandFact[]> => [done(key)];
      const facts = life === null ? await work() : await life.step(work);
      running.delete(key);
      return facts;
    },
    { snapshotEvery: 3 },
  );
  let next = from;
  const day = (async () => {
    await host.open('e');
    for (const { fact, waitMs } of script.slice(from)) {
      await host.submit('e', fact);
      next += 1;
      await clock.advance(waitMs);
    }
    await clock.advance(30_000);
    await host.stop();
  })();
  await (life === null ? day : Promise.race([day, life.dead]));
  return next;
}
