/** The worker's process: engines, journal and bus in; answers, files and reports out. */
import { join } from 'node:path';
import { type ActorContext, type RunningActor, runActor } from '../../runtime/actor.ts';
import { openJournal } from '../../runtime/journal.ts';
import { watchEpochs } from '../../runtime/living-peer.ts';
import { ensureStores } from '../../runtime/stores.ts';
import { createBusGateway } from './adapters/bus-gateway.ts';
import { createBusReports } from './adapters/bus-reports.ts';
import type { Engine } from './engines/engine.ts';
import { createOllamaEngine } from './engines/ollama.ts';
import { createScaffoldEngine } from './engines/scaffold/engine.ts';
import { Worker } from './worker.ts';

/** Characters per pause, where a pace is configured. */
const PACED_CHUNK_CHARS = 256;

await runActor({
  name: 'worker',
  version: '0.1.0',
  description: 'turns tasks into verified files with the models of its node',
  start,
});

async function start(context: ActorContext): Promise<RunningActor> {
  const { bus, messenger, clock, log, node, host, epoch, paths, state } = context;
  await ensureStores(bus);
  const watching = new AbortController();
  const gateways = await watchEpochs(bus, 'gateway', watching.signal);
  const journal = await openJournal(join(paths.state, `worker-${node}`), log);
  const worker = await Worker.start({
    ...{ messenger, clock, log, node, host, epoch, journal, state },
    ackWaitMs: context.config.ack_wait_ms,
    engines: enginesOf(context),
    gateway: createBusGateway(messenger, gateways),
    reports: createBusReports(messenger),
  });
  const stopListening = context.onState(() => worker.changed());
  return {
    drain: deadlineMs => worker.drain(deadlineMs),
    async stop() {
      stopListening();
      await worker.stop();
      watching.abort();
      await journal.close();
    },
  };
}

function enginesOf({ config, clock }: ActorContext): Engine[] {
  const { pace_ms: delayMs } = config.scaffold;
  return [
    createOllamaEngine({ host: config.ollama.host, clock }),
    createScaffoldEngine({
      monotonic: () => clock.monotonic(),
      sleep: (ms, signal) => clock.sleep(ms, signal),
      ...(delayMs === 0 ? {} : { pace: { chunk_chars: PACED_CHUNK_CHARS, delay_ms: delayMs } }),
    }),
  ];
}
