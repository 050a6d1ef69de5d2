/**
 * Names of models as people type them: `Qwen2.5-Coder` and `qwen2.5-coder:latest` are one model.
 */
import { editDistance } from '../protocol/edit-distance.ts';

/** The one spelling that names are compared in. */
export function canonicalModelName(name: string): string {
  const lower = name.trim().toLowerCase();
  return lower.includes(':') ? lower : `${lower}:latest`;
}

export function sameModel(left: string, right: string): boolean {
  return canonicalModelName(left) === canonicalModelName(right);
}

/** The name most like the wanted one, or null where there is none at all. */
export function nearestName(wanted: string, names: readonly string[]): string | null {
  let best: string | null = null;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const name of [...new Set(names)].sort()) {
    const distance = editDistance(canonicalModelName(wanted), canonicalModelName(name));
    if (distance < bestDistance) {
      best = name;
      bestDistance = distance;
    }
  }
  return best;
}
