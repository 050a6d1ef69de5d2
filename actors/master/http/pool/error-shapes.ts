/**
 * Errors as each kind of client expects them: in an answer of its own, or at the end of a stream
 * that has begun.
 *
 * A1: the shape is the dialect's, exactly; what else there is to say goes into the message.
 */
import { ERRORS, type ErrorCode } from '../../../../protocol/error-codes.ts';
import { CodeGodError, toWireError } from '../../../../protocol/errors.ts';

export type Family = 'openai' | 'ollama' | 'anthropic';

export interface ErrorAnswer {
  readonly status: number;
  readonly body: string;
  /** Seconds, for the header; null where trying again does not help. */
  readonly retryAfterS: number | null;
}

/** Statuses that differ from those of the other routes: what clients of models know. */
const STATUS: Readonly<Partial<Record<ErrorCode, number>>> = {
  answer_truncated: 400,
  bad_message: 400,
  cancelled: 503,
  reservation_refused: 503,
  conflict: 503,
};
const RETRY_AFTER_S = 5;

export function errorAnswer(family: Family, error: unknown): ErrorAnswer {
  const { code, message, details } = toWireError(error);
  const status = STATUS[code] ?? ERRORS[code].http;
  const given = details?.['retry_after_s'];
  const retries = status === 429 || status === 503;
  const body = JSON.stringify(shape(family, code, status, sentence(error, message), details));
  return {
    status,
    body,
    retryAfterS: typeof given === 'number' ? given : retries ? RETRY_AFTER_S : null,
  };
}

/** The same, in the middle of a stream whose head has been sent; null where there is no way. */
export function errorInStream(family: Family, error: unknown, isStream: boolean): string | null {
  if (!isStream) return null;
  const { body } = errorAnswer(family, error);
  switch (family) {
    case 'openai':
      return `data: ${body}\n\n`;
    case 'anthropic':
      return `event: error\ndata: ${body}\n\n`;
    case 'ollama':
      return `${body}\n`;
  }
}

/** A hint is worth a sentence: these shapes have no field for it. */
function sentence(error: unknown, message: string): string {
  const hint = error instanceof CodeGodError ? error.hint : undefined;
  return hint === undefined ? message : `${message} (${hint})`;
}

function shape(
  family: Family,
  code: ErrorCode,
  status: number,
  message: string,
  details: Readonly<Record<string, unknown>> | undefined,
): unknown {
  switch (family) {
    case 'openai': {
      const given = details?.['param'];
      const param = typeof given === 'string' ? given : code === 'model_missing' ? 'model' : null;
      return { error: { message, type: openaiType(status), code: openaiCode(code), param } };
    }
    case 'anthropic':
      return { type: 'error', error: { type: anthropicType(status), message } };
    case 'ollama':
      return { error: message };
  }
}

function openaiType(status: number): string {
  if (status === 401) return 'authentication_error';
  if (status === 403) return 'permission_error';
  if (status === 429) return 'rate_limit_error';
  return status < 500 ? 'invalid_request_error' : 'server_error';
}

function openaiCode(code: ErrorCode): string | null {
  switch (code) {
    case 'model_missing':
      return 'model_not_found';
    case 'unauthorized':
      return 'invalid_api_key';
    case 'rate_limited':
      return 'rate_limit_exceeded';
    case 'answer_truncated':
      return 'context_length_exceeded';
    case 'bad_request':
    case 'bad_message':
      return null;
    default:
      return code;
  }
}

function anthropicType(status: number): string {
  switch (status) {
    case 401:
      return 'authentication_error';
    case 403:
      return 'permission_error';
    case 404:
      return 'not_found_error';
    case 413:
      return 'request_too_large';
    case 429:
      return 'rate_limit_error';
    case 503:
      return 'overloaded_error';
    case 504:
      return 'timeout_error';
    default:
      return status < 500 ? 'invalid_request_error' : 'api_error';
  }
}
