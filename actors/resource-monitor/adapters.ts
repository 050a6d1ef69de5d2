/** The monitor's ports on the real world: the probes of this machine and the bus. */
import { encode } from '../../protocol/codec.ts';
import { BUCKETS } from '../../protocol/streams.ts';
import { advertKey, telemetrySubject } from '../../protocol/subjects.ts';
import type { ActorContext } from '../../runtime/actor.ts';
import { assemble, capacityAdvert, type NodeIdentity } from './capacity.ts';
import { Ladder, type Rung } from './ladder.ts';
import type { Measurement, MonitorPorts } from './ports.ts';
import { amdProbe } from './probes/amd.ts';
import { appleProbe } from './probes/apple.ts';
import { CpuLoad } from './probes/cpu-load.ts';
import { probeHost, probePulse } from './probes/host.ts';
import { intelProbe } from './probes/intel.ts';
import { nvidiaProbe } from './probes/nvidia.ts';
import { toolRunner } from './probes/tool.ts';

export function monitorPorts(context: ActorContext, identity: NodeIdentity): MonitorPorts {
  const { bus, clock, config, messenger } = context;
  const bucket = bus.kv(BUCKETS.node.name);
  const { node } = identity;
  const ladder = new Ladder(rungsOf(process.platform), clock);
  const run = toolRunner();
  const cpuLoad = new CpuLoad();
  return {
    measure: async signal => {
      const host = await probeHost(context.paths.data, cpuLoad, clock);
      const now = clock.now();
      const found = await ladder.climb({ root: '', run, host: host.ram, now, signal });
      return assemble(host, found, config.node.gpus ?? [], now);
    },
    pulse: () => probePulse(cpuLoad, clock),
    advertise: async measurement => {
      const advert = capacityAdvert(identity, context.state(), measurement, clock.now());
      await bucket.put(advertKey(node, 'capacity'), encode(advert));
    },
    telemetry: (pulse, measurement) => {
      const value = { node, at: clock.now(), ...pulse, gpus: gpuPulse(measurement) };
      messenger.publish(telemetrySubject(node), 'node.measured', value);
    },
  };
}

/** The makers whose cards a platform can have, in the order in which they are advertised. */
export function rungsOf(platform: NodeJS.Platform): Rung[] {
  const nvidia = { name: 'nvidia', probe: nvidiaProbe() };
  if (platform === 'darwin') return [{ name: 'apple', probe: appleProbe() }];
  if (platform !== 'linux') return [nvidia];
  return [nvidia, { name: 'amd', probe: amdProbe() }, { name: 'intel', probe: intelProbe() }];
}

function gpuPulse(measurement: Measurement) {
  return measurement.gpus.map(({ index, free_bytes, utilization, temperature_c, power_w }) => ({
    index,
    free_bytes,
    utilization,
    temperature_c,
    power_w,
  }));
}
