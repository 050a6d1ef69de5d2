/**
 * A run of tokens to the items of its list: "title, a due date (optional) and tags" has three.
 */

import { type Token, tokens } from './text.ts';
import { BOUNDARIES } from './vocabulary.ts';
import { asciiWords } from './words.ts';

export interface Item {
  readonly phrase: string;
  /** What stood in brackets or behind a colon; empty when there was nothing. */
  readonly note: string;
  /** The note read as a list itself. */
  readonly noteItems: readonly Item[];
}

const SEPARATORS = new Set(['and', 'or', 'plus', '&', 'also']);
/** An item ends here: what follows describes it. */
const ITEM_STOPS = new Set('which that without when while if who should must can'.split(' '));
/** The whole list ends here: what follows speaks about something else. */
const LIST_STOPS = new Set('where so because using then but via use'.split(' '));
const NESTING_MAX = 3;
const ITEMS_MAX = 60;

/** @returns the items, in order; at most 60. */
export function readItems(list: readonly Token[], depth = 0): Item[] {
  const groups: Token[][] = [[]];
  let stopped = false;
  for (const token of list) {
    const begun = groups.some(group => group.length > 0);
    if (token.kind === 'word' && begun && LIST_STOPS.has(token.lower)) break;
    if (token.kind === 'comma' || (token.kind === 'word' && SEPARATORS.has(token.lower))) {
      groups.push([]);
      stopped = false;
    } else if (
      token.kind === 'word' &&
      ITEM_STOPS.has(token.lower) &&
      (groups.at(-1)?.length ?? 0) > 0
    ) {
      stopped = true;
    } else if (!stopped) {
      groups.at(-1)?.push(token);
    }
  }
  return groups
    .slice(0, ITEMS_MAX)
    .map(group => readItem(group, depth))
    .filter(item => item !== null);
}

function readItem(group: readonly Token[], depth: number): Item | null {
  const colon = group.findIndex(token => token.kind === 'colon');
  const name = colon < 0 ? group : group.slice(0, colon);
  const phrase = name
    .filter(token => token.kind === 'word')
    .map(token => token.text)
    .join(' ');
  const notes = group.filter(token => token.kind === 'note').map(token => token.text);
  if (colon >= 0) {
    notes.push(
      ...group
        .slice(colon + 1)
        .filter(token => token.kind === 'word')
        .map(token => token.text),
    );
  }
  if (asciiWords(phrase).length === 0) return null;
  const note = notes.join(' ');
  const noteItems = depth < NESTING_MAX && note !== '' ? readItems(tokens(note), depth + 1) : [];
  return { phrase, note, noteItems };
}

/** @returns the noun phrases of a subject, without the words that open a request ("create a …"). */
export function readSubjectList(words: readonly Token[]): string[] {
  const phrases: string[] = [];
  let current: string[] = [];
  for (const token of words) {
    if (token.kind !== 'word' || BOUNDARIES.has(token.lower)) {
      if (current.length > 0) phrases.push(current.join(' '));
      current = [];
    } else {
      current.push(token.text);
    }
  }
  if (current.length > 0) phrases.push(current.join(' '));
  return phrases;
}
