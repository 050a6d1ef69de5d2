/**
 * Reading what came over the bus: the format, the value behind the bytes, the error a peer told.
 */
import type { output, ZodType } from 'zod';
import { type ContentType, decode, JSON_TYPE, MSGPACK_TYPE } from '../protocol/codec.ts';
import { acceptVersion, HEADER } from '../protocol/envelope.ts';
import { CodeGodError, fromWireError, WireError } from '../protocol/errors.ts';
import type { BusMessage } from './bus.ts';

export const formatOf = (message: BusMessage): ContentType =>
  /msgpack/i.test(message.headers[HEADER.contentType] ?? '') ? MSGPACK_TYPE : JSON_TYPE;

/**
 * Decodes and checks one message; `what` names it in the error.
 * @throws CodeGodError `bad_message` naming the wrong fields, `unsupported_version`.
 */
export function parseMessage<S extends ZodType>(
  message: BusMessage,
  schema: S,
  what: string,
): output<S> {
  acceptVersion(message.headers);
  const value = decode(message.body, message.headers[HEADER.contentType]);
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issues = result.error.issues
    .slice(0, 16)
    .map(issue => ({ path: issue.path.map(String).join('.'), message: issue.message }));
  const fields = issues.map(issue => `${issue.path || '(the whole)'}: ${issue.message}`);
  throw new CodeGodError('bad_message', `${what} is wrong: ${fields.join('; ')}`.slice(0, 2_048), {
    details: { issues },
  });
}

/** An error told by the peer, thrown as if it had happened here. */
export function throwIfError(reply: BusMessage): void {
  const status = reply.headers[HEADER.errorCode];
  if (status === undefined) return;
  const sentence = reply.headers[HEADER.error] ?? `error ${status}`;
  throw fromWireError(wireErrorOf(reply) ?? { code: 'internal', message: sentence });
}

function wireErrorOf(reply: BusMessage): WireError | null {
  try {
    return WireError.parse(decode(reply.body, reply.headers[HEADER.contentType]));
  } catch {
    // A service of another make: its headers say what there is to say.
    return null;
  }
}
