/** Which known names a mistyped one may have meant: by edit distance, the nearest first. */
import { editDistance } from '../../protocol/edit-distance.ts';

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

/** A name that holds the other counts as near. */
function distanceOf(left: string, right: string): number {
  const holds = left.includes(right) || right.includes(left);
  return left.length > 2 && right.length > 2 && holds ? 1 : editDistance(left, right);
}
