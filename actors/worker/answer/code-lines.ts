/**
 * Tells code from comments and strings, line by line, closely enough to judge what a comment stands
 * for. No parser: a light scan that knows the marks of a family of languages.
 *
 * L1: one pass, linear in the text, whatever it holds.
 * L2: a quote that is never closed (an apostrophe in a regular expression) costs its line at most:
 *     where a long string is open at the end of the file, the scan is done again without long strings.
 */

export interface CodeLine {
  readonly number: number;
  /** The line without its comment and without blanks around. */
  readonly code: string;
  /** Text of the comment that the line holds, without its marks; null where it has none. */
  readonly comment: string | null;
  readonly indent: number;
  /** It begins inside a string of several lines or a block comment: nothing of it is judged. */
  readonly inside: boolean;
}

interface Family {
  readonly line: readonly string[];
  readonly block: readonly (readonly [string, string])[];
  readonly long: readonly string[];
}

const FAMILIES: readonly (readonly [RegExp, Family])[] = [
  [/\.pyi?$/i, { line: ['#'], block: [], long: ['"""', "'''"] }],
  [
    /\.(?:[mc]?[jt]sx?|go|vue|svelte|astro)$/i,
    {
      line: ['//', '# '],
      block: [
        ['{/*', '*/}'],
        ['/*', '*/'],
        ['<!--', '-->'],
      ],
      long: ['`'],
    },
  ],
  [
    /\.(?:java|kts?|c|h|cc|cpp|cxx|hpp|cs|rs|swift|scala|dart|php|s?css|less|sass|proto|groovy|gradle|zig)$/i,
    { line: ['//'], block: [['/*', '*/']], long: ['"""'] },
  ],
  [/\.(?:sql|lua|hs|elm|ada)$/i, { line: ['--'], block: [['/*', '*/']], long: [] }],
  [
    /\.(?:x?html?|xml|svg|md|mdx|j2|jinja2?|ejs|hbs)$/i,
    { line: [], block: [['<!--', '-->']], long: [] },
  ],
  [/\.(?:lisp|clj|cljs|edn|el|scm|ini|asm|s)$/i, { line: [';'], block: [], long: [] }],
];
const HASHES: Family = { line: ['#'], block: [], long: [] };

export function codeLines(path: string, text: string): readonly CodeLine[] {
  const family = FAMILIES.find(([names]) => names.test(path))?.[1] ?? HASHES;
  const scan = new Scan(family);
  const lines = text.split('\n');
  const first = lines.map((line, index) => scan.line(line, index + 1));
  if (!scan.isOpen || family.long.length === 0) return first;
  const again = new Scan({ ...family, long: [] }); // L2
  return lines.map((line, index) => again.line(line, index + 1));
}

const LINE_LENGTH_MAX = 2_000;

class Scan {
  readonly #family: Family;
  /** What ends the long string or the block comment that is open, or null. */
  #until: string | null = null;
  #isComment = false;

  constructor(family: Family) {
    this.#family = family;
  }

  get isOpen(): boolean {
    return this.#until !== null && !this.#isComment;
  }

  line(source: string, number: number): CodeLine {
    // Nobody writes a hole into a line of minified code.
    const line = source.length > LINE_LENGTH_MAX ? '' : source.replace(/\r$/, '');
    const inside = this.#until !== null;
    const code: string[] = [];
    const comments: string[] = [];
    let at = 0;
    while (at < line.length) {
      const end = this.#until === null ? -1 : line.indexOf(this.#until, at);
      if (this.#until !== null) {
        const upTo = end === -1 ? line.length : end;
        if (this.#isComment) comments.push(line.slice(at, upTo));
        else code.push('x');
        at = end === -1 ? line.length : end + this.#until.length;
        if (end !== -1) this.#until = null;
        continue;
      }
      at = this.#step(line, at, code, comments);
    }
    const indent = line.length - line.trimStart().length;
    const comment = comments.length === 0 ? null : plainComment(comments.join(' '));
    return { number, code: code.join('').trim(), comment, indent, inside };
  }

  /** Takes what stands at `at` outside of strings and comments; answers where it goes on. */
  #step(line: string, at: number, code: string[], comments: string[]): number {
    const { line: lineMarks, block, long } = this.#family;
    const unit = line[at] ?? '';
    for (const mark of lineMarks) {
      if (!line.startsWith(mark, at) || !opensComment(line, at, mark)) continue;
      comments.push(line.slice(at + mark.length));
      return line.length;
    }
    for (const [open, close] of block) {
      if (!line.startsWith(open, at)) continue;
      this.#until = close;
      this.#isComment = true;
      return at + open.length;
    }
    for (const mark of long) {
      if (!line.startsWith(mark, at)) continue;
      const end = line.indexOf(mark, at + mark.length);
      code.push('""');
      if (end !== -1) return end + mark.length;
      this.#until = mark;
      this.#isComment = false;
      return line.length;
    }
    if (unit === '"' || unit === "'") {
      code.push('""');
      return endOfString(line, at, unit);
    }
    code.push(unit);
    return at + 1;
  }
}

/** `#` and `--` begin a comment only where something else ends; `://` is no comment. */
function opensComment(line: string, at: number, mark: string): boolean {
  if (at === 0) return true;
  if (mark === '//') return line[at - 1] !== ':';
  if (mark === '# ') return line.slice(0, at).trim() === '';
  return /[\s;({[,]/.test(line[at - 1] ?? '');
}

/** Behind the closing quote; a string that does not end on its line was none. */
function endOfString(line: string, at: number, quote: string): number {
  for (let index = at + 1; index < line.length; index++) {
    if (line[index] === '\\') index += 1;
    else if (line[index] === quote) return index + 1;
  }
  return at + 1;
}

const plainComment = (text: string): string =>
  text
    .slice(0, 400)
    .replace(/^[\s/#*!;-]+/, '')
    .replace(/(?<![\s*/-])[\s*/-]+$/, '');
