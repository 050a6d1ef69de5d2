/**
 * The one set of options per loaded copy. Ollama loads a model again when any of RELOAD_OPTIONS is
 * not what it was loaded with, whoever asks; so everybody who asks takes them from here.
 */
import type { ChatRequest, Options } from 'ollama';

/** What a request may not choose for itself. */
export const RELOAD_OPTIONS = [
  'num_ctx',
  'num_batch',
  'num_gpu',
  'main_gpu',
  'num_thread',
  'use_mmap',
  'draft_num_predict',
] as const;

/** Seconds that a copy stays after a use, where nobody says otherwise. */
export const KEEP_ALIVE_S = 900;

/** How a copy is loaded, and so how it has to be asked for. */
export interface CopyTerms {
  readonly context_tokens: number;
  /** Seconds that it stays after a use; -1: for good. Ollama itself evicts the shortest first. */
  readonly keep_alive: number;
}

/** Fields of the API that the client library does not know yet. */
export interface NativeFields {
  readonly keep_alive: number;
  /** Nothing is cut silently: what does not fit is refused, and an answer ends at the window. */
  readonly truncate: false;
  readonly shift: false;
}

export type NativeChat = Omit<ChatRequest, 'keep_alive' | 'truncate' | 'shift'> & NativeFields;

/** The fields of every request for a copy; `sampling` are the options that reload nothing. */
export function canonicalFields(
  { context_tokens, keep_alive }: CopyTerms,
  sampling: Partial<Options> = {},
): NativeFields & { readonly options: Partial<Options> } {
  const harmless = Object.fromEntries(
    Object.entries(sampling).filter(([name]) => !RELOAD_OPTIONS.some(option => option === name)),
  );
  return {
    ...{ keep_alive, truncate: false, shift: false },
    options: { ...harmless, num_ctx: context_tokens },
  };
}
