/**
 * A noun phrase to the name of the thing it speaks of: "my small bird list" is about `bird`.
 */

import { INTEGER_WORDS, LIST_WORDS, SINGULAR_SENSE } from './field-words.ts';
import { DOMAINS, USUAL_FIELDS } from './lexicon.ts';
import {
  ADJECTIVES,
  BOUNDARIES,
  CONTAINER_WORDS,
  DETERMINERS,
  FEATURE_PARTS,
  FEATURE_WORDS,
  SERVICE_WORDS,
} from './vocabulary.ts';
import { asciiWords, isPlural, singular } from './words.ts';

export interface Noun {
  /**
   * Singular snake_case name of the thing; empty when the phrase only names software ("REST API").
   */
  readonly name: string;
  readonly plural: boolean;
  /** Whether the phrase spoke of an app, a list, a tracker of the thing. */
  readonly contained: boolean;
  readonly domain: boolean;
}

const NOUN_WORDS_MAX = 3;

/** @returns the noun of the phrase, or null when no word is left that could name a thing. */
export function readNoun(phrase: string): Noun | null {
  const raw = asciiWords(phrase);
  const boundary = raw.findIndex((word, index) => index > 0 && BOUNDARIES.has(word));
  const kept = boundary < 0 ? raw : raw.slice(0, boundary);
  if (boundary > 0 && kept.length > 1 && /[a-z]{2}ed$/.test(kept.at(-1) ?? '')) kept.pop();
  const before = kept.length;
  while (kept.length > 0 && isSoftware(kept.at(-1) ?? '', kept)) kept.pop();
  const contained = kept.length < before;
  while (kept.length > 0 && isOpening(kept[0] ?? '')) kept.shift();
  const named = kept.slice(-NOUN_WORDS_MAX);
  const head = named.at(-1);
  if (head === undefined) {
    return contained ? { name: '', plural: false, contained, domain: false } : null;
  }
  const name = [...named.slice(0, -1), singular(head)]
    .join('_')
    .slice(0, 40)
    .replace(/(?<!_)_+$/, '');
  return { name, plural: isPlural(head), contained, domain: DOMAINS.has(singular(head)) };
}

function isSoftware(word: string, all: readonly string[]): boolean {
  if (SERVICE_WORDS.has(word)) return true;
  const named = all.filter(other => !DETERMINERS.has(other) && !ADJECTIVES.has(other));
  return CONTAINER_WORDS.has(word) && named.length > 1;
}

function isOpening(word: string): boolean {
  return (
    ADJECTIVES.has(word) || DETERMINERS.has(word) || SERVICE_WORDS.has(word) || BOUNDARIES.has(word)
  );
}

/** "the following fields" announces a list and is no part of it. */
const HEADINGS = new Set('fields attributes properties columns entities resources'.split(' '));

const isAdjective = (word: string): boolean => ADJECTIVES.has(word);

/** Whether an item speaks only of features and techniques ("authentication", "unit tests"). */
export function isFeature(phrase: string): boolean {
  if (/^\s*(?:GET|POST|PUT|PATCH|DELETE)\b/.test(phrase)) return true;
  const words = asciiWords(phrase).filter(word => !DETERMINERS.has(word));
  const speaksOfFeature = words.some(word => FEATURE_WORDS.has(word));
  const onlyOfFeatures = words.every(
    word => FEATURE_WORDS.has(word) || FEATURE_PARTS.has(word) || ADJECTIVES.has(word),
  );
  const announces = HEADINGS.has(words.at(-1) ?? '') && words.slice(0, -1).every(isAdjective);
  return words.length === 0 || announces || (speaksOfFeature && onlyOfFeatures);
}

/**
 * Whether the lexicon knows the noun as something kept: `order_item` by itself or by its last
 * word.
 */
export function isKnownThing(name: string): boolean {
  return USUAL_FIELDS.has(name) || USUAL_FIELDS.has(name.slice(name.lastIndexOf('_') + 1));
}

/** Plurals that count something of their owner ("pages") and are no things of their own. */
export function isMeasure(phrase: string): boolean {
  const word = lastWord(phrase);
  return SINGULAR_SENSE.has(word) || INTEGER_WORDS.has(word);
}

/** Plurals that are usually a list of words ("tags"). */
export function isListWord(phrase: string): boolean {
  return LIST_WORDS.has(lastWord(phrase));
}

function lastWord(phrase: string): string {
  return asciiWords(phrase).at(-1) ?? '';
}
