/**
 * Logging: one JSON object per line on stderr. An event is a constant in dot.case, everything that
 * varies is a field, and numbers carry their unit in the name.
 *
 * L1  No secret is written: fields named like one and values that look like one are masked.
 * L2  A line is bounded, however large the field that was given.
 * L3  Logging never throws and never reorders: lines are written before the call returns. Where they
 *     cannot be (the disk is full, the reader has gone) they are lost, and the next line that can be
 *     written is led by one that says how many.
 */
import { writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { type DestinationStream, type Logger as Pino, pino, stdTimeFunctions } from 'pino';

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';
export type LogFields = Readonly<Record<string, unknown>>;

export interface Logger {
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
  /** A logger that adds the fields to each of its lines. */
  child(fields: LogFields): Logger;
}

export interface LoggerOptions {
  /** Of the process: `master`. */
  readonly name: string;
  readonly level: LogLevel;
  /** Id of the node; the host's name until there is one. */
  readonly node?: string;
  /** Where the lines go. Default: stderr. */
  readonly destination?: DestinationStream;
}

const TEXT_LENGTH_MAX = 4_096;
const ITEMS_MAX = 64;
const DEPTH_MAX = 6;
const MASK = '[masked]';

export function createLogger(options: LoggerOptions): Logger {
  const { name, level, node = hostname() } = options;
  const root = pino(
    {
      level,
      base: { name, node },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) },
    },
    options.destination ?? linesTo(2),
  );
  return wrap(root);
}

/** A reader that takes nothing for so long loses the line: nobody may stand still for a log. */
const PIPE_WAIT_MS = 100;
const PIPE_PAUSE_MS = 5;

/** L3. */
export function linesTo(descriptor: number): DestinationStream {
  let lost = 0;
  let isTorn = false;
  return {
    write(line) {
      const told = { level: 'warn', event: 'log.lines_lost', lines: lost };
      const head = `${isTorn ? '\n' : ''}${lost > 0 ? `${JSON.stringify(told)}\n` : ''}`;
      const bytes = Buffer.from(head + line);
      const written = writeBytes(descriptor, bytes);
      const isWhole = written === bytes.length;
      lost = isWhole ? 0 : lost + 1;
      isTorn = isWhole ? false : isTorn || written > 0;
    },
  };
}

/** Answers how many bytes could be written. */
function writeBytes(descriptor: number, bytes: Buffer): number {
  let written = 0;
  for (let waitedMs = 0; written < bytes.length; ) {
    try {
      written += writeSync(descriptor, bytes, written);
    } catch (error) {
      const isPipeFull = (error as NodeJS.ErrnoException).code === 'EAGAIN';
      if (!isPipeFull || waitedMs >= PIPE_WAIT_MS) return written;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PIPE_PAUSE_MS);
      waitedMs += PIPE_PAUSE_MS;
    }
  }
  return written;
}

/** A logger that writes nothing; for tests. */
export const silentLogger: Logger = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLogger,
};

function wrap(target: Pino): Logger {
  const write =
    (level: 'debug' | 'info' | 'warn' | 'error') =>
    (event: string, fields: LogFields = {}): void => {
      if (!target.isLevelEnabled(level)) return;
      target[level]({ event, ...(printable(fields, 0) as LogFields) });
    };
  return {
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    child: fields => wrap(target.child(printable(fields, 0) as LogFields)),
  };
}

/** `api_key`, `authorization`, `NATS_PASSWORD`, but not `prompt_tokens`. */
const SECRET_NAME =
  /(^|[_-])(api[_-]?key|access[_-]?key|token|secret|password|passwd|authorization|cookie|credentials?|nkey|seed)$/i;
const SECRET_VALUES: readonly (readonly [RegExp, string])[] = [
  [/\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}/gi, `$1 ${MASK}`],
  [/\b(sk|pk|ghp|gho|github_pat|xox[abp]|hf)[-_][A-Za-z0-9_-]{12,}/g, MASK],
  [/(?<![a-z0-9+.-])([a-z0-9+.-]+:\/\/)[^\s/@:]*:[^\s/@]*@/gi, `$1${MASK}@`],
];

/** A copy that can be printed: secrets masked (L1), errors as objects, everything bounded (L2). */
function printable(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return maskedText(value);
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'object' || value === null) return value;
  if (depth >= DEPTH_MAX) return '[deeper]';
  if (value instanceof Error) return printableError(value, depth);
  if (value instanceof Uint8Array) return `[${value.length} bytes]`;
  if (Array.isArray(value)) {
    const items = value.slice(0, ITEMS_MAX).map(item => printable(item, depth + 1));
    return value.length > ITEMS_MAX ? [...items, `[${value.length - ITEMS_MAX} more]`] : items;
  }
  const entries = Object.entries(value).slice(0, ITEMS_MAX);
  return Object.fromEntries(
    entries.map(([key, item]) => [key, printableField(key, item, depth + 1)]),
  );
}

function printableField(key: string, value: unknown, depth: number): unknown {
  const hidden = SECRET_NAME.test(key) && value !== null && value !== undefined;
  return hidden ? MASK : printable(value, depth);
}

function printableError(error: Error, depth: number): LogFields {
  const { name, message, stack, cause } = error;
  return {
    name,
    message: maskedText(message),
    ...('code' in error ? { code: printable(error.code, depth + 1) } : {}),
    ...('hint' in error && error.hint ? { hint: printable(error.hint, depth + 1) } : {}),
    ...(cause === undefined ? {} : { cause: printable(cause, depth + 1) }),
    ...(stack === undefined ? {} : { stack: maskedText(stack) }),
  };
}

function maskedText(text: string): string {
  const bounded =
    text.length > TEXT_LENGTH_MAX
      ? `${text.slice(0, TEXT_LENGTH_MAX)}… [${text.length - TEXT_LENGTH_MAX} more]`
      : text;
  return SECRET_VALUES.reduce((masked, [form, mask]) => masked.replace(form, mask), bounded);
}
