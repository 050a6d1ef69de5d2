/**
 * Which owned globs can name the same file. The meaning of a glob is that of
 * `protocol/owned-paths.ts`: `*` and `?` within a segment, `**` across, a folder owns what is below.
 *
 * Paths are compared without regard to case: some file systems do not tell it apart.
 *
 * O1: whatever a model writes, time is bounded: paths are looked up in a map, and at most
 *     `PATTERNS_MAX` patterns are compared until `STEPS_MAX` steps are spent. What is left then is
 *     not known, and that is said.
 */

/** Some 50 ms each. Plans that people and models write take a thousandth of it. */
const PATTERNS_MAX = 512;
const STEPS_MAX = 2_000_000;

export interface Owner {
  readonly id: string;
  readonly owns: readonly string[];
}

export interface Overlap {
  readonly left: string;
  readonly right: string;
  /** What the two own, as they wrote it. */
  readonly mine: string;
  readonly theirs: string;
}

/** A glob, read once. */
interface Glob {
  readonly owner: number;
  readonly text: string;
  /** In lower case, without slashes at its end. */
  readonly bare: string;
  readonly segments: readonly string[];
  /** What stands before its first pattern. */
  readonly prefix: string;
  /** Names one file or folder: no pattern in it. */
  readonly isPlain: boolean;
}

/** The first overlap of each two owners, and whether there was too much to compare (O1). */
export function overlapsOf(owners: readonly Owner[]): {
  readonly overlaps: readonly Overlap[];
  readonly isCut: boolean;
} {
  const globs = owners.flatMap(({ owns }, owner) => owns.map(text => globOf(text, owner)));
  const found = new Map<number, Overlap>();
  const keyOf = (one: Glob, other: Glob): number =>
    Math.min(one.owner, other.owner) * owners.length + Math.max(one.owner, other.owner);
  const note = (one: Glob, other: Glob): void => {
    const [mine, theirs] = one.owner < other.owner ? [one, other] : [other, one];
    const left = owners[mine.owner]?.id ?? '';
    const right = owners[theirs.owner]?.id ?? '';
    const key = keyOf(one, other);
    if (!found.has(key)) found.set(key, { left, right, mine: mine.text, theirs: theirs.text });
  };
  notePlain(
    globs.filter(({ isPlain }) => isPlain),
    note,
  );
  const patterns = globs.filter(({ isPlain }) => !isPlain);
  if (patterns.length > PATTERNS_MAX) return { overlaps: inOrder(found), isCut: true };
  const budget = { left: STEPS_MAX };
  for (const one of patterns) {
    for (const other of globs) {
      // Two patterns are compared once, from the first of them.
      if (other.owner === one.owner || (!other.isPlain && other.owner < one.owner)) continue;
      if (arePrefixesApart(one, other)) continue;
      if (found.has(keyOf(one, other))) continue;
      if (budget.left <= 0) return { overlaps: inOrder(found), isCut: true };
      if (meet(one, other, budget)) note(one, other);
    }
  }
  return { overlaps: inOrder(found), isCut: false };
}

const inOrder = (found: ReadonlyMap<number, Overlap>): Overlap[] =>
  [...found].sort(([left], [right]) => left - right).map(([, overlap]) => overlap);

/** What both have to begin with differs: most pairs need no closer look. */
function arePrefixesApart({ prefix: one }: Glob, { prefix: other }: Glob): boolean {
  return !one.startsWith(other) && !other.startsWith(one);
}

/** Files and folders: two overlap where they are the same, or one lies below the other. */
function notePlain(globs: readonly Glob[], note: (one: Glob, other: Glob) => void): void {
  const byPath = new Map<string, Map<number, Glob>>();
  for (const glob of globs) {
    const owners = byPath.get(glob.bare) ?? new Map<number, Glob>();
    if (!owners.has(glob.owner)) owners.set(glob.owner, glob);
    byPath.set(glob.bare, owners);
  }
  for (const glob of globs) {
    for (let end = glob.bare.length; end > 0; end = glob.bare.lastIndexOf('/', end - 1)) {
      for (const other of byPath.get(glob.bare.slice(0, end))?.values() ?? []) {
        if (other.owner !== glob.owner) note(glob, other);
      }
    }
  }
}

/** Whether two globs can name the same file. */
export function globsOverlap(left: string, right: string): boolean {
  return meet(globOf(left, 0), globOf(right, 1), { left: STEPS_MAX });
}

/**
 * A folder owns everything below it. Whether a glob names folders or files can only be guessed: a
 * dot (`store.js`) or a capital (`Makefile`) at its end means files. Without the guess every
 * `**\/*.test.js` would be in conflict with every file, by way of `store.js/a.test.js`.
 */
function globOf(text: string, owner: number): Glob {
  const trimmed = withoutSlashes(text);
  const last = trimmed.slice(trimmed.lastIndexOf('/') + 1);
  const isFile = !text.endsWith('/') && /\.|^[A-Z]/.test(last);
  const bare = trimmed.toLowerCase();
  const segments = bare.split('/');
  if (!isFile) segments.push('**');
  const at = bare.search(/[*?]/);
  const prefix = at < 0 ? bare : bare.slice(0, at);
  return { owner, text, bare, segments, prefix, isPlain: at < 0 };
}

function withoutSlashes(text: string): string {
  let end = text.length;
  while (text[end - 1] === '/') end -= 1;
  return text.slice(0, end);
}

interface Budget {
  left: number;
}

/** Two globs are compared segment by segment, two segments character by character. */
function meet(one: Glob, other: Glob, budget: Budget): boolean {
  if (isBelow(one.bare, other.bare) || isBelow(other.bare, one.bare)) return true;
  return intersects(one.segments, other.segments, '**', budget, (left, right) =>
    left === right
      ? true
      : isText(left) && isText(right)
        ? false
        : segmentsMeet(left, right, budget),
  );
}

/** Whether one is a path below what the other names, whatever the other looks like. */
const isBelow = (path: string, folder: string): boolean =>
  path.length > folder.length && path[folder.length] === '/' && path.startsWith(folder);

const isText = (segment: string): boolean => !segment.includes('*') && !segment.includes('?');

const segmentsMeet = (left: string, right: string, budget: Budget): boolean =>
  intersects([...left], [...right], '*', budget, (a, b) => a === b || a === '?' || b === '?');

/**
 * Whether two patterns have a word in common, row by row over the left one. `many` stands for any
 * number of elements; `meets` says whether two others can be the same.
 */
function intersects(
  left: readonly string[],
  right: readonly string[],
  many: string,
  budget: Budget,
  meets: (left: string, right: string) => boolean,
): boolean {
  // reached[column]: what is read of the left can be what the first `column` of the right are.
  let reached = new Uint8Array(right.length + 1);
  reached[0] = 1;
  for (let column = 1; column <= right.length && right[column - 1] === many; column++) {
    reached[column] = 1;
  }
  for (const one of left) {
    budget.left -= right.length + 1;
    const next = new Uint8Array(right.length + 1);
    const isMany = one === many;
    let isAny = false;
    for (let column = 0; column <= right.length; column++) {
      const other = right[column - 1];
      const isOtherMany = other === many;
      const isReached =
        // One more on the left is read as nothing, or as part of a `many` of the right.
        ((isMany || isOtherMany) && reached[column] === 1) ||
        (column > 0 && (isMany || isOtherMany) && next[column - 1] === 1) ||
        (other !== undefined &&
          reached[column - 1] === 1 &&
          (isMany || isOtherMany || meets(one, other)));
      if (isReached) {
        next[column] = 1;
        isAny = true;
      }
    }
    if (!isAny) return false;
    reached = next;
  }
  return reached[right.length] === 1;
}
