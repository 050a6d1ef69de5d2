/**
 * Small pieces of JavaScript source: values and imports as a formatter would print them.
 */

import type { Json } from '../samples.ts';

const LINE_CHARS_MAX = 100;

/** @returns the value as a JavaScript literal in single quotes. */
export function js(value: Json): string {
  if (typeof value === 'string') return quoted(value);
  if (Array.isArray(value)) return `[${value.map(quoted).join(', ')}]`;
  return String(value);
}

function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}

/** @returns an import statement, broken over lines when it is too long for one. */
export function importNames(names: readonly string[], from: string): string {
  const sorted = [...new Set(names)].sort();
  const line = `import { ${sorted.join(', ')} } from '${from}';`;
  if (line.length <= LINE_CHARS_MAX) return line;
  return `import {\n${sorted.map(name => `  ${name},`).join('\n')}\n} from '${from}';`;
}

/** @returns `head{ a, b }tail` on one line, or with one entry per line when that is too long. */
export function objectLiteral(
  head: string,
  entries: readonly string[],
  tail: string,
  indent = '',
): string {
  const line = `${indent}${head}{ ${entries.join(', ')} }${tail}`;
  if (entries.length === 0) return `${indent}${head}{}${tail}`;
  if (line.length <= LINE_CHARS_MAX) return line;
  return `${indent}${head}{\n${entries.map(entry => `${indent}  ${entry},`).join('\n')}\n${indent}}${tail}`;
}
