/**
 * Goal: what a node is told over the bus it does, once, and says so in its advert; what it was told
 * and what it measured holds over restarts. Method: a whole worker on a bus in memory, with an engine
 * whose memory is counted.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { encode } from '../../protocol/codec.ts';
import { CodeGodError } from '../../protocol/errors.ts';
import { DrainReply, PullProgress } from '../../protocol/inference.ts';
import { Acknowledgement, type GpuAdvert, type ModelAdvert } from '../../protocol/node.ts';
import { policyKey } from '../../protocol/policy.ts';
import { BUCKETS } from '../../protocol/streams.ts';
import { nodeSubject } from '../../protocol/subjects.ts';
import { systemClock } from '../../runtime/clock.ts';
import { createMessenger, type Messenger } from '../../runtime/messages.ts';
import type { Engine } from './engines/engine.ts';
import { GIB, TestMemory } from './test-memory.ts';
import { NODE, until, World } from './test-worker.ts';
import type { Worker } from './worker.ts';

const CODER = 'coder:7b';
/** So that no model goes there. */
const SMALL_RAM = { total_bytes: 2 * GIB, available_bytes: GIB };
/** Graphics beside the processor, which nobody counts as a card. */
const displayBeside = ([card]: readonly GpuAdvert[]): GpuAdvert => {
  const known = card ?? assert.fail('no card');
  return { ...known, index: 1, vendor: 'intel', integrated: true, unified: true, free_bytes: null };
};
const ASK = { timeout_ms: 10_000 };

let world: World;
let memory: TestMemory;
let messenger: Messenger;
let started: { readonly worker: Worker; stop(): Promise<void> };
let pulls = 0;

async function startWorker(): Promise<void> {
  const engine: Engine = {
    ...memory.engine,
    async *pull(model) {
      pulls += 1;
      if (model === 'nothing:latest') throw new CodeGodError('model_missing', 'no such model');
      yield { status: 'pulling manifest' };
      yield { status: 'success', total_bytes: 7, completed_bytes: 7 };
    },
  };
  started = await world.startWorker({ engines: [engine] });
  await measure();
}

/** As the monitor does, and waits until the worker knows. */
async function measure(): Promise<void> {
  const { gpus } = memory.measure();
  await world.measure({
    gpus: [...gpus, displayBeside(gpus)],
    ram: SMALL_RAM,
    at: systemClock.now(),
  });
  await until(async () => (await reserve(900)).granted);
}

let reserved = 0;
const reserve = (bytes: number) => {
  reserved += 1;
  const attempt = { task: `probe-${reserved}`, engine: 'ollama', model: 'small:1b', ttl_ms: 1_000 };
  return world.reserve({ ...attempt, bytes, context_tokens: 4_096 } as never).then(async reply => {
    if (reply.granted) await world.tell('release', { lease: reply.lease });
    return reply;
  });
};

const tell = (verb: 'load' | 'unload', request: object) =>
  messenger.ask(nodeSubject(NODE, verb), request, Acknowledgement, ASK);
const drain = (on: boolean) =>
  messenger.ask(nodeSubject(NODE, 'drain'), { drain: on }, DrainReply, ASK);
const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => assert.fail('it did not fail'),
    (error: unknown) => (error instanceof CodeGodError ? error.code : String(error)),
  );
/** The advert's line of a model, once it is as wished. */
const advertOf = (name: string, wished: (model: ModelAdvert) => boolean) =>
  until(async () => {
    const models = (await world.advert())?.engines.flatMap(engine => engine.models) ?? [];
    return models.find(model => model.name === name && wished(model));
  });

before(async () => {
  world = await World.create();
  memory = new TestMemory(systemClock, 24 * GIB, [
    { name: CODER, bytes: 10 * GIB },
    { name: 'planner:14b', bytes: 14 * GIB },
    { name: 'small:1b', bytes: GIB },
  ]);
  messenger = createMessenger(world.broker.connect('people'), {
    source: '/node/n1/actor/cli',
    clock: systemClock,
  });
  await startWorker();
});

after(async () => {
  await started.stop();
  await messenger.bus.close();
  await world.close();
});

describe('a node that is told', () => {
  it('to load does so once, and says how long it took and what it holds', async () => {
    await tell('load', { model: CODER, context_tokens: 8_192 });
    await tell('load', { model: CODER, context_tokens: 8_192 });
    assert.deepEqual(memory.loads, [`${CODER}@8192`]);
    const model = await advertOf(CODER, ({ state, loaded }) => state === 'loaded' && loaded);
    assert.equal(model.context_tokens, 8_192);
    assert.deepEqual([model.slots, model.in_flight, model.kept], [2, 0, false]);
    assert.ok(model.used_at !== null && typeof model.load_ms === 'number');
    assert.equal(model.observed?.measured_bytes, 10 * GIB);
  });

  it('has slots for attempts by its cards, of which the graphics of the processor are none', async () => {
    assert.equal((await world.advert())?.slots, 2);
  });

  it('to unload does so, and refuses where somebody was promised the model', async () => {
    const lease = await world.reserve({
      ...{ task: 'keep', engine: 'ollama', model: CODER, context_tokens: 8_192, bytes: GIB },
    } as never);
    assert.ok(lease.granted);
    assert.equal(await codeOf(tell('unload', { model: CODER })), 'conflict');
    await world.tell('release', { lease: lease.lease });
    await tell('unload', { model: CODER });
    await tell('unload', { model: CODER });
    assert.deepEqual(memory.unloads, [CODER]);
    await advertOf(CODER, ({ state, loaded }) => state === 'absent' && !loaded);
  });

  it('to pull tells how it gets on, by the name that is meant', async () => {
    const seen: string[] = [];
    const stream = (model: string) =>
      messenger.askStream(nodeSubject(NODE, 'pull'), { model }, PullProgress, {
        first_ms: 10_000,
        idle_ms: 10_000,
      });
    for await (const { status } of stream('phi-3:3b')) seen.push(status);
    assert.deepEqual(seen, ['pulling manifest', 'success']);
    const missing = async (): Promise<void> => {
      for await (const _ of stream('nothing')) assert.fail('there is nothing to pull');
    };
    assert.equal(await codeOf(missing()), 'model_missing');
    assert.equal(pulls, 2);
  });

  it('what a policy keeps never evicts it', async () => {
    memory.foreign = 10 * GIB;
    await measure();
    await tell('load', { model: CODER, context_tokens: 8_192 });
    const policy = { model: CODER, nodes: [], replicas_min: 1, priority: 0 };
    const bucket = world.bus.kv(BUCKETS.policy.name);
    await bucket.put(policyKey(CODER), encode({ ...policy, context_tokens: null, at: 1 }));
    await advertOf(CODER, ({ kept }) => kept === true);
    await measure();
    const planner = { model: 'planner:14b', context_tokens: 8_192 };
    assert.equal(await codeOf(tell('load', planner)), 'reservation_refused');
    await bucket.delete(policyKey(CODER));
    await advertOf(CODER, ({ kept }) => kept === false);
    const loading = tell('load', planner);
    await until(async () => !memory.loaded.has(CODER));
    const { gpus } = memory.measure();
    await world.measure({ gpus, ram: SMALL_RAM, at: systemClock.now() });
    await loading;
    assert.deepEqual(memory.overrun, []);
  });

  it('to drain takes nothing new, also after a restart, until that is taken back', async () => {
    assert.deepEqual(await drain(true), { draining: true, at_work: 0 });
    await until(async () => (await world.advert())?.state === 'draining');
    assert.equal((await reserve(900)).granted, false);
    await started.stop();
    const engine = memory.engine;
    started = await world.startWorker({ engines: [engine] });
    await until(async () => (await world.advert())?.state === 'draining');
    assert.match(JSON.stringify(await reserve(900)), /takes no new work/);
    assert.deepEqual(await drain(false), { draining: false, at_work: 0 });
    await until(async () => (await world.advert())?.state === 'ready');
    await measure();
    const model = await advertOf(CODER, () => true);
    assert.equal(model.observed?.measured_bytes, 10 * GIB, 'measures are kept over restarts');
  });
});
