/**
 * The words of a sentence that say how its nouns hang together, each with its subject.
 */

import { isKnownThing, readNoun } from './noun-phrase.ts';
import type { Token } from './text.ts';
import {
  ACTIVE_VERBS,
  BOUNDARIES,
  CONTAINER_WORDS,
  DETERMINERS,
  HAVE_VERBS,
  JOINING_VERBS,
  KEEP_GERUNDS,
  KEEP_VERBS,
  LINK_VERBS,
  MANY,
  MODALS,
  SERVICE_WORDS,
} from './vocabulary.ts';

export interface Marker {
  readonly kind: 'for' | 'have' | 'many' | 'belongs' | 'link' | 'passive' | 'active' | 'join';
  readonly verb: string;
  /** Where the subject begins; equals `at` when there is none. */
  readonly from: number;
  /** Where the marker itself begins. */
  readonly at: number;
  /** Where its list begins. */
  readonly to: number;
  readonly subjects: readonly string[];
  /** The entity that joins subject and object ("borrow" → loan); null otherwise. */
  readonly joiner: string | null;
}

const SUBJECT_WORDS_MAX = 3;
const PREPOSITIONS = new Set('in at on by to from for under with of into'.split(' '));
const KEEP_LEADS = new Set(
  'to that which can i we and please me app for people users user customers members it system service api'.split(
    ' ',
  ),
);
const PARTICIPLE =
  /^(?:[a-z]+ed|kept|held|made|taught|written|sold|led|given|sent|bought|built|run|set|born)$/;

/**
 * @param sentence the tokens of one sentence
 * @param things names known to be kept; lets "authors write books" count as a relation
 * @returns the markers in order of appearance
 */
export function findMarkers(sentence: readonly Token[], things: ReadonlySet<string>): Marker[] {
  const markers: Marker[] = [];
  for (let at = 0; at < sentence.length; at++) {
    const last = markers.at(-1);
    if (last !== undefined && at < last.to) continue;
    const marker = markerAt(sentence, at, last, things);
    if (marker !== null) markers.push(marker);
  }
  return markers;
}

const lowerAt = (sentence: readonly Token[], index: number): string => {
  const token = sentence[index];
  return token?.kind === 'word' ? token.lower : '';
};

function markerAt(
  sentence: readonly Token[],
  at: number,
  last: Marker | undefined,
  things: ReadonlySet<string>,
): Marker | null {
  const word = lowerAt(sentence, at);
  const next = lowerAt(sentence, at + 1);
  if (word === '') return null;
  const floor = last?.to ?? 0;
  const make = (kind: Marker['kind'], to: number, joiner: string | null = null): Marker => {
    const from = subjectStart(sentence, at, floor);
    const subjects = subjectsOf(sentence, from, at, floor);
    return { kind, verb: word, from, at, to, subjects, joiner };
  };
  if (/^belong(?:s|ing)?$/.test(word) && next === 'to') {
    const marker = make('belongs', at + 2);
    const singular = marker.subjects.every(subject => readNoun(subject)?.plural === false);
    // "transactions with amount and date belong to …": the plural verb does not speak of the date.
    return word === 'belong' && singular && last !== undefined ? subjectless(marker, at) : marker;
  }
  if ((word === 'is' || word === 'are') && PARTICIPLE.test(next)) {
    return PREPOSITIONS.has(lowerAt(sentence, at + 2)) ? make('passive', at + 3) : null;
  }
  if (HAVE_VERBS.has(word)) return haveMarker(sentence, at, last, things, make);
  if (word === 'consist' || word === 'consists')
    return make('have', next === 'of' ? at + 2 : at + 1);
  if (LINK_VERBS.has(word)) return linkMarker(sentence, at, make);
  const verb = relationVerb(sentence, at, things, make);
  if (verb !== null) return verb;
  // "a name and a list of tags": inside a list of fields, "list of" starts nothing.
  if (word === 'of' && last?.kind === 'have') return null;
  return keepEnd(sentence, at, make);
}

type Make = (kind: Marker['kind'], to: number, joiner?: string | null) => Marker;

function haveMarker(
  sentence: readonly Token[],
  at: number,
  last: Marker | undefined,
  things: ReadonlySet<string>,
  make: Make,
): Marker | null {
  const word = lowerAt(sentence, at);
  const next = lowerAt(sentence, at + 1);
  if (['to', 'been', 'no', 'not'].includes(next)) return null;
  const many =
    MANY.has(next) ||
    /^(?:one|zero) or (?:more|many)$/.test(
      [1, 2, 3].map(step => lowerAt(sentence, at + step)).join(' '),
    );
  if (many && word !== 'with') return make('many', at + (MANY.has(next) ? 2 : 4));
  const marker = make('have', at + 1);
  if (word !== 'with') return marker.subjects.length === 0 && /ing$/.test(word) ? null : marker;
  if (last?.kind !== 'have') return marker;
  const noun = readNoun(marker.subjects.at(-1) ?? '');
  const thing = noun !== null && (noun.plural || isKnownThing(noun.name) || things.has(noun.name));
  return thing ? marker : null;
}

function linkMarker(sentence: readonly Token[], at: number, make: Make): Marker | null {
  const before = lowerAt(sentence, at - 1);
  const next = lowerAt(sentence, at + 1);
  if (DETERMINERS.has(before) || next === '' || HAVE_VERBS.has(next)) return null;
  const first = sentence[at - 1];
  if (first?.kind === 'comma' || (before === 'and' && !DETERMINERS.has(next))) return null;
  const to = ['to', 'together', 'with'].includes(next) ? at + 2 : at + 1;
  return make('link', to);
}

/** "authors write books", "members borrow books": only between things known to be kept. */
function relationVerb(
  sentence: readonly Token[],
  at: number,
  things: ReadonlySet<string>,
  make: Make,
): Marker | null {
  const word = lowerAt(sentence, at);
  const joiner = JOINING_VERBS.get(word);
  if (joiner === undefined && !ACTIVE_VERBS.has(word)) return null;
  let before = at - 1;
  while (MODALS.has(lowerAt(sentence, before))) before--;
  const subject = readNoun(lowerAt(sentence, before));
  const step =
    DETERMINERS.has(lowerAt(sentence, at + 1)) || MANY.has(lowerAt(sentence, at + 1)) ? 2 : 1;
  const object = readNoun(lowerAt(sentence, at + step));
  if (subject === null || object === null) return null;
  const known = (name: string): boolean => things.has(name) || isKnownThing(name);
  if (!known(subject.name) || !known(object.name) || subject.name === object.name) return null;
  return make(joiner === undefined ? 'active' : 'join', at + step, joiner ?? null);
}

/** "for …", "to manage …", "tracking …", "a list of …": behind it stands what is kept. */
function keepEnd(sentence: readonly Token[], at: number, make: Make): Marker | null {
  const word = lowerAt(sentence, at);
  const next = lowerAt(sentence, at + 1);
  const before = lowerAt(sentence, at - 1);
  const plainFor =
    word === 'for' ||
    word === 'about' ||
    (word === 'of' && (CONTAINER_WORDS.has(before) || before === 'data'));
  if (plainFor && (next !== '' || sentence[at + 1]?.kind === 'word')) {
    const skip = gerundSkip(sentence, at + 1);
    return subjectless(make('for', at + 1 + skip), at);
  }
  if (next === '' || HAVE_VERBS.has(next) || SERVICE_WORDS.has(next)) return null;
  if (/^(?:number|id|code|time|status|date)$/.test(next)) return null;
  const verb =
    (KEEP_VERBS.has(word) && (at === 0 || KEEP_LEADS.has(before)) && next !== 'of') ||
    (KEEP_GERUNDS.has(word) &&
      !DETERMINERS.has(before) &&
      !BOUNDARIES.has(next) &&
      (at === 0 || BOUNDARIES.has(before) || SERVICE_WORDS.has(before)));
  const followed =
    KEEP_VERBS.has(word) && ['track', 'all', 'a'].includes(next) && word.startsWith('keep');
  if (!verb && !followed) return null;
  return subjectless(make('for', at + 1 + gerundSkip(sentence, at + 1)), at);
}

/** Skips "managing", "keeping track of", "a list of" behind "for". */
function gerundSkip(sentence: readonly Token[], at: number): number {
  let index = at;
  for (let turn = 0; turn < 6; turn++) {
    const word = lowerAt(sentence, index);
    const next = lowerAt(sentence, index + 1);
    const following = sentence[index + 1]?.kind === 'word' && !HAVE_VERBS.has(next);
    const listOf = (CONTAINER_WORDS.has(word) || word === 'track') && next === 'of';
    if (KEEP_GERUNDS.has(word) && following && !SERVICE_WORDS.has(next)) index += 1;
    else if (listOf) index += 2;
    else if (
      DETERMINERS.has(word) &&
      CONTAINER_WORDS.has(next) &&
      lowerAt(sentence, index + 2) === 'of'
    )
      index += 3;
    else break;
  }
  return index - at;
}

function subjectless(marker: Marker, at: number): Marker {
  return { ...marker, from: at, subjects: [] };
}

/** Walks back over the words of the subject; brackets right before the marker belong to it too. */
function subjectStart(sentence: readonly Token[], at: number, floor: number): number {
  let index = at;
  while (index > floor && MODALS.has(lowerAt(sentence, index - 1))) index--;
  let words = 0;
  while (index > floor && words < SUBJECT_WORDS_MAX) {
    const word = lowerAt(sentence, index - 1);
    if (word === '' || BOUNDARIES.has(word)) break;
    index--;
    if (DETERMINERS.has(word)) break;
    words++;
  }
  return index;
}

/** The subject, and the nouns joined to it by "and" when they open the sentence or clause. */
function subjectsOf(sentence: readonly Token[], from: number, at: number, floor: number): string[] {
  const phrase = (start: number, end: number): string =>
    sentence
      .slice(start, end)
      .filter(token => token.kind === 'word' && !MODALS.has(token.lower))
      .map(token => token.text)
      .join(' ');
  const own = phrase(from, at);
  if (own === '') return [];
  if (lowerAt(sentence, from - 1) !== 'and' || floor > 0) return [own];
  const before = subjectStart(sentence, from - 1, floor);
  const other = phrase(before, from - 1);
  return before === floor && other !== '' ? [other, own] : [own];
}
