/**
 * The master as a process that is killed, restarted, doubled and cut off from its bus: accepted
 * builds end all the same, and no attempt is handed out twice.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { BUILD_ENDS, type BuildSummary, NO_USAGE } from '../../protocol/build.ts';
import { encode } from '../../protocol/codec.ts';
import { CodeGodError } from '../../protocol/errors.ts';
import { BuildId, NodeId } from '../../protocol/ids.ts';
import { STREAMS } from '../../protocol/streams.ts';
import { reportSubject } from '../../protocol/subjects.ts';
import type { Bus } from '../../runtime/bus.ts';
import { systemClock } from '../../runtime/clock.ts';
import { DEAD_HEADER } from '../../runtime/dead-letters.ts';
import { openJournal } from '../../runtime/journal.ts';
import { createMessenger, type Messenger } from '../../runtime/messages.ts';
import { connectNats } from '../../runtime/nats-bus.ts';
import { ensureStores } from '../../runtime/stores.ts';
import { freePort, type NatsFixture, startNats } from '../../test/nats-fixture.ts';
import { programOf } from '../../test/source-tree.ts';
import { planOf, TWO_TASKS } from './test-build.ts';
import { POLL_MS, TestMaster } from './test-master.ts';
import { TestPeers } from './test-peers.ts';

const PROMPT = { prompt: 'Create a REST API for a todo list' };
const ended = (summary: BuildSummary): boolean => BUILD_ENDS.includes(summary.state);
const CHAIN = planOf([
  { id: 'a' },
  { id: 'b', depends_on: ['a'] },
  { id: 'c', depends_on: ['b'] },
  { id: 'd', depends_on: ['c'], type: 'testing' },
]);

describe('a master and its bus', { timeout: 180_000 }, () => {
  let nats: NatsFixture;
  let bus: Bus;
  let messenger: Messenger;
  let peers: TestPeers;

  before(async () => {
    nats = await startNats();
    bus = await connectNats({ servers: [nats.url], name: 'peers', clock: systemClock });
    messenger = createMessenger(bus, { source: '/node/node-a/actor/worker', clock: systemClock });
    await ensureStores(bus);
    peers = new TestPeers(messenger, systemClock, 'node-a');
    peers.plan = CHAIN;
    await peers.start();
  });
  after(async () => {
    await peers?.stop();
    await bus?.close();
    await nats?.stop();
  });

  /** The reason of the newest dead letter that a subject has; null where it has none. */
  const deadLetterOf = async (subject: string): Promise<string | null> => {
    let code: string | null = null;
    const range = { filter: 'codegod.dead.>', from_seq: 1 };
    for await (const { headers } of bus.streams.read(STREAMS.dead.name, range)) {
      if (headers[DEAD_HEADER.subject] === subject) code = headers[DEAD_HEADER.code] ?? '';
    }
    return code;
  };
  const until = async <T>(look: () => Promise<T>, holds: (value: T) => boolean): Promise<void> => {
    const endMs = systemClock.monotonic() + 20_000;
    for (let value = await look(); !holds(value); value = await look()) {
      assert.ok(systemClock.monotonic() < endMs, `still ${value}`);
      await systemClock.sleep(POLL_MS);
    }
  };

  const attemptsOf = (build: string): string[] =>
    peers.tasks
      .filter(task => task.build === build)
      .map(task => `${task.task}.${task.attempt}`)
      .toSorted();

  test('a second master stands by, and takes over when the first one goes', async () => {
    const first = await (await TestMaster.start({ url: nats.url, epoch: 1 })).settled();
    const second = await TestMaster.start({ url: nats.url, epoch: 2 });
    assert.equal((await second.fetch('/readyz')).status, 503);
    peers.work = message => (message.task === 'b' ? null : {});
    const id = await first.submit(PROMPT);
    await first.until(id, ({ tasks }) =>
      tasks.some(task => task.id === 'b' && task.state === 'running'),
    );
    await first.remove();
    await second.settled();
    assert.equal((await second.fetch('/readyz')).status, 200);
    peers.work = () => ({});
    const [silent] = peers.tasks.filter(task => task.build === id && task.task === 'b');
    assert.ok(silent);
    await peers.report(silent);
    const summary = await second.until(id, ended);
    await second.remove();
    assert.equal(summary.state, 'succeeded');
    assert.deepEqual(attemptsOf(id), ['a.1', 'b.1', 'c.1', 'd.1', 'plan.1'], 'each once');
  });

  test('a report of another shape stops its attempt and nothing else', async () => {
    const first = await (await TestMaster.start({ url: nats.url, epoch: 11 })).settled();
    peers.work = message => (message.task === 'b' && message.attempt === 1 ? null : {});
    const isAtB = ({ tasks }: BuildSummary): boolean =>
      tasks.some(({ id, state }) => id === 'b' && state === 'running');
    const [live, replayed] = [await first.submit(PROMPT), await first.submit(PROMPT)];
    const unreadable = (build: string) =>
      bus.streams.append(`codegod.report.node-a.${build}.b.1`, encode({ of: 'another release' }), {
        id: `report:${build}.b.1`,
      });
    await first.until(live, isAtB);
    await unreadable(live);
    assert.equal((await first.until(live, ended)).state, 'succeeded', 'told while it leads');
    await first.until(replayed, isAtB);
    await first.remove();
    await unreadable(replayed);
    const second = await (await TestMaster.start({ url: nats.url, epoch: 12 })).settled();
    assert.equal((await second.until(replayed, ended)).state, 'succeeded', 'told by the stream');
    peers.work = () => ({});
    const third = await second.submit(PROMPT);
    assert.equal((await second.until(third, ended)).state, 'succeeded', 'and everything else');
    await second.remove();
    for (const id of [live, replayed]) {
      assert.deepEqual(attemptsOf(id), ['a.1', 'b.1', 'b.2', 'c.1', 'd.1', 'plan.1']);
    }
    assert.equal(await deadLetterOf('codegod.report.node-a'), 'bad_message');
  });

  test('a report of a node that was not given the attempt is refused and kept', async () => {
    const master = await (await TestMaster.start({ url: nats.url, epoch: 13 })).settled();
    peers.work = message => (message.task === 'b' ? null : {});
    const id = await master.submit(PROMPT);
    await master.until(id, ({ tasks }) =>
      tasks.some(task => task.id === 'b' && task.state === 'running'),
    );
    const given = peers.tasks.find(({ build, task }) => build === id && task === 'b');
    assert.ok(given);
    const stranger = NodeId.parse('node-x');
    const { build, task, attempt, lease, engine, model } = given;
    const forged = {
      ...{ build, task, attempt, lease, engine, model, node: stranger, outcome: 'failed' },
      ...{ error: null, blame: 'model', summary: 'it lies', plan: null, commit: null },
      ...{ files: [], tool_calls: [], usage: NO_USAGE },
    };
    const subject = reportSubject(stranger, { build, task, attempt });
    const nameless = `codegod.report.${build}.${task}.${attempt}`;
    const asOther = { ...forged, node: peers.node };
    await bus.streams.append(subject, encode(forged));
    await until(
      () => deadLetterOf('codegod.report.node-x'),
      code => code === 'denied',
    );
    await bus.streams.append(nameless, encode(forged));
    await until(
      () => deadLetterOf(nameless),
      code => code === 'denied',
    );
    await until(
      () => bus.streams.last(STREAMS.report.name, 'codegod.report.node-x'),
      last => last === null,
    );
    const before = await bus.streams.info(STREAMS.dead.name);
    await bus.streams.append(subject, encode(asOther));
    await until(
      async () => (await bus.streams.info(STREAMS.dead.name))?.messages,
      messages => messages === (before?.messages ?? 0) + 1,
    );
    peers.work = () => ({});
    await peers.report(given);
    assert.equal((await master.until(id, ended)).state, 'succeeded');
    assert.deepEqual(attemptsOf(id), ['a.1', 'b.1', 'c.1', 'd.1', 'plan.1'], 'each once');
    const unknown = reportSubject(stranger, { build: BuildId.parse('b999'), task, attempt });
    const late = encode({ ...forged, build: 'b999' });
    for (let count = 0; count < 120; count += 1) await bus.streams.append(unknown, late);
    await until(
      async () => (await bus.streams.info(STREAMS.report.name))?.messages,
      messages => messages === 0,
    );
    assert.ok((master.master.misreports.flood(stranger) ?? 0) >= 100, 'it is named');
    assert.equal(master.master.misreports.flood(peers.node), null);
    await master.remove();
  });

  test('a deleted journal costs nothing but time: builds go on and are listed', async () => {
    const first = await (await TestMaster.start({ url: nats.url, epoch: 3 })).settled();
    const done = await first.submit(PROMPT);
    await first.until(done, ended);
    const waiting = await first.submit({ ...PROMPT, plan_mode: 'approve' });
    await first.until(waiting, ({ state }) => state === 'awaiting_approval');
    await first.remove();
    const directory = await mkdtemp(join(tmpdir(), 'codegod-master-'));
    const stale = await openJournal(directory);
    await stale.put('snapshot/b999', { of: 'another store' });
    await stale.close();
    const second = await (await TestMaster.start({ url: nats.url, epoch: 4, directory })).settled();
    assert.equal((await second.until(done, ended)).state, 'succeeded');
    assert.equal((await second.until(waiting, () => true)).state, 'awaiting_approval');
    await second.post(`/builds/${waiting}/approve`);
    assert.equal((await second.until(waiting, ended)).state, 'succeeded');
    await second.stop();
    const left = await openJournal(directory);
    assert.equal(await left.get('snapshot/b999'), undefined, 'nobody drives such a build');
    await left.close();
    await rm(directory, { recursive: true });
  });

  test('builds beyond builds_max wait for their turn, and all end', async () => {
    const master = await (
      await TestMaster.start({ url: nats.url, epoch: 5, buildsMax: 1 })
    ).settled();
    const ids: string[] = [];
    for (let count = 0; count < 4; count++) ids.push(await master.submit(PROMPT));
    for (const id of ids) assert.equal((await master.until(id, ended)).state, 'succeeded');
    const { builds } = (await master.get('/builds?limit=4')) as { builds: BuildSummary[] };
    const spans = builds.toReversed();
    for (const [index, build] of spans.entries()) {
      const next = spans[index + 1];
      const begun = next?.tasks.length ?? 0;
      assert.ok(begun === 0 || (build.ended_at ?? 0) <= (next?.ended_at ?? 0), 'in order');
    }
    await master.remove();
  });

  test('a worker that never answers is given up, and the task is done by another one', async () => {
    const other = new TestPeers(messenger, systemClock, 'node-b');
    await other.start();
    peers.plan = TWO_TASKS;
    peers.work = message => (message.kind === 'plan' ? {} : null);
    const silence = { epoch: 6, taskTimeoutS: 1 };
    const master = await (await TestMaster.start({ url: nats.url, ...silence })).settled();
    const id = await master.submit(PROMPT);
    const summary = await master.until(id, ended, 60_000);
    peers.work = () => ({});
    peers.plan = CHAIN;
    await other.stop();
    await master.remove();
    assert.equal(summary.state, 'succeeded');
    assert.ok(
      peers.cancelled.some(({ build }) => build === id),
      'the silent one was told to stop',
    );
  });

  test("a merge that a person's changes hold up ends the build, and is asked again by retry", async () => {
    let isHeld = true;
    peers.mergeBegins = () => {
      const details = { in_the_way: ['src/a.js'] };
      if (isHeld) throw new CodeGodError('conflict', 'in the way: src/a.js', { details });
    };
    const master = await (await TestMaster.start({ url: nats.url, epoch: 9 })).settled();
    const id = await master.submit(PROMPT);
    const summary = await master.until(id, ended);
    assert.equal(summary.state, 'failed');
    assert.match(summary.error?.message ?? '', /in the way: src\/a\.js/);
    isHeld = false;
    await master.post(`/builds/${id}/retry`);
    await master.until(id, ({ state }) => state === 'succeeded');
    peers.mergeBegins = () => {};
    const merges = peers.merged.filter(({ build, task }) => build === id && task === 'a');
    assert.deepEqual(
      merges.map(({ attempt }) => attempt),
      [1, 1],
    );
    await master.remove();
  });

  test('a bus that is killed and comes back costs no build', async () => {
    const master = await (await TestMaster.start({ url: nats.url, epoch: 7 })).settled();
    const ids: string[] = [];
    for (let count = 0; count < 3; count++) ids.push(await master.submit(PROMPT));
    await nats.kill9();
    await nats.restart();
    for (const id of ids) assert.equal((await master.until(id, ended, 60_000)).state, 'succeeded');
    for (const id of ids) assert.equal(new Set(attemptsOf(id)).size, 5);
    await master.remove();
  });

  test('a master that is killed -9 again and again loses no build', async () => {
    const home = await mkdtemp(join(tmpdir(), 'codegod-home-'));
    const port = await freePort();
    const environment = {
      ...process.env,
      CODEGOD_HOME: home,
      CODEGOD_BUS_URL: nats.url,
      CODEGOD_BUS_MONITORING_URL: nats.monitorUrl,
      CODEGOD_HTTP_PORT: String(port),
      CODEGOD_LOG_LEVEL: 'warn',
    };
    const start = (): ChildProcess =>
      spawn(process.execPath, programOf('actors/master/main.ts'), {
        env: environment,
        stdio: ['ignore', 'ignore', 'pipe'],
      });
    const until = async (
      path: string,
      holds: (body: BuildSummary) => boolean,
    ): Promise<BuildSummary> => {
      const endMs = systemClock.monotonic() + 60_000;
      for (;;) {
        assert.ok(systemClock.monotonic() < endMs, `${path} never came there`);
        try {
          const response = await fetch(`http://127.0.0.1:${port}${path}`);
          const body = (await response.json()) as BuildSummary;
          if (response.ok && holds(body)) return body;
        } catch {
          // Killed, or not yet listening.
        }
        await systemClock.sleep(POLL_MS);
      }
    };
    let process_ = start();
    const ids: string[] = [];
    try {
      await until('/readyz', () => true);
      for (let round = 0; round < 3; round++) {
        const response = await fetch(`http://127.0.0.1:${port}/build`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(PROMPT),
        });
        ids.push(((await response.json()) as { id: string }).id);
        await systemClock.sleep(round * 40);
        process_.kill('SIGKILL');
        process_ = start();
        await until('/readyz', () => true);
      }
      for (const id of ids) {
        const { state } = await until(`/builds/${id}`, ended);
        assert.equal(state, 'succeeded');
        assert.deepEqual(attemptsOf(id), ['a.1', 'b.1', 'c.1', 'd.1', 'plan.1'], 'each once');
      }
      const exit = new Promise<number | null>(resolve => process_.once('exit', resolve));
      process_.kill('SIGTERM');
      assert.equal(await exit, 0, 'it stops in order when asked');
    } finally {
      process_.kill('SIGKILL');
      await rm(home, { recursive: true, force: true });
    }
  });
});
