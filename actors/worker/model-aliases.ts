/** Names of models that people write and no registry knows, and what they mean. */
import { canonicalModelName, resolveAlias } from '../../scheduling/model-names.ts';

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

/** What a name may stand for, the likeliest first; the name itself is the first of all. */
export function spellingsOf(
  name: string,
  aliases: Readonly<Record<string, string>>,
): readonly string[] {
  const declared = resolveAlias(name, aliases);
  const joined = declared.trim().toLowerCase().replace(HYPHENATED, '$1$2');
  const corrected = MISSPELLED[joined] ?? joined;
  return [...new Set([name, declared, joined, corrected].map(canonicalModelName))];
}
