/**
 * Which cards an engine may use: its process can be told to see only some (`CUDA_VISIBLE_DEVICES` and
 * its kin). What it does not see is no room for it.
 *
 * C1: a variable that is not set hides nothing; one that is empty hides all of its sort, but for HIP,
 *     which takes it as not set.
 * C2: the list ends at the first entry that names no card, as the drivers read it: `-1` is none at all.
 * C3: numbers are places among the cards of a vendor in the order of the advert. Where slices of a card
 *     are advertised nobody can tell their numbers, and such a list hides nothing.
 */
import type { GpuAdvert, VisibleDevices } from '../protocol/node.ts';

export function visibleCards(
  cards: readonly GpuAdvert[],
  visible: VisibleDevices,
): readonly GpuAdvert[] {
  const of = (isOurs: (card: GpuAdvert) => boolean): readonly GpuAdvert[] => cards.filter(isOurs);
  const seen = new Set([
    ...listed(
      of(({ vendor }) => vendor === 'nvidia'),
      visible.CUDA_VISIBLE_DEVICES,
    ),
    ...radeons(
      of(({ vendor }) => vendor === 'amd'),
      visible,
    ),
    ...of(({ vendor }) => vendor === 'apple'),
    // Vulkan numbers the cards of all vendors.
    ...listed(cards, visible.GGML_VK_VISIBLE_DEVICES).filter(
      ({ vendor }) => vendor === 'intel' || vendor === 'other',
    ),
  ]);
  return cards.filter(card => seen.has(card));
}

/** HIP counts what ROCr has left; it takes the first of its variables that holds numbers. */
function radeons(cards: readonly GpuAdvert[], visible: VisibleDevices): readonly GpuAdvert[] {
  const left = listed(cards, visible.ROCR_VISIBLE_DEVICES);
  const numbers = [
    visible.HIP_VISIBLE_DEVICES,
    visible.GPU_DEVICE_ORDINAL,
    visible.CUDA_VISIBLE_DEVICES,
  ].find(list => list !== undefined && /^\s*-?\d+\s*(,\s*-?\d+\s*)*$/.test(list));
  return listed(left, numbers);
}

function listed(cards: readonly GpuAdvert[], list: string | undefined): readonly GpuAdvert[] {
  if (list === undefined) return cards;
  const found: GpuAdvert[] = [];
  for (const entry of list.split(',').map(text => text.trim())) {
    const isNumber = /^\d+$/.test(entry);
    if (isNumber && cards.some(({ mig_profile }) => typeof mig_profile === 'string')) return cards; // C3
    const card = isNumber ? cards[Number(entry)] : byId(cards, entry);
    if (card === undefined) break; // C2
    found.push(card);
  }
  return found;
}

/** The start of an id is enough where only one card has it. */
function byId(cards: readonly GpuAdvert[], entry: string): GpuAdvert | undefined {
  if (!/^(GPU|MIG)-/i.test(entry)) return undefined;
  const start = entry.toLowerCase();
  const found = cards.filter(({ uuid }) => uuid?.toLowerCase().startsWith(start));
  return found.length === 1 ? found[0] : undefined;
}
