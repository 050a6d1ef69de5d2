/**
 * Goal: a task that is handed over is worked on once and reported once, whatever dies in between, and
 * the node keeps its promises about memory. Method: a real worker on a bus in memory, with a gateway
 * and an engine that count.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { encode } from '../../protocol/codec.ts';
import { CodeGodError } from '../../protocol/errors.ts';
import { BuildId, leaseNameOf } from '../../protocol/ids.ts';
import { STREAMS } from '../../protocol/streams.ts';
import { silentLogger } from '../../runtime/log.ts';
import { GOOD_ANSWER, NODE, taskOf, until, World } from './test-worker.ts';

async function inWorld(work: (world: World) => Promise<void>): Promise<void> {
  const world = await World.create();
  try {
    await work(world);
  } finally {
    await world.close();
  }
}

describe('a worker', () => {
  it('turns a task into calls, a commit and one report, and gives its lease back', () =>
    inWorld(async world => {
      const { stop } = await world.startWorker();
      await world.dispatch();
      const report = await world.report();
      assert.deepEqual([report.outcome, report.summary], ['done', 'Done.']);
      assert.deepEqual(world.gateway.fired, ['b1.store.1.1.0', 'b1.store.1.1.1']);
      assert.equal(world.gateway.commits[0]?.title, 'The store');
      assert.equal(world.engine.requests.length, 1);
      await until(async () => (await world.advert())?.leases.length === 0);
      await stop();
      assert.equal(await world.advert(), undefined);
    }));

  it('knows a task that comes twice, also after a restart', () =>
    inWorld(async world => {
      const first = await world.startWorker();
      const task = await world.dispatch();
      await world.report();
      await until(async () => (await world.advert())?.leases.length === 0);
      await first.stop();
      const second = await world.startWorker();
      await world.bus.streams.append(`codegod.task.${NODE}.b1.store.1.again`, encode(task));
      await world.bus.streams.purge('CODEGOD_TASK', `codegod.task.${NODE}.b1.store.1`);
      await world.append(task);
      await sleep(200);
      assert.equal(world.engine.requests.length, 1);
      await second.stop();
    }));

  it('repairs an answer with the exact error', () =>
    inWorld(async world => {
      world.engine.script = turn => (turn === 1 ? 'Here you go!' : GOOD_ANSWER);
      const { stop } = await world.startWorker();
      await world.dispatch();
      assert.equal((await world.report()).outcome, 'done');
      const second = world.engine.requests[1]?.messages[1]?.content ?? '';
      assert.match(second, /## ERROR\n```text\nYour answer could not be used/);
      await stop();
    }));

  it('asks again under the same id where a tool server is down for a while', () =>
    inWorld(async world => {
      let down = 2;
      world.gateway.fail = () => (down-- > 0 ? 'server_down' : null);
      const { stop } = await world.startWorker();
      await world.dispatch();
      assert.equal((await world.report()).outcome, 'done');
      const ids = world.gateway.asked.map(({ call_id }) => call_id);
      assert.deepEqual(new Set(ids), new Set(['b1.store.1.1.0', 'b1.store.1.1.1']));
      assert.equal(world.engine.requests.length, 1);
      await stop();
    }));

  it('waits for an engine that is away for a moment, and its advert says that it is away', () =>
    inWorld(async world => {
      const { engine } = world;
      engine.script = turn => {
        if (turn > 1) return GOOD_ANSWER;
        engine.available = false;
        throw new CodeGodError('engine_unavailable', 'ECONNREFUSED');
      };
      const { stop } = await world.startWorker();
      await world.dispatch();
      const away = await until(async () => {
        const advert = await world.advert();
        return advert?.engines.find(({ available }) => !available);
      });
      assert.deepEqual([away.models[0]?.name, away.models[0]?.loaded], ['scaffold', false]);
      assert.ok((away.away_since ?? 0) > 0);
      engine.available = true;
      assert.equal((await world.report()).outcome, 'done');
      assert.ok(!world.facts.includes('step.failed'));
      assert.equal(engine.requests.length, 2);
      await stop();
    }));

  it('tells the master what the gateway says to a commit', () =>
    inWorld(async world => {
      world.gateway.commitError = new CodeGodError('nothing_changed', 'no file was changed');
      const { stop } = await world.startWorker();
      await world.dispatch();
      const report = await world.report();
      assert.deepEqual([report.error?.code, report.blame], ['nothing_changed', 'model']);
      await stop();
    }));

  it('stops generating when the attempt is cancelled, and reports that', () =>
    inWorld(async world => {
      let aborted = false;
      world.engine.script = (_turn, signal) =>
        new Promise(resolve => {
          signal.addEventListener('abort', () => {
            aborted = true;
            resolve('');
          });
        });
      const { stop } = await world.startWorker();
      await world.dispatch();
      await until(async () => world.engine.requests.length === 1);
      await world.tell('cancel', { build: 'b1', task: 'store', attempt: 1 });
      assert.equal((await world.report()).outcome, 'cancelled');
      assert.ok(aborted);
      await stop();
    }));

  it('does not begin a task that was cancelled before it came', () =>
    inWorld(async world => {
      const { stop } = await world.startWorker();
      await world.tell('cancel', { build: 'b1', task: 'store', attempt: 1 });
      await world.dispatch();
      assert.equal((await world.report()).outcome, 'cancelled');
      assert.deepEqual(world.gateway.commits, []);
      await stop();
    }));

  it('gives an attempt up at its deadline', () =>
    inWorld(async world => {
      world.engine.script = () => new Promise(() => {});
      const { stop } = await world.startWorker();
      await world.dispatch({ deadline_at: Date.now() + 200 });
      const report = await world.report();
      assert.deepEqual([report.error?.code, report.blame], ['timeout', 'infrastructure']);
      await stop();
    }));

  it('asks an engine that failed once more, and then blames the machinery', () =>
    inWorld(async world => {
      world.engine.script = () => {
        throw new CodeGodError('engine_failed', 'CUDA error');
      };
      const { stop } = await world.startWorker();
      await world.dispatch();
      const report = await world.report();
      assert.deepEqual([report.error?.code, report.blame], ['engine_failed', 'infrastructure']);
      assert.equal(world.engine.requests.length, 2);
      await stop();
    }));

  it('does no work without a lease that holds', () =>
    inWorld(async world => {
      const { stop } = await world.startWorker();
      await world.append(taskOf({ lease: 'l-from-long-ago' }));
      const report = await world.report();
      assert.deepEqual([report.error?.code, report.blame], ['lease_lost', 'infrastructure']);
      assert.equal(world.engine.requests.length, 0);
      await stop();
    }));

  it('reports again where the bus has no room for more reports of it, until it has', () =>
    inWorld(async world => {
      const full = STREAMS.report.max_messages_per_subject;
      const others = encode({ of: 'no attempt' });
      for (let count = 1; count <= full; count += 1) {
        await world.bus.streams.append(`codegod.report.${NODE}.b9.x.${count}`, others);
      }
      const refused: string[] = [];
      const log = { ...silentLogger, warn: (event: string) => void refused.push(event) };
      const { stop } = await world.startWorker({ log });
      await world.dispatch();
      await world.append(taskOf({ build: BuildId.parse('b2'), lease: 'l-from-long-ago' }));
      await until(async () => refused.filter(event => event === 'durable.effect_again').length > 1);
      assert.ok(refused.includes('task.lease_lost'));
      assert.equal((await world.bus.streams.info(STREAMS.report.name))?.messages, full);
      await world.bus.streams.purge(STREAMS.report.name, `codegod.report.${NODE}`);
      await until(async () => (await world.reports()).length === 2);
      const outcomes = (await world.reports()).map(({ build, outcome }) => `${build} ${outcome}`);
      assert.deepEqual(outcomes.sort(), ['b1 done', 'b2 failed']);
      await stop();
    }));

  it('keeps a message that is no task as a dead letter, and reports its attempt', () =>
    inWorld(async world => {
      const { stop } = await world.startWorker();
      await world.append(taskOf(), new TextEncoder().encode('{"kind":"code","lease":"l7"}'));
      const report = await world.report();
      assert.deepEqual([report.error?.code, report.lease], ['bad_message', 'l7']);
      assert.match(report.error?.message ?? '', /gateway/);
      await until(async () => (await world.dead()) === 1);
      await stop();
    }));

  it('refuses a task whose message and subject disagree', () =>
    inWorld(async world => {
      const { stop } = await world.startWorker();
      await world.append(taskOf(), encode(taskOf({ task: 'other' })));
      const report = await world.report();
      assert.deepEqual([report.task, report.error?.code], ['store', 'bad_message']);
      await stop();
    }));
});

describe('a worker that is killed', () => {
  const LIFE = [
    'attempt.received',
    'workspace.opened',
    'files.read',
    'tools.listed',
    'turn.answered',
    'call.ended',
    'turn.answered',
    'call.ended',
    'call.ended',
    'attempt.committed',
    'attempt.reported',
  ];
  const prepare = (world: World): void => {
    // The first turn's call is refused, the second turn's are not.
    world.gateway.fail = ({ call_id }) => (call_id === 'b1.store.1.1.0' ? 'tool_failed' : null);
  };

  it('has a life of eleven facts when nothing kills it', () =>
    inWorld(async world => {
      prepare(world);
      const { stop } = await world.startWorker();
      await world.dispatch();
      await until(async () => world.facts.length === LIFE.length);
      assert.deepEqual(world.facts, LIFE);
      await stop();
    }));

  for (const [index, type] of LIFE.entries()) {
    for (const when of ['before', 'after'] as const) {
      it(`${when} ${type} (fact ${index + 1}) is written: goes on, and does nothing twice`, () =>
        inWorld(async world => {
          prepare(world);
          const doomed = await world.startWorker({ death: { fact: index + 1, when } });
          await world.dispatch();
          await doomed.death;
          const { stop } = await world.startWorker();
          await until(async () => world.facts.length === LIFE.length);
          assert.deepEqual(world.facts, LIFE);
          const reports = await world.reports();
          assert.deepEqual(
            reports.map(report => report.outcome),
            ['done'],
          );
          assert.deepEqual(world.gateway.fired, [
            'b1.store.1.1.0',
            'b1.store.1.2.0',
            'b1.store.1.2.1',
          ]);
          // An answer that was never written down is lost; one that was is not asked for again.
          const lost = type === 'turn.answered' && when === 'before' ? 1 : 0;
          assert.equal(world.engine.requests.length, 2 + lost);
          await until(async () => (await world.advert())?.leases.length === 0);
          await stop();
        }));
    }
  }

  it('keeps its promises about memory over the restart', () =>
    inWorld(async world => {
      const first = await world.startWorker();
      const granted = await world.reserve({ attempt: 2 });
      assert.ok(granted.granted);
      first.die();
      const second = await world.startWorker();
      const again = await world.reserve({ attempt: 2 });
      assert.deepEqual(again, granted);
      const other = await world.reserve({ attempt: 3 });
      assert.ok(other.granted && other.lease !== granted.lease);
      await second.stop();
    }));
});

describe('the node of a worker', () => {
  let world: World;
  let running: Awaited<ReturnType<World['startWorker']>>;
  before(async () => {
    world = await World.create();
    running = await world.startWorker();
  });
  after(async () => {
    await running.stop();
    await world.close();
  });

  it('advertises its engines, slots and leases as they change', async () => {
    const advert = await until(() => world.advert());
    assert.equal(advert.engines[0]?.models[0]?.name, 'scaffold');
    assert.deepEqual([advert.slots, advert.slots_used], [4, 0]);
    const reply = await world.reserve({ attempt: 9 });
    assert.ok(reply.granted);
    const name = leaseNameOf(reply.lease);
    await until(async () => (await world.advert())?.leases[0]?.lease === name);
    assert.notEqual(name, reply.lease, 'everybody reads adverts: they hold no secret');
    await world.tell('release', { lease: reply.lease });
    await until(async () => (await world.advert())?.slots_used === 0);
  });

  it('declines what it does not have', async () => {
    const missing = await world.reserve({ model: 'scafold' });
    assert.match(
      missing.granted ? '' : missing.reason,
      /not installed here; the nearest one is scaffold/,
    );
    const engine = await world.reserve({ engine: 'ollama' });
    assert.match(engine.granted ? '' : engine.reason, /no engine ollama/);
  });

  it('drains: takes nothing new and says so', async () => {
    await running.worker.drain(100);
    const reply = await world.reserve();
    assert.match(reply.granted ? '' : reply.reason, /no new work/);
    await until(async () => (await world.advert())?.state === 'draining');
  });
});
