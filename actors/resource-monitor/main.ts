/** The resource-monitor's process: probes and bus in, adverts and telemetry out. */
import os from 'node:os';
import { createActor } from 'xstate';
import { BUCKETS } from '../../protocol/streams.ts';
import { advertKey } from '../../protocol/subjects.ts';
import { type ActorContext, type RunningActor, runActor } from '../../runtime/actor.ts';
import { ensureStores } from '../../runtime/stores.ts';
import { monitorPorts } from './adapters.ts';
import { withMonitorPorts } from './machine.ts';

await runActor({
  name: 'resource-monitor',
  version: '0.1.0',
  description: 'measures CPU, memory, disks and GPUs of its node',
  durable: false,
  start,
});

async function start(context: ActorContext): Promise<RunningActor> {
  const { bus, log, node } = context;
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
  return {
    drain: async () => monitor.send({ type: 'drain' }),
    stop: async () => {
      monitor.stop();
      // A node that leaves in order takes its advert along instead of letting it time out.
      await bus.kv(BUCKETS.node.name).delete(advertKey(node, 'capacity'));
    },
  };
}
