/** The cards of a node on which models can lie, and the back end that engines run on them. */
import type { CapacityAdvert, EngineAdvert, GpuAdvert } from '../protocol/node.ts';
import type { Backend } from './memory.ts';
import { visibleCards } from './visible-cards.ts';

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

const seenBy = new WeakMap<CapacityAdvert, WeakMap<readonly EngineAdvert[], CapacityAdvert>>();
/** Numbers of cards count all of them, so that nothing is left out twice. */
const narrowed = new WeakSet<CapacityAdvert>();

/** A node's figures with those cards alone on which models can lie: its local engine sees them. */
export function capacityFor(
  capacity: CapacityAdvert | null,
  engines: readonly EngineAdvert[],
): CapacityAdvert | null {
  const local = engines.find(({ name }) => name === 'ollama');
  const visible = local?.environment?.visible_devices;
  if (capacity === null || narrowed.has(capacity)) return capacity;
  if (visible === undefined && capacity.gpus.every(isCard)) return capacity;
  const known = seenBy.get(capacity) ?? new WeakMap<readonly EngineAdvert[], CapacityAdvert>();
  seenBy.set(capacity, known);
  const seen = known.get(engines) ?? {
    ...capacity,
    gpus: visibleCards(capacity.gpus, visible ?? {}).filter(isCard),
  };
  known.set(engines, seen);
  narrowed.add(seen);
  return seen;
}
