/**
 * An answer that comes as lines of JSON: puts lines together over the borders of chunks, parses each
 * one once, and hands it to a translator. A translator sees whole lines and makes text of them.
 *
 * L1: an answer is complete after a line that says so. Bytes that end before it are a failure, since
 *     the engine ends a stream without a word where a model repeats itself.
 */
import { CodeGodError } from '../../../protocol/errors.ts';
import type { Answer } from './dialect.ts';
import { isFields } from './fields.ts';
import { type Figures, figuresOf, type NativeLine } from './native.ts';

/** The longest line: a whole answer with many embeddings. */
export const ANSWER_BYTES_MAX = 64 * 1024 * 1024;
const NEWLINE = 10;

export interface LineTranslator {
  readonly contentType: string;
  line(line: NativeLine): string;
  /** After the last line. */
  end(): string;
  failure(error: CodeGodError): string;
}

export function answerOfLines(translator: LineTranslator): Answer {
  return new LinesAnswer(translator);
}

class LinesAnswer implements Answer {
  readonly contentType: string;
  readonly #translator: LineTranslator;
  /** The beginning of a line whose end has not come. */
  #begun: Buffer[] = [];
  #begunBytes = 0;
  #complete = false;
  #figures: Figures | null = null;

  constructor(translator: LineTranslator) {
    this.#translator = translator;
    this.contentType = translator.contentType;
  }

  get figures(): Figures | null {
    return this.#figures;
  }

  take(bytes: Buffer): string {
    const last = bytes.lastIndexOf(NEWLINE);
    if (last === -1) {
      this.#begin(bytes);
      return '';
    }
    const whole = this.#withBegun(bytes.subarray(0, last));
    if (last + 1 < bytes.length) this.#begin(bytes.subarray(last + 1));
    let text = '';
    for (const line of whole.toString('utf8').split('\n')) text += this.#translate(line);
    return text;
  }

  end(): string {
    const rest = this.#withBegun(null).toString('utf8');
    const text = this.#translate(rest);
    if (!this.#complete) throw endedEarly(); // L1
    return text + this.#translator.end();
  }

  failure(error: CodeGodError): string {
    return this.#translator.failure(error);
  }

  #translate(text: string): string {
    if (text === '') return '';
    const line = parseLine(text);
    if (line.error !== undefined) throw engineError(line.error);
    if (line.done === true || line.embeddings !== undefined) {
      this.#complete = true;
      this.#figures = figuresOf(line);
    }
    try {
      return this.#translator.line(line);
    } catch (cause) {
      throw unreadable(text, cause); // Of another form than the engine's: its fault, not a bug here.
    }
  }

  #begin(bytes: Buffer): void {
    this.#begunBytes += bytes.length;
    if (this.#begunBytes > ANSWER_BYTES_MAX) throw answerTooLarge();
    this.#begun.push(bytes);
  }

  #withBegun(bytes: Buffer | null): Buffer {
    if (this.#begun.length === 0) return bytes ?? Buffer.alloc(0);
    const whole = Buffer.concat(bytes === null ? this.#begun : [...this.#begun, bytes]);
    this.#begun = [];
    this.#begunBytes = 0;
    return whole;
  }
}

function parseLine(text: string): NativeLine {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw unreadable(text, cause);
  }
  if (isFields(value)) return value;
  throw unreadable(text);
}

const unreadable = (text: string, cause?: unknown): CodeGodError =>
  new CodeGodError('engine_failed', `the engine said what it never says: ${text.slice(0, 120)}`, {
    cause,
  });

export const engineError = (words: unknown): CodeGodError =>
  new CodeGodError('engine_failed', `the engine failed: ${String(words).slice(0, 4_096)}`);

export const endedEarly = (): CodeGodError =>
  new CodeGodError(
    'engine_failed',
    'the engine ended its answer without completing it; it does so where a model repeats itself',
  );

export const answerTooLarge = (): CodeGodError =>
  new CodeGodError('too_large', `the engine's answer is over ${ANSWER_BYTES_MAX} bytes`);
