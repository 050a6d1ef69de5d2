/**
 * The options of a request that belong to the node, not to the client, and those of the client that
 * may stay. All requests to one copy of a model say the same about how it is loaded.
 */
import { CodeGodError } from '../../../protocol/errors.ts';
import { type CopyTerms, RELOAD_OPTIONS } from '../engines/ollama-options.ts';
import type { Translation } from './dialect.ts';
import type { Fields } from './fields.ts';

/** Another value of any of these makes the engine load the model again. */
const LOADS_AGAIN: ReadonlySet<string> = new Set(RELOAD_OPTIONS);

/** Tokens of an answer where the client sets no bound. */
const OUTPUT_TOKENS = 8_192;

/** What a client's own native options may keep, and the names of those that go. */
export function clientOptions(given: Fields): { options: Fields; ignored: string[] } {
  const ignored = Object.keys(given).filter(name => LOADS_AGAIN.has(name));
  if (ignored.length === 0) return { options: given, ignored };
  const kept = Object.entries(given).filter(([name]) => !LOADS_AGAIN.has(name));
  return { options: Object.fromEntries(kept), ignored };
}

/** The request as it goes to the engine. @throws CodeGodError `bad_request` for one nested too deep. */
export function nativeBody(translation: Translation, copy: CopyTerms): string {
  try {
    return JSON.stringify(nativeRequest(translation, copy));
  } catch (cause) {
    throw new CodeGodError('bad_request', 'the request cannot be written as JSON', { cause });
  }
}

function nativeRequest(translation: Translation, copy: CopyTerms): Fields {
  const { path, model, body, options, stream } = translation;
  // What is true of a talk is not of an embedding: nothing is written, and the beginning of a text
  // that is too long is better than none of the whole list, as engines see it themselves.
  const talks = path !== '/api/embed';
  return {
    ...(talks ? { truncate: false } : {}),
    ...body,
    model,
    stream,
    keep_alive: copy.keep_alive,
    ...(talks ? { shift: false } : {}),
    options: {
      ...(talks ? { num_predict: OUTPUT_TOKENS } : {}),
      ...options,
      ...(copy.context_tokens === 0 ? {} : { num_ctx: copy.context_tokens }),
    },
  };
}
