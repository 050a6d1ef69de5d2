/**
 * The commit message of an attempt: a title and the four trailers that make merging idempotent.
 *
 * T1: a title never adds a trailer of its own: line breaks and control characters are blanks.
 */

export interface AttemptTrailers {
  readonly build: string;
  readonly task: string;
  readonly attempt: number;
  readonly model: string;
}

const TITLE_LENGTH_MAX = 200;

export function attemptMessage(title: string, trailers: AttemptTrailers): string {
  const { build, task, attempt, model } = trailers;
  return [
    oneLine(title) || `Do ${task}`,
    '',
    `Build: ${build}`,
    `Task: ${task}`,
    `Attempt: ${attempt}`,
    `Model: ${oneLine(model) || 'unknown'}`,
    '',
  ].join('\n');
}

/** The trailers of a commit message, or null where one of Build, Task and Attempt is missing. */
export function trailersOf(message: string): AttemptTrailers | null {
  const paragraphs = message.trimEnd().split(/\n{2,}/);
  const last = paragraphs.length > 1 ? (paragraphs.at(-1) ?? '') : '';
  const fields = new Map<string, string>();
  for (const line of last.split('\n')) {
    const match = /^(Build|Task|Attempt|Model): (.+)$/.exec(line);
    if (match?.[1] !== undefined && match[2] !== undefined) fields.set(match[1], match[2]);
  }
  const build = fields.get('Build');
  const task = fields.get('Task');
  const attempt = Number(fields.get('Attempt'));
  if (build === undefined || task === undefined || !Number.isInteger(attempt)) return null;
  return { build, task, attempt, model: fields.get('Model') ?? 'unknown' };
}

function oneLine(text: string): string {
  return text
    .replace(/[\p{Cc}\u2028\u2029]+/gu, ' ')
    .trim()
    .slice(0, TITLE_LENGTH_MAX);
}
