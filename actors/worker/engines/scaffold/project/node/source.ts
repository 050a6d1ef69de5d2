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
