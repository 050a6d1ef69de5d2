/** The resource-monitor's process: probes and bus in, adverts and telemetry out. */
import os from 'node:os';
import { createActor } from 'xstate';
import { MeasureRequest } from '../../protocol/node.ts';
import { BUCKETS } from '../../protocol/streams.ts';
import { advertKey, nodeSubject } from '../../protocol/subjects.ts';
import { type ActorContext, type RunningActor, runActor } from '../../runtime/actor.ts';
import { release } from '../../runtime/release.ts';
import { ensureStores } from '../../runtime/stores.ts';
import { monitorPorts } from './adapters.ts';
import { capacityAdvert } from './capacity.ts';
import { measureNow, withMonitorPorts } from './machine.ts';
import { watchRuntime } from './runtime-changes.ts';

await runActor({
  name: 'resource-monitor',
  version: release(),
  description: 'measures CPU, memory, disks and GPUs of its node',
  durable: false,
  start,
});

async function start(context: ActorContext): Promise<RunningActor> {
  const { bus, clock, log, messenger, node } = context;
  await ensureStores(bus);
  const identity = {
    node,
    epoch: context.epoch,
    host: context.host,
    os: `${os.type()} ${os.release()}`,
    arch: os.arch(),
    reserve_bytes: context.config.node.reserve_bytes,
  };
  const machine = withMonitorPorts(monitorPorts(context, identity), (what, error) =>
    log.warn('monitor.failed', { what, error }),
  );
  const monitor = createActor(machine);
  monitor.start();
  const serving = messenger.serve(nodeSubject(node, 'measure'), MeasureRequest, async () => {
    const measurement = await measureNow(monitor);
    return capacityAdvert(identity, context.state(), measurement, clock.now());
  });
  const over = new AbortController();
  const changed = (): void => monitor.send({ type: 'measure' });
  // A bus that was started again has forgotten what was advertised.
  const forget = bus.status(({ type }) => type === 'reconnected' && changed());
  const watching = watchRuntime({ bus, node, clock, log, changed }, over.signal);
  return {
    drain: async () => {
      over.abort();
      monitor.send({ type: 'drain' });
    },
    stop: async () => {
      over.abort();
      forget();
      monitor.stop();
      await Promise.all([serving.stop(), watching]);
      // A node that leaves in order takes its advert along instead of letting it time out.
      await bus.kv(BUCKETS.node.name).delete(advertKey(node, 'capacity'));
    },
  };
}
