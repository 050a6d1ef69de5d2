/**
 * The headers of a message: CloudEvents attributes in binary mode, W3C trace context, and our own
 * few (`cg-*`). The body is the payload alone, so `nats sub` shows plain JSON.
 *
 * V1: the version stands at the end of `ce-type`. A receiver takes N and N−1 and refuses the rest.
 * V2: `ce-id` equals `Nats-Msg-Id`: the identity that deduplicates is the identity that is shown.
 */
import { CodeGodError } from './errors.ts';

export type Headers = Readonly<Record<string, string>>;

export const PROTOCOL_VERSION = 1;

export const HEADER = {
  id: 'ce-id',
  type: 'ce-type',
  source: 'ce-source',
  time: 'ce-time',
  specversion: 'ce-specversion',
  contentType: 'content-type',
  traceparent: 'traceparent',
  deadline: 'cg-deadline',
  fence: 'cg-fence',
  attempt: 'cg-attempt',
  messageId: 'Nats-Msg-Id',
  errorCode: 'Nats-Service-Error-Code',
  error: 'Nats-Service-Error',
} as const;

export interface Envelope {
  /** Unique; ULID or a derived idempotency key. */
  readonly id: string;
  /** Dot-case noun and past participle or verb: `task.assigned`. */
  readonly type: string;
  /** `/node/<id>/actor/<name>`. */
  readonly source: string;
  /** Milliseconds since the epoch. */
  readonly time: number;
  readonly contentType: string;
  readonly traceparent?: string;
  /** Milliseconds since the epoch after which nobody waits for the answer. */
  readonly deadline?: number;
  readonly fence?: number;
  readonly attempt?: number;
}

const TYPE_PREFIX = 'dev.codegod.';

export function envelopeHeaders(envelope: Envelope): Headers {
  const headers: Record<string, string> = {
    [HEADER.specversion]: '1.0',
    [HEADER.id]: envelope.id,
    [HEADER.type]: `${TYPE_PREFIX}${envelope.type}.v${PROTOCOL_VERSION}`,
    [HEADER.source]: envelope.source,
    [HEADER.time]: new Date(envelope.time).toISOString(),
    [HEADER.contentType]: envelope.contentType,
  };
  if (envelope.traceparent !== undefined) headers[HEADER.traceparent] = envelope.traceparent;
  if (envelope.deadline !== undefined) headers[HEADER.deadline] = String(envelope.deadline);
  if (envelope.fence !== undefined) headers[HEADER.fence] = String(envelope.fence);
  if (envelope.attempt !== undefined) headers[HEADER.attempt] = String(envelope.attempt);
  return headers;
}

/**
 * The version a message claims, ours where it claims none (a person at `nats pub` writes no header).
 * @throws CodeGodError `unsupported_version` for anything but N and N−1.
 */
export function acceptVersion(headers: Headers): number {
  const match = /\.v([0-9]{1,6})$/.exec(headers[HEADER.type] ?? '');
  const version = match === null ? PROTOCOL_VERSION : Number(match[1]);
  if (version === PROTOCOL_VERSION || (version === PROTOCOL_VERSION - 1 && version > 0))
    return version;
  throw new CodeGodError(
    'unsupported_version',
    `a message of version ${version}; understood are ${PROTOCOL_VERSION} and the one before`,
  );
}
