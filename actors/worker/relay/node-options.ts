/**
 * The options of a request that belong to the node, not to the client, and those of the client that
 * may stay. All requests to one copy of a model say the same about how it is loaded.
 */
import { CodeGodError } from '../../../protocol/errors.ts';
import type { Translation } from './dialect.ts';
import type { Fields } from './fields.ts';

/** Another value of any of these makes the engine load the model again. */
const LOADS_AGAIN = new Set([
  'num_ctx',
  'num_batch',
  'num_gpu',
  'main_gpu',
  'num_thread',
  'use_mmap',
  'use_mlock',
  'low_vram',
  'numa',
  'f16_kv',
  'vocab_only',
  'draft_num_predict',
]);

/** Tokens of an answer where the client sets no bound. */
const OUTPUT_TOKENS = 8_192;

/** What a client's own native options may keep, and the names of those that go. */
export function clientOptions(given: Fields): { options: Fields; ignored: string[] } {
  const ignored = Object.keys(given).filter(name => LOADS_AGAIN.has(name));
  if (ignored.length === 0) return { options: given, ignored };
  const kept = Object.entries(given).filter(([name]) => !LOADS_AGAIN.has(name));
  return { options: Object.fromEntries(kept), ignored };
}

export interface NodeOptions {
  /** What the copy is loaded with; 0 for a model that needs none. */
  readonly context_tokens: number;
  readonly keep_alive: string | number;
}

/** The request as it goes to the engine. @throws CodeGodError `bad_request` for one nested too deep. */
export function nativeBody(translation: Translation, node: NodeOptions): string {
  try {
    return JSON.stringify(nativeRequest(translation, node));
  } catch (cause) {
    throw new CodeGodError('bad_request', 'the request cannot be written as JSON', { cause });
  }
}

function nativeRequest(translation: Translation, node: NodeOptions): Fields {
  const { path, model, body, options, stream } = translation;
  return {
    truncate: false,
    ...body,
    model,
    stream,
    keep_alive: node.keep_alive,
    ...(path === '/api/embed' ? {} : { shift: false }),
    options: {
      ...(path === '/api/embed' ? {} : { num_predict: OUTPUT_TOKENS }),
      ...options,
      ...(node.context_tokens === 0 ? {} : { num_ctx: node.context_tokens }),
    },
  };
}
