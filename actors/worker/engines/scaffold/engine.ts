/**
 * The `scaffold` engine: a rule-based generator behind the interface of a model runtime.
 *
 * It reads the very prompt a model would get and answers in the same contract, in chunks, so that
 * everything above it works on a machine without any model. It has no memory, loads nothing and
 * talks to nobody.
 *
 * E1  The same request always gives the same bytes; only `total_ms` is measured.
 * E2  An aborted signal ends the stream with `cancelled` before the next chunk.
 * E3  Token counts are estimates, one per four characters. `output_tokens_max` does not bind:
 *     nothing here is paid by the token, and a cut file is worth nothing.
 */

import { CodeGodError } from '../../../../protocol/errors.ts';
import type {
  Engine,
  EngineInventory,
  EngineModel,
  GenerateChunk,
  GenerateMessage,
  GenerateRequest,
} from '../engine.ts';
import { answerTo } from './answer.ts';

export const SCAFFOLD_MODEL = 'scaffold';

const VERSION = '1';
const CHUNK_CHARS = 2048;
const CHARS_PER_TOKEN = 4;
const CONTEXT_TOKENS_MAX = 1_000_000;

export interface ScaffoldOptions {
  /** Slows the stream down, for tests of whoever reads it. */
  readonly pace?: { readonly chunk_chars: number; readonly delay_ms: number };
  /** Waits, and throws when the signal fires first. Needed only with a pace that has a delay. */
  readonly sleep?: (delayMs: number, signal: AbortSignal) => Promise<void>;
  /** Milliseconds since some fixed moment, for `total_ms`; without it that is 0. */
  readonly monotonic?: () => number;
}

/** @returns an engine that is always available and offers the one model `scaffold`. */
export function createScaffoldEngine(options: ScaffoldOptions = {}): Engine {
  return {
    name: 'scaffold',
    inventory: async signal => {
      refuseAborted(signal);
      return inventory();
    },
    load: async (model, _options, signal) => {
      refuseAborted(signal);
      refuseUnknown(model);
      return null;
    },
    unload: async (_model, signal) => refuseAborted(signal),
    generate: (request, signal) => generate(request, signal, options),
  };
}

function inventory(): EngineInventory {
  return { available: true, version: VERSION, reason: null, models: [scaffoldModel()] };
}

function scaffoldModel(): EngineModel {
  return {
    name: SCAFFOLD_MODEL,
    digest: `scaffold-${VERSION}`,
    size_bytes: 0,
    family: 'rules',
    parameter_size: '0',
    quantization: 'none',
    context_max: CONTEXT_TOKENS_MAX,
    loaded: true,
    vram_bytes: 0,
    ram_bytes: 0,
    context_tokens: CONTEXT_TOKENS_MAX,
    capabilities: ['completion'],
  };
}

async function* generate(
  request: GenerateRequest,
  signal: AbortSignal,
  options: ScaffoldOptions,
): AsyncGenerator<GenerateChunk> {
  refuseAborted(signal);
  refuseUnknown(request.model);
  const begun = options.monotonic?.() ?? 0;
  const text = answerTo(promptOf(request.messages));
  for (const part of slices(text, options.pace?.chunk_chars ?? CHUNK_CHARS)) {
    const delayMs = options.pace?.delay_ms ?? 0;
    if (delayMs > 0 && options.sleep !== undefined) await options.sleep(delayMs, signal);
    refuseAborted(signal);
    yield { kind: 'text', text: part };
  }
  yield {
    kind: 'done',
    reason: 'stop',
    prompt_tokens: tokens(
      request.messages.reduce((sum, message) => sum + message.content.length, 0),
    ),
    output_tokens: tokens(text.length),
    load_ms: 0,
    total_ms: (options.monotonic?.() ?? 0) - begun,
  };
}

/** The first user message holds the sections; later ones only complain about the answer. */
function promptOf(messages: readonly GenerateMessage[]): string {
  return messages.find(message => message.role === 'user')?.content ?? '';
}

const tokens = (chars: number): number => Math.ceil(chars / CHARS_PER_TOKEN);

/** Cuts the text without tearing a character in two. */
function* slices(text: string, chars: number): Generator<string> {
  const step = Math.max(2, chars);
  for (let from = 0; from < text.length; ) {
    let to = Math.min(text.length, from + step);
    const last = text.charCodeAt(to - 1);
    if (to < text.length && last >= 0xd800 && last <= 0xdbff) to--;
    yield text.slice(from, to);
    from = to;
  }
}

function refuseAborted(signal: AbortSignal): void {
  if (!signal.aborted) return;
  throw new CodeGodError('cancelled', 'the generation was cancelled', { cause: signal.reason });
}

function refuseUnknown(model: string): void {
  if (model === SCAFFOLD_MODEL) return;
  throw new CodeGodError('model_missing', `the scaffold engine has no model "${model}"`);
}
