/**
 * Texts that nobody writes and anybody can send: blanks, one long line, nesting, a pattern's own
 * words again and again. Whoever reads foreign text has to be done with them in time that grows
 * like their length.
 */
import { parseSync } from 'oxc-parser';
import { withinTime } from '../runtime/time-limit.ts';

const ATOMS = [
  ...[' ', '\n', '\r\n', ' \n', '\t', 'a', 'A', '0', '_', '.', ',', ':', '-', '/', '\\', '*'],
  ...['{', '[', '(', '<', '"', "'", '`', '```\n', '~~~\n', '{"a":', '[[', '](', '"a', '\\"'],
  ...['a ', 'a.', 'a/', '0.', 'a\n', '- a\n', '**/', '../', '{a,', '<think>', '</think>', '<a>'],
  ...[
    '<tool_call>',
    '<function=a>',
    '<parameter=a>',
    '[TOOL_CALLS]',
    '"name":',
    '\u001b[',
    '\ufeff',
  ],
];

/** About `length` characters each. */
export function floods(
  length: number,
): readonly { readonly name: string; readonly text: string }[] {
  return ATOMS.flatMap(atom => {
    const text = atom.repeat(Math.ceil(length / atom.length));
    const name = JSON.stringify(atom);
    return [
      { name: `${name} again and again`, text },
      { name: `${name} again and again, and an end that does not fit`, text: `${text}\u0000` },
    ];
  });
}

/** How long `work` takes, in ms; null where it was stopped. What it throws does not matter here. */
export function timeOf(work: () => unknown, limitMs: number): number | null {
  const startedAt = performance.now();
  const done = withinTime(limitMs, () => {
    try {
      work();
    } catch {
      // A refusal is an answer like any other: only its time counts.
    }
    return true;
  });
  return done === undefined ? null : performance.now() - startedAt;
}

export interface Pattern {
  readonly path: string;
  readonly line: number;
  readonly source: string;
  readonly flags: string;
}

/** The regular expressions that stand in a file. */
export function patternsIn(path: string, text: string): Pattern[] {
  const found: Pattern[] = [];
  const walk = (node: unknown): void => {
    if (Array.isArray(node)) for (const item of node) walk(item);
    if (typeof node !== 'object' || node === null || Array.isArray(node)) return;
    const { type, regex, start } = node as { type?: string; regex?: unknown; start?: number };
    if (type === 'Literal' && typeof regex === 'object' && regex !== null) {
      const { pattern, flags } = regex as { pattern: string; flags: string };
      const line = text.slice(0, start).split('\n').length;
      found.push({ path, line, source: pattern, flags });
      return;
    }
    for (const value of Object.values(node)) walk(value);
  };
  walk(parseSync(path, text).program);
  return found;
}

/** What a pattern is slow on, if on anything: its own words, and what its classes take. */
export function slowFlood(
  { source, flags }: Pick<Pattern, 'source' | 'flags'>,
  length: number,
  limitMs: number,
): string | null {
  const words = wordsOf(source);
  const leads = ['', words[0] ?? ''];
  const atoms = new Set([...ATOMS.slice(0, 30), ...words]);
  for (const atom of atoms) {
    for (const lead of new Set(leads)) {
      for (const end of ['', '\u0000']) {
        const text = lead + atom.repeat(Math.ceil(length / atom.length)) + end;
        const pattern = new RegExp(source, flags);
        const work = (): unknown =>
          pattern.global ? text.replace(pattern, '') : pattern.exec(text);
        if (isSlow(work, limitMs)) return `${JSON.stringify(lead)}, then ${JSON.stringify(atom)} …`;
      }
    }
  }
  return null;
}

/** Three times, since a busy machine may stop for a moment; what is too slow is so each time. */
export function isSlow(work: () => unknown, limitMs: number): boolean {
  return [1, 2, 3].every(() => timeOf(work, limitMs) === null);
}

/** The plain runs of a pattern, a blank for each class of characters. */
function wordsOf(source: string): string[] {
  const plain = source
    .replace(/\\[dwsDWSpPb](\{[^}]*\})?/g, ' ')
    .replace(/\(\?<?[:=!]|\[\^?[^\]]*\]|[()^$*+?|{}]/g, '\u0001')
    .replace(/\\(.)/g, '$1');
  return plain
    .split('\u0001')
    .map(word => word.replace(/ +/g, ' '))
    .filter(word => word !== '')
    .slice(0, 40);
}
