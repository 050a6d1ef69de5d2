/** The monitor's ports on the real world: the probes of this machine and the bus. */
import { encode } from '../../protocol/codec.ts';
import { BUCKETS } from '../../protocol/streams.ts';
import { advertKey, telemetrySubject } from '../../protocol/subjects.ts';
import type { ActorContext } from '../../runtime/actor.ts';
import { assemble, capacityAdvert, type NodeIdentity } from './capacity.ts';
import type { Measurement, MonitorPorts } from './ports.ts';
import { probeAmd } from './probes/amd.ts';
import { probeHost, probePulse } from './probes/host.ts';
import { probeNvidia } from './probes/nvidia.ts';

const DRM = '/sys/class/drm';

export function monitorPorts(context: ActorContext, identity: NodeIdentity): MonitorPorts {
  const { bus, clock, config, messenger } = context;
  const bucket = bus.kv(BUCKETS.node.name);
  const { node } = identity;
  return {
    measure: async signal => {
      const host = await probeHost(context.paths.data);
      const now = clock.now();
      const [nvidia, amd] = await Promise.all([
        probeNvidia({ host: host.ram, now, signal }),
        probeAmd(DRM, now),
      ]);
      const probes = [
        { name: 'nvidia', result: nvidia },
        { name: 'amd', result: amd },
      ];
      return assemble(host, probes, config.node.gpus ?? [], now);
    },
    pulse: probePulse,
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

function gpuPulse(measurement: Measurement) {
  return measurement.gpus.map(({ index, free_bytes, utilization, temperature_c, power_w }) => ({
    index,
    free_bytes,
    utilization,
    temperature_c,
    power_w,
  }));
}
