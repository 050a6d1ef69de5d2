/**
 * One sentence to things, fields and relations.
 *
 * The sentence is cut at its markers ("for", "with", "have", "belongs to", "link", …). What stands before a marker is
 * its subject, what stands behind it, up to the next marker's subject, is its list.
 */

import { addField, type Draft, mention, relate } from './draft.ts';
import { readField } from './field.ts';
import { INTEGER_WORDS, LIST_WORDS, SINGULAR_SENSE } from './field-words.ts';
import { type Item, readItems, readSubjectList } from './items.ts';
import { DOMAINS } from './lexicon.ts';
import { findMarkers, type Marker } from './markers.ts';
import { isFeature, isKnownThing, type Noun, readNoun } from './noun-phrase.ts';
import type { Token } from './text.ts';
import { SERVICE_WORDS } from './vocabulary.ts';
import { isPlural, singular } from './words.ts';

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
  const markers = findMarkers(sentence, things);
  const opening = sentence.slice(0, markers[0]?.from ?? sentence.length);
  readOpening(draft, opening);
  markers.forEach((marker, index) => {
    const end = listEnd(marker, markers[index + 1], sentence.length);
    const items = readItems(sentence.slice(marker.to, end));
    if (marker.kind === 'for') readKept(draft, items);
    else if (marker.kind === 'have') readFields(draft, marker, items, things);
    else readRelation(draft, marker, items);
  });
}

/** The list of "for a library with books" ends at "with", although "library" is also the subject of "with". */
function listEnd(marker: Marker, next: Marker | undefined, length: number): number {
  if (next === undefined) return length;
  const shared = next.glued && marker.kind !== 'have';
  return shared ? next.at : Math.max(marker.to, next.from);
}

/** "Todo app", "an event booking service", "events(title, date)": what stands before any marker. */
function readOpening(draft: Draft, opening: readonly Token[]): void {
  const colon = opening.findIndex(token => token.kind === 'colon');
  const head = colon < 0 ? opening : opening.slice(0, colon);
  for (const item of readItems(opening.slice(colon + 1))) {
    if (item.note !== '') readNoted(draft, item);
  }
  const last = head.findIndex(token => SERVICE_WORDS.has(token.lower));
  const phrase = readSubjectList(head.slice(0, last < 0 ? undefined : last + 1)).at(-1);
  const noun = phrase === undefined ? null : readNoun(phrase);
  if (noun === null || noun.name === '' || isFeature(noun.name)) return;
  if (noun.domain) draft.domains.push(noun.name);
  else if (noun.contained) mention(draft, noun.name, 'hinted');
}

/** `events(title, date, capacity)` */
function readNoted(draft: Draft, item: Item): boolean {
  const noun = readNoun(item.phrase);
  if (noun === null || noun.name === '' || !(noun.plural || isKnownThing(noun.name))) return false;
  if (isMeasure(item.phrase)) return false;
  const entity = mention(draft, noun.name, 'explicit');
  for (const part of item.noteItems) addField(entity, readField(part.phrase, part.note));
  return true;
}

function readKept(draft: Draft, items: readonly Item[]): void {
  draft.keeps = true;
  for (const item of items) {
    if (isFeature(item.phrase)) continue;
    const noun = readNoun(item.phrase);
    if (noun === null || noun.name === '') continue;
    if (item.note !== '' && readNoted(draft, item)) continue;
    if (noun.domain && !noun.plural) draft.domains.push(noun.name);
    else mention(draft, noun.name, 'named');
  }
}

function readFields(
  draft: Draft,
  marker: Marker,
  items: readonly Item[],
  things: ReadonlySet<string>,
): void {
  const subjects = marker.subjects
    .map(readNoun)
    .filter(noun => noun !== null)
    .filter(noun => !isFeature(noun.name) || noun.name === '');
  const subject = subjects.at(-1);
  if (subject === undefined) return;
  const whole = subject.name === '' || (subject.domain && !subject.plural);
  const kept = items.filter(item => !isFeature(item.phrase));
  if (kept.length === 0 && subject.name !== '' && !whole) mention(draft, subject.name, 'named');
  for (const noun of subjects) {
    for (const item of kept) readPart(draft, noun, item, { whole, things });
  }
  if (subject.domain && whole) draft.domains.push(subject.name);
}

/** One item of "X with …": a thing of its own, a reference to a thing, or a field. */
function readPart(
  draft: Draft,
  subject: Noun,
  item: Item,
  context: { whole: boolean; things: ReadonlySet<string> },
): void {
  const noun = readNoun(item.phrase);
  if (noun === null) return;
  const thing = context.things.has(noun.name);
  const countable = noun.plural && !isMeasure(item.phrase) && !/\bof\b/.test(item.phrase);
  if (context.whole) {
    if (countable || thing) {
      if (item.note === '' || !readNoted(draft, item)) mention(draft, noun.name, 'explicit');
      return;
    }
    const field = readField(item.phrase, item.note);
    if (field !== null) draft.loose.push(field);
    return;
  }
  const own = mention(draft, subject.name, 'explicit');
  if (
    countable &&
    noun.name !== own.name &&
    (thing || (isKnownThing(noun.name) && !isListWord(item.phrase)))
  ) {
    relate(draft, { from: noun.name, to: own.name, required: true });
    if (item.note !== '') readNoted(draft, item);
    return;
  }
  addField(own, readField(item.phrase, item.note));
}

function readRelation(draft: Draft, marker: Marker, items: readonly Item[]): void {
  const things = (phrases: readonly string[]): string[] =>
    phrases
      .filter(phrase => !isFeature(phrase))
      .map(readNoun)
      .filter(noun => noun !== null && noun.name !== '')
      .map(noun => noun?.name ?? '');
  const subjects = things(marker.subjects);
  const objects = things(items.map(item => item.phrase));
  const [first, second] = objects;
  if (first === undefined) return;
  if (subjects.length === 0) {
    if (marker.kind === 'link' && second !== undefined) {
      relate(draft, { from: first, to: second, required: true });
    }
    return;
  }
  for (const subject of subjects) {
    for (const object of objects) relateByKind(draft, marker, subject, object);
  }
}

function relateByKind(draft: Draft, marker: Marker, subject: string, object: string): void {
  if (marker.kind === 'many' || marker.kind === 'active') {
    relate(draft, { from: object, to: subject, required: marker.kind === 'many' });
  } else if (marker.kind === 'join' && marker.joiner !== null) {
    relate(draft, { from: marker.joiner, to: object, required: true });
    relate(draft, { from: marker.joiner, to: subject, required: true });
  } else {
    relate(draft, { from: subject, to: object, required: marker.kind !== 'passive' });
  }
}

function lastWord(phrase: string): string {
  return phrase.trim().toLowerCase().split(/\s+/).at(-1) ?? '';
}

function isMeasure(phrase: string): boolean {
  const word = lastWord(phrase);
  return SINGULAR_SENSE.has(word) || INTEGER_WORDS.has(word);
}

function isListWord(phrase: string): boolean {
  return LIST_WORDS.has(lastWord(phrase));
}

/** @returns every noun that the whole prompt clearly treats as a thing: plural subjects, lists of a domain. */
export function thingsOf(sentencesOfPrompt: readonly (readonly Token[])[]): Set<string> {
  const things = new Set<string>();
  for (const sentence of sentencesOfPrompt) {
    for (const marker of findMarkers(sentence, things)) {
      for (const phrase of marker.subjects) {
        const noun = readNoun(phrase);
        if (noun === null || noun.name === '' || noun.domain) continue;
        if (noun.plural || marker.verb !== 'with' || isKnownThing(noun.name)) things.add(noun.name);
      }
    }
    sentence.forEach((token, index) => {
      const note = sentence[index + 1];
      if (
        note?.kind === 'note' &&
        isPlural(token.lower) &&
        !isListWord(token.lower) &&
        !isMeasure(token.lower)
      ) {
        const whole = singular(token.lower);
        if (isKnownThing(whole)) things.add(whole);
      }
    });
  }
  for (const name of things) if (DOMAINS.has(name) && !isKnownThing(name)) things.delete(name);
  return things;
}
