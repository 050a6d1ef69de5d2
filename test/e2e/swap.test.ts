/**
 * Goal: a model is put in another one's place as soon as the driver shows the memory, not at the next
 * beat of the monitor. Method: monitor and worker as they are shipped, on a real bus, on a machine
 * whose card and engine are emulated and whose driver shows memory late. How soon is pinned where time
 * is simulated (model-host.test.ts, the monitor's machine.test.ts); here, that they understand each other.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parseModel } from '../../bench/fake-node/fake-model.ts';
import { type FakeNode, startFakeNode } from '../../bench/fake-node/fake-node.ts';
import { writeNvidiaSmi } from '../../bench/fake-node/nvidia-smi.ts';
import { GIB } from '../../bench/fake-node/sizes.ts';
import { NodeId } from '../../protocol/ids.ts';
import { Acknowledgement, CapacityAdvert } from '../../protocol/node.ts';
import { BUCKETS } from '../../protocol/streams.ts';
import { advertKey, nodeSubject } from '../../protocol/subjects.ts';
import type { Bus } from '../../runtime/bus.ts';
import { systemClock } from '../../runtime/clock.ts';
import { createMessenger, type Messenger } from '../../runtime/messages.ts';
import { connectNats } from '../../runtime/nats-bus.ts';
import { ensureStores } from '../../runtime/stores.ts';
import { type NatsFixture, startNats } from '../nats-fixture.ts';
import { programOf } from '../source-tree.ts';
import { eventually } from './test-system.ts';

const NODE = NodeId.parse('n1');
const RECOVERY_MS = 300;
const LIMIT_MS = 20_000;
const ASK = { timeout_ms: 60_000 };

let nats: NatsFixture;
let home: string;
let engine: FakeNode;
let bus: Bus;
let messenger: Messenger;
const children: ChildProcess[] = [];

before(async () => {
  nats = await startNats();
  home = await mkdtemp(join(tmpdir(), 'codegod-swap-'));
  engine = await startFakeNode({
    cards: [{ totalBytes: 24 * GIB }],
    models: ['one,size=12GiB', 'other,size=13GiB'].map(parseModel),
    recoveryMs: RECOVERY_MS,
  });
  writeNvidiaSmi(home, engine.url);
  const { url, monitorUrl } = nats;
  bus = await connectNats({ servers: [url], name: 'test', clock: systemClock, monitorUrl });
  await ensureStores(bus);
  messenger = createMessenger(bus, { source: '/node/n1/actor/cli', clock: systemClock });
  await Promise.all(['resource-monitor', 'worker'].map(start));
});

after(async () => {
  const ends = children.map(child => new Promise(resolve => child.once('exit', resolve)));
  for (const child of children) child.kill('SIGKILL');
  await Promise.all(ends);
  await bus.close();
  await engine.stop();
  await nats.stop();
  await rm(home, { recursive: true, force: true });
});

async function start(actor: string): Promise<void> {
  const env = {
    ...{ PATH: `${home}:${process.env['PATH']}`, HOME: home, CODEGOD_HOME: home },
    ...{ CODEGOD_NATS_URL: nats.url, CODEGOD_BUS_MONITORING_URL: nats.monitorUrl },
    ...{ CODEGOD_NODE_NAME: NODE, OLLAMA_HOST: engine.url },
  };
  const child = spawn(process.execPath, programOf(`actors/${actor}/main.ts`), {
    ...{ env, cwd: home },
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  children.push(child);
  await new Promise<void>((resolve, reject) => {
    child.once('exit', code => reject(new Error(`the ${actor} ended with ${code}`)));
    child.on('message', message => {
      if ((message as { readonly state?: unknown }).state === 'ready') resolve();
    });
  });
}

const load = (model: string) =>
  messenger.ask(nodeSubject(NODE, 'load'), { model, context_tokens: 4_096 }, Acknowledgement, ASK);

/** What the house knows of the card; null where that was measured before `since`. */
async function freeSince(since: number): Promise<number | null> {
  const entry = await bus.kv(BUCKETS.node.name).get(advertKey(NODE, 'capacity'));
  if (entry === null) return null;
  const { gpus } = CapacityAdvert.parse(JSON.parse(new TextDecoder().decode(entry.value)));
  const [card] = gpus;
  return card === undefined || card.measured_at <= since ? null : card.free_bytes;
}

test('the memory of what was unloaded is asked for, and the card is known as it is afterwards', {
  timeout: 60_000,
}, async () => {
  const measured = async (since: number): Promise<number> => {
    await eventually(async () => (await freeSince(since)) !== null, LIMIT_MS);
    return (await freeSince(since)) ?? assert.fail('forgotten');
  };
  await measured(0);
  // The worker may not have been told of the card yet.
  await eventually(() => load('one').then(Boolean, () => false), LIMIT_MS);
  assert.ok((await measured(systemClock.now())) < 12 * GIB);
  let asked = 0;
  bus.subscribe(nodeSubject(NODE, 'measure'), () => {
    asked += 1;
  });
  await load('other');
  assert.ok(asked >= 1, 'the monitor was asked');
  const stats = engine.stats() as Record<string, unknown>;
  assert.deepEqual([stats['loads'], stats['out_of_memory']], [2, 0]);
  assert.ok(Number(stats['vram_used_bytes']) > 13 * GIB, 'it lies wholly on the card');
  assert.ok((await measured(systemClock.now())) < 11 * GIB);
});
