/**
 * What goes wrong with Ollama, as codes of the protocol. The only place that looks at its words.
 */
import { CodeGodError } from '../../../protocol/errors.ts';
import { HttpFailure } from './http-fetch.ts';

export type OllamaPhase = 'asking' | 'loading' | 'unloading' | 'pulling' | 'streaming';

/** Errors of the socket that say that nobody is there. */
const ABSENT = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EPIPE',
  'ETIMEDOUT',
]);
const TOO_LONG =
  /exceed(?:s|ed)?[^.]{0,40}context|context (?:length|size|window)[^.]{0,40}exceed|input (?:length|is too long)|prompt is too long/i;

/** Anything thrown while talking to Ollama, as a CodeGodError that says what to do. */
export function ollamaError(
  cause: unknown,
  context: { readonly phase: OllamaPhase; readonly host: string; readonly model: string },
): CodeGodError {
  if (cause instanceof CodeGodError) return cause;
  const { phase, host, model } = context;
  const message = cause instanceof Error ? cause.message : String(cause);
  if (cause instanceof HttpFailure) return fromStatus(cause, model);
  const socket = socketCode(cause);
  if (socket !== null && phase !== 'streaming') {
    return unreachable(host, socket, cause);
  }
  if (TOO_LONG.test(message)) return tooLong(message, cause);
  return new CodeGodError('engine_failed', `Ollama failed while ${phase} ${model}: ${message}`, {
    cause,
  });
}

/** Nobody answers: it may come back by itself, as after an update, or has to be started. */
export const unreachable = (host: string, why: string, cause: unknown): CodeGodError =>
  new CodeGodError('engine_unavailable', `Ollama at ${host} does not answer (${why})`, {
    cause,
    hint: 'start it with `ollama serve`, or set OLLAMA_HOST',
  });

function fromStatus(failure: HttpFailure, model: string): CodeGodError {
  const { status, message } = failure;
  const options = { cause: failure };
  if (TOO_LONG.test(message)) return tooLong(message, failure);
  switch (status) {
    case 404:
      return new CodeGodError('model_missing', message, {
        ...options,
        hint: `pull it with \`ollama pull ${model}\``,
      });
    case 400:
    case 405:
    case 422:
      return new CodeGodError('bad_request', `Ollama refused the request: ${message}`, options);
    case 401:
    case 403:
      return new CodeGodError('unauthorized', `Ollama refused access: ${message}`, options);
    case 429:
    case 502:
    case 503:
    case 504:
      return new CodeGodError('engine_unavailable', `Ollama is busy: ${message}`, options);
    default:
      return new CodeGodError('engine_failed', `Ollama failed (${status}): ${message}`, options);
  }
}

function tooLong(message: string, cause: unknown): CodeGodError {
  return new CodeGodError('answer_truncated', `the prompt does not fit the context: ${message}`, {
    cause,
  });
}

function socketCode(cause: unknown): string | null {
  if (!(cause instanceof Error)) return null;
  const { code } = cause as NodeJS.ErrnoException;
  if (code !== undefined && ABSENT.has(code)) return code;
  if (cause instanceof AggregateError) {
    for (const inner of cause.errors) {
      const found = socketCode(inner);
      if (found !== null) return found;
    }
  }
  return cause.cause === undefined ? null : socketCode(cause.cause);
}
