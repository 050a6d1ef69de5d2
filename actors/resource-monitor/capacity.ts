/** Pure: from what the probes found to what the node says of itself. */

import type { NodeId } from '../../protocol/ids.ts';
import type { CapacityAdvert, GpuAdvert, LifecycleState } from '../../protocol/node.ts';
import type { Measurement } from './ports.ts';
import type { HostFigures } from './probes/host.ts';
import type { GpuProbe } from './probes/nvidia.ts';

/** A card declared in the configuration: the user knows better than any probe. */
export interface DeclaredGpu {
  readonly name: string;
  readonly vram_bytes: number;
}

/** A change of less than this is not worth an extra advert. */
const NOTABLE_BYTES = 64 * 1024 * 1024;

/**
 * Joins the rungs of the probe ladder. Declared cards replace whatever was probed; a declared card
 * keeps the free memory of the probed card at its place, where there is one.
 */
export function assemble(
  host: HostFigures,
  probes: readonly { readonly name: string; readonly result: GpuProbe }[],
  declared: readonly DeclaredGpu[],
  now: number,
): Measurement {
  const found = probes.flatMap(probe => (probe.result.kind === 'found' ? probe.result.gpus : []));
  const unknown = probes.flatMap(probe =>
    probe.result.kind === 'unknown' ? [{ probe: probe.name, reason: probe.result.reason }] : [],
  );
  const gpus =
    declared.length === 0
      ? found
      : declared.map((gpu, index) => declare(gpu, index, found[index], now));
  return { ...host, gpus, unknown };
}

function declare(
  gpu: DeclaredGpu,
  index: number,
  probed: GpuAdvert | undefined,
  now: number,
): GpuAdvert {
  const used = probed?.used_bytes ?? null;
  return {
    index,
    uuid: probed?.uuid ?? null,
    name: gpu.name,
    vendor: probed?.vendor ?? 'other',
    total_bytes: gpu.vram_bytes,
    used_bytes: used,
    free_bytes: Math.max(0, gpu.vram_bytes - (used ?? 0)),
    unified: probed?.unified ?? false,
    utilization: probed?.utilization ?? null,
    temperature_c: probed?.temperature_c ?? null,
    power_w: probed?.power_w ?? null,
    source: 'declared',
    measured_at: now,
  };
}

export interface NodeIdentity {
  readonly node: NodeId;
  readonly epoch: number;
  readonly host: string;
  readonly os: string;
  readonly arch: string;
  readonly reserve_bytes: number;
}

export function capacityAdvert(
  identity: NodeIdentity,
  state: LifecycleState,
  measurement: Measurement,
  at: number,
): CapacityAdvert {
  return {
    ...identity,
    state,
    at,
    cpu: measurement.cpu,
    ram: measurement.ram,
    disk: measurement.disk,
    gpus: [...measurement.gpus],
    unknown: measurement.unknown,
  };
}

/** Whether a placement could come out differently after this change. */
export function isNotable(before: Measurement | null, after: Measurement): boolean {
  if (before === null || before.gpus.length !== after.gpus.length) return true;
  if (before.unknown.length !== after.unknown.length) return true;
  if (differs(before.ram.available_bytes, after.ram.available_bytes)) return true;
  return after.gpus.some((gpu, index) => {
    const earlier = before.gpus[index];
    return (
      earlier === undefined ||
      differs(earlier.free_bytes, gpu.free_bytes) ||
      differs(earlier.total_bytes, gpu.total_bytes)
    );
  });
}

function differs(before: number | null, after: number | null): boolean {
  if (before === null || after === null) return before !== after;
  return Math.abs(before - after) >= NOTABLE_BYTES;
}
