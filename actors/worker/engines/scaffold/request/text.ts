/**
 * A raw prompt made readable: bounded, of one spelling, split into lines and sentences, with
 * brackets set aside so that commas inside them do not split a list.
 */

import { PHRASES } from './lexicon.ts';

export const PROMPT_CHARS_MAX = 20_000;

/** Private-use characters that stand around the number of a set-aside bracket. */
const OPEN = '\uE000';
const CLOSE = '\uE001';

export interface Token {
  readonly kind: 'word' | 'comma' | 'colon' | 'note';
  /** As written; for a note, what stood between the brackets. */
  readonly text: string;
  readonly lower: string;
}

/** @returns the prompt with one spelling for what people write in several ways. */
export function normalise(prompt: string): string {
  let text = prompt
    .slice(0, PROMPT_CHARS_MAX)
    .normalize('NFC')
    .replace(/\r\n?/g, '\n')
    .replace(/[\uE000-\uF8FF\u200B-\u200F\uFEFF]/g, '')
    .replace(/[“”„]/g, '"')
    .replace(/[‘’]/g, "'")
    .replace(/\t/g, '  ')
    .replace(/(?!\n)\p{Cc}/gu, ' ')
    .replace(/\*\*|__(?=\S)|`/g, '');
  for (const [pattern, meaning] of PHRASES) text = text.replace(pattern, meaning);
  return text
    .replace(
      /\b(?:create|add|read|get|list|view|show|update|edit|change|delete|remove)(?:\s*(?:,|\/|and|or|&|\s)\s*(?:and\s+)?(?:create|add|read|get|list|view|show|update|edit|change|delete|remove))+\b/gi,
      'manage',
    )
    .replace(/\b(?:from|between)\s+(-?\d+)\s+(?:to|and)\s+(-?\d+)/gi, '($1-$2)')
    .replace(/([A-Za-z])\s+(\d+)\s*(?:-|–|to)\s*(\d+)\b/g, '$1 ($2-$3)')
    .replace(
      /(\p{L}): ((?:[\w -]{1,30}, ){0,12}[\w -]{1,30},? or [\w-]{1,30})(?=[.;,\n]|$)/gu,
      '$1 ($2)',
    )
    .replace(/\s&\s/g, ' and ');
}

/** @returns the sentences of one line. */
export function sentences(line: string): string[] {
  return line
    .split(/(?<![.!?]|\be\.g|\bi\.e|\betc)[.!?]+(?=\s|$)|;/i)
    .map(sentence => sentence.trim())
    .filter(sentence => sentence !== '');
}

/** @returns the words, commas, colons and bracket notes of a sentence, in order. */
export function tokens(sentence: string): Token[] {
  const notes: string[] = [];
  let masked = sentence;
  for (const bracket of [/\(([^()]*)\)/g, /\[([^[\]]*)\]/g, /<([^<>]*)>/g]) {
    masked = masked.replace(bracket, (_, inner: string) => {
      notes.push(inner === '' && bracket.source.startsWith('\\[') ? 'list' : inner);
      return ` ${OPEN}${notes.length - 1}${CLOSE} `;
    });
  }
  const found = masked.matchAll(
    /\uE000(\d+)\uE001|[\p{L}\p{N}_][\p{L}\p{N}\p{M}_'+#.-]*|[,:]|\//gu,
  );
  return [...found].map(match => {
    const [text, note] = match;
    if (note !== undefined) {
      const inner = notes[Number(note)] ?? '';
      return { kind: 'note', text: inner, lower: inner.toLowerCase() };
    }
    if (text === ',' || text === '/') return { kind: 'comma', text: ',', lower: ',' };
    if (text === ':') return { kind: 'colon', text, lower: text };
    return { kind: 'word', text, lower: text.toLowerCase() };
  });
}
