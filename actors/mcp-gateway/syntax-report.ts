/**
 * Which files a parser is asked about before they are committed, and what it said, as data and as
 * the text that a model repairs them by.
 *
 * Y1: what the parsers print is told apart from what stands in the files: JSON lines, and a mark that
 *     no file can know.
 */

/** Node's own parser and those of JavaScript packages; Python's; a shell and the programs it starts. */
export type SyntaxChecker = 'node' | 'python' | 'shell';

export interface SyntaxFault {
  readonly path: string;
  readonly line: number | null;
  readonly message: string;
}

const CHECKERS: readonly (readonly [RegExp, SyntaxChecker])[] = [
  [/\.(?:[mc]?[jt]s|[jt]sx|json|jsonc|json5|webmanifest|geojson|ipynb|ya?ml)$/i, 'node'],
  [/\.(?:py|pyi|toml)$/i, 'python'],
  [/\.(?:sh|bash|go)$/i, 'shell'],
];
/** Files that have no syntax which could be wrong for those who run the project. */
const PLAIN =
  /(?:^|\/)(?:LICENSE|README|CHANGELOG|NOTICE|AUTHORS|Makefile|Dockerfile|Procfile|\.[\w-]+)$|\.(?:md|in|mdx|rst|txt|csv|tsv|html?|css|svg|xml|sql|ini|cfg|conf|env|example|lock|log|png|jpe?g|gif|ico|webp|woff2?|ttf|pdf|gitkeep)$/i;

/** Templates that become another language only when they are filled in. */
const TEMPLATE = /(?:^|\/)templates?\/.*\.ya?ml$|\.(?:j2|jinja2?|tmpl|tpl|hbs|ejs|erb)(?:\.|$)/i;

export function checkerFor(path: string): SyntaxChecker | null {
  if (TEMPLATE.test(path)) return null;
  return CHECKERS.find(([names]) => names.test(path))?.[1] ?? null;
}

export const hasSyntax = (path: string): boolean => !PLAIN.test(path) && !TEMPLATE.test(path);

/** What a parser's process had to say before it ended. */
export interface ParserOutput {
  readonly faults: readonly SyntaxFault[];
  readonly unchecked: readonly string[];
  /** Files with a verdict. */
  readonly done: ReadonlySet<string>;
  /** The file it was at when it ended, or null. */
  readonly at: string | null;
}

/** Lines `{"begin"}` and `{"path", "line", "message"}` of the scripts in Node and Python (Y1). */
export function readParserLines(output: string, paths: readonly string[]): ParserOutput {
  const known = new Set(paths);
  const done = new Set<string>();
  const faults: SyntaxFault[] = [];
  const unchecked: string[] = [];
  let at: string | null = null;
  for (const text of output.split('\n')) {
    const line = recordOf(text);
    const { begin, path, message } = line;
    if (typeof begin === 'string' && known.has(begin)) at = begin;
    if (typeof path !== 'string' || !known.has(path)) continue;
    done.add(path);
    at = null;
    if (line['unchecked'] === true) unchecked.push(path);
    else if (typeof message === 'string')
      faults.push({ path, line: lineOf(line['line']), message });
  }
  return { faults, unchecked, done, at };
}

function recordOf(text: string): Readonly<Record<string, unknown>> {
  if (!text.startsWith('{')) return {};
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : {};
  } catch {
    // A line that is no record of ours: a warning of the interpreter, or one cut off by its end.
    return {};
  }
}

const lineOf = (value: unknown): number | null =>
  typeof value === 'number' && Number.isInteger(value) && value > 0 ? value : null;

/** Lines between `MARK begin N` and `MARK end N CODE`, with the number of the path (Y1). */
export function readShellLines(
  output: string,
  paths: readonly string[],
  mark: string,
): ParserOutput {
  const done = new Set<string>();
  const faults: SyntaxFault[] = [];
  let at: string | null = null;
  let said: string[] = [];
  for (const text of output.split('\n')) {
    const [, verb, number, code] = text.startsWith(`${mark} `) ? text.split(' ') : [];
    const path = paths[Number(number)];
    if (verb === undefined || path === undefined) said.push(text);
    else if (verb === 'begin') [at, said] = [path, []];
    else {
      done.add(path);
      at = null;
      if (code !== '0') faults.push(shellFault(path, said));
    }
  }
  return { faults, unchecked: [], done, at };
}

function shellFault(path: string, said: readonly string[]): SyntaxFault {
  const first = said.find(text => text.includes(path)) ?? said[0] ?? '';
  const rest = first.slice(first.indexOf(path) + path.length);
  const line = /^:\s?(?:line\s)?(\d{1,9})/.exec(rest)?.[1];
  const message = rest.replace(/^:\s?(?:line\s)?\d{1,9}(?::\d{1,9})?:?\s?/, '').slice(0, 400);
  return {
    path,
    line: line === undefined ? null : Number(line),
    message: message || 'syntax error',
  };
}

const FAULTS_SHOWN_MAX = 8;
const LINE_LENGTH_MAX = 200;

/** The faults with the lines they stand in, as a model that does not see its answer needs them. */
export function describeFaults(
  faults: readonly SyntaxFault[],
  textOf: (path: string) => string | null,
): string {
  const shown = faults.slice(0, FAULTS_SHOWN_MAX).map(fault => {
    const where = fault.line === null ? '' : ` line ${fault.line}`;
    const around = fault.line === null ? [] : linesAround(textOf(fault.path) ?? '', fault.line);
    return [`${fault.path}${where}: ${fault.message.slice(0, 400)}`, ...around].join('\n');
  });
  const more = faults.length - shown.length;
  return [...shown, ...(more > 0 ? [`and ${more} more`] : [])].join('\n').slice(0, 6_000);
}

function linesAround(text: string, line: number): string[] {
  const from = Math.max(1, line - 2);
  return text
    .split('\n', line + 1)
    .slice(from - 1)
    .map((content, index) => {
      const number = from + index;
      return `${number === line ? '>' : ' '} ${number} | ${content.slice(0, LINE_LENGTH_MAX)}`;
    });
}
