/**
 * Attributes of graphics devices under `/sys`, one at a time: a driver that hangs on a read holds
 * one thread of the pool, not all of them.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { busAddress } from '../card.ts';

const CARDS_MAX = 64;

export interface DrmCard {
  /** `/sys/class/drm/card<N>`. */
  readonly path: string;
  readonly device: string;
  readonly bus: string | null;
  /** `0x1002`. */
  readonly vendor: string;
  readonly driver: string | null;
}

/** The cards of one vendor, in the order of their numbers. None where there is no such tree. */
export async function drmCards(root: string, vendor: string): Promise<DrmCard[]> {
  const folder = join(root, '/sys/class/drm');
  const names = (await entries(folder)).filter(name => /^card[0-9]+$/.test(name));
  names.sort((one, other) => Number(one.slice(4)) - Number(other.slice(4)));
  const cards: DrmCard[] = [];
  for (const name of names.slice(0, CARDS_MAX)) {
    const path = join(folder, name);
    const device = join(path, 'device');
    if ((await attribute(join(device, 'vendor'))) !== vendor) continue;
    const uevent = (await attribute(join(device, 'uevent'))) ?? '';
    cards.push({
      path,
      device,
      vendor,
      bus: busAddress(/^PCI_SLOT_NAME=(.*)$/m.exec(uevent)?.[1]),
      driver: /^DRIVER=(.*)$/m.exec(uevent)?.[1] ?? null,
    });
  }
  return cards;
}

/** Names in a folder; none where it is not there or not ours to read. */
export async function entries(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort();
  } catch {
    // What cannot be listed has nothing to tell: the figures looked for in it stay unknown.
    return [];
  }
}

/** A file's trimmed text; null where it is absent, unreadable or empty. */
export async function attribute(path: string): Promise<string | null> {
  try {
    const content = (await readFile(path, 'utf8')).trim();
    return content === '' ? null : content;
  } catch {
    // sysfs leaves out what a device does not have: an unknown figure, not a missing device.
    return null;
  }
}

export async function count(path: string): Promise<number | null> {
  const content = await attribute(path);
  return content !== null && /^[0-9]+$/.test(content) ? Number(content) : null;
}

export interface Sensors {
  readonly temperature_c: number | null;
  readonly power_w: number | null;
  /** The driver shows the voltage of the north bridge, which only a processor's own GPU has. */
  readonly hasNorthBridge: boolean;
}

/** The sensors of a device; null where it has none. */
export async function sensors(device: string): Promise<Sensors | null> {
  const [first] = await entries(join(device, 'hwmon'));
  if (first === undefined) return null;
  const folder = join(device, 'hwmon', first);
  const millidegrees =
    (await count(join(folder, 'temp1_input'))) ?? (await count(join(folder, 'temp2_input')));
  const microwatts =
    (await count(join(folder, 'power1_average'))) ?? (await count(join(folder, 'power1_input')));
  return {
    temperature_c: millidegrees === null ? null : millidegrees / 1_000,
    power_w: microwatts === null ? null : microwatts / 1e6,
    hasNorthBridge: (await attribute(join(folder, 'in1_label'))) === 'vddnb',
  };
}
