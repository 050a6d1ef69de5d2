/**
 * AMD cards through sysfs: `/sys/class/drm/card<N>/device/mem_info_{vram,gtt}_{total,used}`.
 *
 * S1: a processor's own GPU (APU) has a carve-out of main memory as VRAM, and takes the rest from
 *     main memory through GTT. What it can use is the larger of the two; GTT is main memory, so no
 *     more of it is free than the host has.
 */
import { join } from 'node:path';
import { type Card, cardOf, NOTHING } from '../card.ts';
import { bandwidthOf } from './bandwidth.ts';
import { type DrmUse, drmScanner } from './drm-use.ts';
import { withProcesses } from './runtime-process.ts';
import type { Probe, ProbeSite } from './site.ts';
import { attribute, count, type DrmCard, drmCards, type Sensors, sensors } from './sysfs.ts';

const VENDOR = '0x1002';
/** Without sensors, a VRAM this small beside a larger GTT is taken for a carve-out. */
const CARVE_OUT_BYTES_MAX = 4 * 1024 ** 3;
/** From libdrm: `744C,	C8,	AMD Radeon RX 7900 XTX`. */
const NAMES = '/usr/share/libdrm/amdgpu.ids';

export function amdSysfsProbe(): Probe {
  const scan = drmScanner();
  return async site => {
    const found = await drmCards(site.root, VENDOR);
    if (found.length === 0) return NOTHING;
    const names = (await attribute(join(site.root, NAMES))) ?? '';
    const use = await scan(site);
    const cards: Card[] = [];
    for (const card of found) cards.push(await readCard(site, card, names, use));
    return { cards, problems: [] };
  };
}

async function readCard(
  site: ProbeSite,
  { device, bus }: DrmCard,
  names: string,
  use: DrmUse,
): Promise<Card> {
  const vram = await heap(device, 'vram');
  const gtt = await heap(device, 'gtt');
  const sensed = await sensors(device);
  const integrated = isIntegrated(sensed, vram.total, gtt.total);
  const shared = integrated === true && gtt.total !== null && gtt.total > (vram.total ?? 0);
  const { total, used } = shared ? gtt : vram;
  const name = (await attribute(join(device, 'product_name'))) ?? (await nameOf(device, names));
  const busy = await count(join(device, 'gpu_busy_percent'));
  const own = total === null || used === null ? null : Math.max(0, total - used);
  const card = cardOf({
    bus,
    uuid: await attribute(join(device, 'unique_id')),
    name,
    vendor: 'amd',
    total_bytes: total,
    used_bytes: used,
    free_bytes: own !== null && shared ? Math.min(own, site.host.available_bytes) : own, // S1
    unified: shared,
    integrated,
    bandwidth_bytes_per_s: bandwidthOf(name),
    driver_version: await attribute(join(site.root, '/sys/module/amdgpu/version')),
    utilization: busy === null ? null : Math.min(1, busy / 100),
    temperature_c: sensed?.temperature_c ?? null,
    power_w: sensed?.power_w ?? null,
    source: 'sysfs',
    measured_at: site.now,
  });
  return withProcesses(card, use.processesOf(bus, shared ? ['gtt', 'vram'] : ['vram']), use.isAll);
}

async function heap(device: string, name: 'vram' | 'gtt') {
  return {
    total: await count(join(device, `mem_info_${name}_total`)),
    used: await count(join(device, `mem_info_${name}_used`)),
  };
}

/** Null where neither sensors nor sizes tell. */
function isIntegrated(
  sensed: Sensors | null,
  vram: number | null,
  gtt: number | null,
): boolean | null {
  if (sensed !== null) return sensed.hasNorthBridge;
  if (vram === null || gtt === null) return null;
  return vram <= CARVE_OUT_BYTES_MAX && gtt > vram;
}

async function nameOf(device: string, names: string): Promise<string> {
  const id = hex(await attribute(join(device, 'device')), 4);
  const revision = hex(await attribute(join(device, 'revision')), 2);
  const named = new RegExp(`^${id},\\s*${revision},\\s*(.+)$`, 'im').exec(names)?.[1];
  return named?.trim() ?? `AMD GPU 1002:${id}`;
}

function hex(text: string | null, digits: number): string {
  const value = /^0x([0-9a-f]+)$/i.exec(text ?? '')?.[1] ?? '';
  return value.padStart(digits, '0').toLowerCase();
}
