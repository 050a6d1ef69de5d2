/**
 * Ollama's own dialect on an engine that speaks it: the answer passes through unread. Only its last
 * line is looked at, for the figures, and its first bytes, for an error that came in place of it.
 *
 * P1: the engine is asked by its own spelling of the model. Bytes are changed only where the client
 *     spells it otherwise: then each line's name, which stands at its very beginning, is put back.
 * P2: a line that tells an error is held back, so that the failure is told in one place.
 */
import { secondsOf } from '../../../protocol/duration.ts';
import { type CodeGodError, toWireError } from '../../../protocol/errors.ts';
import { ANSWER_BYTES_MAX, answerTooLarge, endedEarly, engineError } from './answer-lines.ts';
import { type Answer, type DialectTranslator, toldName } from './dialect.ts';
import { fieldsField, flagField, refusal } from './fields.ts';
import { type Figures, milliseconds, type NativePath } from './native.ts';
import { clientOptions } from './node-options.ts';

const NEWLINE = 10;
const NOTHING = Buffer.alloc(0);
const ERROR_LINE = Buffer.from('{"error":');
/** Of an answer that is not streamed, the figures stand in its last bytes. */
const TAIL_BYTES = 1024 * 1024;

export const ollamaChat = passing('/api/chat');
export const ollamaGenerate = passing('/api/generate');
export const ollamaEmbed = passing('/api/embed');

function passing(path: NativePath): DialectTranslator {
  return (body, asked) => {
    const {
      options: given,
      model: _model,
      name: _name,
      stream: _,
      keep_alive,
      shift,
      ...rest
    } = body;
    const { options, ignored } = clientOptions(fieldsField(body, 'options') ?? {});
    if (shift === true) ignored.push('shift');
    const { model } = asked;
    const stay = stayOf(keep_alive);
    const told = toldName(body, asked);
    return {
      ...{ path, options, ignored, model, body: rest },
      ...(stay === null ? {} : { keep_alive: stay }),
      stream: path !== '/api/embed' && (flagField(body, 'stream') ?? true),
      answer: told === model ? new PassingAnswer() : new RenamingAnswer(model, told),
    };
  };
}

/** Null where nothing is wished. @throws CodeGodError `bad_request` */
function stayOf(wish: unknown): number | null {
  if (wish === undefined || wish === null || wish === '') return null;
  const seconds = secondsOf(wish);
  if (seconds !== null) return seconds;
  throw refusal('keep_alive', 'has to be a number of seconds or a duration, such as 5m');
}

class PassingAnswer implements Answer {
  readonly contentType = null;
  /** What came of the last line, at most TAIL_BYTES. */
  #line: Buffer[] = [];
  #lineBytes = 0;
  #lineEnded = true;
  /** P2. */
  #errorLine: Buffer | null = null;

  take(bytes: Buffer): Buffer {
    if (this.#errorLine !== null || bytes.length === 0) return NOTHING;
    const ended = bytes[bytes.length - 1] === NEWLINE;
    const before = lastIndexBefore(bytes, bytes.length - (ended ? 1 : 0));
    const begins = before !== -1 || this.#lineEnded;
    const part = bytes.subarray(before + 1);
    if (begins && startsWith(part, 0, ERROR_LINE)) {
      this.#errorLine = part;
      return bytes.subarray(0, before + 1);
    }
    if (begins) {
      this.#line = [];
      this.#lineBytes = 0;
    }
    this.#line.push(part);
    this.#lineBytes += part.length;
    this.#lineEnded = ended;
    while (this.#lineBytes - (this.#line[0]?.length ?? 0) >= TAIL_BYTES) {
      this.#lineBytes -= this.#line.shift()?.length ?? 0;
    }
    return bytes;
  }

  end(): string {
    if (this.#errorLine !== null) throw engineError(wordsOf(this.#errorLine));
    const last = Buffer.concat(this.#line);
    if (last.includes('"done":true') || last.includes('"embeddings":')) return '';
    throw endedEarly();
  }

  failure(error: CodeGodError): string {
    const told = `${JSON.stringify({ error: toWireError(error).message })}\n`;
    return this.#lineEnded ? told : `\n${told}`;
  }

  get figures(): Figures | null {
    const last = Buffer.concat(this.#line);
    if (numberAfter(last, '"total_duration":') === undefined) return null;
    return {
      prompt_tokens: numberAfter(last, '"prompt_eval_count":') ?? null,
      prompt_ms: milliseconds(numberAfter(last, '"prompt_eval_duration":')),
      output_tokens: numberAfter(last, '"eval_count":') ?? null,
      output_ms: milliseconds(numberAfter(last, '"eval_duration":')),
    };
  }
}

/** P1. */
class RenamingAnswer extends PassingAnswer {
  readonly #from: Buffer;
  readonly #to: Buffer;
  #begunLine: Buffer[] = [];
  #begunBytes = 0;

  constructor(from: string, to: string) {
    super();
    this.#from = Buffer.from(`{"model":${JSON.stringify(from)}`);
    this.#to = Buffer.from(`{"model":${JSON.stringify(to)}`);
  }

  override take(bytes: Buffer): Buffer {
    const taken = super.take(bytes);
    const last = taken.lastIndexOf(NEWLINE);
    const rest = taken.subarray(last + 1);
    if (last === -1) {
      this.#begin(rest);
      return NOTHING;
    }
    const lines = Buffer.concat([...this.#begunLine, taken.subarray(0, last + 1)]);
    this.#begunLine = [];
    this.#begunBytes = 0;
    this.#begin(rest);
    return this.#renamed(lines);
  }

  override end(): string {
    const rest = this.#renamed(Buffer.concat(this.#begunLine)).toString('utf8');
    return rest + super.end();
  }

  #begin(bytes: Buffer): void {
    this.#begunBytes += bytes.length;
    if (this.#begunBytes > ANSWER_BYTES_MAX) throw answerTooLarge();
    if (bytes.length > 0) this.#begunLine.push(bytes);
  }

  #renamed(lines: Buffer): Buffer {
    const parts: Buffer[] = [];
    let copied = 0;
    for (let at = 0; at < lines.length; ) {
      if (startsWith(lines, at, this.#from)) {
        parts.push(lines.subarray(copied, at), this.#to);
        copied = at + this.#from.length;
      }
      const newline = lines.indexOf(NEWLINE, at);
      at = newline === -1 ? lines.length : newline + 1;
    }
    return copied === 0 ? lines : Buffer.concat([...parts, lines.subarray(copied)]);
  }
}

function startsWith(bytes: Buffer, at: number, prefix: Buffer): boolean {
  return (
    bytes.length >= at + prefix.length &&
    bytes.compare(prefix, 0, prefix.length, at, at + prefix.length) === 0
  );
}

const lastIndexBefore = (bytes: Buffer, end: number): number =>
  end === 0 ? -1 : bytes.lastIndexOf(NEWLINE, end - 1);

/** The figures are the last fields of a line; in text before them quotes are escaped. */
function numberAfter(bytes: Buffer, key: string): number | undefined {
  const at = bytes.lastIndexOf(key);
  if (at === -1) return undefined;
  const digits = /^\s*(\d+)/.exec(bytes.toString('latin1', at + key.length, at + key.length + 24));
  return digits === null ? undefined : Number(digits[1]);
}

function wordsOf(line: Buffer): string {
  const text = line.toString('utf8', 0, 4_096).split('\n', 1)[0] ?? '';
  return text.slice(ERROR_LINE.length).replace(/^\s*"|"?\}\s*$/g, '');
}
