/**
 * Intel cards, as far as their drivers tell: sysfs of `xe` and `i915`, the descriptors of processes,
 * `xpu-smi`. Integrated graphics are shown without memory: they share that of the host.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { busAddress, type Card, cardOf, type Findings, type Problem } from '../card.ts';
import { bandwidthOf } from './bandwidth.ts';
import { type DrmUse, drmScanner } from './drm-use.ts';
import { withProcesses } from './runtime-process.ts';
import type { Probe, ProbeSite } from './site.ts';
import { count, type DrmCard, drmCards, entries, sensors } from './sysfs.ts';

const VENDOR = '0x8086';
/** Where the graphics of the processor itself always are. */
const INTEGRATED = /^0000:00:02\./;
const DEVICES_MAX = 8;
const TILES_MAX = 4;

export function intelProbe(): Probe {
  const scan = drmScanner();
  return async site => {
    const found = await drmCards(site.root, VENDOR);
    const isDiscrete = ({ bus }: DrmCard) => bus === null || !INTEGRATED.test(bus);
    const use = found.some(isDiscrete) ? await scan(site) : null;
    const cards: Card[] = [];
    for (const card of found) {
      const isRead = use !== null && isDiscrete(card);
      cards.push(isRead ? await readCard(site, card, use) : integrated(site, card));
    }
    if (cards.every(isSettled)) return { cards, problems: [] };
    return merged(cards, await probeXpuSmi(site));
  };
}

const isSettled = (card: Card): boolean => card.integrated === true || card.free_bytes !== null;

function merged(cards: readonly Card[], tool: Findings): Findings {
  const problems: Problem[] = [...tool.problems];
  const all = cards.map(card => {
    const said = tool.cards.find(({ bus }) => bus !== null && bus === card.bus);
    if (isSettled(card) || said === undefined) return card;
    return { ...said, temperature_c: card.temperature_c, processes: card.processes };
  });
  for (const { name, bus } of all.filter(card => !isSettled(card))) {
    const reason = `no readable memory of ${name} ${bus}: install xpu-smi or declare node.gpus`;
    problems.push({ probe: 'intel', reason });
  }
  return { cards: all, problems };
}

function integrated(site: ProbeSite, { bus }: DrmCard): Card {
  return cardOf({
    bus,
    name: 'Intel integrated graphics',
    vendor: 'intel',
    unified: true,
    integrated: true,
    source: 'sysfs',
    measured_at: site.now,
  });
}

async function readCard(site: ProbeSite, drm: DrmCard, use: DrmUse): Promise<Card> {
  const { bus, device, driver } = drm;
  const total = driver === 'xe' ? await tiles(device) : await local(drm, 'lmem_total_bytes');
  const available = driver === 'xe' ? null : await local(drm, 'lmem_avail_bytes');
  const processes = use.processesOf(bus, ['vram0', 'vram1', 'vram2', 'vram3', 'local0']);
  const held = processes.reduce((sum, process) => sum + (process.bytes ?? 0), 0);
  // Without a figure of the driver's own, all that its clients hold is what is in use.
  const used = available !== null && total !== null ? total - available : use.isAll ? held : null;
  const name = 'Intel GPU';
  const card = cardOf({
    bus,
    name,
    vendor: 'intel',
    total_bytes: total,
    used_bytes: total === null ? null : used,
    free_bytes: total === null || used === null ? null : Math.max(0, total - used),
    integrated: false,
    bandwidth_bytes_per_s: bandwidthOf(name),
    temperature_c: (await sensors(device))?.temperature_c ?? null,
    source: 'sysfs',
    measured_at: site.now,
  });
  return withProcesses(card, processes, use.isAll);
}

/** `xe` shows the memory of each tile. */
async function tiles(device: string): Promise<number | null> {
  let total: number | null = null;
  const folders = (await entries(device)).filter(name => /^tile[0-9]+$/.test(name));
  for (const tile of folders.slice(0, TILES_MAX)) {
    const own =
      (await count(join(device, tile, 'physical_vram_size_bytes'))) ??
      (await count(join(device, tile, 'memory', 'physical_vram_size_bytes')));
    if (own !== null) total = (total ?? 0) + own;
  }
  return total;
}

/** `i915` has it at the card or at its device, where it has it at all. */
async function local({ path, device }: DrmCard, name: string): Promise<number | null> {
  return (await count(join(path, name))) ?? (await count(join(device, name)));
}

const Count = z.preprocess(
  found => (/^[0-9]+$/.test(String(found)) ? Number(found) : null),
  z.number().nullable(),
);
const Device = z.looseObject({
  device_id: z.number(),
  device_name: z.string().max(256).optional(),
  device_function_type: z.string().optional(),
  pci_bdf_address: z.string().optional(),
  driver_version: z.string().nullish(),
  memory_physical_size_byte: Count,
  memory_free_size_byte: Count,
});
const DeviceList = z.looseObject({
  device_list: z.array(z.looseObject({ device_id: z.number() })).max(64),
});

async function probeXpuSmi(site: ProbeSite): Promise<Findings> {
  const ask = (args: readonly string[]) => site.run('xpu-smi', args, site.signal);
  const list = await ask(['discovery', '-j']);
  if (list.kind === 'missing') return { cards: [], problems: [] };
  const probe = 'xpu-smi';
  if (list.kind === 'failed') return { cards: [], problems: [{ probe, reason: list.reason }] };
  const devices = parse(DeviceList, list.stdout)?.device_list ?? [];
  const cards: Card[] = [];
  for (const { device_id } of devices.slice(0, DEVICES_MAX)) {
    // The list itself has no memory; the answer for one device has.
    const answer = await ask(['discovery', '-d', String(device_id), '-j']);
    const card = answer.kind === 'ok' ? parseXpuDevice(answer.stdout, site.now) : null;
    if (card !== null) cards.push(card);
  }
  const problems = cards.length === 0 ? [{ probe, reason: 'described no device' }] : [];
  return { cards, problems };
}

/** Output of `xpu-smi discovery -d N -j`; null for a virtual function or anything else. */
export function parseXpuDevice(output: string, now: number): Card | null {
  const device = parse(Device, output);
  if (device === null || device.device_function_type === 'virtual') return null;
  const total = device.memory_physical_size_byte;
  const free = device.memory_free_size_byte;
  const name = device.device_name ?? 'Intel GPU';
  return cardOf({
    bus: busAddress(device.pci_bdf_address),
    name,
    vendor: 'intel',
    total_bytes: total,
    used_bytes: total === null || free === null ? null : Math.max(0, total - free),
    free_bytes: free,
    integrated: false,
    bandwidth_bytes_per_s: bandwidthOf(name.replace(/\(TM\)|\(R\)/g, '')),
    driver_version: device.driver_version ?? null,
    source: 'xpu-smi',
    measured_at: now,
  });
}

function parse<T extends z.ZodType>(schema: T, text: string): z.infer<T> | null {
  try {
    return schema.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null; // No JSON: the caller says that nothing was described.
  }
}
