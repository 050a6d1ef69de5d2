/** What a model would take on a node, from its advert and the settings of the engine there. */
import type { ModelProfile } from '../protocol/model-profile.ts';
import type { EngineAdvert, ModelAdvert } from '../protocol/node.ts';
import { tierOf } from './fit.ts';
import {
  type Backend,
  type MemoryNeed,
  type MemoryOptions,
  memoryNeed,
  profileOfSize,
} from './memory.ts';

/** How the engine would run the model with the tier that `tokens` fall into. */
export function memoryOptionsOf(
  { backend }: { readonly backend: Backend },
  { engine, model }: { readonly engine: EngineAdvert; readonly model: ModelAdvert },
  tokens: number,
): MemoryOptions {
  const environment = engine.environment;
  const single = model.profile?.single_slot === true;
  return {
    context_tokens: tierOf(tokens, model.profile ?? model),
    slots: single ? 1 : (environment?.num_parallel ?? 1),
    kv_type: environment?.kv_type ?? 'f16',
    flash_attention: environment?.flash_attention ?? true,
    backend,
    engine_version: engine.version,
  };
}

const needs = new WeakMap<ModelProfile, Map<string, MemoryNeed>>();

/** `memoryNeed()`, computed once for a profile and a way to run it. */
export function needOf(profile: ModelProfile, options: MemoryOptions): MemoryNeed {
  const way = JSON.stringify(options);
  const known = needs.get(profile) ?? new Map<string, MemoryNeed>();
  needs.set(profile, known);
  const need = known.get(way) ?? memoryNeed(profile, options);
  known.set(way, need);
  return need;
}

const profiles = new WeakMap<ModelAdvert, ModelProfile>();

export function profileOf(model: ModelAdvert): ModelProfile {
  if (model.profile !== undefined) return model.profile;
  const known = profiles.get(model);
  if (known !== undefined) return known;
  const profile = profileOfSize(model);
  profiles.set(model, profile);
  return profile;
}
