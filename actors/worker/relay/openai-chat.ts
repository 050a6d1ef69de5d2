/**
 * OpenAI's chat completions on the native chat.
 *
 * O1: an answer is one the official clients accept without a special case: their ids, roles, finish
 *     reasons, usage, and `data: [DONE]` at the end of a stream.
 */
import type { CodeGodError } from '../../../protocol/errors.ts';
import { answerOfLines, type LineTranslator } from './answer-lines.ts';
import { type Asked, type DialectTranslator, toldName } from './dialect.ts';
import {
  countField,
  type Fields,
  fieldsField,
  fieldsOf,
  flagField,
  limitField,
  numbersOf,
  refusal,
  refuseGiven,
  wordField,
} from './fields.ts';
import { chatFields, ForcedCall } from './forced-call.ts';
import type { NativeLine, NativeToolCall } from './native.ts';
import { nativeMessages, toolWish } from './openai-messages.ts';
import { DONE, EVENT_STREAM, errorEvent, JSON_TEXT, stopOf, usageOf } from './openai-parts.ts';
import { effortOf, thinkOf } from './reasoning.ts';

const UNKNOWN_HERE = {
  functions: 'is replaced by tools',
  function_call: 'is replaced by tool_choice',
  logit_bias: 'is not supported by the models here',
  audio: 'is not supported by the models here',
  web_search_options: 'is not supported by the models here',
};

const SAMPLING = {
  temperature: 'temperature',
  top_p: 'top_p',
  top_k: 'top_k',
  min_p: 'min_p',
  seed: 'seed',
  frequency_penalty: 'frequency_penalty',
  presence_penalty: 'presence_penalty',
};

export const openaiChat: DialectTranslator = (body, asked) => {
  refuseGiven(body, UNKNOWN_HERE);
  if ((countField(body, 'n') ?? 1) !== 1) throw refusal('n', 'can only be 1');
  const wish = toolWish(body);
  const chat = chatFields(nativeMessages(body), wish, () => formatOf(body));
  const effort = wordField(body, 'reasoning_effort');
  const think =
    effort === undefined ? undefined : thinkOf(effortOf(effort, 'reasoning_effort'), asked.facts);
  const limit = limitField(body, 'max_completion_tokens') ?? limitField(body, 'max_tokens');
  const stop = stopOf(body);
  const logprobs = flagField(body, 'logprobs') ?? false;
  const stream = flagField(body, 'stream') ?? false;
  return {
    path: '/api/chat',
    model: asked.model,
    stream,
    ignored: [],
    body: {
      ...chat,
      ...(think === undefined ? {} : { think }),
      ...(logprobs ? { logprobs, top_logprobs: countField(body, 'top_logprobs') ?? 0 } : {}),
    },
    options: {
      ...numbersOf(body, SAMPLING),
      ...(limit === undefined ? {} : { num_predict: limit }),
      ...(stop === undefined ? {} : { stop }),
    },
    answer: answerOfLines(
      new ChatAnswer(asked, {
        ...{ stream, logprobs },
        model: toldName(body, asked),
        usage: fieldsField(body, 'stream_options')?.['include_usage'] === true,
        forced: wish.forced ? new ForcedCall() : null,
      }),
    ),
  };
};

function formatOf(body: Fields): unknown {
  const wanted = fieldsField(body, 'response_format');
  switch (wanted?.['type']) {
    case undefined:
    case 'text':
      return undefined;
    case 'json_object':
      return 'json';
    case 'json_schema': {
      const schema = fieldsOf(wanted['json_schema'], 'response_format.json_schema')['schema'];
      return fieldsOf(schema, 'response_format.json_schema.schema');
    }
    default:
      throw refusal('response_format.type', 'is none of text, json_object, json_schema');
  }
}

interface ChatForm {
  readonly model: string;
  readonly stream: boolean;
  readonly usage: boolean;
  readonly logprobs: boolean;
  readonly forced: ForcedCall | null;
}

class ChatAnswer implements LineTranslator {
  readonly contentType: string;
  readonly #form: ChatForm;
  readonly #callId: string;
  /** `{"id":…,"model":…,"choices":[` of every object. */
  readonly #head: string;
  readonly #usageAside: string;
  #content = '';
  #thinking = '';
  readonly #logprobs: object[] = [];
  readonly #calls: object[] = [];
  #begun = false;
  #last: NativeLine = {};

  constructor(asked: Asked, form: ChatForm) {
    this.contentType = form.stream ? EVENT_STREAM : JSON_TEXT;
    this.#form = form;
    const name = asked.request.slice(2);
    this.#callId = `call_${name}`;
    const object = form.stream ? 'chat.completion.chunk' : 'chat.completion';
    const head = { id: `chatcmpl-${name}`, object, created: asked.created, model: form.model };
    this.#head = `${JSON.stringify(head).slice(0, -1)},"choices":[`;
    this.#usageAside = form.usage ? ',"usage":null' : '';
  }

  line(given: NativeLine): string {
    const line = this.#form.forced === null ? given : this.#form.forced.take(given);
    if (line.done === true) this.#last = line;
    return this.#form.stream ? this.#chunks(line) : this.#collect(line);
  }

  end(): string {
    const reason = JSON.stringify(this.#finishReason());
    if (!this.#form.stream) return this.#whole(reason);
    const usage = `data: ${this.#head}],"usage":${usageOf(this.#last)}}\n\n`;
    return `${this.#opening()}${this.#chunk('{}', null, reason)}${this.#form.usage ? usage : ''}${DONE}`;
  }

  failure(error: CodeGodError): string {
    return errorEvent(error);
  }

  #chunks(line: NativeLine): string {
    const { content, thinking, tool_calls: calls } = line.message ?? {};
    const logprobs = line.logprobs ?? null;
    let text = '';
    if (thinking) text += this.#chunk(`{"reasoning":${JSON.stringify(thinking)}}`, null);
    if (content || logprobs !== null) {
      text += this.#chunk(`{"content":${JSON.stringify(content ?? '')}}`, logprobs);
    }
    for (const call of calls ?? []) {
      const delta = { tool_calls: [{ index: this.#calls.length, ...this.#call(call) }] };
      text += this.#chunk(JSON.stringify(delta), null);
    }
    return text === '' ? '' : this.#opening() + text;
  }

  /** A stream begins with whose turn it is. */
  #opening(): string {
    if (this.#begun) return '';
    this.#begun = true;
    return this.#chunk('{"role":"assistant","content":""}', null);
  }

  #chunk(delta: string, logprobs: readonly object[] | null, reason = 'null'): string {
    const said = logprobs === null ? 'null' : JSON.stringify({ content: logprobs, refusal: null });
    return `data: ${this.#head}{"index":0,"delta":${delta},"logprobs":${said},"finish_reason":${reason}}]${this.#usageAside}}\n\n`;
  }

  #collect(line: NativeLine): string {
    const { content = '', thinking = '', tool_calls: calls } = line.message ?? {};
    this.#content += content;
    this.#thinking += thinking;
    if (line.logprobs !== undefined) this.#logprobs.push(...line.logprobs);
    for (const call of calls ?? []) this.#call(call);
    return '';
  }

  #call(call: NativeToolCall): object {
    const { name, arguments: args } = call.function;
    const id = call.id || `${this.#callId}_${this.#calls.length}`;
    const told = { id, type: 'function', function: { name, arguments: JSON.stringify(args) } };
    this.#calls.push(told);
    return told;
  }

  #finishReason(): string {
    if (this.#calls.length > 0) return 'tool_calls';
    return this.#last.done_reason === 'length' ? 'length' : 'stop';
  }

  #whole(reason: string): string {
    const called = this.#calls.length > 0;
    const message = {
      role: 'assistant',
      content: called && this.#content === '' ? null : this.#content,
      refusal: null,
      ...(this.#thinking === '' ? {} : { reasoning: this.#thinking }),
      ...(called ? { tool_calls: this.#calls } : {}),
    };
    const logprobs = this.#form.logprobs ? { content: this.#logprobs, refusal: null } : null;
    return `${this.#head}{"index":0,"message":${JSON.stringify(message)},"logprobs":${JSON.stringify(logprobs)},"finish_reason":${reason}}],"usage":${usageOf(this.#last)}}`;
  }
}
