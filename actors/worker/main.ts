/** The worker's process: engines, journal and bus in; answers, files and reports out. */
import { join } from 'node:path';
import type { CapacityAdvert } from '../../protocol/node.ts';
import { type ActorContext, type RunningActor, runActor } from '../../runtime/actor.ts';
import { type Journal, openJournal } from '../../runtime/journal.ts';
import { WORKER_KEYS } from '../../runtime/journal-keys.ts';
import { followAliases, type LiveAliases } from '../../runtime/live-aliases.ts';
import { watchLives } from '../../runtime/living-peer.ts';
import { release } from '../../runtime/release.ts';
import { ensureStores } from '../../runtime/stores.ts';
import { createBusGateway } from './adapters/bus-gateway.ts';
import { createBusReports } from './adapters/bus-reports.ts';
import { createOllamaEngine } from './engines/ollama.ts';
import { createOllamaRelay } from './engines/ollama-relay.ts';
import { createScaffoldEngine } from './engines/scaffold/engine.ts';
import { Worker, type WorkerParts } from './worker.ts';

/** Characters per pause, where a pace is configured. */
const PACED_CHUNK_CHARS = 256;

await runActor({
  name: 'worker',
  version: release(),
  description: 'turns tasks into verified files with the models of its node',
  start,
});

async function start(context: ActorContext): Promise<RunningActor> {
  const { bus, messenger, clock, log, node, host, epoch, paths, state } = context;
  await ensureStores(bus);
  const watching = new AbortController();
  const gateways = await watchLives({ bus, log }, 'gateway', watching.signal);
  const journal = await openJournal(join(paths.state, `worker-${node}`), log, WORKER_KEYS);
  const aliases = followAliases({ config: context.config, clock, log });
  const worker = await Worker.start({
    ...{ messenger, clock, log, node, host, epoch, journal, state },
    ackWaitMs: context.config.ack_wait_ms,
    ...enginesOf(context, journal, aliases),
    gateway: createBusGateway(messenger, gateways, node),
    reports: createBusReports(messenger),
  });
  const stopListening = context.onState(() => worker.changed());
  return {
    drain: deadlineMs => worker.drain(deadlineMs),
    async stop() {
      stopListening();
      aliases.stop();
      await worker.stop();
      watching.abort();
      await journal.close();
    },
  };
}

function enginesOf(
  { config, clock }: ActorContext,
  store: Journal,
  aliases: LiveAliases,
): Pick<WorkerParts, 'engines' | 'relays' | 'onCapacity' | 'settings'> {
  const { host } = config.ollama;
  const { pace_ms: delayMs } = config.scaffold;
  let freeBytes: number | null = null;
  return {
    engines: [
      createOllamaEngine({
        ...{ host, clock, store, declared: config.ollama },
        freeBytes: () => freeBytes,
      }),
      createScaffoldEngine({
        monotonic: () => clock.monotonic(),
        sleep: (ms, signal) => clock.sleep(ms, signal),
        ...(delayMs === 0 ? {} : { pace: { chunk_chars: PACED_CHUNK_CHARS, delay_ms: delayMs } }),
      }),
    ],
    relays: { ollama: createOllamaRelay({ host, keep_alive: config.ollama.keep_alive }) },
    onCapacity: capacity => {
      freeBytes = capacity === null ? null : freeBytesOf(capacity);
    },
    settings: {
      labels: config.node.labels,
      offload: config.node.offload === 'allow',
      residencyMs: config.pool.residency_s * 1_000,
      keepAliveS: config.ollama.keep_alive,
      aliases: aliases.now,
    },
  };
}

/** On the cards, or of main memory where there is none; for seeing a load get on. */
function freeBytesOf({ gpus, ram }: CapacityAdvert): number | null {
  if (gpus.length === 0) return ram.available_bytes;
  const known = gpus.flatMap(({ free_bytes }) => (free_bytes === null ? [] : [free_bytes]));
  return known.length === 0 ? null : known.reduce((sum, bytes) => sum + bytes, 0);
}
