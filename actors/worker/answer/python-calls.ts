/**
 * Reads `[write_file(path="a.js", content="…"), server.tool(n=1)]`, and the same calls line by line:
 * keyword arguments with Python literals. A recursive descent over the text, without regular
 * expressions over its whole length.
 */
import type { KnowsTool, RawCall } from './call-shapes.ts';

const DEPTH_MAX = 24;
const CALLS_MAX = 128;
const WORDS: Readonly<Record<string, unknown>> = {
  True: true,
  true: true,
  False: false,
  false: false,
  None: null,
  null: null,
};
const ESCAPES: Readonly<Record<string, string>> = {
  n: '\n',
  t: '\t',
  r: '\r',
  '\\': '\\',
  "'": "'",
  '"': '"',
  '/': '/',
  b: '\b',
  f: '\f',
  '\n': '',
};

class Unreadable extends Error {}

const CALL =
  /^[ \t]*(?:<\|python_tag\|>[ \t]*|\[TOOL_CALLS\][ \t]*)?(?=(?:(\[)[ \t]*)?(?:print\()?([A-Za-z_][\w.]{0,127})\([ \t\n]{0,64}(?:[A-Za-z_]\w{0,63}[ \t]{0,8}=|\)))/gm;

/** Where a line begins with calls of known tools, or -1. */
export function pythonCallAt(text: string, knows: KnowsTool): number {
  for (const match of text.matchAll(CALL)) {
    if (knows(toolNameOf(match[2] ?? ''))) return match.index + match[0].length;
  }
  return -1;
}

/** Without the names of modules that some dialects put before every tool. */
const toolNameOf = (name: string): string =>
  name.replace(/^(?:default_api|functions|tools)\./, '').replace(/\.call$/, '');

/** The calls that begin at the text's first character, or why they cannot be read. */
export function readPythonCalls(text: string, knows: KnowsTool): RawCall[] | string {
  const reader = new Reader(text);
  try {
    return text.startsWith('[') ? reader.calls() : reader.statements(knows);
  } catch (error) {
    if (error instanceof Unreadable) return error.message;
    throw error;
  }
}

class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  calls(): RawCall[] {
    const calls: RawCall[] = [];
    this.#expect('[');
    while (!this.#accept(']')) {
      if (calls.length >= CALLS_MAX) throw new Unreadable('too many calls');
      calls.push(this.#call());
      if (!this.#accept(',') && this.#peek() !== ']') throw this.#wrong('`,` or `]`');
    }
    return calls;
  }

  /** Calls that stand one after the other; what follows them is prose. */
  statements(knows: KnowsTool): RawCall[] {
    const calls: RawCall[] = [];
    const next = /^(?:print\()?([A-Za-z_][\w.]{0,127})\(/;
    for (let match = this.#ahead(next); match !== null; match = this.#ahead(next)) {
      if (calls.length > 0 && !knows(toolNameOf(match[1] ?? ''))) break;
      if (calls.length >= CALLS_MAX) throw new Unreadable('too many calls');
      const printed = match[0].startsWith('print(');
      if (printed) this.#at += 'print('.length;
      calls.push(this.#call());
      if (printed) this.#expect(')');
      this.#accept(';');
    }
    return calls;
  }

  #ahead(pattern: RegExp): RegExpExecArray | null {
    this.#peek();
    return pattern.exec(this.#text.slice(this.#at, this.#at + 160));
  }

  #call(): RawCall {
    const tool = toolNameOf(this.#name(true));
    this.#expect('(');
    const args: Record<string, unknown> = {};
    while (!this.#accept(')')) {
      const key = this.#name(false);
      this.#expect('=');
      args[key] = this.#value(0);
      if (!this.#accept(',') && this.#peek() !== ')') throw this.#wrong('`,` or `)`');
    }
    return { server: '', tool, arguments: args };
  }

  #value(depth: number): unknown {
    if (depth > DEPTH_MAX) throw new Unreadable('a tool call is nested too deeply');
    const next = this.#peek();
    if (next === '"' || next === "'") return this.#string();
    if (next === '[') return this.#list(depth);
    if (next === '{') return this.#object(depth);
    const match = /^[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|^[A-Za-z]+/.exec(
      this.#text.slice(this.#at, this.#at + 40),
    );
    if (match === null) throw this.#wrong('a value');
    this.#at += match[0].length;
    if (Object.hasOwn(WORDS, match[0])) return WORDS[match[0]];
    const number = Number(match[0]);
    if (Number.isNaN(number)) throw new Unreadable(`a tool call holds the bare word ${match[0]}`);
    return number;
  }

  #list(depth: number): unknown[] {
    const items: unknown[] = [];
    this.#expect('[');
    while (!this.#accept(']')) {
      items.push(this.#value(depth + 1));
      if (!this.#accept(',') && this.#peek() !== ']') throw this.#wrong('`,` or `]`');
    }
    return items;
  }

  #object(depth: number): Record<string, unknown> {
    const object: Record<string, unknown> = {};
    this.#expect('{');
    while (!this.#accept('}')) {
      this.#peek();
      const key = this.#string();
      if (key === '__proto__') throw new Unreadable('a key is named __proto__');
      this.#expect(':');
      object[key] = this.#value(depth + 1);
      if (!this.#accept(',') && this.#peek() !== '}') throw this.#wrong('`,` or `}`');
    }
    return object;
  }

  #string(): string {
    const quote = this.#text[this.#at];
    if (quote !== '"' && quote !== "'") throw this.#wrong('a string');
    const triple = quote.repeat(3);
    const mark = this.#text.startsWith(triple, this.#at) ? triple : quote;
    this.#at += mark.length;
    const parts: string[] = [];
    while (!this.#text.startsWith(mark, this.#at)) {
      const unit = this.#text[this.#at];
      if (unit === undefined) throw new Unreadable('a string in a tool call is not closed');
      this.#at += 1;
      parts.push(unit === '\\' ? this.#escape() : unit);
    }
    this.#at += mark.length;
    return parts.join('');
  }

  #escape(): string {
    const unit = this.#text[this.#at] ?? '';
    this.#at += 1;
    const width = unit === 'u' ? 4 : unit === 'x' ? 2 : 0;
    if (width > 0) {
      const digits = this.#text.slice(this.#at, this.#at + width);
      if (!/^[0-9a-fA-F]+$/.test(digits) || digits.length !== width) {
        throw new Unreadable('a string in a tool call has a broken escape');
      }
      this.#at += width;
      return String.fromCharCode(Number.parseInt(digits, 16));
    }
    return ESCAPES[unit] ?? `\\${unit}`;
  }

  #name(dotted: boolean): string {
    this.#peek();
    const pattern = dotted ? /^[A-Za-z_][\w.]*/ : /^[A-Za-z_]\w*/;
    const match = pattern.exec(this.#text.slice(this.#at, this.#at + 160));
    if (match === null || match[0] === '__proto__') throw this.#wrong('a name');
    this.#at += match[0].length;
    return match[0];
  }

  /** The next character that is no white space. */
  #peek(): string | undefined {
    while (/\s/.test(this.#text[this.#at] ?? '')) this.#at += 1;
    return this.#text[this.#at];
  }

  #accept(mark: string): boolean {
    if (this.#peek() !== mark) return false;
    this.#at += 1;
    return true;
  }

  #expect(mark: string): void {
    if (!this.#accept(mark)) throw this.#wrong(`\`${mark}\``);
  }

  #wrong(wanted: string): Unreadable {
    const seen = this.#text.slice(this.#at, this.#at + 20);
    return new Unreadable(`a tool call has ${JSON.stringify(seen)} where ${wanted} should be`);
  }
}
