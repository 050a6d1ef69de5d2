/**
 * Goal: the queue before all nodes wakes when it should, is bounded, keeps what it gave in mind, and
 * says what it does. Which job goes where is tested with `scheduling/`.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { CodeGodError } from '../../../protocol/errors.ts';
import { PoolStatus } from '../../../protocol/pool.ts';
import { GIB } from '../../../scheduling/test-nodes.ts';
import type { Asking, Grant } from './grant.ts';
import { poolStatus } from './pool-status.ts';
import { MODEL, QUEUE_MAX, TestPool, WAIT_MAX_MS } from './test-pool.ts';

let asked = 0;
const inference = (more: Partial<Asking['request']> = {}): Asking => {
  asked += 1;
  return {
    ...{ id: `r-${String(asked).padStart(26, '0')}`, share: 'local', priority: 0 },
    request: {
      ...{ model: MODEL, context_tokens: 1_024, remote: 'deny', avoid: [], kind: 'inference' },
      ...more,
    },
  };
};
const attempt = (id: string): Asking => ({
  ...{ id, share: 'b1', priority: 0 },
  request: { model: null, context_tokens: 4_096, remote: 'deny', avoid: [] },
});
const SMALL = { gpu: { free: 2 * GIB, total: 2 * GIB } };
const UNLOADED = { models: [{ name: MODEL, size_bytes: 4 * GIB }] };

describe('the pool', () => {
  let world: TestPool;

  beforeEach(async () => {
    world = await TestPool.start();
  });
  afterEach(() => world.stop());

  const acquire = (asking: Asking, patienceMs = WAIT_MAX_MS): Promise<Grant | null> =>
    world.pool.acquire(asking, patienceMs);
  const granted = async (place: Promise<Grant | null>): Promise<Grant> => {
    const grant = await place;
    assert.ok(grant !== null);
    return grant;
  };
  const codeOf = (place: Promise<unknown>): Promise<string> =>
    place.then(
      () => 'none',
      (error: unknown) => (error instanceof CodeGodError ? error.code : String(error)),
    );

  test('a name that is added while it runs is followed', async () => {
    await world.show('a');
    const asked = { ...inference().request, model: 'gpt-4o' };
    assert.equal(world.pool.preview(asked).chosen, null);
    world.aliases = { 'gpt-4o': MODEL };
    assert.equal(world.pool.preview(asked).chosen?.node, 'a');
    assert.equal((await granted(acquire(inference({ model: 'gpt-4o' })))).plan.node, 'a');
  });

  test('a place is given at once where there is one, and the next when it is free again', async () => {
    await world.show('a');
    const first = await granted(acquire(inference()));
    assert.equal(first.plan.node, 'a');
    const second = acquire(inference());
    await world.clock.advance(1_000);
    assert.equal(world.pool.waiting().length, 1);
    world.pool.ended(first, null);
    assert.equal((await granted(second)).plan.node, 'a');
  });

  test('whoever waits gets a place as soon as a node says that it has one', async () => {
    await world.show('a', { state: 'draining' });
    const place = acquire(inference());
    await world.clock.advance(1_000);
    assert.equal(world.pool.waiting().length, 1);
    await world.show('a');
    assert.equal((await granted(place)).plan.node, 'a');
  });

  test('a draining node gets nothing new', async () => {
    await world.show('a', { state: 'draining' });
    await world.show('b', UNLOADED);
    assert.equal((await granted(acquire(inference()))).plan.node, 'b');
  });

  test('more than the queue holds are refused, builds are not', async () => {
    await world.show('a');
    await granted(acquire(inference()));
    const waiting = Array.from({ length: QUEUE_MAX }, () => codeOf(acquire(inference())));
    assert.equal(await codeOf(acquire(inference())), 'overloaded');
    assert.equal(world.pool.waiting().length, QUEUE_MAX);
    await world.show('a', { slots_used: 4 });
    const build = codeOf(acquire(attempt('b1.store.1')));
    await world.clock.advance(10);
    assert.equal(world.pool.waiting().length, QUEUE_MAX + 1);
    world.pool.close();
    for (const code of [...waiting, build]) assert.equal(await code, 'overloaded');
  });

  test('patience has an end, and the reason is kept', async () => {
    await world.show('a', { state: 'draining' });
    const asking = inference();
    const place = acquire(asking, 5_000);
    await world.clock.advance(5_000);
    assert.equal(await place, null);
    assert.equal(world.pool.waiting().length, 0);
    assert.match(world.pool.decisions.get(asking.id).decision?.reason ?? '', /draining/);
  });

  test('what no node can ever hold is refused without waiting, with what would change it', async () => {
    await world.show('a', { ...SMALL, ...UNLOADED, ram: { available: GIB, total: GIB } });
    const place = codeOf(acquire(inference()));
    assert.equal(await place, 'no_capacity');
  });

  test('what a build has learnt while it waited holds for its place as well', async () => {
    await world.show('a', { models: [], scaffold: true, state: 'draining' });
    const asking = attempt('b1.store.1');
    assert.equal(await acquire(asking, 0), null);
    const learnt = { ...asking, request: { ...asking.request, needs_model: true } };
    const place = acquire(learnt, 60_000);
    await world.show('a', { models: [], scaffold: true });
    assert.equal(world.pool.waiting().length, 1, 'the scaffold does not take it');
    await world.show('a', { scaffold: true });
    const grant = await granted(place);
    assert.equal(grant.plan.engine, 'ollama');
    world.pool.handedOver(grant);
  });

  test('a build that says why it waits keeps its place meanwhile', async () => {
    await world.show('a', { slots: 1, slots_used: 1, scaffold: true });
    const early = attempt('b1.store.1');
    assert.equal(await acquire(early, 0), null);
    const late = acquire(attempt('b2.store.1'), 60_000);
    const again = acquire(early, 60_000);
    await world.show('a', { slots: 1 });
    const grant = await granted(again);
    assert.equal(grant.job.id, early.id);
    world.pool.handedOver(grant);
    world.pool.cancel('b2.store.1');
    assert.equal(await codeOf(late), 'cancelled');
  });

  test('a place in the queue that nobody comes back for is given up', async () => {
    await world.show('a', { slots: 1, slots_used: 1 });
    assert.equal(await acquire(attempt('b1.store.1'), 0), null);
    assert.equal(world.pool.waiting().length, 1);
    await world.clock.advance(11_000);
    assert.equal(world.pool.waiting().length, 0);
  });

  test('rules are followed as they change: a pin, then none', async () => {
    await world.show('a');
    await world.show('b', UNLOADED);
    await world.rule({ nodes: ['b' as never] });
    const pinned = await granted(acquire(inference()));
    assert.equal(pinned.plan.node, 'b');
    await world.rule({ nodes: [] });
    assert.equal((await granted(acquire(inference()))).plan.node, 'a');
  });

  test('it shows what waits and why, and what runs where', async () => {
    await world.show('a');
    const first = await granted(acquire(inference()));
    const waits = codeOf(acquire(inference()));
    await world.clock.advance(500);
    const status = poolStatus(world.pool, world.directory, {
      now: world.clock.now(),
      queueMax: QUEUE_MAX,
    });
    assert.deepEqual(PoolStatus.parse(status), status);
    assert.equal(status.running[0]?.id, first.job.id);
    assert.equal(status.running[0]?.node, 'a');
    assert.equal(status.waiting[0]?.position, 1);
    assert.match(status.waiting[0]?.reason ?? '', /slot|busy|taken/);
    assert.deepEqual(status.models, [{ model: MODEL, waiting: 1, running: 1, loaded_on: ['a'] }]);
    world.pool.close();
    await waits;
  });
});
