/**
 * The log of an entity: its facts in order, chained so that none can be lost or altered unnoticed.
 *
 * F1  A fact is stored as JSON bytes. It carries `bseq`, counted from 1 without a gap, and `prev`,
 *     the SHA-256 of the bytes of the fact before it (64 zeros for the first).
 * F2  A break of the chain is `log_corrupt` with its position; nothing is skipped or guessed.
 * F3  Bytes follow from head and body alone, so the same append made again is byte-identical.
 */
import { createHash } from 'node:crypto';
import { decode, encode } from '../protocol/codec.ts';
import { CodeGodError } from '../protocol/errors.ts';

/** What every fact has, whatever it says. */
export interface AnyFact {
  readonly type: string;
  /** When it happened, in ms since the epoch. */
  readonly at: number;
}

/** A place in a log: that of a fact, or the start. */
export interface LogPosition {
  readonly bseq: number;
  /** Of the fact's stored bytes, in hex. */
  readonly hash: string;
  /** Where the log keeps it: a stream's sequence number; 0 where there is none. */
  readonly seq: number;
}

export const LOG_START: LogPosition = { bseq: 0, hash: '0'.repeat(64), seq: 0 };

export interface StoredFact<F> {
  readonly fact: F;
  readonly position: LogPosition;
  /** Revision of the lease it was written under; 0 without leadership. */
  readonly fence: number;
}

export type FactAppended =
  | { readonly kind: 'appended'; readonly position: LogPosition }
  /** A predecessor wrote more before it was fenced: read from the position on, then try again. */
  | { readonly kind: 'behind' }
  /** Somebody newer writes this log. */
  | { readonly kind: 'not_leader' };

export interface FactLog<F> {
  /**
   * The facts after a position, verified one by one, as they are stored when the reading begins.
   * @throws CodeGodError `log_corrupt`, also where the position itself is not in the log;
   * `unsupported_version` for facts of a newer release; `bus_unavailable`, `timeout`.
   */
  read(entity: string, after: LogPosition): AsyncIterable<StoredFact<F>>;
  /**
   * Appends one fact right after a position. Doing it again after an error is safe: what was stored
   * without an answer is found and taken as appended.
   * @throws CodeGodError `too_large`, `disk_full`, `bus_unavailable`, `timeout`, `log_corrupt`.
   */
  append(entity: string, fact: F, after: LogPosition): Promise<FactAppended>;
}

/** How a log writes its facts down. */
export interface FactForm {
  readonly version: number;
  /** The field that names the entity: `build`. */
  readonly entityField: string;
}

const HEAD = ['v', 'bseq', 'fence', 'prev'] as const;

export interface SealedFact {
  readonly bytes: Uint8Array;
  readonly hash: string;
  readonly bseq: number;
}

/** The bytes of the fact that follows a position (F1, F3). */
export function sealFact(
  form: FactForm,
  entity: string,
  fact: AnyFact,
  after: LogPosition,
  fence: number,
): SealedFact {
  const bseq = after.bseq + 1;
  const { type, at, ...rest } = fact;
  const head = { v: form.version, [form.entityField]: entity, bseq, at, fence, prev: after.hash };
  const bytes = encode({ ...head, type, ...rest });
  return { bytes, hash: sha256(bytes), bseq };
}

/** The fact in stored bytes, when it is the one that follows the position (F2). */
export function openFact<F extends AnyFact>(
  form: FactForm,
  entity: string,
  stored: { readonly bytes: Uint8Array; readonly seq: number },
  after: LogPosition,
): StoredFact<F> {
  const bseq = after.bseq + 1;
  const where = { entity, bseq, seq: stored.seq };
  const record = recordOf(stored.bytes, where);
  if (typeof record['v'] === 'number' && record['v'] > form.version) {
    throw new CodeGodError(
      'unsupported_version',
      `fact ${bseq} of ${entity} is of a newer release`,
      {
        hint: 'run the release that wrote it, or a newer one',
        details: where,
      },
    );
  }
  if (record['bseq'] !== bseq) throw corrupt(`has number ${String(record['bseq'])}`, where);
  if (record['prev'] !== after.hash) throw corrupt('does not follow the one before it', where);
  if (record[form.entityField] !== entity) throw corrupt('belongs elsewhere', where);
  const fence = typeof record['fence'] === 'number' ? record['fence'] : 0;
  const head: readonly string[] = [...HEAD, form.entityField];
  const fact = Object.fromEntries(Object.entries(record).filter(([name]) => !head.includes(name)));
  const position = { bseq, hash: sha256(stored.bytes), seq: stored.seq };
  return { fact: fact as unknown as F, position, fence };
}

interface Where extends Record<string, unknown> {
  readonly entity: string;
  readonly bseq: number;
}

function recordOf(bytes: Uint8Array, where: Where): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = decode(bytes, undefined);
  } catch (cause) {
    throw corrupt('cannot be read', where, cause);
  }
  if (typeof value !== 'object' || value === null) throw corrupt('is not an object', where);
  return value as Readonly<Record<string, unknown>>;
}

export function corrupt(what: string, where: Where, cause?: unknown): CodeGodError {
  return new CodeGodError('log_corrupt', `fact ${where.bseq} of ${where.entity} ${what}`, {
    details: where,
    ...(cause === undefined ? {} : { cause }),
  });
}

export const sha256 = (bytes: Uint8Array): string =>
  createHash('sha256').update(bytes).digest('hex');
