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

const countsText = (counts: Counts): string =>
  `"done":true,"done_reason":"${counts.reason}","total_duration":${ns(counts.totalMs)},` +
  `"load_duration":${ns(counts.loadMs)},"prompt_eval_count":${counts.promptTokens},` +
  `"prompt_eval_duration":${ns(counts.promptMs)},"eval_count":${counts.outputTokens},` +
  `"eval_duration":${ns(counts.outputMs)}`;

const nativeCalls = (calls: readonly ToolCall[]): object[] =>
  calls.map(({ id, name, arguments: given }, index) => ({
    id,
    function: { index, name, arguments: given },
  }));

/** `/api/chat` and `/api/generate`. */
export class NativeVoice implements Voice {
  readonly streams: boolean;
  readonly #chat: boolean;
  readonly #head: string;

  constructor(model: string, { streams, chat }: { streams: boolean; chat: boolean }) {
    this.streams = streams;
    this.#chat = chat;
    this.#head = `{"model":${JSON.stringify(model)},"created_at":"${now()}",`;
  }

  get contentType(): string {
    return this.streams ? 'application/x-ndjson' : 'application/json; charset=utf-8';
  }

  piece(text: string, thinking: boolean): string {
    const body = thinking ? this.#body('', text) : this.#body(text, '');
    return `${this.#head}${body}"done":false}\n`;
  }

  calls(calls: readonly ToolCall[]): string {
    return `${this.#head}${this.#body('', '', calls)}"done":false}\n`;
  }

  end(counts: Counts): string {
    return `${this.#head}${this.#body('', '')}${countsText(counts)}}\n`;
  }

  whole({ text, thinking, calls }: Whole, counts: Counts): string {
    return `${this.#head}${this.#body(text, thinking, calls)}${countsText(counts)}}`;
  }

  error(message: string): string {
    return `${JSON.stringify({ error: message })}\n`;
  }

  #body(text: string, thinking: string, calls: readonly ToolCall[] = []): string {
    const thought = thinking === '' ? '' : `,"thinking":${JSON.stringify(thinking)}`;
    if (!this.#chat) return `"response":${JSON.stringify(text)}${thought},`;
    const called = calls.length === 0 ? '' : `,"tool_calls":${JSON.stringify(nativeCalls(calls))}`;
    return `"message":{"role":"assistant","content":${JSON.stringify(text)}${thought}${called}},`;
  }
}

/** Of a request that only loads or unloads. */
export function emptyReply(model: string, chat: boolean, reason: 'load' | 'unload'): object {
  const said = chat ? { message: { role: 'assistant', content: '' } } : { response: '' };
  return { model, created_at: now(), ...said, done: true, done_reason: reason };
}

/** In the form of Go: more digits than there is time. */
const now = (): string => `${new Date().toISOString().slice(0, -1)}000000Z`;

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
export class OpenAiVoice implements Voice {
  readonly streams: boolean;
  readonly #chat: boolean;
  readonly #includeUsage: boolean;
  readonly #head: object;
  readonly #opening: string;
  #called = false;

  constructor(model: string, { streams, chat, id, includeUsage }: OpenAiVoiceOptions) {
    this.streams = streams;
    this.#chat = chat;
    this.#includeUsage = includeUsage;
    const kind = chat ? 'chat.completion' : 'text_completion';
    this.#head = {
      id: `${chat ? 'chatcmpl' : 'cmpl'}-${id}`,
      object: chat && streams ? 'chat.completion.chunk' : kind,
      created: Math.floor(Date.now() / 1_000),
      model,
      system_fingerprint: 'fp_ollama',
    };
    this.#opening = JSON.stringify(this.#head).slice(0, -1);
  }

  get contentType(): string {
    return this.streams ? 'text/event-stream' : 'application/json';
  }

  piece(text: string, thinking: boolean): string {
    if (!thinking) return this.#event(text, '', 'null');
    return this.#event('', this.#chat ? `,"reasoning":${JSON.stringify(text)}` : '', 'null');
  }

  calls(calls: readonly ToolCall[]): string {
    this.#called = true;
    return this.#event('', `,"tool_calls":${JSON.stringify(openAiCalls(calls))}`, 'null');
  }

  end(counts: Counts): string {
    const last = this.#event('', '', `"${this.#reason(counts)}"`);
    const told = JSON.stringify({ ...this.#head, choices: [], usage: usage(counts) });
    return `${last}${this.#includeUsage ? `data: ${told}\n\n` : ''}data: [DONE]\n\n`;
  }

  whole({ text, thinking, calls }: Whole, counts: Counts): string {
    this.#called = calls.length > 0;
    const message = {
      ...{ role: 'assistant', content: text },
      ...(thinking === '' ? {} : { reasoning: thinking }),
      ...(this.#called ? { tool_calls: openAiCalls(calls) } : {}),
    };
    const said = this.#chat ? { index: 0, message } : { text, index: 0 };
    const choices = [{ ...said, finish_reason: this.#reason(counts) }];
    return `${JSON.stringify({ ...this.#head, choices, usage: usage(counts) })}\n`;
  }

  /** Ollama itself loses the words of an error in mid-stream here; the stream just has no end. */
  error(): string {
    return this.#event('', '', 'null');
  }

  #reason(counts: Counts): string {
    return this.#called ? 'tool_calls' : counts.reason;
  }

  #event(text: string, more: string, reason: string): string {
    const content = JSON.stringify(text);
    const said = this.#chat
      ? `"index":0,"delta":{"role":"assistant","content":${content}${more}}`
      : `"text":${content},"index":0`;
    return `data: ${this.#opening},"choices":[{${said},"finish_reason":${reason}}]}\n\n`;
  }
}
