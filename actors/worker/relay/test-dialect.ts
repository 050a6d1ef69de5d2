/** A dialect in a test: asks it, and plays an engine's answer back to it in pieces. */
import { RequestId } from '../../../protocol/inference.ts';
import type { DialectTranslator, ModelFacts, Translation } from './dialect.ts';
import type { Fields } from './fields.ts';

export const REQUEST = RequestId.parse('r-01jd00000000000000000000aa');
export const NAME = '01jd00000000000000000000aa';
export const MODEL = 'tiny:latest';
export const CREATED = 1_700_000_000;

const PLAIN: ModelFacts = { capabilities: ['completion', 'tools'], family: 'llama' };
export const THINKING: ModelFacts = {
  capabilities: ['completion', 'tools', 'thinking'],
  family: 'qwen3',
};

export const translate = (
  dialect: DialectTranslator,
  body: Fields,
  facts: ModelFacts = PLAIN,
): Translation => dialect(body, { request: REQUEST, model: MODEL, facts, created: CREATED });

/** A line as Ollama 0.17 writes it. */
export const chatLine = (message: object, more: object = {}): string =>
  `${JSON.stringify({
    ...{ model: MODEL, created_at: '2026-01-01T00:00:00.123456789Z' },
    ...{ message: { role: 'assistant', content: '', ...message }, done: false, ...more },
  })}\n`;

export const FIGURES = {
  ...{ total_duration: 9_000_000, load_duration: 1_000_000, prompt_eval_count: 26 },
  ...{ prompt_eval_duration: 3_000_000, eval_count: 7, eval_duration: 4_000_000 },
};

export const lastLine = (reason = 'stop', message: object = {}): string =>
  chatLine(message, { done: true, done_reason: reason, ...FIGURES });

/** Everything the client gets, where the engine's bytes come in pieces of the given size. */
export function played({ answer }: Translation, text: string, pieceBytes = 1e9): string {
  const bytes = Buffer.from(text);
  const out: Buffer[] = [];
  for (let from = 0; from < bytes.length; from += pieceBytes) {
    out.push(Buffer.from(answer.take(bytes.subarray(from, from + pieceBytes))));
  }
  out.push(Buffer.from(answer.end()));
  return Buffer.concat(out).toString('utf8');
}

export interface ServerEvent {
  readonly event: string | null;
  readonly data: string;
}

export function eventsOf(text: string): ServerEvent[] {
  return text
    .split('\n\n')
    .filter(block => block !== '')
    .map(block => ({
      event: /^event: (.*)$/m.exec(block)?.[1] ?? null,
      data: /^data: (.*)$/m.exec(block)?.[1] ?? '',
    }));
}
