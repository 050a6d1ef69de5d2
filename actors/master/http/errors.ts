/** Errors at the HTTP door: `{error:{code,message,hint,details}}`, with the status of the code. */
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import { ERRORS } from '../../../protocol/error-codes.ts';
import { CodeGodError, toWireError, type WireError } from '../../../protocol/errors.ts';

export interface ErrorAnswer {
  readonly body: { readonly error: WireError };
  readonly status: ContentfulStatusCode;
}

export function errorAnswer(error: unknown): ErrorAnswer {
  const wire = toWireError(error);
  const hint = wire.hint ?? ERRORS[wire.code].userCan;
  return {
    body: { error: { ...wire, hint } },
    status: ERRORS[wire.code].http as ContentfulStatusCode,
  };
}

/** What zod found wrong, as one error that names the fields. */
export function wrongRequest(
  issues: readonly { readonly path: readonly PropertyKey[]; readonly message: string }[],
): CodeGodError {
  const fields = issues
    .slice(0, 16)
    .map(({ path, message }) => ({ path: path.map(String).join('.'), message }));
  const sentence = fields
    .map(({ path, message }) => `${path || 'the body'}: ${message}`)
    .join('; ');
  return new CodeGodError('bad_request', `the request is wrong: ${sentence}`, {
    details: { fields },
  });
}
