/**
 * Whether a changed file belongs to a task: its relative path against the task's owned globs.
 *
 * `*` and `?` stay within one segment, `**` spans segments, a trailing slash or a bare directory
 * name owns everything below it. Everything else is literal.
 */

/** The paths that none of the globs owns, in their given order. */
export function pathsOutside(paths: readonly string[], globs: readonly string[]): string[] {
  const patterns = globs.map(ownedPattern);
  return paths.filter(path => !patterns.some(pattern => pattern.test(path)));
}

function ownedPattern(glob: string): RegExp {
  const body = glob
    .replace(/\/+$/, '')
    .split('/')
    .map((segment, index, all) => segmentPattern(segment, index === all.length - 1))
    .join('');
  return new RegExp(`^${body}(?:/.*)?$`, 's');
}

/** A segment with the slash behind it; `**` swallows its own slash so that it may match nothing. */
function segmentPattern(segment: string, last: boolean): string {
  if (segment === '**') return last ? '.*' : '(?:[^/]+/)*';
  const text = segment
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replace(/\*+/g, '[^/]*')
    .replace(/\?/g, '[^/]');
  return last ? text : `${text}/`;
}
