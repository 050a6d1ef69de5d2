/** What the last line of an answer of Ollama says, and whether it can be believed. */
import type { ChatResponse } from 'ollama';
import { CodeGodError } from '../../../protocol/errors.ts';
import type { GenerateChunk, GenerateRequest } from './engine.ts';

/** Equal chunks in a row after which Ollama ends a stream without a word. */
export const REPEATED_CHUNKS = 25;
/** The client library's words for that. */
export const ENDED_EARLY = /Did not receive done/;
/** No tokenizer needs fewer tokens than this share of the bytes. */
const BYTES_PER_TOKEN_MAX = 8;
/** A window counts as filled to its middle from this share on. */
const CUT_SHARE = 0.4;
const NS_PER_MS = 1e6;

export function doneOf(part: ChatResponse, totalMs: number): GenerateChunk {
  return {
    kind: 'done',
    reason: reasonOf(part.done_reason),
    prompt_tokens: part.prompt_eval_count ?? 0,
    output_tokens: part.eval_count ?? 0,
    load_ms: 0,
    total_ms: Math.round(totalMs),
    prompt_ms: millis(part.prompt_eval_duration),
    output_ms: millis(part.eval_duration),
  };
}

const millis = (ns: number | undefined): number | null =>
  ns === undefined ? null : ns / NS_PER_MS;

function reasonOf(reason: string | undefined): 'stop' | 'length' {
  if (reason === 'stop' || reason === 'length') return reason;
  throw new CodeGodError('engine_failed', `Ollama ended an answer with ${String(reason)}`);
}

/** A window that was filled to its middle and a count below any tokenizer's: it was cut. */
export function assertWhole(request: GenerateRequest, promptTokens: number): void {
  const bytes = request.messages.reduce((sum, { content }) => sum + content.length, 0);
  const least = bytes / BYTES_PER_TOKEN_MAX;
  if (promptTokens === 0 || promptTokens >= least) return;
  if (promptTokens < request.context_tokens * CUT_SHARE) return; // A cached beginning is not counted.
  throw new CodeGodError(
    'answer_truncated',
    `of a prompt of ${bytes} characters only ${promptTokens} tokens were read`,
  );
}
