/**
 * One sentence to things, fields and relations: it is cut at its colon, if that colon announces
 * something, and each part is read as a clause.
 */

import { readClause, readKept } from './clause.ts';
import type { Draft } from './draft.ts';
import { readField } from './field.ts';
import { type Item, readItems } from './items.ts';
import { findMarkers } from './markers.ts';
import { isFeature, isKnownThing, isListWord, isMeasure, readNoun } from './noun-phrase.ts';
import type { Token } from './text.ts';
import {
  ADJECTIVES,
  DETERMINERS,
  ENTITY_HEADINGS,
  FIELD_HEADINGS,
  HAVE_VERBS,
} from './vocabulary.ts';
import { isPlural, singular } from './words.ts';

const FIELD_PHRASE_WORDS_MAX = 4;

/**
 * Reads one sentence into the draft.
 * @param sentence its tokens
 * @param things names already known to be kept, from anywhere in the prompt
 */
export function readSentence(
  draft: Draft,
  sentence: readonly Token[],
  things: ReadonlySet<string>,
): void {
  const plain = withoutAnnouncement(sentence);
  const colon = structuralColon(plain, things);
  if (colon < 0) {
    readClause(draft, plain, things);
    return;
  }
  const left = plain.slice(0, colon);
  readClause(draft, left, things);
  readAnnounced(draft, left, plain.slice(colon + 1), things);
}

/** "has the following fields: title" and "has: title" say no more than "has title". */
function withoutAnnouncement(sentence: readonly Token[]): readonly Token[] {
  const colon = sentence.findIndex(token => token.kind === 'colon');
  if (colon < 0) return sentence;
  let start = colon;
  const filler = (token: Token | undefined): boolean =>
    token?.kind === 'word' &&
    (DETERMINERS.has(token.lower) ||
      ADJECTIVES.has(token.lower) ||
      FIELD_HEADINGS.has(token.lower));
  while (start > 0 && filler(sentence[start - 1])) start--;
  if (!HAVE_VERBS.has(sentence[start - 1]?.lower ?? '')) return sentence;
  return [...sentence.slice(0, start), ...sentence.slice(colon + 1)];
}

/** The colon behind "app:" or "entities:"; one inside a list of fields only names a type. */
function structuralColon(sentence: readonly Token[], things: ReadonlySet<string>): number {
  const colon = sentence.findIndex(token => token.kind === 'colon');
  if (colon < 0) return -1;
  const left = sentence.slice(0, colon);
  const last = left.at(-1)?.lower ?? '';
  const announces = FIELD_HEADINGS.has(last) || ENTITY_HEADINGS.has(last);
  const inList = findMarkers(left, things).some(marker => marker.kind === 'have');
  return announces || !inList ? colon : -1;
}

/** Behind such a colon stands a clause of its own, a list of things, or a list of fields. */
function readAnnounced(
  draft: Draft,
  left: readonly Token[],
  right: readonly Token[],
  things: ReadonlySet<string>,
): void {
  const last = left.at(-1)?.lower ?? '';
  const items = readItems(right).filter(item => !isFeature(item.phrase));
  if (FIELD_HEADINGS.has(last)) {
    readLoose(draft, items);
    return;
  }
  const known = items.filter(item => {
    const noun = readNoun(item.phrase);
    return noun?.plural && (isKnownThing(noun.name) || item.note !== '');
  });
  if (findMarkers(right, things).some(marker => marker.kind !== 'for')) {
    readClause(draft, right, things);
  } else if (ENTITY_HEADINGS.has(last) || last === 'for' || known.length * 2 > items.length) {
    readKept(draft, items);
  } else if (items.every(item => item.phrase.split(' ').length <= FIELD_PHRASE_WORDS_MAX)) {
    readLoose(draft, items);
  }
}

function readLoose(draft: Draft, items: readonly Item[]): void {
  const fields = items.map(item => readField(item.phrase, item.note));
  draft.loose.push(...fields.filter(field => field !== null));
}

/**
 * @returns every noun the prompt clearly treats as a thing: subjects, and plurals with brackets.
 */
export function thingsOf(prompt: readonly (readonly Token[])[]): Set<string> {
  const things = new Set<string>();
  for (const sentence of prompt) {
    for (const marker of findMarkers(sentence, things)) {
      for (const phrase of marker.subjects) {
        const noun = readNoun(phrase);
        if (noun === null || noun.name === '' || noun.domain) continue;
        const sure = noun.plural || marker.verb !== 'with' || isKnownThing(noun.name);
        if (sure) things.add(noun.name);
      }
    }
    for (const [index, { lower }] of sentence.entries()) {
      const bracketed = sentence[index + 1]?.kind === 'note' && isPlural(lower);
      if (!bracketed || isListWord(lower) || isMeasure(lower)) continue;
      if (isKnownThing(singular(lower))) things.add(singular(lower));
    }
  }
  return things;
}
