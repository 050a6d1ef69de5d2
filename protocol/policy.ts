/**
 * What a person has laid down for the pool, kept on the bus: rules for models in the bucket
 * `codegod_policy`, keys of the HTTP door in `codegod_key`.
 */
import { z } from 'zod';
import { NodeId } from './ids.ts';
import { EpochMs } from './text.ts';

/** How many rules and keys there may be. */
export const POLICIES_MAX = 1_024;

/** Key: {@link policyKey} of the model's canonical name. */
export const ModelPolicy = z.looseObject({
  model: z.string().min(1).max(128),
  /** The only nodes it may run on; empty: any. */
  nodes: z.array(NodeId).max(64),
  /** Copies that are kept loaded, and never evicted. 0: none. */
  replicas_min: z.int().min(0).max(64),
  /** Added to the priority of every request for it. */
  priority: z.int().min(-100).max(100),
  /** Context the kept copies are loaded with; null: the usual tier. */
  context_tokens: z.int().min(256).nullable(),
  at: EpochMs,
});
export type ModelPolicy = z.infer<typeof ModelPolicy>;

/** A token of a KV key: names of models hold characters that keys may not. */
export const policyKey = (model: string): string => {
  const bytes = new TextEncoder().encode(model);
  return `model.${btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_')}`;
};

/** Key: `id`. The secret itself is shown once and kept nowhere. */
export const ApiKey = z.looseObject({
  id: z.string().regex(/^[a-z0-9]{8,32}$/),
  name: z.string().min(1).max(64),
  /** SHA-256 of the whole key, in hex; keys are 256 random bits, so no slow hash is needed. */
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  created_at: EpochMs,
  /** Null: it does not end. */
  expires_at: EpochMs.nullable(),
  /** Null: no limit. */
  requests_per_minute: z.int().min(1).nullable(),
  tokens_per_minute: z.int().min(1).nullable(),
  in_flight_max: z.int().min(1).nullable(),
  /** Models it may use; empty: all. */
  models: z.array(z.string().max(128)).max(64),
  priority: z.int().min(-100).max(100),
});
export type ApiKey = z.infer<typeof ApiKey>;
