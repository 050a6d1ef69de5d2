/**
 * Any schedule of crashes. Goal: whatever dies when, the state is the fold of the facts, and nothing
 * that was pending is lost. Method: a process that dies before or after its n-th look at the world,
 * again and again, over one journal.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { type AnyMachineSnapshot, transition } from 'xstate';
import { STREAMS } from '../protocol/streams.ts';
import {
  done,
  type ErrandFact,
  errandMachine,
  factsOf,
  hostIn,
  NEVER,
  type World,
  world,
} from '../test/durable-fixture.ts';
import { Mortality } from '../test/mortality.ts';
import { startNats } from '../test/nats-fixture.ts';
import { programOf } from '../test/source-tree.ts';
import { SimulatedClock, systemClock } from './clock.ts';
import { MachineFold } from './durable-fold.ts';
import { createJournalFactLog } from './fact-log-journal.ts';
import { connectNats } from './nats-bus.ts';

function foldOf(entity: string, facts: readonly ErrandFact[]): AnyMachineSnapshot {
  const initial = new MachineFold(errandMachine).initial(entity);
  return facts.reduce<AnyMachineSnapshot>(
    (snapshot, fact) => transition(errandMachine, snapshot as never, fact)[0],
    initial,
  );
}

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

test('processes killed -9 in the same effect, and the server too: it runs under its key in the end', {
  timeout: 60_000,
}, async context => {
  const nats = await startNats();
  const directory = await mkdtemp(join(tmpdir(), 'codegod-crash-'));
  context.after(async () => {
    await nats.stop();
    await rm(directory, { recursive: true, force: true });
  });
  const bus = await connectNats({ servers: [nats.url], name: 'crash-test', clock: systemClock });
  const { name, subjects } = STREAMS.event;
  await bus.streams.ensure({ name, subjects, storage: 'file', discard: 'new' });
  await bus.close();

  const run = async (fence: number, mode: string) => {
    const program = programOf('test/durable-process.ts');
    const args = [...program, nats.url, join(directory, 'journal'), `${fence}`, mode];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    context.after(() => void child.kill('SIGKILL'));
    let said = '';
    child.stdout.on('data', chunk => {
      said += String(chunk);
    });
    const [, signal] = await once(child, 'close');
    return { said, signal };
  };
  for (const fence of [1, 2, 3]) {
    assert.deepEqual(await run(fence, 'die-in-effect'), { said: '', signal: 'SIGKILL' });
    await nats.restart();
  }
  const { said } = await run(4, 'live');
  const outcomes = '{"bread":"the bread"}';
  assert.equal(said, `effect bread\noutcomes ${outcomes}\n`);
  const again = await run(5, 'live');
  assert.equal(again.said, `outcomes ${outcomes}\n`, 'nothing is run a second time');
});
