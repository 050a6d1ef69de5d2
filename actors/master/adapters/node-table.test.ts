/** What the master believes of nodes, from adverts that come, go, lag and lie. */
import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import { encode } from '../../../protocol/codec.ts';
import { BuildId, LeaseId, NodeId, TaskId } from '../../../protocol/ids.ts';
import type { LeaseAdvert } from '../../../protocol/node.ts';
import { BUCKETS } from '../../../protocol/streams.ts';
import type { Bus } from '../../../runtime/bus.ts';
import { SimulatedClock, steadyClock } from '../../../runtime/clock.ts';
import { memoryJournal } from '../../../runtime/journal.ts';
import { MASTER_KEYS } from '../../../runtime/journal-keys.ts';
import { silentLogger } from '../../../runtime/log.ts';
import { createMemoryBroker } from '../../../runtime/memory-bus.ts';
import { ensureStores } from '../../../runtime/stores.ts';
import { type NodeInput, nodeView } from '../../../scheduling/test-nodes.ts';
import { NodeMemory } from './known-nodes.ts';
import { NodeTable } from './node-table.ts';

const A = NodeId.parse('a');

const lease = (id: string): LeaseAdvert => ({
  lease: LeaseId.parse(id),
  build: BuildId.parse('b1'),
  task: TaskId.parse('store'),
  attempt: 1,
  model: 'm',
  bytes: 10,
  expires_at: 0,
});

describe('the table of nodes', () => {
  const clock = new SimulatedClock();
  let bus: Bus;
  let table: NodeTable;
  let stop = new AbortController();

  beforeEach(async () => {
    stop.abort();
    stop = new AbortController();
    bus = createMemoryBroker({ clock }).connect('test');
    await ensureStores(bus);
    table = new NodeTable({
      bus,
      clock: steadyClock(clock),
      log: silentLogger,
      ownNode: NodeId.parse('b'),
    });
    await table.watch(stop.signal);
  });
  after(() => stop.abort());

  const put = async (key: string, value: unknown): Promise<void> => {
    await bus.kv(BUCKETS.node.name).put(key, encode(value));
    await clock.advance(10);
  };
  const remove = async (key: string): Promise<void> => {
    await bus.kv(BUCKETS.node.name).delete(key);
    await clock.advance(10);
  };
  const runtime = (more: Partial<NodeInput> = {}, epoch = 1) => {
    const advert = nodeView({ id: 'a', ...more }).runtime?.advert;
    return { ...advert, epoch };
  };
  const gateway = (node: string, state = 'ready') => ({
    ...{ node, epoch: 1, host: 'h', state, at: 1, gateway: node, sandbox: 'none', servers: [] },
  });
  const leases = (): string[] =>
    table.views().flatMap(view => view.runtime?.advert.leases.map(({ lease: id }) => id) ?? []);

  test('an advert that cannot be read counts as none, not as the one before it', async () => {
    await put('a.runtime', runtime());
    assert.ok(table.rows()[0]?.runtime);
    await put('a.runtime', { of: 'another release' });
    assert.deepEqual(table.rows(), []);
  });

  test('a worker of an earlier release is told to the owner, once in its life', async () => {
    const warned: string[] = [];
    const log = { ...silentLogger, warn: (event: string) => void warned.push(event) };
    const told = new NodeTable({ bus, clock: steadyClock(clock), log, ownNode: A });
    await told.watch(stop.signal);
    await put('a.runtime', runtime());
    assert.deepEqual(warned, []);
    for (const epoch of [2, 2, 3]) await put('a.runtime', runtime({ outdated: true }, epoch));
    assert.deepEqual(warned, ['node.outdated', 'node.outdated']);
    stop.abort();
  });

  test('adverts make a node known, their removal makes it unknown', async () => {
    await put('a.runtime', runtime());
    assert.deepEqual(
      table.views().map(({ node }) => node),
      ['a'],
    );
    await bus.kv(BUCKETS.node.name).delete('a.runtime');
    await clock.advance(10);
    assert.deepEqual(table.views(), []);
    assert.ok(table.heardAt(A) > 0, 'when it was last heard of is still known');
  });

  test('the advert of a process that is gone does not replace that of its successor', async () => {
    await put('a.runtime', runtime({ slots: 7 }, 2));
    await put('a.runtime', runtime({ slots: 1 }, 1));
    assert.equal(table.views()[0]?.runtime?.advert.slots, 7);
  });

  test('a clock that is put back or forward makes no node silent and keeps none alive', async () => {
    const wall = new SimulatedClock();
    const own = steadyClock(wall);
    const heard = new NodeTable({ bus, clock: own, log: silentLogger, ownNode: A });
    await heard.watch(stop.signal);
    for (const byMs of [3_600_000, -7_200_000, 3_600_000]) {
      await put('a.runtime', runtime());
      wall.shift(byMs);
      await wall.advance(20_000);
      const seenAt = heard.views()[0]?.runtime?.seen_at ?? 0;
      assert.deepEqual([heard.now() - seenAt, heard.now() - heard.heardAt(A)], [20_000, 20_000]);
    }
  });

  test('the past of a node whose clock goes wrong is told by ours', async () => {
    const at = table.now() - 3_600_000;
    const advert = nodeView({ id: 'a', models: [{ name: 'm', size_bytes: 1 }] }).runtime?.advert;
    const engines = advert?.engines.map(engine => ({
      ...engine,
      models: engine.models.map(model => ({ ...model, used_at: at - 60_000 })),
    }));
    await put('a.runtime', { ...advert, at, engines });
    const [view] = table.views();
    const usedAt = view?.runtime?.advert.engines[0]?.models[0]?.used_at ?? 0;
    assert.equal(table.now() - 10 - usedAt, 60_000);
  });

  test('nonsense is passed over', async () => {
    await put('a.runtime', { slots: 'many' });
    await put('no_node.runtime', runtime());
    await put('a.unheard-of', {});
    assert.deepEqual(table.views(), []);
  });

  test('a granted lease counts until the advert shows it or does not', async () => {
    await put('a.runtime', runtime());
    table.granted(A, lease('1-1'));
    table.granted(A, lease('1-1'));
    assert.deepEqual(leases(), ['1-1']);
    await clock.advance(10);
    await put('a.runtime', runtime({ leases: [{ model: 'm', bytes: 10 }] }));
    assert.deepEqual(leases(), ['lease-0'], 'the node knows better now');
  });

  test('a lease that was given back does not count, nor does its slot', async () => {
    await put('a.runtime', runtime({ leases: [{ model: 'm', bytes: 10 }], slots_used: 1 }));
    table.released(A, LeaseId.parse('lease-0'));
    assert.deepEqual(leases(), []);
    assert.equal(table.views()[0]?.runtime?.advert.slots_used, 0);
    table.released(NodeId.parse('other'), LeaseId.parse('lease-1'));
    await put(
      'a.runtime',
      runtime({
        leases: [
          { model: 'm', bytes: 1 },
          { model: 'm', bytes: 1 },
        ],
      }),
    );
    assert.deepEqual(leases(), ['lease-1'], 'ids of leases mean something on their node only');
  });

  test('gateways that are ready and fresh, the own one first', async () => {
    await put('a.gateway', gateway('a'));
    await put('b.gateway', gateway('b'));
    await put('c.gateway', gateway('c', 'draining'));
    assert.deepEqual(table.gateways(), ['b', 'a']);
    await clock.advance(60_000);
    assert.deepEqual(table.gateways(), []);
  });

  test('a node that went away stays listed for a day, and decides nothing', async () => {
    await put('a.runtime', runtime());
    const heardAt = table.rows()[0]?.runtime?.seen_at;
    await remove('a.runtime');
    assert.deepEqual(table.gone(), [{ node: 'a', seen_at: heardAt }]);
    assert.deepEqual(table.views(), []);
    await put('a.runtime', runtime());
    assert.deepEqual(table.gone(), []);
    await remove('a.runtime');
    await clock.advance(25 * 3_600_000);
    assert.deepEqual(table.gone(), []);
  });

  test('a node that went away is still missing after a restart, with when it was heard last', async () => {
    const journal = await memoryJournal(MASTER_KEYS);
    const restarted = async (): Promise<{ nodes: NodeTable; memory: NodeMemory }> => {
      const ownNode = NodeId.parse('b');
      const nodes = new NodeTable({ ...{ bus, clock, log: silentLogger }, ownNode });
      await nodes.watch(stop.signal);
      const memory = await NodeMemory.start({ nodes, journal, clock, log: silentLogger });
      return { nodes, memory };
    };
    const first = await restarted();
    await put('a.runtime', runtime());
    await put('b.runtime', runtime());
    await put('c.runtime', runtime());
    const heardAt = first.nodes.rows()[0]?.runtime?.seen_at;
    await remove('a.runtime');
    await first.memory.stop();
    await remove('b.runtime');
    const second = await restarted();
    assert.deepEqual(second.nodes.gone(), [{ node: 'a', seen_at: heardAt }], 'b is this node');
    assert.deepEqual(
      second.nodes.rows().map(({ node }) => String(node)),
      ['c'],
    );
    // Killed, not stopped.
    await remove('c.runtime');
    const third = await restarted();
    assert.deepEqual(
      third.nodes
        .gone()
        .map(({ node }) => String(node))
        .sort(),
      ['a', 'c'],
    );
    await put('a.runtime', runtime());
    assert.deepEqual(
      third.nodes.gone().map(({ node }) => String(node)),
      ['c'],
    );
  });

  test('whoever waits is told of each change', async () => {
    let changes = 0;
    const leave = table.onChange(() => {
      changes += 1;
    });
    await put('a.runtime', runtime());
    table.released(A, LeaseId.parse('x'));
    leave();
    await put('a.runtime', runtime());
    assert.equal(changes, 2);
  });
});
