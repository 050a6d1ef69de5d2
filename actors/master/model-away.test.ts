/** A model runtime that goes away in the middle of a build: the build waits for it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BUILD_ENDS } from '../../protocol/build.ts';
import { systemClock } from '../../runtime/clock.ts';
import { createMessenger } from '../../runtime/messages.ts';
import { connectNats } from '../../runtime/nats-bus.ts';
import { ensureStores } from '../../runtime/stores.ts';
import { GIB } from '../../scheduling/test-nodes.ts';
import { startNats } from '../../test/nats-fixture.ts';
import { TestMaster } from './test-master.ts';
import { TestPeers } from './test-peers.ts';

const MODEL = { name: 'qwen2.5-coder:14b', size_bytes: 9 * GIB };
const CARD = { free: 20 * GIB, total: 24 * GIB };
const HERE = { ollama: true, gpu: CARD, models: [MODEL] };

test('a build waits for a model that is away; the scaffold takes nothing over', {
  timeout: 120_000,
}, async () => {
  const nats = await startNats();
  const bus = await connectNats({ servers: [nats.url], name: 'peers', clock: systemClock });
  const messenger = createMessenger(bus, {
    source: '/node/node-a/actor/worker',
    clock: systemClock,
  });
  await ensureStores(bus);
  const peers = new TestPeers(messenger, systemClock, 'node-a');
  peers.shows = HERE;
  // Gone with the answer to the plan: the first task finds no engine.
  peers.work = ({ kind }) => {
    if (kind === 'plan') peers.shows = { ...HERE, ollama: false, away_since: systemClock.now() };
    return {};
  };
  const report = peers.report.bind(peers);
  peers.report = async message => {
    if (message.kind === 'plan') {
      peers.work(message);
      await peers.advertise();
    }
    await report(message);
  };
  await peers.start();
  const master = await (await TestMaster.start({ url: nats.url })).settled();
  try {
    const id = await master.submit({ prompt: 'Create a REST API for a todo list' });
    const waiting = await master.until(id, ({ state }) => state === 'waiting_capacity');
    assert.match(
      waiting.waiting ?? '',
      /^store: the model runtime on node-a does not answer since \d\d:\d\d/,
    );
    assert.doesNotMatch(waiting.waiting ?? '', /pull|install/);
    // Even where the node has forgotten its models, the scaffold does not take over.
    peers.shows = { ...HERE, ollama: false, models: [] };
    await peers.advertise();
    const forgotten = await master.until(id, ({ waiting: why }) => /has a model/.test(why ?? ''));
    assert.match(forgotten.waiting ?? '', /the build works with qwen2\.5-coder:14b/);
    peers.work = () => ({});
    peers.shows = HERE;
    await peers.advertise();
    const end = await master.until(id, ({ state }) => BUILD_ENDS.includes(state), 60_000);
    assert.equal(end.state, 'succeeded');
    assert.deepEqual(end.models, [MODEL.name]);
    assert.deepEqual(
      end.tasks.map(({ attempt }) => attempt),
      [1, 1, 1],
      'no attempt was used up',
    );
    assert.ok(peers.tasks.every(({ engine }) => engine === 'ollama'));
  } finally {
    await master.remove();
    await peers.stop();
    await bus.close();
    await nats.stop();
  }
});
