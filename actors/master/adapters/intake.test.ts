/** What comes in for the builds, on a bus in memory. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from '../../../protocol/codec.ts';
import { BuildId } from '../../../protocol/ids.ts';
import { BUILD_SUBJECT } from '../../../protocol/subjects.ts';
import { systemClock } from '../../../runtime/clock.ts';
import { createDurableHost } from '../../../runtime/durable-host.ts';
import { createStreamFactLog } from '../../../runtime/fact-log-stream.ts';
import { memoryJournal } from '../../../runtime/journal.ts';
import { MASTER_KEYS } from '../../../runtime/journal-keys.ts';
import { silentLogger } from '../../../runtime/log.ts';
import { createMemoryBroker } from '../../../runtime/memory-bus.ts';
import { createMessenger } from '../../../runtime/messages.ts';
import { ensureStores } from '../../../runtime/stores.ts';
import { type BuildEffect, NEW_BUILD } from '../build-context.ts';
import { buildMachine } from '../build-machine.ts';
import { summaryOf } from '../build-summary.ts';
import { BuildIndex } from './build-index.ts';
import { Intake } from './intake.ts';
import { Misreports } from './misreports.ts';

const B1 = BuildId.parse('b1');

test('a message of an ended build that is delivered again does not bring the build back', {
  timeout: 30_000,
}, async () => {
  const clock = systemClock;
  const log = silentLogger;
  const bus = createMemoryBroker({ clock }).connect('master');
  await ensureStores(bus);
  const messenger = createMessenger(bus, { source: '/node/test/actor/master', clock });
  const journal = await memoryJournal(MASTER_KEYS);
  const index = await BuildIndex.open(journal, log);
  const host = createDurableHost({
    ...{ machine: buildMachine, schemaVersion: 1, migrations: {}, clock, logger: log },
    log: createStreamFactLog({ bus, source: 'test', fence: () => 0 }),
    snapshots: journal,
    perform: (_entity, _key, _effect: BuildEffect, signal) =>
      new Promise(resolve => signal.addEventListener('abort', () => resolve([]))),
    failed: () => [],
    onDeadline: (key, at) => ({ type: 'deadline.passed' as const, key, at }),
  });
  const defaults = { max_parallel_tasks: 1, fallback: 'deny', prefer_local: true } as const;
  const left: string[] = [];
  const { signal } = new AbortController();
  const intake = new Intake({
    ...{ messenger, host, index, clock, log, signal, defaults, ackWaitMs: 5_000 },
    misreports: new Misreports({ clock, log }),
    left: build => void left.push(build),
  });
  await bus.streams.append(BUILD_SUBJECT, encode({ prompt: 'a list' }));
  await intake.catchUp([], signal);
  assert.deepEqual(host.entities(), ['b1']);
  index.put(summaryOf(B1, 'succeeded', { ...NEW_BUILD, ended_at: 1 }), 1);
  await host.forget(B1);

  await bus.streams.append(BUILD_SUBJECT, encode({ prompt: 'another list' }));
  const consumer = await intake.builds();
  while (!left.includes('b2')) await clock.sleep(5);
  assert.deepEqual(host.entities(), ['b2'], 'the first message came again, too');
  await consumer.stop();
  await host.stop();
  await bus.close();
});
