/**
 * Names of models as people type them: `Qwen2.5-Coder` and `qwen2.5-coder:latest` are one model, and
 * an alias is whatever it stands for.
 */
import { editDistance } from '../protocol/edit-distance.ts';

/** The same few hundred names are compared all day. */
const REMEMBERED_MAX = 8_192;
const remembered = new Map<string, string>();

/** The one spelling that names are compared in. */
export function canonicalModelName(name: string): string {
  const known = remembered.get(name);
  if (known !== undefined) return known;
  const lower = name.trim().toLowerCase();
  const canonical = lower.includes(':') ? lower : `${lower}:latest`;
  if (remembered.size >= REMEMBERED_MAX) remembered.clear();
  remembered.set(name, canonical);
  return canonical;
}

export function sameModel(left: string, right: string): boolean {
  return canonicalModelName(left) === canonicalModelName(right);
}

const tables = new WeakMap<Readonly<Record<string, string>>, ReadonlyMap<string, string>>();

/** What `name` stands for. Aliases of aliases are followed no further than there are aliases. */
export function resolveAlias(name: string, aliases: Readonly<Record<string, string>>): string {
  let table = tables.get(aliases);
  if (table === undefined) {
    const entries = Object.entries(aliases);
    table = new Map(entries.map(([alias, model]) => [canonicalModelName(alias), model]));
    tables.set(aliases, table);
  }
  let model = name;
  for (let step = 0; step < table.size; step += 1) {
    const next = table.get(canonicalModelName(model));
    if (next === undefined) break;
    model = next;
  }
  return model;
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
