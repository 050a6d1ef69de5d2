/**
 * How an answer is written down: Ollama's lines or OpenAI's events, whole or streamed. A piece is
 * what is sent at once: one token of a stream.
 */

export interface ToolCall {
  readonly id: string;
  readonly name: string;
  readonly arguments: object;
}

export interface Counts {
  readonly reason: 'stop' | 'length';
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly totalMs: number;
  readonly loadMs: number;
  readonly promptMs: number;
  readonly outputMs: number;
}

/** Everything of an answer that is not streamed. */
export interface Whole {
  readonly text: string;
  readonly thinking: string;
  readonly calls: readonly ToolCall[];
}

export interface Voice {
  readonly streams: boolean;
  readonly contentType: string;
  piece(text: string, thinking: boolean): string;
  calls(calls: readonly ToolCall[]): string;
  end(counts: Counts): string;
  whole(answer: Whole, counts: Counts): string;
  /** Of a stream that has begun. */
  error(message: string): string;
}

const NS_PER_MS = 1e6;
const ns = (ms: number): number => Math.max(1, Math.round(ms * NS_PER_MS));

const countsJson = (counts: Counts): object => ({
  done: true,
  done_reason: counts.reason,
  total_duration: ns(counts.totalMs),
  load_duration: ns(counts.loadMs),
  prompt_eval_count: counts.promptTokens,
  prompt_eval_duration: ns(counts.promptMs),
  eval_count: counts.outputTokens,
  eval_duration: ns(counts.outputMs),
});

const nativeCalls = (calls: readonly ToolCall[]): object[] =>
  calls.map(({ id, name, arguments: given }, index) => ({
    id,
    function: { index, name, arguments: given },
  }));

/** `/api/chat` and `/api/generate`. */
export function nativeVoice(
  model: string,
  { streams, chat }: { readonly streams: boolean; readonly chat: boolean },
): Voice {
  const now = new Date().toISOString().replace('Z', '000000Z');
  const head = `{"model":${JSON.stringify(model)},"created_at":"${now}",`;
  const body = (text: string, thinking: string, calls: readonly ToolCall[] = []): string => {
    if (!chat) {
      const thought = thinking === '' ? '' : `,"thinking":${JSON.stringify(thinking)}`;
      return `"response":${JSON.stringify(text)}${thought},`;
    }
    const thought = thinking === '' ? '' : `,"thinking":${JSON.stringify(thinking)}`;
    const called = calls.length === 0 ? '' : `,"tool_calls":${JSON.stringify(nativeCalls(calls))}`;
    return `"message":{"role":"assistant","content":${JSON.stringify(text)}${thought}${called}},`;
  };
  const rest = (counts: Counts): string => JSON.stringify(countsJson(counts)).slice(1);
  return {
    streams,
    contentType: streams ? 'application/x-ndjson' : 'application/json; charset=utf-8',
    piece: (text, thinking) =>
      `${head}${thinking ? body('', text) : body(text, '')}"done":false}\n`,
    calls: calls => `${head}${body('', '', calls)}"done":false}\n`,
    end: counts => `${head}${body('', '')}${rest(counts)}\n`,
    whole: ({ text, thinking, calls }, counts) =>
      `${head}${body(text, thinking, calls)}${rest(counts)}`,
    error: message => `${JSON.stringify({ error: message })}\n`,
  };
}

const openAiCalls = (calls: readonly ToolCall[]): object[] =>
  calls.map(({ id, name, arguments: given }, index) => ({
    ...{ id, index, type: 'function' },
    function: { name, arguments: JSON.stringify(given) },
  }));

const usage = ({ promptTokens, outputTokens }: Counts): object => ({
  prompt_tokens: promptTokens,
  completion_tokens: outputTokens,
  total_tokens: promptTokens + outputTokens,
});

export interface OpenAiVoiceOptions {
  readonly streams: boolean;
  readonly chat: boolean;
  readonly id: number;
  readonly includeUsage: boolean;
}

/** `/v1/chat/completions` and `/v1/completions`. */
export function openAiVoice(model: string, options: OpenAiVoiceOptions): Voice {
  const { streams, chat, includeUsage } = options;
  const kind = chat ? 'chat.completion' : 'text_completion';
  const head = {
    id: `${chat ? 'chatcmpl' : 'cmpl'}-${options.id}`,
    object: chat && streams ? 'chat.completion.chunk' : kind,
    created: Math.floor(Date.now() / 1_000),
    model,
    system_fingerprint: 'fp_ollama',
  };
  const opening = JSON.stringify(head).slice(0, -1);
  let called = false;
  const reasonOf = (counts: Counts): string => (called ? 'tool_calls' : counts.reason);
  const event = (inner: string): string => `data: ${opening},"choices":[${inner}]}\n\n`;
  const choice = (text: string, more: string, reason: string): string =>
    chat
      ? `{"index":0,"delta":{"role":"assistant","content":${JSON.stringify(text)}${more}},"finish_reason":${reason}}`
      : `{"text":${JSON.stringify(text)},"index":0,"finish_reason":${reason}}`;
  return {
    streams,
    contentType: streams ? 'text/event-stream' : 'application/json',
    piece: (text, thinking) =>
      event(
        thinking
          ? choice('', chat ? `,"reasoning":${JSON.stringify(text)}` : '', 'null')
          : choice(text, '', 'null'),
      ),
    calls(calls) {
      called = true;
      return event(choice('', `,"tool_calls":${JSON.stringify(openAiCalls(calls))}`, 'null'));
    },
    end(counts) {
      const last = event(choice('', '', JSON.stringify(reasonOf(counts))));
      const told = JSON.stringify({ ...head, choices: [], usage: usage(counts) });
      return `${last}${includeUsage ? `data: ${told}\n\n` : ''}data: [DONE]\n\n`;
    },
    whole({ text, thinking, calls }, counts) {
      called = calls.length > 0;
      const message = {
        ...{ role: 'assistant', content: text },
        ...(thinking === '' ? {} : { reasoning: thinking }),
        ...(called ? { tool_calls: openAiCalls(calls) } : {}),
      };
      const said = chat ? { index: 0, message } : { text, index: 0 };
      const choices = [{ ...said, finish_reason: reasonOf(counts) }];
      return `${JSON.stringify({ ...head, choices, usage: usage(counts) })}\n`;
    },
    // Ollama itself loses the words of an error in mid-stream here; the stream just has no end.
    error: () => event(choice('', '', 'null')),
  };
}
