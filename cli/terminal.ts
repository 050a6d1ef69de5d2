/**
 * What the commands write to: data on stdout, everything said to the person on stderr.
 *
 * T1  With `--json`, stdout carries JSON values only, one per line.
 * T2  No escape sequence goes to what is not a terminal, nor where NO_COLOR or TERM=dumb forbid it.
 */
import { styleText } from 'node:util';

type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';

/** The part of a stream that is needed; `process.stdout` fits. */
export interface TextStream {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
  hasColors?(): boolean;
}

export interface Terminal {
  readonly isJson: boolean;
  readonly stdout: TextStream;
  readonly stderr: TextStream;
  /** Text for people, as the result of the command. Nothing with `--json`. */
  line(text: string): void;
  /** One JSON value, as the result of the command. Nothing without `--json`. */
  data(value: unknown): void;
  /** Progress, hints, warnings. */
  note(text: string): void;
  /** The result in both forms. */
  result(value: unknown, text: () => string): void;
  /** Dresses text for stdout. */
  style(style: Style, text: string): string;
}

/** True where a stream is a terminal that can be painted on (T2). */
export function isPaintable(stream: TextStream): boolean {
  // A terminal that says it has no columns cannot be painted on either.
  return stream.isTTY === true && stream.columns !== 0 && stream.hasColors?.() === true;
}

export function createTerminal(
  isJson: boolean,
  stdout: TextStream = process.stdout,
  stderr: TextStream = process.stderr,
): Terminal {
  const isColourful = isPaintable(stdout);
  const line = (text: string): void => {
    if (!isJson) stdout.write(`${text}\n`);
  };
  const data = (value: unknown): void => {
    if (isJson) stdout.write(`${JSON.stringify(value)}\n`);
  };
  return {
    isJson,
    stdout,
    stderr,
    line,
    data,
    note: text => stderr.write(`${text}\n`),
    result: (value, text) => {
      if (isJson) data(value);
      else line(text());
    },
    style: (style, text) =>
      isColourful ? styleText(style, text, { validateStream: false }) : text,
  };
}

/** Columns padded to their widest cell; the first row is the head. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map(row => row[column]?.length ?? 0)),
  );
  const render = (row: readonly string[]): string =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  return rows.map(render).join('\n');
}
