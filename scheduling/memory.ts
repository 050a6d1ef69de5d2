/**
 * How much memory a model takes, from what its node says of it.
 *
 * First version: the size of the file, plus allowances for the attention cache and for what a
 * runtime takes besides. The allowances are upper bounds seen over common architectures, so that an
 * estimate errs on the safe side; the node's reservation has the last word.
 *
 * M1: an estimate never falls when the context grows or the model does.
 */
import type { ModelAdvert } from '../protocol/node.ts';

export const GIB = 1024 ** 3;
const KIB = 1024;

/** Cache per token of small models: 28 layers with 8 heads of 128, keys and values, 2 bytes each. */
const CACHE_BYTES_PER_TOKEN_MIN = 112 * KIB;
/** Cache per token and GiB of weights of models whose heads are grouped; 32B at 4 bits needs 13. */
const CACHE_BYTES_PER_TOKEN_PER_GIB = 14 * KIB;
/** Driver context and compute buffers of one runtime process. */
const OVERHEAD_BYTES = 640 * KIB * KIB;

export interface MemoryNeed {
  readonly weights_bytes: number;
  readonly cache_bytes: number;
  readonly overhead_bytes: number;
  readonly total_bytes: number;
}

/** Bytes that loading `model` with a context of `contextTokens` takes. */
export function memoryNeed(
  model: Pick<ModelAdvert, 'size_bytes'>,
  contextTokens: number,
): MemoryNeed {
  const perToken = Math.max(
    CACHE_BYTES_PER_TOKEN_MIN,
    CACHE_BYTES_PER_TOKEN_PER_GIB * (model.size_bytes / GIB),
  );
  const cache = Math.ceil(perToken * contextTokens);
  return {
    weights_bytes: model.size_bytes,
    cache_bytes: cache,
    overhead_bytes: OVERHEAD_BYTES,
    total_bytes: model.size_bytes + cache + OVERHEAD_BYTES,
  };
}

/** `6.1 GiB`: bytes for a sentence. */
export function gib(bytes: number): string {
  return `${(bytes / GIB).toFixed(1)} GiB`;
}
