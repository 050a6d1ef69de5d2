/**
 * The memory that a node has to give to one more model, from its adverts.
 *
 * N1: unknown memory is neither zero nor enough: `free_bytes` is null then.
 * N2: memory promised to a lease is never counted as free, whether its model is loaded yet or not.
 *     Leases of one model share one copy of it.
 */
import type { CapacityAdvert } from '../protocol/node.ts';
import type { NodeView } from './node-view.ts';

export interface NodeRoom {
  readonly kind: 'gpu' | 'ram';
  /** Free for a new model now; null where nobody knows. Negative where too much was promised. */
  readonly free_bytes: number | null;
  /** Free once models that nobody holds a lease on are unloaded. */
  readonly free_after_evicting_bytes: number | null;
  /** What would have to go for that. */
  readonly evictable: readonly string[];
}

interface Memory {
  readonly free_bytes: number | null;
  readonly total_bytes: number | null;
}

/** What `view` can give to a model it has not loaded. */
export function roomOf(view: NodeView): NodeRoom {
  const capacity = view.capacity?.advert ?? null;
  const kind = capacity !== null && capacity.gpus.length > 0 ? 'gpu' : 'ram';
  const memory = capacity === null ? { free_bytes: null, total_bytes: null } : memoryOf(capacity);
  if (memory.free_bytes === null) {
    return { kind, free_bytes: null, free_after_evicting_bytes: null, evictable: [] };
  }
  const loaded = loadedModels(view, kind);
  const promised = promisedBytes(view);
  let promisedTotal = 0;
  let promisedUnloaded = 0;
  for (const [model, bytes] of promised) {
    promisedTotal += bytes;
    if (!loaded.has(model)) promisedUnloaded += bytes;
  }
  const evictable = [...loaded].filter(([model]) => !promised.has(model));
  const evictableBytes = evictable.reduce((sum, [, bytes]) => sum + bytes, 0);
  const reserve = capacity?.reserve_bytes ?? 0;
  const unpromised = (memory.total_bytes ?? Number.POSITIVE_INFINITY) - promisedTotal;
  const driverFree = memory.free_bytes - promisedUnloaded;
  return {
    kind,
    free_bytes: Math.min(driverFree, unpromised) - reserve,
    free_after_evicting_bytes: Math.min(driverFree + evictableBytes, unpromised) - reserve,
    evictable: evictable.map(([model]) => model).sort(),
  };
}

/** Of all GPUs whose figures are known together; of main memory where there is no GPU. */
function memoryOf(capacity: CapacityAdvert): Memory {
  const ram = { free_bytes: capacity.ram.available_bytes, total_bytes: capacity.ram.total_bytes };
  if (capacity.gpus.length === 0) return ram;
  if (capacity.gpus.every(gpu => gpu.unified && gpu.free_bytes === null)) return ram;
  const known = capacity.gpus.filter(gpu => gpu.free_bytes !== null);
  if (known.length === 0) return { free_bytes: null, total_bytes: null };
  const totalKnown = known.every(gpu => gpu.total_bytes !== null);
  return {
    free_bytes: known.reduce((sum, gpu) => sum + (gpu.free_bytes ?? 0), 0),
    total_bytes: totalKnown ? known.reduce((sum, gpu) => sum + (gpu.total_bytes ?? 0), 0) : null,
  };
}

/** Bytes that each loaded model holds in the memory that counts. */
function loadedModels(view: NodeView, kind: 'gpu' | 'ram'): Map<string, number> {
  const loaded = new Map<string, number>();
  for (const engine of view.runtime?.advert.engines ?? []) {
    for (const model of engine.models) {
      if (!model.loaded) continue;
      const bytes = kind === 'gpu' ? model.vram_bytes : (model.ram_bytes ?? model.vram_bytes);
      loaded.set(model.name, bytes ?? 0);
    }
  }
  return loaded;
}

/** Bytes promised per model: the largest of its leases (N2). */
function promisedBytes(view: NodeView): Map<string, number> {
  const promised = new Map<string, number>();
  for (const lease of view.runtime?.advert.leases ?? []) {
    promised.set(lease.model, Math.max(promised.get(lease.model) ?? 0, lease.bytes));
  }
  return promised;
}
