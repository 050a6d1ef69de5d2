/** NVIDIA Jetson boards: no `nvidia-smi` before JetPack 6, no PCI, and the host's memory. */
import { join } from 'node:path';
import { cardOf, type Findings, NOTHING } from '../card.ts';
import { bandwidthOf } from './bandwidth.ts';
import type { ProbeSite } from './site.ts';
import { attribute, count } from './sysfs.ts';

export async function probeJetson({ root, host, now }: ProbeSite): Promise<Findings> {
  // The device tree ends its texts with a zero byte.
  const model = (await attribute(join(root, '/proc/device-tree/model')))?.replaceAll('\0', '');
  if (model === undefined || !/jetson/i.test(model)) return NOTHING;
  const perMille = await count(join(root, '/sys/devices/platform/gpu.0/load'));
  const card = cardOf({
    name: model,
    vendor: 'nvidia',
    total_bytes: host.total_bytes,
    used_bytes: host.total_bytes - host.available_bytes,
    free_bytes: host.available_bytes,
    unified: true,
    integrated: true,
    bandwidth_bytes_per_s: bandwidthOf(model),
    utilization: perMille === null ? null : Math.min(1, perMille / 1_000),
    source: 'device-tree',
    measured_at: now,
  });
  return { cards: [card], problems: [] };
}
