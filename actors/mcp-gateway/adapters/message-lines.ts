/**
 * Bytes of a tool server's standard output, cut into lines without ever holding more than a bound.
 *
 * N1: of a line over the bound only its head and its tail are kept; they may tell whose answer it was.
 */

export type Line =
  | { readonly kind: 'line'; readonly text: string }
  | {
      readonly kind: 'too_long';
      readonly head: string;
      readonly tail: string;
      readonly bytes: number;
    };

export const LINE_BYTES_MAX = 8 * 1024 * 1024;
const EDGE_BYTES = 2_048;
const NEWLINE = 0x0a;

/** Answers a function that takes chunks and calls `take` once per line, without its line break. */
export function lineReader(
  take: (line: Line) => void,
  bytesMax = LINE_BYTES_MAX,
): (chunk: Buffer) => void {
  let parts: Buffer[] = [];
  let kept = 0;
  let bytes = 0;
  let head: string | null = null;
  const add = (part: Buffer): void => {
    parts.push(part);
    kept += part.length;
    bytes += part.length;
    const room = head === null ? bytesMax : EDGE_BYTES * 16;
    if (kept <= room) return;
    const all = Buffer.concat(parts); // N1
    head ??= all.subarray(0, EDGE_BYTES).toString('utf8');
    parts = [Buffer.from(all.subarray(-EDGE_BYTES))];
    kept = parts[0]?.length ?? 0;
  };
  const end = (): void => {
    const all = Buffer.concat(parts).toString('utf8');
    if (head === null) take({ kind: 'line', text: all });
    else take({ kind: 'too_long', head, tail: all.slice(-EDGE_BYTES), bytes });
    parts = [];
    kept = 0;
    bytes = 0;
    head = null;
  };
  return chunk => {
    let from = 0;
    for (let at = chunk.indexOf(NEWLINE); at !== -1; at = chunk.indexOf(NEWLINE, from)) {
      add(chunk.subarray(from, at));
      end();
      from = at + 1;
    }
    if (from < chunk.length) add(chunk.subarray(from));
  };
}
