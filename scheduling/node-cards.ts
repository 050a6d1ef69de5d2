/** The cards of a node on which models can lie, and the back end that engines run on them. */
import type { CapacityAdvert, GpuAdvert } from '../protocol/node.ts';
import type { Backend } from './memory.ts';

const BACKENDS: Readonly<Record<string, Backend>> = {
  nvidia: 'cuda',
  amd: 'rocm',
  apple: 'metal',
  intel: 'vulkan',
};

/** Graphics beside the processor of which nobody can say what they have free are for a display. */
export function cardsOf(capacity: CapacityAdvert | null): readonly GpuAdvert[] {
  const cards = capacity?.gpus ?? [];
  return cards.every(isCard) ? cards : cards.filter(isCard);
}

const isCard = ({ integrated, free_bytes }: GpuAdvert): boolean =>
  integrated !== true || free_bytes !== null;

export function backendOf(capacity: CapacityAdvert | null): Backend {
  const cards = cardsOf(capacity);
  const card = cards.find(({ integrated }) => integrated !== true) ?? cards[0];
  return card === undefined ? 'cpu' : (BACKENDS[card.vendor] ?? 'vulkan');
}
