/** What the monitor's machine asks of the world. Types only. */
import type { CapacityAdvert, GpuAdvert, Telemetry } from '../../protocol/node.ts';

/** Everything one round of probing found. A GPU list of length 0 means: looked, and there is none. */
export interface Measurement {
  readonly cpu: CapacityAdvert['cpu'];
  readonly ram: CapacityAdvert['ram'];
  readonly disk: CapacityAdvert['disk'];
  readonly gpus: readonly GpuAdvert[];
  readonly unknown: CapacityAdvert['unknown'];
}

/** The light figures that are taken once a second. */
export type Pulse = Pick<Telemetry, 'cpu_load' | 'ram_available_bytes'>;

export interface MonitorPorts {
  /** One full round of all probes. Never rejects for a probe's failure: that is `unknown`. */
  measure(signal: AbortSignal): Promise<Measurement>;
  pulse(): Promise<Pulse>;
  /** Puts the advert into the bucket; rejects where the bus is away. */
  advertise(measurement: Measurement): Promise<void>;
  telemetry(pulse: Pulse, measurement: Measurement): void;
}
