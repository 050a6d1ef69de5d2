/**
 * AMD cards through sysfs: `/sys/class/drm/card<N>/device/mem_info_{vram,gtt}_{total,used}`.
 *
 * A1: an APU's VRAM is only a carve-out of the host's memory; what it can really use is GTT. A card
 *     whose GTT is larger than its VRAM, and whose VRAM is 4 GiB or less, is taken for one.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { GpuAdvert } from '../../../protocol/node.ts';
import type { GpuProbe } from './nvidia.ts';

const AMD_VENDOR = '0x1002';
const CARVE_OUT_BYTES_MAX = 4 * 1024 ** 3;
const CARDS_MAX = 64;

/** @param root normally `/sys/class/drm` */
export async function probeAmd(root: string, now: number): Promise<GpuProbe> {
  let entries: string[];
  try {
    entries = await readdir(root);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { kind: 'absent' };
    return { kind: 'unknown', reason: `${root}: ${String(error)}` };
  }
  const cards = entries.filter(entry => /^card[0-9]+$/.test(entry)).sort(byNumber);
  const gpus: GpuAdvert[] = [];
  for (const card of cards.slice(0, CARDS_MAX)) {
    const gpu = await readCard(join(root, card, 'device'), Number(card.slice(4)), now);
    if (gpu !== null) gpus.push(gpu);
  }
  return gpus.length === 0 ? { kind: 'absent' } : { kind: 'found', gpus };
}

async function readCard(device: string, index: number, now: number): Promise<GpuAdvert | null> {
  if ((await text(join(device, 'vendor'))) !== AMD_VENDOR) return null;
  const [vramTotal, vramUsed, gttTotal, gttUsed, busy, product] = await Promise.all([
    count(join(device, 'mem_info_vram_total')),
    count(join(device, 'mem_info_vram_used')),
    count(join(device, 'mem_info_gtt_total')),
    count(join(device, 'mem_info_gtt_used')),
    count(join(device, 'gpu_busy_percent')),
    text(join(device, 'product_name')),
  ]);
  const unified =
    vramTotal !== null &&
    gttTotal !== null &&
    vramTotal <= CARVE_OUT_BYTES_MAX &&
    gttTotal > vramTotal;
  const total = unified ? gttTotal : vramTotal;
  const used = unified ? gttUsed : vramUsed;
  return {
    index,
    uuid: await text(join(device, 'unique_id')),
    name: product ?? 'AMD GPU',
    vendor: 'amd',
    total_bytes: total,
    used_bytes: used,
    free_bytes: total === null || used === null ? null : Math.max(0, total - used),
    unified,
    utilization: busy === null ? null : Math.min(1, busy / 100),
    temperature_c: null,
    power_w: null,
    source: 'sysfs',
    measured_at: now,
  };
}

/** A file's trimmed text, or null: sysfs leaves out what a card does not have. */
async function text(path: string): Promise<string | null> {
  try {
    const content = (await readFile(path, 'utf8')).trim();
    return content === '' ? null : content;
  } catch {
    // Absent and unreadable attributes are both unknown figures; the card itself is still there.
    return null;
  }
}

async function count(path: string): Promise<number | null> {
  const content = await text(path);
  return content !== null && /^[0-9]+$/.test(content) ? Number(content) : null;
}

function byNumber(one: string, other: string): number {
  return Number(one.slice(4)) - Number(other.slice(4));
}
