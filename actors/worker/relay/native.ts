/**
 * The one language that all dialects are translated to and from: that of Ollama's own API. An engine
 * of another kind turns these requests into its own and gives its answers as these lines.
 */

export type NativePath = '/api/chat' | '/api/generate' | '/api/embed';

export interface NativeToolCall {
  readonly id?: string;
  readonly function: { readonly name: string; readonly arguments: object };
}

export interface NativeMessage {
  readonly role: 'system' | 'user' | 'assistant' | 'tool';
  readonly content: string;
  readonly thinking?: string;
  /** Base64. */
  readonly images?: readonly string[];
  readonly tool_calls?: readonly NativeToolCall[];
  readonly tool_name?: string;
  readonly tool_call_id?: string;
}

export interface NativeTool {
  readonly type: 'function';
  readonly function: {
    readonly name: string;
    readonly description?: string;
    readonly parameters: object;
  };
}

/** One line of an answer, or the whole of an answer that is not streamed. Durations in ns. */
export interface NativeLine {
  readonly message?: {
    readonly content?: string;
    readonly thinking?: string;
    readonly tool_calls?: readonly NativeToolCall[];
  };
  readonly response?: string;
  readonly embeddings?: readonly (readonly number[])[];
  readonly logprobs?: readonly object[];
  readonly done?: boolean;
  readonly done_reason?: string;
  readonly error?: string;
  readonly total_duration?: number;
  readonly load_duration?: number;
  readonly prompt_eval_count?: number;
  readonly prompt_eval_duration?: number;
  readonly eval_count?: number;
  readonly eval_duration?: number;
}

/** What an answer took, from its last line; null where the engine did not say. */
export interface Figures {
  readonly prompt_tokens: number | null;
  readonly prompt_ms: number | null;
  readonly output_tokens: number | null;
  readonly output_ms: number | null;
}

export function figuresOf(line: NativeLine): Figures {
  return {
    prompt_tokens: line.prompt_eval_count ?? null,
    prompt_ms: milliseconds(line.prompt_eval_duration),
    output_tokens: line.eval_count ?? null,
    output_ms: milliseconds(line.eval_duration),
  };
}

export const milliseconds = (ns: number | undefined): number | null =>
  ns === undefined ? null : ns / 1e6;
