/**
 * The JetStream API: JSON requests to the server, its errors as ours.
 */
import { z } from 'zod';
import { CodeGodError } from '../protocol/errors.ts';
import type { Inbox } from './bus-inbox.ts';

const TIMEOUT_MS = 5_000;

/** Numbers of the server's errors that mean something to us. */
export const API_ERROR = {
  temporarilyUnavailable: 10_008,
  consumerNotFound: 10_014,
  consumersFull: 10_026,
  noMessageFound: 10_037,
  notEnabled: 10_039,
  memoryExhausted: 10_028,
  storageExhausted: 10_047,
  messageTooLarge: 10_054,
  messageNotDeleted: 10_057,
  streamNameInUse: 10_058,
  streamNotFound: 10_059,
  wrongLastSequence: 10_071,
  storeFailed: 10_077,
  wrongLastSequenceUnknown: 10_164,
} as const;

const ApiFailure = z.object({
  error: z.object({ code: z.int(), err_code: z.int().default(0), description: z.string() }),
});

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** What the server refused, with its number and words. */
export class ApiError extends Error {
  readonly number: number;
  readonly status: number;

  constructor(number: number, status: number, description: string) {
    super(description);
    this.name = 'ApiError';
    this.number = number;
    this.status = status;
  }
}

export class JetStreamApi {
  readonly #inbox: Inbox;

  constructor(inbox: Inbox) {
    this.#inbox = inbox;
  }

  /**
   * One call. Answers the server's reply, unchecked. Throws `ApiError` for a refusal, and
   * `bus_unavailable`, `timeout` or `no_responders` (JetStream is off) like `ask`.
   */
  async call(verb: string, request: object | null = null): Promise<Record<string, unknown>> {
    const body = encoder.encode(request === null ? '' : JSON.stringify(request));
    const reply = await this.#inbox.ask(`$JS.API.${verb}`, body, { timeout_ms: TIMEOUT_MS });
    return decodeApiReply(reply.body);
  }
}

/** A reply of the API or an acknowledgement of a stream. Throws `ApiError`. */
export function decodeApiReply(body: Uint8Array): Record<string, unknown> {
  const reply = parseJson(decoder.decode(body));
  const failure = ApiFailure.safeParse(reply);
  if (failure.success) {
    const { code, err_code, description } = failure.data.error;
    throw new ApiError(err_code, code, description);
  }
  return z.record(z.string(), z.unknown()).parse(reply);
}

/** Whoever else answers on a stream's subject need not speak JSON. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new CodeGodError('bad_message', 'the answer is not one of JetStream', { cause });
  }
}

/** True when the same call may succeed in a moment. */
export function isPassing(error: unknown): boolean {
  if (error instanceof ApiError) {
    return error.status === 503 || error.number === API_ERROR.temporarilyUnavailable;
  }
  return (
    error instanceof CodeGodError && (error.code === 'bus_unavailable' || error.code === 'timeout')
  );
}

/** Our error for the server's; anything else unchanged. */
export function explained(error: unknown, what: string): unknown {
  if (!(error instanceof ApiError)) return error;
  const message = `${what}: ${error.message}`;
  const options = { cause: error };
  if (error.number === API_ERROR.streamNotFound || error.number === API_ERROR.consumerNotFound) {
    return new CodeGodError('not_found', message, options);
  }
  if (error.number === API_ERROR.consumersFull) {
    return new CodeGodError('overloaded', `${message}: there are too many nodes on this bus`, {
      ...options,
      hint: 'a stream has 1000 consumers: docs/nodes.md, "How many"',
    });
  }
  if (error.number === API_ERROR.messageTooLarge) {
    return new CodeGodError('too_large', message, options);
  }
  if (error.status === 503) return new CodeGodError('bus_unavailable', message, options);
  return new CodeGodError('config_invalid', message, options);
}
