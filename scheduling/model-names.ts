/**
 * Names of models as people type them: `Qwen2.5-Coder` and `qwen2.5-coder:latest` are one model.
 */

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

/** Letters to insert, remove or replace to turn one text into the other. */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let line = 1; line <= from.length; line++) {
    const next = [line];
    for (let column = 1; column <= to.length; column++) {
      const replaced = (row[column - 1] ?? 0) + (from[line - 1] === to[column - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[column] ?? 0) + 1, (next[column - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[to.length] ?? from.length;
}
