/**
 * A process with a durable host over the stream log and a real journal, for tests that kill it.
 * Arguments: bus, journal directory, fence, and what to do: `die-in-effect` kills itself with SIGKILL
 * in its first effect; `live` prints each effect's key, then the outcomes once nothing is pending.
 */
import { systemClock } from '../runtime/clock.ts';
import { createDurableHost } from '../runtime/durable-host.ts';
import type { FactLog } from '../runtime/fact-log.ts';
import { createStreamFactLog } from '../runtime/fact-log-stream.ts';
import { openJournal } from '../runtime/journal.ts';
import { silentLogger } from '../runtime/log.ts';
import { connectNats } from '../runtime/nats-bus.ts';
import { done, type ErrandFact, errandMachine } from './durable-fixture.ts';

const [url = '', directory = '', fence = '0', mode = 'live'] = process.argv.slice(2);

const bus = await connectNats({ servers: [url], name: 'durable', clock: systemClock });
const host = createDurableHost<typeof errandMachine>({
  machine: errandMachine,
  // The chain does not care what a fact says; only the master's type does.
  log: createStreamFactLog({
    bus,
    source: '/test',
    fence: () => Number(fence),
  }) as unknown as FactLog<ErrandFact>,
  snapshots: await openJournal(directory),
  schemaVersion: 1,
  migrations: {},
  clock: systemClock,
  logger: silentLogger,
  async perform(_entity, key) {
    if (mode === 'die-in-effect') process.kill(process.pid, 'SIGKILL');
    process.stdout.write(`effect ${key}\n`);
    return [done(key)];
  },
  failed: () => [],
  onDeadline: (key, at) => ({ type: 'deadline.passed', at, key }),
  snapshotEvery: 2,
});

if (mode === 'die-in-effect') {
  await host.submit('b1', { type: 'errand.asked', at: 1, key: 'bread' });
} else {
  await host.open('b1');
  while (Object.keys(host.context('b1')?.pending ?? {}).length > 0) await systemClock.sleep(10);
  process.stdout.write(`outcomes ${JSON.stringify(host.context('b1')?.outcomes)}\n`);
  await host.stop();
  await bus.close();
  process.exit(0);
}
