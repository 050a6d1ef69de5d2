/**
 * Takes a model's reasoning out of its answer: `<think>…</think>` and its relatives, also where the
 * opening tag was part of the prompt and only the closing one is left.
 *
 * H1: tags inside a fenced block are code and stay.
 * H2: where the closing tag is missing nobody knows where the answer begins; the text after the tag
 *     is handed on and marked, and the caller believes it only if it ends like an answer.
 */

export interface Thought {
  readonly text: string;
  /** An opening tag without its closing one (H2). */
  readonly unclosed: boolean;
}

const OPEN = /^[ \t]*<(think|thinking|thought|reasoning)>/i;
const FENCE = /^[ \t]*(`{3,}|~{3,})/;

export function stripThinking(text: string): Thought {
  const orphan = afterOrphanClose(text);
  const kept: string[] = [];
  let unclosed = false;
  let fence: string | null = null;
  let position = 0;
  while (position < orphan.length) {
    const newline = orphan.indexOf('\n', position);
    const end = newline === -1 ? orphan.length : newline + 1;
    const line = orphan.slice(position, end);
    const mark = FENCE.exec(line)?.[1];
    if (fence !== null) {
      if (mark?.startsWith(fence) && line.trim() === mark) fence = null;
    } else if (mark !== undefined) {
      fence = mark;
    } else {
      const open = OPEN.exec(line);
      if (open !== null) {
        const tag = `</${open[1]}>`;
        const close = indexOfTag(orphan, tag, position + open[0].length);
        if (close === -1) {
          unclosed = true;
          kept.push(orphan.slice(position + open[0].length));
          break;
        }
        position = close + tag.length;
        continue;
      }
    }
    kept.push(line);
    position = end;
  }
  return { text: kept.join(''), unclosed };
}

/** The text behind a closing tag that no opening one precedes, where it stands outside any code. */
function afterOrphanClose(text: string): string {
  const match = /<\/(think|thinking|thought|reasoning)>/i.exec(text);
  if (match === null) return text;
  const before = text.slice(0, match.index);
  if (/<(think|thinking|thought|reasoning)>/i.test(before)) return text;
  const lineStart = before.lastIndexOf('\n') + 1;
  const lineEnd = text.indexOf('\n', match.index);
  const line = text.slice(lineStart, lineEnd === -1 ? text.length : lineEnd);
  const alone = line.trim() === match[0];
  const fenced = /^[ \t]*(`{3,}|~{3,})/m.test(before);
  return alone || !fenced ? text.slice(match.index + match[0].length) : text;
}

function indexOfTag(text: string, tag: string, from: number): number {
  const exact = text.indexOf(tag, from);
  return exact !== -1 ? exact : text.indexOf(tag.toLowerCase(), from);
}
