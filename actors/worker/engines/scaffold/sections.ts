/**
 * The sections of a prompt: `## NAME`, then one fenced block.
 *
 * N1  What stands inside a fence is never read as a heading: a fence ends only at a line of at
 *     least as many backticks, and the prompt's fences are longer than any run inside them. So a
 *     request cannot forge another section.
 * N2  Of two sections with one name the first counts.
 */

/** The parts of a prompt this engine looks at. */
export interface PromptSections {
  readonly request: string | null;
  readonly techStack: Readonly<Record<string, string>>;
  readonly project: Readonly<Record<string, string>>;
  readonly task: TaskCard | null;
  readonly error: string | null;
}

export interface TaskCard {
  readonly id: string;
  readonly type: string;
  readonly owns: readonly string[];
}

/** @returns the text of every section by its name. */
export function readFences(text: string): Map<string, string> {
  const sections = new Map<string, string>();
  let name: string | null = null;
  let fence = 0;
  let body: string[] = [];
  const close = (): void => {
    if (name !== null && !sections.has(name)) sections.set(name, body.join('\n'));
    name = null;
    fence = 0;
    body = [];
  };
  for (const line of text.split(/\r?\n/)) {
    const ticks = /^(`{3,})(.*)$/.exec(line);
    const run = ticks?.[1]?.length ?? 0;
    if (fence > 0) {
      if (run >= fence && ticks?.[2]?.trim() === '') close();
      else body.push(line);
    } else if (run > 0) {
      fence = run;
    } else {
      const heading = /^## ([A-Z][A-Z_ ]*[A-Z])\s*$/.exec(line)?.[1];
      if (heading !== undefined) name = heading;
      else if (line.trim() !== '') name = null;
    }
  }
  if (fence > 0) close();
  return sections;
}

/** @returns the sections this engine needs; what is missing or broken reads as absent. */
export function readSections(text: string): PromptSections {
  const sections = readFences(text);
  return {
    request: sections.get('REQUEST') ?? null,
    techStack: stringsOf(parsed(sections.get('TECH_STACK'))),
    project: stringsOf(parsed(sections.get('PROJECT'))),
    task: taskOf(parsed(sections.get('TASK'))),
    error: sections.get('ERROR') ?? null,
  };
}

function parsed(json: string | undefined): Record<string, unknown> {
  if (json === undefined) return {};
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === 'object' && value !== null ? { ...value } : {};
  } catch {
    // A broken section is an absent one; the answer then says what is missing.
    return {};
  }
}

function stringsOf(value: Record<string, unknown>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(value).filter(
      (entry): entry is [string, string] => typeof entry[1] === 'string',
    ),
  );
}

function taskOf(value: Record<string, unknown>): TaskCard | null {
  const { id, type, owns } = value;
  if (typeof id !== 'string') return null;
  const paths = Array.isArray(owns) ? owns.filter(path => typeof path === 'string') : [];
  return { id, type: typeof type === 'string' ? type : '', owns: paths };
}
