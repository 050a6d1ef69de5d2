/**
 * Whether a path belongs to a task: its owned globs against a relative path.
 *
 * `*` and `?` stay within one segment, `**` spans segments, a path that names a folder owns
 * everything below it. Everything else is literal. Globs come from models: matching takes time
 * proportional to glob × path, whatever they are (no regular expression is built from them).
 */

/** Whether one of the globs owns the path. */
export function ownsPath(globs: readonly string[], path: string): boolean {
  const segments = path.split('/');
  return globs.some(glob => matches(glob.replace(/(?<!\/)\/+$/, '').split('/'), segments));
}

/** The paths that none of the globs owns, in their given order. */
export function pathsOutside(paths: readonly string[], globs: readonly string[]): string[] {
  return paths.filter(path => !ownsPath(globs, path));
}

/** Row by row over the glob's segments: `reached[i]` says that they can end before path segment i. */
function matches(glob: readonly string[], path: readonly string[]): boolean {
  let reached = new Uint8Array(path.length + 1);
  reached[0] = 1;
  for (const segment of glob) {
    const next = new Uint8Array(path.length + 1);
    let isAny = false;
    for (let index = 0; index <= path.length; index++) {
      if (segment === '**') {
        if (reached[index] === 1 || (index > 0 && next[index - 1] === 1)) next[index] = 1;
      } else if (index > 0 && reached[index - 1] === 1) {
        if (matchesSegment(segment, path[index - 1] ?? '')) next[index] = 1;
      }
      if (next[index] === 1) isAny = true;
    }
    if (!isAny) return false;
    reached = next;
  }
  // Ending anywhere at or before the last segment owns what is below; ending before the first is
  // the empty match of a lone `**`, which owns everything as well.
  return true;
}

/** The classic greedy walk: on a mismatch, the last star takes one character more. */
function matchesSegment(pattern: string, text: string): boolean {
  let at = 0;
  let star = -1;
  let retry = 0;
  let index = 0;
  while (index < text.length) {
    if (pattern[at] === '*') {
      star = at++;
      retry = index;
    } else if (at < pattern.length && (pattern[at] === '?' || pattern[at] === text[index])) {
      at++;
      index++;
    } else if (star >= 0) {
      at = star + 1;
      index = ++retry;
    } else {
      return false;
    }
  }
  while (pattern[at] === '*') at++;
  return at === pattern.length;
}
