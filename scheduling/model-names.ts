/**
 * Names of models as people type them: `Qwen2.5-Coder`, `qwen2.5-coder:latest` and
 * `registry.ollama.ai/library/qwen2.5-coder` are one model, and an alias is whatever it stands for.
 */
import { editDistance } from '../protocol/edit-distance.ts';

/** The same few hundred names are compared all day. */
const REMEMBERED_MAX = 8_192;
const remembered = new Map<string, string>();

/** Where a name without a registry and a namespace comes from. */
const DEFAULT_PLACE = /^(?:https?:\/\/)?(?:registry\.ollama\.ai\/)?(?:library\/)?/;

/** The one spelling that names are compared in. */
export function canonicalModelName(name: string): string {
  const known = remembered.get(name);
  if (known !== undefined) return known;
  const bare = name.trim().toLowerCase().replace(DEFAULT_PLACE, '');
  // A port of a registry is no tag.
  const canonical = bare.lastIndexOf(':') > bare.lastIndexOf('/') ? bare : `${bare}:latest`;
  if (remembered.size >= REMEMBERED_MAX) remembered.clear();
  remembered.set(name, canonical);
  return canonical;
}

export function sameModel(left: string, right: string): boolean {
  return canonicalModelName(left) === canonicalModelName(right);
}

/**
 * The name in a request of Ollama's kind, which says it in `model` or, older, in `name`. What is empty
 * counts as absent: its own program sends both, one of them empty.
 */
export function nameIn(body: Readonly<Record<string, unknown>>): string | null {
  for (const value of [body['model'], body['name']]) {
    if (typeof value === 'string' && value.trim() !== '') return value.trim();
  }
  return null;
}

/** Names that an unknown one is compared with: whoever asks for it waits so long. */
const COMPARED_MAX = 1_024;

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

/**
 * The name most like the wanted one, or null where there is none at all. Another tag of the same family
 * goes before any other family, however alike that is spelled.
 */
export function nearestName(wanted: string, names: readonly string[]): string | null {
  const canonical = canonicalModelName(wanted);
  const family = familyOf(canonical);
  const all = [...new Set(names)].sort();
  const kin = all.filter(name => familyOf(canonicalModelName(name)) === family);
  let best: string | null = null;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const name of (kin.length > 0 ? kin : all).slice(0, COMPARED_MAX)) {
    const distance = editDistance(canonical, canonicalModelName(name));
    if (distance < bestDistance) {
      best = name;
      bestDistance = distance;
    }
  }
  return best;
}

const familyOf = (canonical: string): string => canonical.slice(0, canonical.lastIndexOf(':'));
