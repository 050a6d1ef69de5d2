/**
 * What the commands write to: data on stdout, everything said to the person on stderr. The only
 * file that writes there, since much of what is shown is the text of others (T3).
 *
 * T1  With `--json`, stdout carries JSON values only, one per line.
 * T2  No escape sequence goes to what is not a terminal, nor where NO_COLOR or TERM=dumb forbid it.
 * T3  Nothing that others have written is obeyed by a terminal (clean-text.ts). Files and JSON keep
 *     their values.
 */
import { styleText } from 'node:util';
import { cleanJson, cleanLine, cleanText } from './clean-text.ts';

/** The part of a stream that is needed; `process.stdout` fits. */
export interface TextStream {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
  hasColors?(): boolean;
}

export interface Terminal {
  readonly isJson: boolean;
  /** Text for people, as the result of the command. Nothing with `--json`. */
  line(text: string): void;
  /** One JSON value, as the result of the command. Nothing without `--json`. */
  data(value: unknown): void;
  /** Progress, hints, warnings. */
  note(text: string): void;
  /** The result in both forms. */
  result(value: unknown, text: () => string): void;
  /** Text as part of the result or of what is said, in both forms; a pipe gets it as it came. */
  print(text: string, to?: Channel): void;
  /** Dresses text for stdout. */
  style(style: Style, text: string): string;
  isPaintable(channel: Channel): boolean;
  /** How wide a line may be; null where nobody knows. */
  columns(channel: Channel): number | null;
  /** A picture that is painted over. Only where it is paintable. */
  painter(channel: Channel): Promise<Painter>;
}

export type Channel = 'stdout' | 'stderr';

export interface Painter {
  paint(picture: string): void;
  /** Takes the picture away; what is written next stands above the next picture. */
  clear(): void;
  /** Leaves the last picture standing. */
  done(): void;
}

/** True where a stream is a terminal that can be painted on (T2). */
function isPaintable(stream: TextStream): boolean {
  // A terminal that says it has no columns cannot be painted on either.
  return stream.isTTY === true && stream.columns !== 0 && stream.hasColors?.() === true;
}

export function createTerminal(
  isJson: boolean,
  stdout: TextStream = process.stdout,
  stderr: TextStream = process.stderr,
): Terminal {
  const isColourful = isPaintable(stdout);
  const streams: Readonly<Record<Channel, TextStream>> = { stdout, stderr };
  const show = (stream: TextStream, text: string): void => {
    stream.write(dressed(cleanText(text), isColourful && stream === stdout));
  };
  const line = (text: string): void => {
    if (!isJson) show(stdout, `${text}\n`);
  };
  const data = (value: unknown): void => {
    if (isJson) stdout.write(`${cleanJson(value)}\n`);
  };
  return {
    isJson,
    line,
    data,
    note: text => show(stderr, `${text}\n`),
    result: (value, text) => {
      if (isJson) data(value);
      else line(text());
    },
    print(text, to = 'stdout') {
      const stream = streams[to];
      if (stream.isTTY === true) show(stream, text);
      else stream.write(text);
    },
    style: (style, text) => `${opening(style)}${text}${CLOSING}`,
    isPaintable: channel => isPaintable(streams[channel]),
    columns: channel => streams[channel].columns ?? null,
    async painter(channel) {
      const { createLogUpdate } = await import('log-update');
      const paint = createLogUpdate(streams[channel] as NodeJS.WriteStream);
      return {
        paint: picture => paint(dressed(cleanText(picture), isColourful && channel === 'stdout')),
        clear: () => paint.clear(),
        done: () => paint.done(),
      };
    },
  };
}

/**
 * Dresses are marked by characters that stand for nothing, and become escape sequences after the
 * text has been cleaned (T3). Somebody else's marks could do no more than colour his text.
 */
const STYLES = ['bold', 'dim', 'red', 'green', 'yellow', 'cyan'] as const;
type Style = (typeof STYLES)[number];
const FIRST_MARK = 0xfdd0;
const CLOSING = String.fromCharCode(FIRST_MARK + STYLES.length);
const DRESSED = /([\ufdd0-\ufdd5])([^\ufdd0-\ufdd6]*)\ufdd6/g;
const MARKS = /[\ufdd0-\ufdd6]/g;

const opening = (style: Style): string => String.fromCharCode(FIRST_MARK + STYLES.indexOf(style));

function dressed(text: string, isColourful: boolean): string {
  const styled = isColourful
    ? text.replace(DRESSED, (_, mark: string, inner: string) => {
        const style = STYLES[mark.charCodeAt(0) - FIRST_MARK] ?? 'bold';
        return styleText(style, inner, { validateStream: false });
      })
    : text;
  return styled.replace(MARKS, '');
}

/** Columns padded to their widest cell; the first row is the head. */
export function table(given: readonly (readonly string[])[]): string {
  const rows = given.map(row => row.map(cleanLine));
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
