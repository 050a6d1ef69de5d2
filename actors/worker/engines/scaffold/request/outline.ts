/**
 * The lines of a prompt as an outline: headings, bullets under them, and prose. Headings and
 * bullets name entities and fields ("Books:" over "- title"); whatever is left is handed back as
 * sentences.
 */

import { addField, type Draft, mention } from './draft.ts';
import { readField } from './field.ts';
import { TYPE_NAMES } from './field-words.ts';
import { readItems } from './items.ts';
import { isFeature, isKnownThing, readNoun } from './noun-phrase.ts';
import { sentences, type Token, tokens } from './text.ts';
import {
  BOUNDARIES,
  ENTITY_HEADINGS,
  FIELD_HEADINGS,
  HAVE_VERBS,
  KEEP_GERUNDS,
  KEEP_VERBS,
  OTHER_HEADINGS,
  SERVICE_WORDS,
} from './vocabulary.ts';
import { asciiWords } from './words.ts';

interface Line {
  readonly indent: number;
  readonly bullet: boolean;
  readonly text: string;
}

/** What the lines under a heading are. */
type Section =
  | { readonly kind: 'fields'; readonly of: string }
  | { readonly kind: 'entities' }
  | { readonly kind: 'other' };

const LINES_MAX = 400;
const HEADING_WORDS_MAX = 4;

/** Reads the outline into the draft. @returns the sentences that are prose. */
export function readOutline(draft: Draft, text: string): Token[][] {
  const lines = linesOf(text);
  const prose: string[] = [];
  let section: (Section & { indent: number }) | null = null;
  lines.forEach((line, index) => {
    const heading = headingOf(line, lines[index + 1]);
    if (heading !== null) {
      const inside = section?.kind === 'entities' && (line.bullet || line.indent > section.indent);
      section = { ...sectionOf(draft, heading, inside), indent: line.indent };
      if (asciiWords(heading).length > HEADING_WORDS_MAX)
        prose.push(`${heading.replace(/:$/, '')}.`);
      return;
    }
    if (section !== null && !line.bullet && line.indent <= section.indent) section = null;
    if (section !== null && readUnder(draft, section, line)) return;
    if (readEntityLine(draft, line)) return;
    prose.push(line.bullet ? `${line.text}.` : line.text);
  });
  return sentences(prose.join('\n').replace(/([^.\n:;,])\n(?=\p{Lu})/gu, '$1.\n'))
    .map(sentence => tokens(sentence.replace(/\n/g, ' ')))
    .filter(sentence => sentence.length > 0);
}

function linesOf(text: string): Line[] {
  return text
    .split('\n')
    .filter(line => /[\p{L}\p{N}]/u.test(line))
    .slice(0, LINES_MAX)
    .map(line => {
      const match = /^(\s*)((?:[-*+•–]|\d+[.)])\s+|#+\s*)?(.*)$/u.exec(line);
      const mark = match?.[2] ?? '';
      return {
        indent: match?.[1]?.length ?? 0,
        bullet: mark !== '' && !mark.startsWith('#'),
        text: mark.startsWith('#')
          ? `${(match?.[3] ?? '').trim().replace(/:$/, '')}:`
          : (match?.[3] ?? '').trim(),
      };
    });
}

/** A line that ends in a colon, or a short one over deeper bullets. */
function headingOf(line: Line, next: Line | undefined): string | null {
  const words = asciiWords(line.text);
  if (words.length === 0) return null;
  if (/:$/.test(line.text)) return next === undefined ? null : line.text;
  const over = next !== undefined && next.indent > line.indent && next.bullet;
  return over && words.length <= HEADING_WORDS_MAX && !/[,.(]/.test(line.text) ? line.text : null;
}

function sectionOf(draft: Draft, heading: string, inside: boolean): Section {
  const words = asciiWords(heading);
  const last = words.at(-1) ?? '';
  if (!inside && ENTITY_HEADINGS.has(last)) return { kind: 'entities' };
  if (KEEP_VERBS.has(last) || KEEP_GERUNDS.has(last) || last === 'for') return { kind: 'entities' };
  const ofFields = FIELD_HEADINGS.has(last) || HAVE_VERBS.has(last);
  if (words.length > HEADING_WORDS_MAX)
    return ofFields ? { kind: 'fields', of: '' } : { kind: 'other' };
  const noun = readNoun(
    words.filter(word => !FIELD_HEADINGS.has(word) && !HAVE_VERBS.has(word)).join(' '),
  );
  if (ofFields) return { kind: 'fields', of: noun?.name ?? '' };
  const other = (word: string): boolean =>
    OTHER_HEADINGS.has(word) || SERVICE_WORDS.has(word) || BOUNDARIES.has(word);
  if (words.some(other) || noun === null || noun.name === '' || isFeature(heading)) {
    return { kind: 'other' };
  }
  return { kind: 'fields', of: mention(draft, noun.name, 'explicit').name };
}

/** @returns whether the line was understood as part of its section. */
function readUnder(draft: Draft, section: Section, line: Line): boolean {
  if (section.kind === 'other') return isFeature(line.text);
  if (section.kind === 'entities') {
    if (readEntityLine(draft, line)) return true;
    const items = readItems(tokens(line.text));
    if (items.some(item => asciiWords(item.phrase).length > 3)) return false;
    for (const item of items) {
      const noun = readNoun(item.phrase);
      if (noun === null || noun.name === '' || isFeature(item.phrase)) continue;
      const entity = mention(draft, noun.name, 'explicit');
      for (const part of item.noteItems) addField(entity, readField(part.phrase, part.note));
    }
    return true;
  }
  const words = tokens(line.text);
  if (
    words.filter(token => token.kind === 'word').length > 8 &&
    !words.some(token => token.kind === 'colon')
  )
    return false;
  for (const field of fieldsOf(line.text)) {
    if (section.of === '') draft.loose.push(field);
    else addField(mention(draft, section.of, 'explicit'), field);
  }
  return true;
}

/**
 * `title: string, required`, `pages (int)`, `status - one of open, closed`, `title, author, year`.
 */
function fieldsOf(text: string) {
  const typed = /^([^:(]{1,40}?)\s*(?:[:(]|\s[-–—]\s)\s*(.*?)\)?$/u.exec(text);
  if (typed !== null && typed[1] !== undefined && !/,/.test(typed[1])) {
    return [readField(typed[1], typed[2])].filter(field => field !== null);
  }
  return readItems(tokens(text))
    .map(item => readField(item.phrase, item.note))
    .filter(field => field !== null);
}

/** `Book: title, author (string), year` or `Book(title, author)` on a line of its own. */
function readEntityLine(draft: Draft, line: Line): boolean {
  const match =
    /^([\p{L}_][\p{L}\p{N}_-]*(?:\s+[\p{L}_][\p{L}\p{N}_-]*){0,2})\s*(?::|(?<=\s)[-–—]\s|\((?=[^()]*(?:\([^()]*\)[^()]*)*\)\s*$))\s*(.+)$/u.exec(
      line.text,
    );
  if (match === null) return readTypedLine(draft, line);
  const [, title = '', rest = ''] = match;
  const words = asciiWords(title);
  const noun = readNoun(title);
  if (noun === null || noun.name === '' || noun.contained || isFeature(title)) return false;
  if (
    words.some(word => OTHER_HEADINGS.has(word) || BOUNDARIES.has(word) || SERVICE_WORDS.has(word))
  )
    return false;
  const list = readItems(
    tokens(
      rest
        .replace(/\)\s*$/, line.text.includes(`(${rest}`) ? '' : ')')
        .replace(/^(?:with|has|have)\s/i, ''),
    ),
  );
  if (list.length === 1 && TYPE_NAMES.has(asciiWords(rest)[0] ?? ''))
    return readTypedLine(draft, line);
  if (FIELD_HEADINGS.has(words.at(-1) ?? '')) {
    for (const item of list) pushLoose(draft, item.phrase, item.note);
    return true;
  }
  if (ENTITY_HEADINGS.has(words.at(-1) ?? ''))
    return readUnder(draft, { kind: 'entities' }, { ...line, text: rest });
  const sentence = tokens(rest).some(token => HAVE_VERBS.has(token.lower));
  if (
    sentence ||
    !(line.bullet || noun.plural || isKnownThing(noun.name) || /^\p{Lu}/u.test(title))
  )
    return false;
  const entity = mention(draft, noun.name, 'explicit');
  for (const item of list) addField(entity, readField(item.phrase, item.note));
  return true;
}

/** `- title: string` without a heading: a field of the thing the prompt is about. */
function readTypedLine(draft: Draft, line: Line): boolean {
  const match = /^([\p{L}_][\p{L}\p{N}_ -]{0,40}?)\s*(?::|\(|\s[-–—]\s)\s*(.+?)\)?$/u.exec(
    line.text,
  );
  if (match === null || !TYPE_NAMES.has(asciiWords(match[2] ?? '')[0] ?? '')) return false;
  if (asciiWords(match[1] ?? '').some(word => BOUNDARIES.has(word))) return false;
  pushLoose(draft, match[1] ?? '', match[2] ?? '');
  return true;
}

function pushLoose(draft: Draft, phrase: string, note: string): void {
  const field = readField(phrase, note);
  if (field !== null) draft.loose.push(field);
}
