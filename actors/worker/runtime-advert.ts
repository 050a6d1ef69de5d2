/**
 * The runtime advert within its bound: where hundreds of models with their profiles are too much for
 * one message, those used longest ago are told without.
 */
import type { LeaseAdvert, ModelAdvert, RuntimeAdvert } from '../../protocol/node.ts';

export const LEASES_MAX = 256;

export interface Bounded {
  readonly advert: RuntimeAdvert;
  /** Models whose profile was left out. */
  readonly dropped: number;
}

export function boundedAdvert(advert: RuntimeAdvert, bytesMax: number): Bounded {
  let excess = bytesOf(advert) - bytesMax;
  if (excess <= 0) return { advert, dropped: 0 };
  const models = advert.engines.flatMap(engine => engine.models);
  const bare = new Set<ModelAdvert>();
  for (const model of [...models].sort(leastWanted)) {
    if (excess <= 0) break;
    if (model.profile === undefined) continue;
    bare.add(model);
    excess -= bytesOf(model.profile) + PROFILE_KEY_BYTES;
  }
  const engines = advert.engines.map(engine => ({
    ...engine,
    models: engine.models.map(model => (bare.has(model) ? withoutProfile(model) : model)),
  }));
  return { advert: { ...advert, engines }, dropped: bare.size };
}

/** Leases within their bound; the largest of each model stays, so that nothing looks free that is not. */
export function boundedLeases(leases: readonly LeaseAdvert[]): LeaseAdvert[] {
  if (leases.length <= LEASES_MAX) return [...leases];
  const largest = new Map<string, LeaseAdvert>();
  for (const lease of leases) {
    if (lease.bytes > (largest.get(lease.model)?.bytes ?? -1)) largest.set(lease.model, lease);
  }
  const first = new Set(largest.values());
  return [...first, ...leases.filter(lease => !first.has(lease))].slice(0, LEASES_MAX);
}

/** `"profile":` and a comma. */
const PROFILE_KEY_BYTES = 11;

const bytesOf = (value: unknown): number => Buffer.byteLength(JSON.stringify(value));

/** Not loaded before loaded, then used longest ago first. */
const leastWanted = (left: ModelAdvert, right: ModelAdvert): number =>
  Number(left.loaded) - Number(right.loaded) || (left.used_at ?? 0) - (right.used_at ?? 0);

function withoutProfile({ profile: _, ...model }: ModelAdvert): ModelAdvert {
  return model;
}
