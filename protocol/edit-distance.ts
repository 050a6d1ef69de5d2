/** How far two names are apart: the measure behind every "did you mean". */

/** Names are compared up to this length; what is longer is no typing error. */
const COMPARED_MAX = 128;

/** Letters to insert, remove or replace to turn one text into the other. */
export function editDistance(from: string, to: string): number {
  const left = from.slice(0, COMPARED_MAX);
  const right = to.slice(0, COMPARED_MAX);
  // row[column]: from the letters read so far to the first `column` of the right one.
  const row = Uint8Array.from({ length: right.length + 1 }, (_, column) => column);
  for (let line = 1; line <= left.length; line++) {
    const letter = left.charCodeAt(line - 1);
    let diagonal = line - 1;
    let distance = line;
    row[0] = line;
    for (let column = 1; column <= right.length; column++) {
      const above = row[column] ?? 0;
      const replaced = diagonal + (letter === right.charCodeAt(column - 1) ? 0 : 1);
      distance = Math.min(replaced, above + 1, distance + 1);
      diagonal = above;
      row[column] = distance;
    }
  }
  return row[right.length] ?? left.length;
}
