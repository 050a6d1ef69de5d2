/**
 * Anthropic's messages on the native chat: the answer, whole or as a stream of events.
 *
 * A1: the blocks of an answer come one after the other, each begun and ended, as the official
 *     clients put them together.
 * A2: a stream begins before the engine has counted the prompt: `message_start` says 0, the exact
 *     counts stand in `message_delta`.
 */
import { ERRORS } from '../../../protocol/error-codes.ts';
import type { CodeGodError } from '../../../protocol/errors.ts';
import type { LineTranslator } from './answer-lines.ts';
import type { ForcedCall } from './forced-call.ts';
import type { NativeLine, NativeToolCall } from './native.ts';

export interface MessageForm {
  /** Unique; ids are made of it. */
  readonly name: string;
  readonly model: string;
  readonly stream: boolean;
  readonly thoughts: boolean;
  readonly forced: ForcedCall | null;
}

type BlockKind = 'text' | 'thinking';

/** How a block of each kind begins, and what its deltas are called. */
const BLOCKS = {
  text: { begin: '{"type":"text","text":""}', delta: 'text_delta', field: 'text' },
  thinking: {
    begin: '{"type":"thinking","thinking":"","signature":""}',
    delta: 'thinking_delta',
    field: 'thinking',
  },
} as const;

/** What these clients call an error, by its HTTP status. */
const ERROR_TYPES: Readonly<Record<number, string>> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  413: 'request_too_large',
  422: 'invalid_request_error',
  503: 'overloaded_error',
  504: 'timeout_error',
};

export class MessageAnswer implements LineTranslator {
  readonly contentType: string;
  readonly #form: MessageForm;
  readonly #blocks: object[] = [];
  #begun = false;
  /** Index of the next block, or of the one that is open. */
  #index = 0;
  #open: BlockKind | null = null;
  #calls = 0;
  #last: NativeLine = {};

  constructor(form: MessageForm) {
    this.contentType = form.stream ? 'text/event-stream; charset=utf-8' : 'application/json';
    this.#form = form;
  }

  line(given: NativeLine): string {
    const line = this.#form.forced === null ? given : this.#form.forced.take(given);
    if (line.done === true) this.#last = line;
    return this.#form.stream ? this.#events(line) : this.#collect(line);
  }

  end(): string {
    const { prompt_eval_count: input_tokens = 0, eval_count: output_tokens = 0 } = this.#last;
    const ended = { stop_reason: this.#stopReason(), stop_sequence: null };
    const usage = { input_tokens, output_tokens };
    if (!this.#form.stream) {
      return JSON.stringify({ ...this.#message(this.#blocks), ...ended, usage });
    }
    const delta = { type: 'message_delta', delta: ended, usage };
    return `${this.#opening()}${this.#close()}${event('message_delta', JSON.stringify(delta))}${MESSAGE_STOP}`;
  }

  failure(error: CodeGodError): string {
    const type = ERROR_TYPES[ERRORS[error.code].http] ?? 'api_error';
    const told = { type: 'error', error: { type, message: error.message } };
    return event('error', JSON.stringify(told));
  }

  #events(line: NativeLine): string {
    const { content, thinking, tool_calls: calls } = line.message ?? {};
    let text = this.#opening();
    if (thinking && this.#form.thoughts) text += this.#delta('thinking', thinking);
    if (content) text += this.#delta('text', content);
    for (const call of calls ?? []) text += this.#callEvents(call);
    return text;
  }

  #opening(): string {
    if (this.#begun) return '';
    this.#begun = true;
    const usage = { input_tokens: 0, output_tokens: 0 }; // A2
    const begun = { ...this.#message([]), stop_reason: null, stop_sequence: null, usage };
    return event('message_start', JSON.stringify({ type: 'message_start', message: begun }));
  }

  #delta(kind: BlockKind, text: string): string {
    const { begin, delta, field } = BLOCKS[kind];
    const before = this.#open === kind ? '' : this.#close() + this.#begin(begin);
    this.#open = kind;
    const data = `{"type":"content_block_delta","index":${this.#index},"delta":{"type":"${delta}","${field}":${JSON.stringify(text)}}}`;
    return before + event('content_block_delta', data);
  }

  #callEvents(call: NativeToolCall): string {
    const { id, name, input } = this.#call(call);
    const before = this.#close();
    const block = JSON.stringify({ type: 'tool_use', id, name, input: {} });
    const delta = { type: 'input_json_delta', partial_json: JSON.stringify(input) };
    const data = JSON.stringify({ type: 'content_block_delta', index: this.#index, delta });
    return before + this.#begin(block) + event('content_block_delta', data) + this.#end();
  }

  #begin(block: string): string {
    const data = `{"type":"content_block_start","index":${this.#index},"content_block":${block}}`;
    return event('content_block_start', data);
  }

  #close(): string {
    if (this.#open === null) return '';
    this.#open = null;
    return this.#end();
  }

  #end(): string {
    const data = `{"type":"content_block_stop","index":${this.#index}}`;
    this.#index += 1;
    return event('content_block_stop', data);
  }

  #collect(line: NativeLine): string {
    const { content, thinking, tool_calls: calls } = line.message ?? {};
    if (thinking && this.#form.thoughts) {
      this.#blocks.push({ type: 'thinking', thinking, signature: '' });
    }
    if (content) this.#blocks.push({ type: 'text', text: content });
    for (const call of calls ?? []) this.#blocks.push(this.#call(call));
    return '';
  }

  #call({ id, function: { name, arguments: input } }: NativeToolCall): ToolUse {
    this.#calls += 1;
    return { type: 'tool_use', id: id || `toolu_${this.#form.name}_${this.#calls}`, name, input };
  }

  #message(content: readonly object[]): object {
    const { name, model } = this.#form;
    return { id: `msg_${name}`, type: 'message', role: 'assistant', model, content };
  }

  #stopReason(): string {
    if (this.#calls > 0) return 'tool_use';
    return this.#last.done_reason === 'length' ? 'max_tokens' : 'end_turn';
  }
}

interface ToolUse {
  readonly type: 'tool_use';
  readonly id: string;
  readonly name: string;
  readonly input: object;
}

const event = (name: string, data: string): string => `event: ${name}\ndata: ${data}\n\n`;
const MESSAGE_STOP = event('message_stop', '{"type":"message_stop"}');
