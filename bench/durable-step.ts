/**
 * What one durable step costs: a message is delivered, the machine takes it, the fact is committed
 * with a sync, the message is acknowledged.
 *
 *   node --import tsx bench/durable-step.ts [--steps 500] [--json]
 *
 * Starts a nats-server of its own with `sync_interval: always`. `journal` is the worker's step (the
 * fact goes to the local journal), `stream` the master's (the fact goes to JetStream). A step is
 * timed from the start of the handler to the end of its acknowledgement's round trip. One message
 * is in flight at a time. Target: p50 at most 5 ms.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import type { FactBody } from '../protocol/fact.ts';
import { STREAMS } from '../protocol/streams.ts';
import type { Bus } from '../runtime/bus.ts';
import { systemClock } from '../runtime/clock.ts';
import { createDurableHost } from '../runtime/durable-host.ts';
import type { FactLog } from '../runtime/fact-log.ts';
import { createJournalFactLog } from '../runtime/fact-log-journal.ts';
import { createStreamFactLog } from '../runtime/fact-log-stream.ts';
import { type Journal, openJournal } from '../runtime/journal.ts';
import { silentLogger } from '../runtime/log.ts';
import { createMessenger } from '../runtime/messages.ts';
import { connectNats } from '../runtime/nats-bus.ts';
import { type ErrandFact, errandMachine } from '../test/durable-fixture.ts';
import { startNats } from '../test/nats-fixture.ts';

const WARM_UP_STEPS = 50;
const STEP_TIMEOUT_MS = 10_000;

const Request = z.looseObject({ key: z.string() });

interface Figures {
  readonly log: string;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly perSecond: number;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      steps: { type: 'string', default: '500' },
      json: { type: 'boolean', default: false },
    },
  });
  const steps = Number(values.steps);
  const directory = await mkdtemp(join(tmpdir(), 'codegod-bench-'));
  const nats = await startNats();
  const bus = await connectNats({ servers: [nats.url], name: 'bench', clock: systemClock });
  try {
    for (const { name, subjects } of [STREAMS.build, STREAMS.event]) {
      await bus.streams.ensure({ name, subjects, storage: 'file', discard: 'new' });
    }
    const journal = await openJournal(join(directory, 'journal'));
    const stream = createStreamFactLog({ bus, source: '/bench', fence: () => 1 });
    const figures = [
      await measure('journal', bus, journal, createJournalFactLog(journal), steps),
      await measure('stream', bus, journal, errandsIn(stream), steps),
    ];
    await journal.close();
    print(figures, values.json);
  } finally {
    await bus.close();
    await nats.stop();
    await rm(directory, { recursive: true, force: true });
  }
}

/** The log's chain does not care what a fact says; only its type does. */
const errandsIn = (log: FactLog<FactBody>): FactLog<ErrandFact> =>
  log as unknown as FactLog<ErrandFact>;

async function measure(
  name: string,
  bus: Bus,
  snapshots: Journal,
  log: FactLog<ErrandFact>,
  steps: number,
): Promise<Figures> {
  const messenger = createMessenger(bus, { source: '/bench', clock: systemClock });
  const host = createDurableHost<typeof errandMachine>({
    machine: errandMachine,
    log,
    snapshots,
    schemaVersion: 1,
    migrations: {},
    clock: systemClock,
    logger: silentLogger,
    perform: (_entity, _key, _effect, signal) =>
      new Promise(resolve => signal.addEventListener('abort', () => resolve([]))),
    failed: () => [],
    onDeadline: (key, at) => ({ type: 'deadline.passed', at, key }),
  });
  const tookMs: number[] = [];
  let startMs = 0;
  let arrived: () => void = () => {};
  const consumer = {
    durable: `bench-${name}`,
    filter: 'codegod.build',
    ack_wait_ms: 30_000,
    max_deliver: 5,
    max_ack_pending: 1,
    concurrency: 1,
  };
  const { build } = STREAMS;
  await bus.streams.purge(build.name, 'codegod.build');
  const subscription = await messenger.consume(build.name, consumer, Request, async ({ key }) => {
    startMs = systemClock.monotonic();
    const isPending = key in (host.context('b1')?.pending ?? {});
    const type = isPending ? 'errand.withdrawn' : 'errand.asked';
    await host.submit('b1', { type, at: systemClock.now(), key });
    arrived();
    return { kind: 'done' };
  });
  const beginMs = systemClock.monotonic();
  for (let step = 0; step < WARM_UP_STEPS + steps; step++) {
    const handled = new Promise<void>(resolve => {
      arrived = resolve;
    });
    const key = `k${step % 16}`;
    await messenger.append(
      'codegod.build',
      'build.requested',
      { key },
      { timeout_ms: STEP_TIMEOUT_MS },
    );
    await handled;
    // The acknowledgement is on its way before this asks; the answer comes after it was taken.
    await bus.rtt();
    if (step >= WARM_UP_STEPS) tookMs.push(systemClock.monotonic() - startMs);
  }
  const elapsedMs = systemClock.monotonic() - beginMs;
  await subscription.stop();
  await host.stop();
  tookMs.sort((left, right) => left - right);
  const at = (part: number): number => tookMs[Math.floor(part * tookMs.length)] ?? Number.NaN;
  const perSecond = ((WARM_UP_STEPS + steps) * 1_000) / elapsedMs;
  return { log: name, p50Ms: at(0.5), p99Ms: at(0.99), perSecond };
}

function print(figures: readonly Figures[], asJson: boolean): void {
  const [load = 0] = loadavg();
  if (asJson) {
    process.stdout.write(`${JSON.stringify({ load, figures }, null, 2)}\n`);
    return;
  }
  process.stdout.write(`load average ${load.toFixed(2)}\n`);
  process.stdout.write('log        p50 ms   p99 ms   messages/s\n');
  for (const { log, p50Ms, p99Ms, perSecond } of figures) {
    const columns = [p50Ms.toFixed(2).padStart(7), p99Ms.toFixed(2).padStart(8)];
    process.stdout.write(
      `${log.padEnd(9)} ${columns.join(' ')} ${perSecond.toFixed(0).padStart(12)}\n`,
    );
  }
}

await main();
