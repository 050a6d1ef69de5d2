/**
 * One clause to things, fields and relations.
 *
 * The clause is cut at its markers ("for", "with", "have", "belongs to", "link", …). What stands
 * before a marker is its subject; what stands behind it, up to the next marker's subject, is its
 * list. A marker without a subject speaks of what was last spoken of.
 */

import { addField, type Draft, mention, relate } from './draft.ts';
import { readField } from './field.ts';
import { type Item, readItems, readSubjectList } from './items.ts';
import { findMarkers, type Marker } from './markers.ts';
import {
  isFeature,
  isKnownThing,
  isListWord,
  isMeasure,
  type Noun,
  readNoun,
} from './noun-phrase.ts';
import type { Token } from './text.ts';
import { SERVICE_WORDS } from './vocabulary.ts';

/** Their subject may also be the last item of the list before: "for a library with books". */
const GLUED_VERBS = new Set(['with', 'containing', 'including', 'having']);

/**
 * Reads one clause into the draft.
 * @param things names already known to be kept, from anywhere in the prompt
 */
export function readClause(
  draft: Draft,
  clause: readonly Token[],
  things: ReadonlySet<string>,
): void {
  const markers = findMarkers(clause, things);
  const opening = clause.slice(0, markers[0]?.from ?? clause.length);
  const hasObject = markers.some(marker => marker.kind === 'for');
  readOpening(draft, opening, hasObject);
  markers.forEach((marker, index) => {
    const before = markers[index - 1];
    const next = markers[index + 1];
    const items = readItems(clause.slice(marker.to, listEnd(marker, next, clause.length)));
    if (marker.kind === 'for') {
      readKept(draft, items);
    } else if (marker.kind === 'have') {
      const joiner = GLUED_VERBS.has(marker.verb) ? (before?.joiner ?? null) : null;
      const subjects = joiner === null ? subjectsOf(draft, marker) : nounsOf([joiner]);
      readFields(draft, subjects, items, things);
      if (items.length === 0 && next?.verb === 'with') relateNested(draft, subjects, next);
    } else {
      readRelation(draft, marker, items);
    }
  });
}

/** The list of "for a library with books" ends at "with", although "library" is its subject too. */
function listEnd(marker: Marker, next: Marker | undefined, length: number): number {
  if (next === undefined) return length;
  const shared = GLUED_VERBS.has(next.verb) && marker.kind !== 'have';
  return shared ? next.at : Math.max(marker.to, next.from);
}

const nounsOf = (phrases: readonly string[]): Noun[] =>
  phrases
    .map(readNoun)
    .filter(noun => noun !== null)
    .filter(noun => noun.name === '' || !isFeature(noun.name));

/** The marker's own subjects, or what was last spoken of ("each with …", "it has …"). */
function subjectsOf(draft: Draft, marker: Marker): readonly Noun[] {
  const own = nounsOf(marker.subjects);
  const subjects =
    own.length > 0 || (marker.verb === 'with' && marker.at === 0) ? own : draft.topic;
  if (subjects.some(noun => noun.name !== '')) draft.topic = subjects;
  return subjects;
}

/** "Todo app", "events(title, date)", "customers and orders": what stands before any marker. */
function readOpening(draft: Draft, opening: readonly Token[], hasObject: boolean): void {
  for (const item of readItems(opening)) {
    if (item.note !== '' && readNoted(draft, item)) continue;
    const noun = hasObject ? null : readNoun(item.phrase);
    if (noun?.plural && isKnownThing(noun.name)) mention(draft, noun.name, 'named');
  }
  const last = opening.findIndex(token => SERVICE_WORDS.has(token.lower));
  const phrase = readSubjectList(opening.slice(0, last < 0 ? undefined : last + 1)).at(-1);
  const noun = phrase === undefined ? null : readNoun(phrase);
  if (noun === null || noun.name === '' || isFeature(noun.name)) return;
  if (noun.domain) draft.domains.push(noun.name);
  else if (noun.contained) mention(draft, noun.name, 'hinted');
}

/** `events(title, date, capacity)` */
function readNoted(draft: Draft, item: Item): boolean {
  const noun = readNoun(item.phrase);
  if (noun === null || noun.name === '' || !(noun.plural || isKnownThing(noun.name))) return false;
  if (isMeasure(item.phrase) && !isKnownThing(noun.name)) return false;
  const entity = mention(draft, noun.name, 'explicit');
  for (const part of item.noteItems) addField(entity, readField(part.phrase, part.note));
  return true;
}

/** "for books and members": the things the service is for. */
export function readKept(draft: Draft, items: readonly Item[]): void {
  const topic: Noun[] = [];
  for (const item of items) {
    const members = readNoun(/\bof\s+(.+)$/.exec(item.phrase)?.[1] ?? '');
    const whole = isFeature(item.phrase) ? null : readNoun(item.phrase);
    const noun = members?.plural && isKnownThing(members.name) ? members : whole;
    if (noun === null || noun.name === '') continue;
    topic.push(noun);
    if (item.note !== '' && readNoted(draft, item)) continue;
    const sure = noun.plural || items.length > 1 || isKnownThing(noun.name);
    if (noun.domain && !noun.plural) draft.domains.push(noun.name);
    else mention(draft, noun.name, sure ? 'named' : 'hinted');
  }
  if (topic.length > 0) draft.topic = topic;
}

/** "books with title and author": fields of a thing, or the things of a place. */
function readFields(
  draft: Draft,
  subjects: readonly Noun[],
  items: readonly Item[],
  things: ReadonlySet<string>,
): void {
  const kept = items.filter(item => !isFeature(item.phrase));
  for (const noun of subjects) {
    const whole = isWhole(noun, kept);
    if (noun.domain && whole) draft.domains.push(noun.name);
    if (!whole && kept.length === 0 && noun.name !== '') mention(draft, noun.name, 'named');
    for (const item of kept) {
      if (whole) readPartOfWhole(draft, item, things);
      else readPart(draft, noun, item, things);
    }
  }
}

/** A place, the software itself, or an app whose list names nothing but things. */
function isWhole(noun: Noun, items: readonly Item[]): boolean {
  if (noun.name === '' || (noun.domain && !noun.plural)) return true;
  const isThing = (item: Item): boolean => {
    const part = readNoun(item.phrase);
    const several = items.length > 1 && !isMeasure(item.phrase);
    const thing = part !== null && (several || isKnownThing(part.name));
    return thing && part.plural && !isListWord(item.phrase);
  };
  const inside = items.some(item => noun.name.endsWith(`_${readNoun(item.phrase)?.name}`));
  return (noun.contained || inside) && !noun.plural && items.length > 0 && items.every(isThing);
}

function readPartOfWhole(draft: Draft, item: Item, things: ReadonlySet<string>): void {
  const noun = readNoun(item.phrase);
  if (noun === null || noun.name === '') return;
  const countable = noun.plural && (isKnownThing(noun.name) || !isMeasure(item.phrase));
  if (countable || things.has(noun.name)) {
    if (item.note === '' || !readNoted(draft, item)) mention(draft, noun.name, 'explicit');
    return;
  }
  const field = readField(item.phrase, item.note);
  if (field !== null) draft.loose.push(field);
}

/** One item of "X with …": a thing that belongs to X, or a field. */
function readPart(draft: Draft, subject: Noun, item: Item, things: ReadonlySet<string>): void {
  const own = mention(draft, subject.name, 'explicit');
  const noun = readNoun(item.phrase);
  const counted = isMeasure(item.phrase) && !things.has(noun?.name ?? '');
  const countable = noun?.plural && !counted && !/\bof\b/.test(item.phrase);
  if (noun !== null && !noun.plural && item.note === '' && things.has(noun.name)) {
    if (noun.name !== own.name) relate(draft, { from: own.name, to: noun.name, required: false });
    return;
  }
  const typed = /\b(?:list|array|strings?)\b|\[/i.test(item.note);
  if (noun === null || !countable || typed || noun.name === own.name) {
    addField(own, readField(item.phrase, item.note));
    return;
  }
  const thing = things.has(noun.name) || (isKnownThing(noun.name) && !isListWord(item.phrase));
  if (!thing) {
    addField(own, readField(item.phrase, item.note));
    return;
  }
  relate(draft, { from: noun.name, to: own.name, required: true });
  if (item.note !== '') readNoted(draft, item);
}

/** "tasks have subtasks with title": the subtasks belong to the tasks. */
function relateNested(draft: Draft, owners: readonly Noun[], next: Marker): void {
  for (const part of nounsOf(next.subjects)) {
    for (const owner of owners) {
      if (owner.name === '' || part.name === '' || !part.plural) continue;
      relate(draft, { from: part.name, to: owner.name, required: true });
    }
  }
}

function readRelation(draft: Draft, marker: Marker, items: readonly Item[]): void {
  const named = (noun: Noun): boolean => noun.name !== '';
  const objects = nounsOf(items.filter(item => !isFeature(item.phrase)).map(item => item.phrase));
  const [first, second] = objects.filter(named);
  if (first === undefined) return;
  if (marker.kind === 'link' && marker.subjects.length === 0) {
    if (second !== undefined) relate(draft, { from: first.name, to: second.name, required: true });
    return;
  }
  for (const subject of subjectsOf(draft, marker).filter(named)) {
    for (const object of objects.filter(named)) {
      relateByKind(draft, marker, { subject: subject.name, object: object.name });
    }
  }
}

function relateByKind(
  draft: Draft,
  marker: Marker,
  { subject, object }: { readonly subject: string; readonly object: string },
): void {
  if (marker.kind === 'many' || marker.kind === 'active') {
    relate(draft, { from: object, to: subject, required: marker.kind === 'many' });
  } else if (marker.joiner !== null) {
    relate(draft, { from: marker.joiner, to: object, required: true });
    relate(draft, { from: marker.joiner, to: subject, required: true });
  } else {
    relate(draft, { from: subject, to: object, required: marker.kind !== 'passive' });
  }
}
