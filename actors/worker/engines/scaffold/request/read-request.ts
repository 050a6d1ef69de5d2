/**
 * A user's prompt to a service spec, or to a refusal that says what would have been understood.
 *
 * Order: scope and stack first, then written-out listings, then headings and bullets, then prose
 * sentence by sentence; `settle.ts` makes the result whole. The same prompt always gives the same
 * spec.
 */

import { type Draft, emptyDraft, mention } from './draft.ts';
import { DOMAINS } from './lexicon.ts';
import { readListings } from './listing.ts';
import { isKnownThing } from './noun-phrase.ts';
import { readOutline } from './outline.ts';
import { readSentence, thingsOf } from './prose.ts';
import { outOfScope, speaksOfService } from './scope.ts';
import { settle } from './settle.ts';
import type { Reading, ServiceSpec } from './spec.ts';
import { chooseStack, withoutTechnology } from './stack.ts';
import { normalise, type Token } from './text.ts';
import { DETERMINERS } from './vocabulary.ts';
import { isPlural, kebab, singular, spaced } from './words.ts';

const NAME_CHARS_MAX = 46;
const SHORT_PROMPT_WORDS = 8;

/** What the engine can do, in words for its user. */
export const ABILITY =
  'The scaffold engine is rule-based and reads English: it builds REST services that keep records, such as "a REST API for books with ' +
  'title, author and year", on Node or FastAPI. For anything else install a real model, for example ' +
  '`ollama pull qwen2.5-coder:7b`, and build again.';

/**
 * Reads a request.
 * @param prompt the user's words, of any length and content; only the first 20,000 characters are
 * read
 * @param techStack technology by layer; empty when the user named none
 */
export function readRequest(
  prompt: string,
  techStack: Readonly<Record<string, string>> = {},
): Reading {
  const text = normalise(prompt);
  if (!/\p{L}{2}/u.test(text)) return refused('The request holds no words.');
  const scope = outOfScope(text);
  if (scope !== null) return refused(scope);
  const choice = chooseStack(text, techStack);
  if (choice.kind === 'unsupported') {
    return refused(`"${choice.technology}" is not covered; the stacks are Node and FastAPI.`);
  }
  const draft = emptyDraft();
  const prose = readOutline(draft, readListings(draft, withoutTechnology(text)));
  const things = new Set([...thingsOf(prose), ...draft.entities.keys()]);
  for (const sentence of prose) readSentence(draft, sentence, things);
  if (!isEnough(draft, text)) scanForThings(draft, prose, text);
  if (!isEnough(draft, text)) return refused('The request names nothing to be kept.');
  const { entities, notes } = settle(draft);
  const first = entities[0];
  if (first === undefined) return refused('The request names nothing to be kept.');
  const name = serviceName(draft, first.name);
  const spec: ServiceSpec = {
    name,
    title: titleOf(name),
    stack: choice.stack,
    entities,
    notes: [...notes, ...choice.notes],
  };
  return { kind: 'spec', spec };
}

function refused(reason: string): Reading {
  return { kind: 'refused', reason: `${reason} ${ABILITY}` };
}

/** Whether what was understood speaks of keeping data and not of any noun in any sentence. */
function isEnough(draft: Draft, text: string): boolean {
  const entities = [...draft.entities.values()];
  if (entities.some(entity => entity.certainty === 'explicit')) return true;
  const named =
    entities.length > 0 ||
    draft.domains.some(domain => DOMAINS.has(domain.slice(domain.lastIndexOf('_') + 1)));
  if (named && speaksOfService(text)) return true;
  return draft.loose.length > 0 && speaksOfService(text);
}

/**
 * A short or service-like prompt without grammar ("books and authors") names its things outright.
 */
function scanForThings(draft: Draft, prose: readonly (readonly Token[])[], text: string): void {
  const words = prose.flat().filter(token => token.kind === 'word');
  const short = words.length <= SHORT_PROMPT_WORDS;
  if (!short && !speaksOfService(text)) return;
  const outright = words.every(
    ({ lower }) => isThingWord(lower) || lower === 'and' || DETERMINERS.has(lower),
  );
  for (const { lower } of words) {
    if (!isThingWord(lower) && !(speaksOfService(text) && isKnownThing(lower))) continue;
    mention(draft, singular(lower), outright ? 'explicit' : 'named');
  }
}

const isThingWord = (word: string): boolean => isPlural(word) && isKnownThing(singular(word));

function serviceName(draft: Draft, first: string): string {
  const subject = draft.domains[0] ?? first;
  return `${kebab(subject)
    .slice(0, NAME_CHARS_MAX)
    .replace(/(?<!-)-+$/, '')}-api`;
}

function titleOf(name: string): string {
  const words = spaced(name.replaceAll('-', '_')).replace(/ api$/, '');
  return `${words.charAt(0).toUpperCase()}${words.slice(1)} API`;
}
