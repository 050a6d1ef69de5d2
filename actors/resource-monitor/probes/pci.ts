/**
 * Every GPU on the PCI bus of a Linux machine, whatever its driver says: the last rung, so that a
 * card whose memory nobody can read is shown as one, and never as no GPU.
 *
 * I1: it names and never measures. What another probe found at the same address is left to that.
 * I2: display adapters of emulators and of a server's remote console are not GPUs.
 */
import { join } from 'node:path';
import { busAddress, type Card, cardOf, type Findings } from '../card.ts';
import type { Probe, ProbeSite } from './site.ts';
import { attribute, entries } from './sysfs.ts';

const DEVICES_MAX = 4_096;
/** Cards come and go seldom; the bus has hundreds of devices. */
const REMEMBER_MS = 60_000;

const VENDORS: Readonly<Record<string, Card['vendor']>> = {
  '10de': 'nvidia',
  '1002': 'amd',
  '8086': 'intel',
};
/** Bochs, Cirrus, QXL, virtio, VMware, VirtualBox, Hyper-V, Xen; ASPEED, Matrox, XGI, Huawei. */
const NO_GPU = new Set('1234 1013 1b36 1af4 15ad 80ee 1414 5853 1a03 102b 18ca 19e5'.split(' '));
const NAMES = ['/usr/share/misc/pci.ids', '/usr/share/hwdata/pci.ids'];

/** Remembers the bus for a minute. */
export function pciProbe(): Probe {
  let last: { readonly at: number; readonly cards: readonly Card[] } | null = null;
  return async site => {
    if (last === null || site.now - last.at >= REMEMBER_MS) {
      last = { at: site.now, cards: await census(site) };
    }
    const cards = last.cards.map(card => ({ ...card, measured_at: site.now }));
    return { cards, problems: [] } satisfies Findings;
  };
}

async function census({ root, now }: ProbeSite): Promise<Card[]> {
  const folder = join(root, '/sys/bus/pci/devices');
  const cards: Card[] = [];
  let names: string | null = null;
  for (const slot of (await entries(folder)).slice(0, DEVICES_MAX)) {
    const device = join(folder, slot);
    const id = async (file: string) => (await attribute(join(device, file)))?.replace(/^0x/, '');
    const [kind = '', vendor = ''] = [await id('class'), await id('vendor')];
    if (!isGpu(kind, vendor) || (await entries(join(device, 'physfn'))).length > 0) continue;
    names ??= await nameList(root);
    const product = (await id('device')) ?? '';
    cards.push(
      cardOf({
        bus: busAddress(slot),
        name: parseName(names, vendor, product) ?? `GPU ${vendor}:${product}`,
        vendor: VENDORS[vendor] ?? 'other',
        ...(vendor === '8086' && slot.startsWith('0000:00:02.')
          ? { integrated: true, unified: true }
          : {}),
        source: 'pci',
        measured_at: now,
      }),
    );
  }
  return cards;
}

/** Display controllers, and AMD's accelerators, which are "processing accelerators" (I2). */
function isGpu(kind: string, vendor: string): boolean {
  return (
    (kind.startsWith('03') || (kind.startsWith('12') && vendor === '1002')) && !NO_GPU.has(vendor)
  );
}

async function nameList(root: string): Promise<string> {
  for (const path of NAMES) {
    const list = await attribute(join(root, path));
    if (list !== null) return list;
  }
  return '';
}

/** The name of a device in the list `pci.ids`, where vendors stand at the margin. */
export function parseName(list: string, vendor: string, product: string): string | null {
  const start = list.search(new RegExp(`^${vendor}  `, 'm'));
  if (start < 0) return null;
  const end = list.slice(start + 1).search(/^[0-9a-f]{4} {2}/m);
  const own = end < 0 ? list.slice(start) : list.slice(start, start + 1 + end);
  return new RegExp(`^\\t${product}  (.+)$`, 'm').exec(own)?.[1]?.trim() ?? null;
}

/** The cards of the bus that no other probe has found, each with what to do about it. */
export function unseen(present: readonly Card[], seen: readonly Card[]): Findings {
  const cards = present.filter(card => seen.every(({ bus }) => bus !== card.bus));
  const problems = cards
    .filter(card => card.integrated !== true)
    .map(({ name, bus, vendor }) => ({
      probe: 'pci',
      reason: `nothing reads the memory of ${name} ${bus}: ${remedy(vendor)} or declare node.gpus`,
    }));
  return { cards, problems };
}

function remedy(vendor: Card['vendor']): string {
  if (vendor === 'nvidia') return 'install the NVIDIA driver with nvidia-smi';
  return vendor === 'amd' ? 'load the driver amdgpu' : 'install its driver';
}
