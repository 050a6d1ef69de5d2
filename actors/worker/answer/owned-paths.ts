/**
 * Whether a path belongs to a task. `*` and `?` stay within one segment, `**` spans segments, the
 * bare name of a directory owns everything below it. Everything else is literal.
 *
 * O1: no regular expression is made of a glob: a hostile one costs no more than its length times
 *     the path's.
 */

export function isOwned(path: string, globs: readonly string[]): boolean {
  return globs.some(glob => matchesGlob(path, glob));
}

export const isLiteral = (glob: string): boolean => !/[*?]/.test(glob) && !glob.endsWith('/');

export function matchesGlob(path: string, glob: string): boolean {
  const segments = path.split('/');
  const pattern = glob.replace(/\/+$/, '').split('/');
  // reach[j]: the pattern's first j segments match the path read so far.
  let reach = new Array<boolean>(pattern.length + 1).fill(false);
  reach[0] = true;
  skipStars(reach, pattern);
  for (const segment of segments) {
    if (reach[pattern.length] === true) return true;
    const next = new Array<boolean>(pattern.length + 1).fill(false);
    for (let index = 0; index < pattern.length; index++) {
      if (reach[index] !== true) continue;
      if (pattern[index] === '**') next[index] = true;
      else if (matchesSegment(segment, pattern[index] ?? '')) next[index + 1] = true;
    }
    skipStars(next, pattern);
    reach = next;
  }
  return reach[pattern.length] === true;
}

/** `**` may match no segment at all. */
function skipStars(reach: boolean[], pattern: readonly string[]): void {
  for (let index = 0; index < pattern.length; index++) {
    if (reach[index] === true && pattern[index] === '**') reach[index + 1] = true;
  }
}

/** `*` and `?` within one segment, greedy with one point to return to. */
function matchesSegment(text: string, pattern: string): boolean {
  let at = 0;
  let wanted = 0;
  let star = -1;
  let resume = 0;
  while (at < text.length) {
    if (wanted < pattern.length && pattern[wanted] === '*') {
      star = wanted;
      resume = at;
      wanted += 1;
    } else if (
      wanted < pattern.length &&
      (pattern[wanted] === '?' || pattern[wanted] === text[at])
    ) {
      at += 1;
      wanted += 1;
    } else if (star !== -1) {
      wanted = star + 1;
      resume += 1;
      at = resume;
    } else {
      return false;
    }
  }
  while (pattern[wanted] === '*') wanted += 1;
  return wanted === pattern.length;
}
