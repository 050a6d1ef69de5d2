/**
 * An error on its way: the one exception class, and its form in replies, events, reports and HTTP
 * bodies. The codes themselves are in `error-codes.ts`; local exceptions that are bugs are neither.
 */
import { z } from 'zod';
import { ERRORS, ErrorCode } from './error-codes.ts';

/** An error as it travels: in replies, events, reports and HTTP bodies. */
export const WireError = z.looseObject({
  code: ErrorCode.catch('internal'),
  message: z.string().max(16_384),
  /** What would have been right, or what to do; absent where the code says it all. */
  hint: z.string().max(4_096).optional(),
  /** Facts for programs: field paths, nearest names, schemas. */
  details: z.record(z.string(), z.unknown()).optional(),
});
export type WireError = z.infer<typeof WireError>;

export interface CodeGodErrorOptions {
  readonly cause?: unknown;
  readonly hint?: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

/** The one exception class: an expected failure on its way to whoever handles its code. */
export class CodeGodError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly details: Readonly<Record<string, unknown>> | undefined;

  constructor(errorCode: ErrorCode, message: string, options: CodeGodErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'CodeGodError';
    this.code = errorCode;
    this.hint = options.hint;
    this.details = options.details;
  }

  get retryable(): boolean {
    return ERRORS[this.code].retryable;
  }
}

/** Anything thrown, as a wire error. What is not a CodeGodError is a bug and says `internal`. */
export function toWireError(error: unknown): WireError {
  if (error instanceof CodeGodError) {
    return {
      code: error.code,
      message: error.message.slice(0, 16_384),
      ...(error.hint === undefined ? {} : { hint: error.hint.slice(0, 4_096) }),
      ...(error.details === undefined ? {} : { details: { ...error.details } }),
    };
  }
  return { code: 'internal', message: sentenceOf(error).slice(0, 16_384) };
}

/** Anything can be thrown, also what cannot be made a string. */
function sentenceOf(thrown: unknown): string {
  try {
    return String(thrown instanceof Error ? thrown.message : thrown);
  } catch {
    return 'something was thrown that has no words';
  }
}

/** The inverse of {@link toWireError}. */
export function fromWireError(wire: WireError): CodeGodError {
  return new CodeGodError(wire.code, wire.message, {
    ...(wire.hint === undefined ? {} : { hint: wire.hint }),
    ...(wire.details === undefined ? {} : { details: wire.details }),
  });
}
