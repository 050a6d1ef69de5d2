/**
 * Whether two owned globs can name the same file. The meaning of a glob is that of
 * `protocol/owned-paths.ts`: `*` and `?` within a segment, `**` across, a folder owns what is below.
 *
 * Paths are compared without regard to case: some file systems do not tell it apart.
 * Time is proportional to the product of the lengths, whatever a model writes.
 */

export function globsOverlap(left: string, right: string): boolean {
  if (isBelow(left, right) || isBelow(right, left)) return true;
  return intersects(segmentsOf(left), segmentsOf(right), {
    isMany: segment => segment === '**',
    meets: (one, other) =>
      intersects([...one], [...other], {
        isMany: character => character === '*',
        meets: (a, b) => a === b || a === '?' || b === '?',
      }),
  });
}

/** Whether one is a path below what the other names, whatever the other looks like. */
const isBelow = (path: string, folder: string): boolean =>
  path.toLowerCase().startsWith(`${folder.toLowerCase().replace(/(?<!\/)\/+$/, '')}/`);

/**
 * A folder owns everything below it. Whether a glob names folders or files can only be guessed: a
 * dot (`store.js`) or a capital (`Makefile`) at its end means files. Without the guess every
 * `**\/*.test.js` would be in conflict with every file, by way of `store.js/a.test.js`.
 */
function segmentsOf(glob: string): string[] {
  const segments = glob.replace(/(?<!\/)\/+$/, '').split('/');
  const last = segments.at(-1) ?? '';
  const isFile = !glob.endsWith('/') && /\.|^[A-Z]/.test(last);
  const lower = segments.map(segment => segment.toLowerCase());
  return isFile ? lower : [...lower, '**'];
}

interface Alphabet<T> {
  /** Whether the element stands for any number of others. */
  isMany(element: T): boolean;
  /** Whether two elements, neither of them many, can be the same thing. */
  meets(left: T, right: T): boolean;
}

/** Whether two patterns have a word in common, row by row over the left one. */
function intersects<T>(left: readonly T[], right: readonly T[], alphabet: Alphabet<T>): boolean {
  const many = (pattern: readonly T[], index: number): boolean => {
    const element = pattern[index];
    return element !== undefined && alphabet.isMany(element);
  };
  // reachable[i][j]: the first i elements of the left can be what the first j of the right are.
  const reachable = Array.from({ length: left.length + 1 }, () =>
    Array.from({ length: right.length + 1 }, () => false),
  );
  const isReachable = (row: number, column: number): boolean => reachable[row]?.[column] === true;
  for (let row = 0; row <= left.length; row++) {
    for (let column = 0; column <= right.length; column++) {
      const one = left[row - 1];
      const other = right[column - 1];
      const both =
        one !== undefined &&
        other !== undefined &&
        isReachable(row - 1, column - 1) &&
        (many(left, row - 1) || many(right, column - 1) || alphabet.meets(one, other));
      const skipLeft =
        many(left, row - 1) && (isReachable(row - 1, column) || isReachable(row, column - 1));
      const skipRight =
        many(right, column - 1) && (isReachable(row, column - 1) || isReachable(row - 1, column));
      const line = reachable[row];
      if (line !== undefined)
        line[column] = (row === 0 && column === 0) || both || skipLeft || skipRight;
    }
  }
  return isReachable(left.length, right.length);
}
