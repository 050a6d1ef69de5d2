/** What the dialects of OpenAI have in common: stop words, usage, the end of a stream, errors. */
import { ERRORS } from '../../../protocol/error-codes.ts';
import type { CodeGodError } from '../../../protocol/errors.ts';
import { type Fields, listOf, textOf } from './fields.ts';
import type { NativeLine } from './native.ts';

export const EVENT_STREAM = 'text/event-stream; charset=utf-8';
export const JSON_TEXT = 'application/json';
export const DONE = 'data: [DONE]\n\n';

export function stopOf(body: Fields): string[] | undefined {
  const stop = body['stop'] ?? undefined;
  if (stop === undefined) return undefined;
  if (typeof stop === 'string') return [stop];
  return listOf(stop, 'stop').map((word, index) => textOf(word, `stop[${index}]`));
}

/** JSON of the counts. The engine leaves a count of 0 out. */
export function usageOf({
  prompt_eval_count: read = 0,
  eval_count: written = 0,
}: NativeLine): string {
  return `{"prompt_tokens":${read},"completion_tokens":${written},"total_tokens":${read + written}}`;
}

export function errorEvent(error: CodeGodError): string {
  const { http } = ERRORS[error.code];
  const type = http >= 500 ? 'server_error' : 'invalid_request_error';
  const told = { message: error.message, type, param: null, code: error.code };
  return `data: ${JSON.stringify({ error: told })}\n\n`;
}
