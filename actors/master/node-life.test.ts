/**
 * Goal: what a node had at work runs elsewhere soon after it fell silent; what it still says when it
 * comes back changes nothing; and a worker that is only restarted loses nothing.
 * Method: a master on a bus in memory and a clock that stands still; two peers that play along.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { BUILD_ENDS, type BuildSummary } from '../../protocol/build.ts';
import { BuildId, LeaseId, NodeId, TaskId } from '../../protocol/ids.ts';
import { BUILD_SUBJECT } from '../../protocol/subjects.ts';
import type { TaskMessage } from '../../protocol/task.ts';
import { SimulatedClock } from '../../runtime/clock.ts';
import { silentLogger } from '../../runtime/log.ts';
import { createMemoryBroker, type MemoryBroker } from '../../runtime/memory-bus.ts';
import { createMessenger, type Messenger } from '../../runtime/messages.ts';
import { createMetrics } from '../../runtime/metrics.ts';
import { Master } from './adapters/master.ts';
import { testConfig } from './test-master.ts';
import { TestPeers } from './test-peers.ts';

/** Time runs faster than the disk: what waits for the disk must not seem dead meanwhile. */
const PATIENT = { ...testConfig({}), lease_ttl_ms: 600_000, ack_wait_ms: 600_000 };
const STEP_MS = 250;
const STEPS_MAX = 400;
const BUILD = BuildId.parse('b1');

describe('the life of a node', { timeout: 60_000 }, () => {
  let clock: SimulatedClock;
  let broker: MemoryBroker;
  let directory: string;
  let master: Master;
  let first: TestPeers;
  let second: TestPeers;
  let peers: readonly TestPeers[];

  const messengerOf = (name: string): Messenger =>
    createMessenger(broker.connect(name), { source: `/node/${name}/actor/test`, clock });

  beforeEach(async () => {
    clock = new SimulatedClock();
    broker = createMemoryBroker({ clock });
    directory = await mkdtemp(join(tmpdir(), 'codegod-master-'));
    const messenger = messengerOf('master');
    const { bus } = messenger;
    const starting = Master.start(
      {
        ...{ bus, messenger, clock, log: silentLogger, epoch: 1, metrics: createMetrics('master') },
        ...{ node: NodeId.parse('test'), config: PATIENT },
      },
      directory,
    );
    master = await inTime(starting);
    first = new TestPeers(messengerOf('node-a'), clock, 'node-a');
    second = new TestPeers(messengerOf('node-b'), clock, 'node-b');
    peers = [first, second];
    for (const peer of peers) await inTime(peer.start());
    await until(() => master.role === 'leading');
  });
  afterEach(async () => {
    await inTime(Promise.all(peers.map(peer => peer.stop())));
    await inTime(master.stop());
    await rm(directory, { recursive: true, force: true });
  });

  /** Lets time pass, and disks do their work, until something is done. */
  const inTime = async <T>(work: Promise<T>): Promise<T> => {
    let isOver = false;
    const watched = work.finally(() => {
      isOver = true;
    });
    for (let step = 0; step < STEPS_MAX && !isOver; step++) await tick();
    return await watched;
  };
  const until = async (holds: () => boolean): Promise<void> => {
    for (let step = 0; step < STEPS_MAX; step++) {
      if (holds()) return;
      await tick();
    }
    assert.fail('it never came there');
  };
  const tick = async (): Promise<void> => {
    await clock.advance(STEP_MS);
    await pause(2);
  };
  const ended = async (): Promise<BuildSummary> => {
    for (let step = 0; step < STEPS_MAX; step++) {
      const summary = await inTime(master.summary(BUILD));
      if (summary !== null && BUILD_ENDS.includes(summary.state)) return summary;
      await tick();
    }
    return assert.fail('it never ended');
  };
  const got = (peer: TestPeers, task: string): TaskMessage[] =>
    peer.tasks.filter(message => message.task === task);

  /** A build whose code runs on the first node, which does not answer for it. */
  const began = async (): Promise<TaskMessage> => {
    first.work = ({ kind }) => (kind === 'plan' ? {} : null);
    second.isSilent = true;
    await until(() =>
      master.nodes.views().every(({ node, runtime }) => node === 'node-a' || runtime === null),
    );
    await inTime(
      messengerOf('client').append(BUILD_SUBJECT, 'build.requested', { prompt: 'a todo list' }),
    );
    await until(() => got(first, 'store').length === 1);
    second.isSilent = false;
    await until(() => master.nodes.heardAt(second.node) > clock.now() - 2_000);
    const message = got(first, 'store')[0];
    assert.ok(message !== undefined);
    return message;
  };

  test('an attempt on a silent node runs elsewhere within 20 s; its late report is dropped', async () => {
    const message = await began();
    const silentAt = clock.now();
    first.isSilent = true;
    await until(() => got(second, 'store').length === 1);
    const tookMs = clock.now() - silentAt;
    assert.ok(tookMs <= 20_000, `${tookMs} ms`);
    assert.equal(got(second, 'store')[0]?.attempt, 2);
    first.isSilent = false;
    first.work = () => ({});
    await inTime(first.report(message));
    const { state, tasks } = await ended();
    assert.equal(state, 'succeeded');
    assert.equal(tasks.find(({ id }) => id === 'store')?.attempt, 2);
    const merged = peers.flatMap(peer => peer.merged).filter(({ task }) => task === 'store');
    assert.deepEqual(
      merged.map(({ attempt }) => attempt),
      [2],
    );
  });

  test('a worker that is only restarted goes on with its attempt', async () => {
    const message = await began();
    first.isSilent = true;
    const silentAt = clock.now();
    await until(() => clock.now() - silentAt >= 10_000);
    first.isSilent = false;
    first.workerEpoch = 2;
    first.work = () => ({});
    await until(() => master.nodes.heardAt(first.node) > silentAt + 5_000);
    await inTime(first.report(message));
    const { state, tasks } = await ended();
    assert.equal(state, 'succeeded');
    assert.equal(tasks.find(({ id }) => id === 'store')?.attempt, 1);
  });

  test('a lease that no build waits for is given back, also one of a build that nobody knows', async () => {
    const { lease: running } = await began();
    const held = (name: string, build: string) => ({
      ...{ lease: LeaseId.parse(name), build: BuildId.parse(build), task: TaskId.parse('store') },
      ...{ attempt: name === running ? 1 : 2, model: 'm', bytes: 1, expires_at: clock.now() },
    });
    first.leases = [held(running, 'b1'), held('stray', 'b1'), held('unknown', 'b999')];
    await until(() => first.released.length > 0);
    const seenAt = clock.now();
    await until(() => clock.now() - seenAt > 8_000);
    // The store of the bus that b999 was in is no more: who leads knows every build of the present one.
    assert.deepEqual([...first.released].sort(), ['stray', 'unknown']);
    assert.deepEqual(
      first.cancelled.map(({ build, task, attempt }) => `${build} ${task}.${attempt}`).sort(),
      ['b1 store.2', 'b999 store.2'],
    );
  });
});
