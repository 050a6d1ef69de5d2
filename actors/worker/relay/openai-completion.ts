/** OpenAI's older text completions on the native generate. */
import type { CodeGodError } from '../../../protocol/errors.ts';
import { answerOfLines, type LineTranslator } from './answer-lines.ts';
import { type Asked, type DialectTranslator, toldName } from './dialect.ts';
import {
  countField,
  type Fields,
  fieldsField,
  flagField,
  limitField,
  numbersOf,
  refusal,
  refuseGiven,
  textField,
} from './fields.ts';
import type { NativeLine } from './native.ts';
import { DONE, EVENT_STREAM, errorEvent, JSON_TEXT, stopOf, usageOf } from './openai-parts.ts';
import { thinkOf } from './reasoning.ts';

const UNKNOWN_HERE = {
  echo: 'is not supported',
  logit_bias: 'is not supported by the models here',
  logprobs: 'is not supported here; chat completions have them',
};

const SAMPLING = {
  temperature: 'temperature',
  top_p: 'top_p',
  seed: 'seed',
  frequency_penalty: 'frequency_penalty',
  presence_penalty: 'presence_penalty',
};

export const openaiCompletion: DialectTranslator = (body, asked) => {
  refuseGiven(body, UNKNOWN_HERE);
  for (const key of ['n', 'best_of']) {
    if ((countField(body, key) ?? 1) !== 1) throw refusal(key, 'can only be 1');
  }
  const suffix = textField(body, 'suffix');
  // There is no place for thoughts in such an answer.
  const think = thinkOf('none', asked.facts);
  const limit = limitField(body, 'max_tokens');
  const stop = stopOf(body);
  const stream = flagField(body, 'stream') ?? false;
  return {
    path: '/api/generate',
    model: asked.model,
    stream,
    ignored: [],
    body: {
      prompt: promptOf(body),
      ...(suffix === undefined ? {} : { suffix }),
      ...(think === undefined ? {} : { think }),
    },
    options: {
      ...numbersOf(body, SAMPLING),
      ...(limit === undefined ? {} : { num_predict: limit }),
      ...(stop === undefined ? {} : { stop }),
    },
    answer: answerOfLines(
      new CompletionAnswer(asked, {
        stream,
        model: toldName(body, asked),
        usage: fieldsField(body, 'stream_options')?.['include_usage'] === true,
      }),
    ),
  };
};

function promptOf(body: Fields): string {
  const prompt = body['prompt'] ?? undefined;
  const only = Array.isArray(prompt) && prompt.length === 1 ? prompt[0] : prompt;
  if (typeof only === 'string') return only;
  throw refusal('prompt', 'has to be one text; several, or tokens, are not supported');
}

interface CompletionForm {
  readonly model: string;
  readonly stream: boolean;
  readonly usage: boolean;
}

class CompletionAnswer implements LineTranslator {
  readonly contentType: string;
  readonly #form: CompletionForm;
  readonly #head: string;
  readonly #usageAside: string;
  #text = '';
  #last: NativeLine = {};

  constructor(asked: Asked, form: CompletionForm) {
    this.contentType = form.stream ? EVENT_STREAM : JSON_TEXT;
    this.#form = form;
    const id = `cmpl-${asked.request.slice(2)}`;
    const head = { id, object: 'text_completion', created: asked.created, model: form.model };
    this.#head = `${JSON.stringify(head).slice(0, -1)},"choices":[`;
    this.#usageAside = form.usage ? ',"usage":null' : '';
  }

  line(line: NativeLine): string {
    if (line.done === true) this.#last = line;
    const text = line.response ?? '';
    if (this.#form.stream) return text === '' ? '' : this.#chunk(text, 'null');
    this.#text += text;
    return '';
  }

  end(): string {
    const reason = this.#last.done_reason === 'length' ? '"length"' : '"stop"';
    const usage = usageOf(this.#last);
    if (!this.#form.stream) return `${this.#choice(this.#text, reason)},"usage":${usage}}`;
    const aside = this.#form.usage ? `data: ${this.#head}],"usage":${usage}}\n\n` : '';
    return `${this.#chunk('', reason)}${aside}${DONE}`;
  }

  failure(error: CodeGodError): string {
    return errorEvent(error);
  }

  #chunk(text: string, reason: string): string {
    return `data: ${this.#choice(text, reason)}${this.#usageAside}}\n\n`;
  }

  #choice(text: string, reason: string): string {
    return `${this.#head}{"text":${JSON.stringify(text)},"index":0,"logprobs":null,"finish_reason":${reason}}]`;
  }
}
