/**
 * Calls between the marks of a model's own training: `<|channel|>commentary to=functions.x<|message|>{}`,
 * `[TOOL_CALLS]x[ARGS]{}`, `<｜tool▁call▁begin｜>x<｜tool▁sep｜>{}`, `<|tool_call_begin|>x:0…{}`. Engines
 * take these apart where their template knows them; where it does not, they come as text. They are
 * rewritten as `<tool_call>`, which is read as every other.
 *
 * M1: marks inside a fenced block are code and stay.
 * M2: what is torn stays torn: the tag is opened and not closed.
 */

const ANY_MARK = /<\|(?:channel|message|tool_call)|\[TOOL_CALLS\]|<｜tool/;
const ANALYSIS =
  /<\|channel\|>analysis<\|message\|>[\s\S]*?(?:<\|end\|>|(?=<\|start\|>|<\|channel\|>)|$)/g;
/** Around what is said to the person. */
const HEADS =
  /(?:<\|start\|>assistant)?<\|channel\|>(?:final|commentary)(?:[ \t]?<\|constrain\|>\w{1,16})?<\|message\|>/g;

/** A call's marks up to its arguments, with the name of its tool. */
const CALL = new RegExp(
  [
    String.raw`to=([\w.:/-]{1,128})[ \t]{0,4}(?:<\|(?:channel|constrain)\|>[\w \t]{0,32}){0,3}(?:code|json)?[ \t]?<\|message\|>\s{0,32}(?=\{)`,
    String.raw`\[TOOL_CALLS\][ \t]{0,4}([A-Za-z][\w.:/-]{0,127})(?:\[CALL_ID\][\w-]{1,64})?(?:\[ARGS\])?\s{0,32}(?=\{)`,
    '<[|｜]tool[▁_]call[▁_]begin[|｜]>(?:function<[|｜]tool[▁_]sep[|｜]>)?([\\w.:/-]{1,128})' +
      '(?:<[|｜]tool[▁_](?:sep|call[▁_]argument[▁_]begin)[|｜]>)?\\s{0,32}(`{3}(?:json)?\\s{0,32})?(?=\\{)',
  ].join('|'),
  'g',
);
const FENCE_LINE = /^[ \t]{0,8}(?:`{3,}|~{3,})/gm;
const FENCE_CLOSE = /\s{0,32}`{3}/y;

/** The text with such calls as `<tool_call>`; any other text as it is. */
export function withPlainCalls(text: string): string {
  if (!ANY_MARK.test(text)) return text;
  const said = text.replace(ANALYSIS, '').replace(HEADS, '\n');
  const parts: string[] = [];
  const fences = new FenceCount(said);
  const call = new RegExp(CALL);
  let from = 0;
  for (let match = call.exec(said); match !== null; match = call.exec(said)) {
    if (fences.isOpenAt(match.index)) continue; // M1
    const [whole, harmony, mistral, marked, fence] = match;
    const start = match.index + whole.length;
    const end = objectEnd(said, start);
    const name = (harmony ?? mistral ?? marked ?? '').replace(/:\d{1,9}$/, '');
    parts.push(said.slice(from, match.index), '\n<tool_call>\n');
    parts.push(
      `{"name": ${JSON.stringify(name)}, "arguments": ${said.slice(start, end ?? undefined)}`,
    );
    if (end === null) return parts.join(''); // M2
    parts.push('}\n</tool_call>\n');
    FENCE_CLOSE.lastIndex = end;
    from = fence !== undefined && FENCE_CLOSE.test(said) ? FENCE_CLOSE.lastIndex : end;
    call.lastIndex = from;
    fences.skipTo(from);
  }
  parts.push(said.slice(from));
  return parts.join('');
}

/** Whether a place lies in a fenced block, asked from the front to the back. */
class FenceCount {
  readonly #text: string;
  readonly #line = new RegExp(FENCE_LINE);
  #next: number;
  #isOpen = false;

  constructor(text: string) {
    this.#text = text;
    this.#next = this.#find();
  }

  isOpenAt(index: number): boolean {
    for (; this.#next < index; this.#next = this.#find()) this.#isOpen = !this.#isOpen;
    return this.#isOpen;
  }

  /** What lies before is no prose. */
  skipTo(index: number): void {
    this.#line.lastIndex = index;
    this.#next = this.#find();
  }

  #find(): number {
    return this.#line.exec(this.#text)?.index ?? Number.POSITIVE_INFINITY;
  }
}

/** Behind the brace that closes the object that opens at `from`; null where none does. */
function objectEnd(text: string, from: number): number | null {
  const token = /["{}]/g;
  const string = /"(?:[^"\\]|\\[\s\S])*"/y;
  token.lastIndex = from;
  let depth = 0;
  for (let match = token.exec(text); match !== null; match = token.exec(text)) {
    if (match[0] === '"') {
      string.lastIndex = match.index;
      if (!string.test(text)) return null;
      token.lastIndex = string.lastIndex;
    } else {
      depth += match[0] === '{' ? 1 : -1;
      if (depth === 0) return match.index + 1;
    }
  }
  return null;
}
