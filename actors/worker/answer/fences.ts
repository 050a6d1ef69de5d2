/**
 * Splits a model's answer into fenced blocks and the prose around them, with the path of each block
 * that has one. The text of a block is byte for byte what stands between its fences.
 *
 * F1: a fence is closed by a bare fence at least as long. Inside a block of the same length, a fence
 *     with an info string opens an inner one, as in a README that shows commands.
 * F2: where that leaves room for two readings the block is marked `doubt`, never guessed at.
 * F3: one pass; the cost is linear in the text.
 * F4: a Markdown file may hold bare fences of its own length. They come in pairs, so that an odd
 *     number of them before the envelope or the next file ends with the one that closes the file.
 */
import { commentPathOf, type Heading, headingOf, infoPathOf } from './path-heading.ts';

export interface FencedBlock {
  readonly heading: Heading | null;
  /** From a comment in the first line of the code: weaker than a heading. */
  readonly comment: Heading | null;
  readonly info: string;
  readonly text: string;
  readonly closed: boolean;
  /** Why the end of the block cannot be told for certain, or null. */
  readonly doubt: string | null;
  /** Where it begins in the answer, in UTF-16 code units. */
  readonly at: number;
}

export interface ProsePart {
  readonly text: string;
  readonly at: number;
}

export interface Split {
  readonly blocks: readonly FencedBlock[];
  readonly prose: readonly ProsePart[];
}

interface Line {
  readonly text: string;
  readonly at: number;
}

interface Open {
  readonly mark: string;
  readonly indent: number;
  readonly info: string;
}

const FENCE_LINE = /^([ \t]*(?:(?:[-*+]|\d{1,3}[.)])[ \t]+)?)(`{3,}|~{3,})([^`]*)$/;

/** `owned` tells headings of files from paths that a README shows; without it nothing is told (F4). */
export function splitFences(answer: string, owned?: (path: string) => boolean): Split {
  const lines = linesOf(answer);
  const envelopeAt = owned === undefined ? 0 : lastEnvelopeLine(lines);
  const blocks: FencedBlock[] = [];
  const prose: ProsePart[] = [];
  let proseFrom = 0;
  let index = 0;
  const flush = (until: number): void => {
    const from = lines[proseFrom];
    const to = lines[until]?.at ?? answer.length;
    if (from !== undefined && to > from.at) {
      prose.push({ text: answer.slice(from.at, to), at: from.at });
    }
  };
  while (index < lines.length) {
    const line = lines[index] as Line;
    const open = openOf(line.text);
    if (open === null) {
      index += 1;
      continue;
    }
    const heading = infoPathOf(open.info) ?? headingAbove(lines, index, proseFrom);
    flush(index);
    const first = endOf(lines, index + 1, open);
    const isText = heading?.kind === 'path' && isMarkdown(heading, open.info);
    const end =
      isText && first.closed && owned !== undefined
        ? lastEndOf(lines, { open, first, owned, envelopeAt })
        : first;
    const text = blockText(lines, index + 1, end.index, open.indent);
    const previous = blocks.at(-1);
    if (previous !== undefined && open.info === '' && heading === null) {
      blocks[blocks.length - 1] = doubtEarlierEnd(previous);
    }
    blocks.push({
      heading,
      comment: heading === null ? commentPathOf(text) : null,
      info: open.info,
      text,
      closed: end.closed,
      doubt: end.nested && !isMarkdown(heading, open.info) ? INNER_FENCE : null,
      at: line.at,
    });
    index = end.closed ? end.index + 1 : end.index;
    proseFrom = index;
  }
  flush(lines.length);
  return { blocks, prose };
}

const INNER_FENCE =
  'holds a fence as long as its own; put the file into a longer fence, for example ````';

/** A bare fence behind a block that may well have been that block's true end (F2). */
function doubtEarlierEnd(block: FencedBlock): FencedBlock {
  if (block.heading === null || block.doubt !== null) return block;
  const open = isMarkdown(block.heading, block.info) || endsInsideText(block.text);
  return open ? { ...block, doubt: INNER_FENCE } : block;
}

/** Whether the code stops inside a comment or a long string: its true end comes later. */
function endsInsideText(code: string): boolean {
  const count = (text: string): number => code.split(text).length - 1;
  return count('"""') % 2 === 1 || count("'''") % 2 === 1 || count('/*') > count('*/');
}

function isMarkdown(heading: Heading | null, info: string): boolean {
  if (heading !== null) return /\.(?:md|mdx|markdown|rst|txt)$|(?:^|\/)README$/i.test(heading.path);
  return /^(?:md|mdx|markdown)\b/i.test(info);
}

function linesOf(text: string): Line[] {
  const lines: Line[] = [];
  let at = 0;
  while (at < text.length) {
    const newline = text.indexOf('\n', at);
    const end = newline === -1 ? text.length : newline + 1;
    lines.push({ text: text.slice(at, end), at });
    at = end;
  }
  return lines;
}

const withoutEnd = (line: string): string => line.replace(/\r?\n$/, '');

function openOf(line: string): Open | null {
  // Cheap refusal first: most lines are no fences.
  if (!line.includes('```') && !line.includes('~~~')) return null;
  const match = FENCE_LINE.exec(withoutEnd(line));
  if (match?.[1] === undefined || match[2] === undefined) return null;
  return { mark: match[2], indent: match[1].length, info: (match[3] ?? '').slice(0, 256).trim() };
}

/** The line above, at most two blank lines away and not before `from`. */
function headingAbove(lines: readonly Line[], fence: number, from: number): Heading | null {
  for (let index = fence - 1; index >= Math.max(from, fence - 3); index--) {
    const text = withoutEnd(lines[index]?.text ?? '');
    if (text.trim() !== '') return headingOf(text);
  }
  return null;
}

interface End {
  readonly index: number;
  readonly closed: boolean;
  readonly nested: boolean;
}

/** Whether a fence counts inside a block that another one opened. */
const closes = (inner: Open, open: Open): boolean =>
  inner.mark[0] === open.mark[0] &&
  inner.mark.length >= open.mark.length &&
  inner.indent <= open.indent + 3;

function endOf(lines: readonly Line[], from: number, open: Open): End {
  let depth = 0;
  let nested = false;
  for (let index = from; index < lines.length; index++) {
    const inner = openOf((lines[index] as Line).text);
    if (inner === null || !closes(inner, open)) continue;
    if (inner.info !== '') {
      depth += 1;
      nested = true;
    } else if (depth > 0) {
      depth -= 1;
    } else {
      return { index, closed: true, nested };
    }
  }
  return { index: lines.length, closed: false, nested };
}

/** The line of the last envelope: its fence, or its own where it has none; behind all lines if none. */
function lastEnvelopeLine(lines: readonly Line[]): number {
  for (let index = lines.length - 1; index >= 0; index--) {
    const text = lines[index]?.text ?? '';
    if (!text.startsWith('{')) continue;
    const start = `${text.slice(0, 200)}${(lines[index + 1]?.text ?? '').slice(0, 200)}`;
    if (!/"(?:success|tool_calls)"\s{0,4}:/.test(start)) continue;
    return openOf(lines[index - 1]?.text ?? '') === null ? index : index - 1;
  }
  return lines.length;
}

interface LastEnd {
  readonly open: Open;
  readonly first: End;
  readonly owned: (path: string) => boolean;
  readonly envelopeAt: number;
}

/** F4: the last bare fence before the next file or the envelope, where the bare ones are odd. */
function lastEndOf(lines: readonly Line[], { open, first, owned, envelopeAt }: LastEnd): End {
  const ends = [first.index];
  let depth = 0;
  for (let index = first.index + 1; index < Math.min(lines.length, envelopeAt); index++) {
    const inner = openOf((lines[index] as Line).text);
    if (inner === null || !closes(inner, open)) continue;
    const heading = infoPathOf(inner.info) ?? headingAbove(lines, index, first.index + 1);
    if (heading?.kind === 'path' && owned(heading.path)) break;
    if (inner.info !== '') depth += 1;
    else if (depth > 0) depth -= 1;
    else ends.push(index);
  }
  const last = ends.length % 2 === 1 ? ends.at(-1) : undefined;
  return { ...first, index: last ?? first.index };
}

/** The lines between the fences, each without at most the indentation of the fence itself. */
function blockText(lines: readonly Line[], from: number, to: number, indent: number): string {
  const texts = lines.slice(from, to).map(line => line.text);
  if (indent === 0) return texts.join('');
  return texts
    .map(text => {
      let strip = 0;
      while (strip < indent && (text[strip] === ' ' || text[strip] === '\t')) strip += 1;
      return text.slice(strip);
    })
    .join('');
}
