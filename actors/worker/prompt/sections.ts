/**
 * The sections of a user message: a line `## NAME` and one fenced block.
 *
 * S1: the fence is longer than any run of backticks in the text it holds. Nothing that a user, a tool
 *     or a model wrote can end its section and begin another one.
 */

const FENCE_LENGTH_MIN = 3;

/** The shortest fence that is longer than every run of backticks in the text. */
export function fenceFor(text: string): string {
  let longest = 0;
  for (const [run] of text.matchAll(/`+/g)) longest = Math.max(longest, run.length);
  return '`'.repeat(Math.max(FENCE_LENGTH_MIN, longest + 1));
}

/** A fenced block. The text gets a line break at its end where it has none. */
export function fenced(text: string, info: string): string {
  const fence = fenceFor(text);
  const body = text === '' || text.endsWith('\n') ? text : `${text}\n`;
  return `${fence}${info}\n${body}${fence}\n`;
}

export const section = (name: string, text: string, info: string): string =>
  `## ${name}\n${fenced(text, info)}`;

export const jsonSection = (name: string, value: unknown): string =>
  section(name, JSON.stringify(value, null, 1), 'json');

export interface PromptFile {
  readonly path: string;
  readonly text: string;
}

/** Files as path lines and blocks, all of them inside the one block of the section. */
export function filesSection(name: string, files: readonly PromptFile[]): string {
  const blocks = files.map(file => `${file.path}\n${fenced(file.text, languageOf(file.path))}`);
  return section(name, blocks.join('\n'), 'text');
}

const LANGUAGES: Readonly<Record<string, string>> = {
  cjs: 'js',
  js: 'js',
  json: 'json',
  md: 'markdown',
  mjs: 'js',
  py: 'python',
  ts: 'ts',
  yaml: 'yaml',
  yml: 'yaml',
};

function languageOf(path: string): string {
  const extension = /\.([a-z0-9]+)$/i.exec(path)?.[1]?.toLowerCase() ?? '';
  return LANGUAGES[extension] ?? extension;
}
