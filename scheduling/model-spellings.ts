/** Names of models that people write and no registry knows, and what they mean. */
import { canonicalModelName, resolveAlias } from './model-names.ts';

/** Beside the families below, whose only fault is a hyphen. */
const MISSPELLED: Readonly<Record<string, string>> = {
  'phi3:3b': 'phi3:mini',
  'phi3:3.8b': 'phi3:mini',
  'phi3:14b': 'phi3:medium',
  'mistral-7b': 'mistral:7b',
  'llama2-7b': 'llama2:7b',
  'codellama-7b': 'codellama:7b',
  'deepseek-r1-7b': 'deepseek-r1:7b',
  'gpt-oss-20b': 'gpt-oss:20b',
  'gpt-oss-120b': 'gpt-oss:120b',
};
/** `llama-3.2:3b` is written `llama3.2:3b`. */
const HYPHENATED = /^(llama|phi|qwen|gemma|granite|codellama|command-r)-(\d)/;

const SPELLED_MAX = 8_192;
const spelled = new WeakMap<Readonly<Record<string, string>>, Map<string, readonly string[]>>();

/** What a name may stand for, in canonical spelling and the likeliest first; the name itself is the first of all. */
export function spellingsOf(
  name: string,
  aliases: Readonly<Record<string, string>>,
): readonly string[] {
  const known = spelled.get(aliases) ?? new Map<string, readonly string[]>();
  spelled.set(aliases, known);
  const before = known.get(name);
  if (before !== undefined) return before;
  const declared = resolveAlias(name, aliases);
  const joined = declared.trim().toLowerCase().replace(HYPHENATED, '$1$2');
  const corrected = MISSPELLED[joined] ?? joined;
  const spellings = [...new Set([name, declared, joined, corrected].map(canonicalModelName))];
  if (known.size >= SPELLED_MAX) known.clear();
  known.set(name, spellings);
  return spellings;
}

/**
 * The canonical name of the model that is meant: the first spelling that there is, else the last,
 * which a registry is likeliest to know.
 */
export function meantName(
  name: string,
  aliases: Readonly<Record<string, string>>,
  isThere: (canonical: string) => boolean,
): string {
  const spellings = spellingsOf(name, aliases);
  const last = spellings.at(-1) ?? canonicalModelName(name);
  return spellings.length > 1 ? (spellings.find(isThere) ?? last) : last;
}
