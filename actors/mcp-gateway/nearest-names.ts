/** Which known names a mistyped one may have meant: by edit distance, the nearest first. */

const SUGGESTIONS_MAX = 5;

export function nearestNames(name: string, known: Iterable<string>): string[] {
  const wanted = plain(name);
  const limit = Math.max(2, Math.floor(wanted.length / 2));
  return [...known]
    .map(candidate => ({ candidate, far: distanceOf(wanted, plain(candidate)) }))
    .filter(({ far }) => far <= limit)
    .sort((a, b) => a.far - b.far || (a.candidate < b.candidate ? -1 : 1))
    .slice(0, SUGGESTIONS_MAX)
    .map(({ candidate }) => candidate);
}

function plain(name: string): string {
  return name
    .slice(0, 128)
    .toLowerCase()
    .replace(/[^a-z0-9]/g, '');
}

/** Edits between two names; a name that holds the other counts as near. */
function distanceOf(left: string, right: string): number {
  if (left.length > 2 && right.length > 2 && (left.includes(right) || right.includes(left)))
    return 1;
  let before = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let row = 1; row <= left.length; row++) {
    const current = [row];
    for (let column = 1; column <= right.length; column++) {
      const same = left[row - 1] === right[column - 1];
      const replaced = (before[column - 1] ?? 0) + (same ? 0 : 1);
      current.push(Math.min(replaced, (before[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1));
    }
    before = current;
  }
  return before[right.length] ?? 0;
}
