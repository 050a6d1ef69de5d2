/**
 * Small pieces of Python source: values, imports and lists as a formatter would print them.
 */

import type { Json } from '../samples.ts';

const LINE_CHARS_MAX = 100;

/** @returns the value as a Python literal in double quotes. */
export function py(value: Json): string {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'number') return String(value);
  if (typeof value === 'string') return JSON.stringify(value);
  return `[${value.map(part => JSON.stringify(part)).join(', ')}]`;
}

/** @returns a from-import, broken over lines when it is too long for one. */
export function fromImport(module: string, names: readonly string[]): string {
  const sorted = [...new Set(names)].sort();
  const line = `from ${module} import ${sorted.join(', ')}`;
  if (line.length <= LINE_CHARS_MAX) return line;
  return `from ${module} import (\n${sorted.map(name => `    ${name},`).join('\n')}\n)`;
}

/** @returns `head[a, b]tail` on one line, or one entry per line when that is too long. */
export function bracketed(head: string, entries: readonly string[], tail: string): string {
  const line = `${head}${entries.join(', ')}${tail}`;
  if (line.length <= LINE_CHARS_MAX) return line;
  return `${head}\n${entries.map(entry => `    ${entry},`).join('\n')}\n${tail}`;
}
