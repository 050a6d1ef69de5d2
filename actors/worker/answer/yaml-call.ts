/**
 * One tool call in the YAML that older prompts taught:
 *
 *     server: filesystem
 *     tool: write_file
 *     arguments:
 *       path: src/a.js
 *       content: |
 *         text, without its indentation
 *
 * Y1: only what can mean one thing: keys of words, plain or quoted text on one line, `|` blocks, lists
 *     of such text, and JSON. Everything else is no call.
 */
import { asRawCall, type RawCall } from './call-shapes.ts';
import { parseTolerant } from './tolerant-json.ts';

const KEY = /^([ \t]{0,16})([A-Za-z_]\w{0,63}):(?:[ \t]+(\S[^\n]*))?[ \t]*$/;
const LINES_MAX = 50_000;

/** Null where the text is nothing of the kind. */
export function readYamlCall(body: string): RawCall | null {
  const lines = body
    .replace(/\r\n/g, '\n')
    .replace(/\n[ \t]*$/, '')
    .split('\n');
  if (lines.length > LINES_MAX) return null;
  const first = lines.find(line => line.trim() !== '');
  const indent = /^ */.exec(first ?? '')?.[0].length ?? 0;
  const record = new YamlReader(lines).mapping(indent);
  const call = record === null ? null : asRawCall(record);
  return call === null || typeof call === 'string' ? null : call;
}

type Mapping = Record<string, unknown>;

class YamlReader {
  readonly #lines: readonly string[];
  #at = 0;

  constructor(lines: readonly string[]) {
    this.#lines = lines;
  }

  /** The keys at this indentation, up to a line further left; null where a line is none of them (Y1). */
  mapping(indent: number): Mapping | null {
    const record: Mapping = {};
    for (let line = this.#next(); line !== null && indentOf(line) >= indent; line = this.#next()) {
      const [, spaces = '', key = '', rest] = KEY.exec(line) ?? [];
      if (spaces.length !== indent || key === '' || key === '__proto__' || key in record)
        return null;
      this.#at += 1;
      const value = rest === undefined ? this.#nested(indent) : this.#value(rest, indent);
      if (value === undefined) return null;
      record[key] = value;
    }
    return record;
  }

  /** The next line with something on it, which stays the next. */
  #next(): string | null {
    while (this.#lines[this.#at]?.trim() === '') this.#at += 1;
    return this.#lines[this.#at] ?? null;
  }

  #nested(indent: number): unknown {
    const line = this.#next();
    if (line === null) return undefined;
    if (/^ *- /.test(line) && indentOf(line) >= indent) return this.#list();
    if (indentOf(line) <= indent) return undefined;
    return this.mapping(indentOf(line)) ?? undefined;
  }

  #list(): unknown {
    const items: unknown[] = [];
    for (let line = this.#next(); line !== null; line = this.#next()) {
      const item = /^ *- +(\S.*)$/.exec(line)?.[1];
      if (item === undefined) break;
      this.#at += 1;
      const value = scalar(item);
      if (value === undefined) return undefined;
      items.push(value);
    }
    return items;
  }

  #value(rest: string, indent: number): unknown {
    const block = /^\|([-+]?)\s*$/.exec(rest);
    return block === null ? scalar(rest) : this.#block(indent, block[1] ?? '');
  }

  /** The lines further right than their key, with the breaks at the end that `|`, `|-`, `|+` mean. */
  #block(indent: number, chomp: string): string {
    const taken: string[] = [];
    for (; this.#at < this.#lines.length; this.#at += 1) {
      const line = this.#lines[this.#at] ?? '';
      if (line.trim() !== '' && indentOf(line) <= indent) break;
      taken.push(line);
    }
    const depth = indentOf(taken.find(line => line.trim() !== '') ?? '');
    const end = taken.findLastIndex(line => line.trim() !== '') + 1;
    const kept = chomp === '+' ? taken : taken.slice(0, end);
    const text = kept.map(line => line.slice(Math.min(depth, indentOf(line)))).join('\n');
    return chomp === '-' ? text : `${text}\n`;
  }
}

const indentOf = (line: string): number => line.length - line.trimStart().length;

/** Undefined where it could mean several things. */
function scalar(text: string): unknown {
  const value = text.trim();
  if (/^[[{"]/.test(value)) {
    const parsed = parseTolerant(value, { repair: false });
    return parsed.ok ? parsed.value : undefined;
  }
  if (/^'(?:[^']|'')*'$/.test(value)) return value.slice(1, -1).replaceAll("''", "'");
  if (/^(?:true|false|null|-?\d{1,15})$/.test(value)) return JSON.parse(value);
  return /^[&*!|>'%@`#]|: | #/.test(value) ? undefined : value;
}
