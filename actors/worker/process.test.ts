/**
 * Goal: the worker as it is shipped, a process on a real bus with the scaffold engine, finishes what
 * it took although it is killed again and again. Method: SIGKILL at growing delays after each start,
 * until the task is reported.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ReserveReply } from '../../protocol/node.ts';
import { STREAMS } from '../../protocol/streams.ts';
import { nodeSubject, REPORTS, taskSubject } from '../../protocol/subjects.ts';
import type { TaskMessage } from '../../protocol/task.ts';
import { TaskReport } from '../../protocol/task.ts';
import type { Bus } from '../../runtime/bus.ts';
import { systemClock } from '../../runtime/clock.ts';
import { createMessenger, type Messenger } from '../../runtime/messages.ts';
import { connectNats } from '../../runtime/nats-bus.ts';
import { ensureStores } from '../../runtime/stores.ts';
import { freePort, type NatsFixture, startNats } from '../../test/nats-fixture.ts';
import { programOf } from '../../test/source-tree.ts';
import { FakeGateway } from './test-gateway.ts';
import { NODE, taskOf } from './test-worker.ts';

let nats: NatsFixture;
let home: string;
let bus: Bus;
let messenger: Messenger;
const gateway = new FakeGateway();
let child: ChildProcess | null = null;

before(async () => {
  nats = await startNats();
  home = await mkdtemp(join(tmpdir(), 'codegod-worker-'));
  const { url, monitorUrl } = nats;
  bus = await connectNats({ servers: [url], name: 'test', clock: systemClock, monitorUrl });
  await ensureStores(bus);
  messenger = createMessenger(bus, { source: '/node/n1/actor/master', clock: systemClock });
  gateway.serve(messenger);
});

after(async () => {
  await end('SIGKILL');
  await bus.close();
  await nats.stop();
  await rm(home, { recursive: true, force: true });
});

/** Starts the process and waits until it says that it is ready. */
async function start(): Promise<void> {
  const env = {
    PATH: process.env['PATH'] ?? '',
    HOME: home,
    CODEGOD_HOME: home,
    CODEGOD_NATS_URL: nats.url,
    CODEGOD_BUS_MONITORING_URL: nats.monitorUrl,
    CODEGOD_NODE_NAME: NODE,
    CODEGOD_SCAFFOLD_PACE_MS: '20',
    CODEGOD_ACK_WAIT_MS: '1000',
    OLLAMA_HOST: `127.0.0.1:${await freePort()}`,
  };
  const started = spawn(process.execPath, programOf('actors/worker/main.ts'), {
    env,
    cwd: home,
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  child = started;
  await new Promise<void>((resolve, reject) => {
    started.once('exit', code => reject(new Error(`the worker ended with ${code}`)));
    started.on('message', message => {
      if ((message as { readonly state?: unknown }).state === 'ready') resolve();
    });
  });
}

async function end(signal: NodeJS.Signals): Promise<number | null> {
  const ending = child;
  child = null;
  if (ending === null || ending.exitCode !== null || ending.signalCode !== null) return null;
  const exited = new Promise<number | null>(resolve => ending.once('exit', resolve));
  ending.kill(signal);
  return exited;
}

async function dispatch(changes: object): Promise<TaskMessage> {
  const draft = taskOf(changes);
  const { build, task, attempt, engine, model, context_tokens } = draft;
  const request = {
    ...{ build, task, attempt, engine, model, context_tokens },
    ...{ bytes: 0, ttl_ms: 60_000 },
  };
  const options = { timeout_ms: 5_000 };
  const reply = await messenger.ask(nodeSubject(NODE, 'reserve'), request, ReserveReply, options);
  assert.ok(reply.granted, JSON.stringify(reply));
  const message = { ...draft, lease: reply.lease };
  await messenger.append(taskSubject(NODE, build, task, attempt), 'task.assigned', message);
  return message;
}

async function reported(task: TaskMessage): Promise<TaskReport | null> {
  const all = bus.streams.read(STREAMS.report.name, { filter: REPORTS, from_seq: 1 });
  for await (const stored of all) {
    const report = messenger.decode(stored, TaskReport);
    if (report.task === task.task) return report;
  }
  return null;
}

async function waitFor(task: TaskMessage): Promise<TaskReport> {
  for (let tries = 0; tries < 300; tries++) {
    const report = await reported(task);
    if (report !== null) return report;
    await sleep(50);
  }
  return assert.fail('no report came');
}

test('a worker that is killed again and again finishes what it took, once', async () => {
  await start();
  const prompt = 'Create a REST API for a todo list with title, done and due date';
  const planning = { kind: 'plan', task: 'plan', card: null, project: null, prompt };
  const { plan } = await waitFor(await dispatch(planning));
  const card = plan?.tasks[0] ?? assert.fail('there is no plan');
  const outline = (plan?.tasks ?? []).map(({ id, title, type, owns }) => ({
    id,
    title,
    type,
    owns,
  }));
  const project = { name: 'todo', stack: plan?.stack ?? '', summary: plan?.summary ?? '' };
  const task = await dispatch({ task: card.id, card, outline, project, prompt });
  let kills = 0;
  for (let delayMs = 5; (await reported(task)) === null && kills < 6; delayMs *= 2) {
    await sleep(delayMs);
    await end('SIGKILL');
    kills += 1;
    await start();
  }
  const report = await waitFor(task);
  assert.equal(report.outcome, 'done', JSON.stringify(report.error));
  assert.ok(kills >= 1);
  assert.equal(report.tool_calls.length, card.owns.length);
  const expected = report.tool_calls.map(({ call_id }) => call_id);
  assert.deepEqual(gateway.fired, expected);
  assert.equal(new Set(gateway.commits.map(({ task: id }) => id)).size, 1);
  const info = await bus.streams.info(STREAMS.report.name);
  assert.equal(info?.messages, 2);
  assert.equal(await end('SIGTERM'), 0);
});
