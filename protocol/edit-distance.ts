/** How far two names are apart: the measure behind every "did you mean". */

/** Names are compared up to this length; what is longer is no typing error. */
const COMPARED_MAX = 128;

/** Letters to insert, remove or replace to turn one text into the other. */
export function editDistance(from: string, to: string): number {
  const left = from.slice(0, COMPARED_MAX);
  const right = to.slice(0, COMPARED_MAX);
  let row = Array.from({ length: right.length + 1 }, (_, column) => column);
  for (let line = 1; line <= left.length; line++) {
    const next = [line];
    for (let column = 1; column <= right.length; column++) {
      const replaced = (row[column - 1] ?? 0) + (left[line - 1] === right[column - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[column] ?? 0) + 1, (next[column - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[right.length] ?? left.length;
}
