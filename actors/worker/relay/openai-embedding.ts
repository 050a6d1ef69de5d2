/** OpenAI's embeddings on the native ones. */
import type { CodeGodError } from '../../../protocol/errors.ts';
import { answerOfLines, type LineTranslator } from './answer-lines.ts';
import { type DialectTranslator, toldName } from './dialect.ts';
import { countField, type Fields, refusal, wordField } from './fields.ts';
import type { NativeLine } from './native.ts';
import { errorEvent, JSON_TEXT } from './openai-parts.ts';

export const openaiEmbedding: DialectTranslator = (body, asked) => {
  const encoding = wordField(body, 'encoding_format') ?? 'float';
  if (encoding !== 'float' && encoding !== 'base64') {
    throw refusal('encoding_format', 'is neither float nor base64');
  }
  const dimensions = countField(body, 'dimensions');
  return {
    path: '/api/embed',
    model: asked.model,
    stream: false,
    ignored: [],
    body: { input: inputOf(body), ...(dimensions === undefined ? {} : { dimensions }) },
    options: {},
    answer: answerOfLines(new EmbeddingAnswer(toldName(body, asked), encoding === 'base64')),
  };
};

function inputOf(body: Fields): readonly string[] {
  const input = body['input'] ?? undefined;
  const texts: readonly unknown[] = Array.isArray(input) ? input : [input];
  if (texts.length === 0) throw refusal('input', 'is empty');
  return texts.map(text => {
    if (typeof text !== 'string')
      throw refusal('input', 'has to be text; tokens are not supported');
    if (text === '') throw refusal('input', 'holds an empty text');
    return text;
  });
}

class EmbeddingAnswer implements LineTranslator {
  readonly contentType = JSON_TEXT;
  readonly #model: string;
  readonly #base64: boolean;
  #line: NativeLine = {};

  constructor(model: string, base64: boolean) {
    this.#model = model;
    this.#base64 = base64;
  }

  line(line: NativeLine): string {
    this.#line = line;
    return '';
  }

  end(): string {
    const { embeddings = [], prompt_eval_count: read = 0 } = this.#line;
    const data = embeddings.map((numbers, index) => ({
      object: 'embedding',
      index,
      embedding: this.#base64 ? base64Of(numbers) : numbers,
    }));
    const usage = { prompt_tokens: read, total_tokens: read };
    return JSON.stringify({ object: 'list', data, model: this.#model, usage });
  }

  failure(error: CodeGodError): string {
    return errorEvent(error);
  }
}

/** 32-bit floats, the least significant byte first. */
function base64Of(numbers: readonly number[]): string {
  const bytes = Buffer.allocUnsafe(numbers.length * 4);
  for (const [index, value] of numbers.entries()) bytes.writeFloatLE(value, index * 4);
  return bytes.toString('base64');
}
