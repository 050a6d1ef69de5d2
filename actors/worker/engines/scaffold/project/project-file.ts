/**
 * A file of a generated project, with the plan task that owns it.
 */

export interface ProjectFile {
  /** Relative, with forward slashes. */
  readonly path: string;
  /** The whole text; ends in exactly one newline. */
  readonly content: string;
  /** The id of the task that writes it. */
  readonly task: string;
}

const LINE_CHARS_MAX = 100;

/**
 * @returns the value as JSON text: what fits stands on one line, the rest is broken and indented.
 */
export function jsonText(value: unknown): string {
  return `${jsonPart(value, '', 0)}\n`;
}

function jsonPart(value: unknown, indent: string, used: number): string {
  const flat = flatJson(value);
  if (indent !== '' && indent.length + used + flat.length < LINE_CHARS_MAX) return flat;
  const deeper = `${indent}  `;
  if (Array.isArray(value) && value.length > 0) {
    const items = value.map(item => deeper + jsonPart(item, deeper, 1));
    return `[\n${items.join(',\n')}\n${indent}]`;
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    const entries = Object.entries(value).map(([name, part]) => {
      const key = `${JSON.stringify(name)}: `;
      return deeper + key + jsonPart(part, deeper, key.length + 1);
    });
    if (entries.length > 0) return `{\n${entries.join(',\n')}\n${indent}}`;
  }
  return flat;
}

function flatJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(flatJson).join(', ')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const entries = Object.entries(value).map(
    ([name, part]) => `${JSON.stringify(name)}: ${flatJson(part)}`,
  );
  return entries.length === 0 ? '{}' : `{ ${entries.join(', ')} }`;
}
