/**
 * Text of others, such as prompts, titles, output of checks and what joined machines say of
 * themselves, as a terminal may show it: letters, and nothing that the terminal acts on or hides.
 *
 * C1  Whole escape sequences go without a trace, since output that was coloured reads well without.
 *     Every other character that is not seen is shown as `�`: who looks sees that there is one.
 */

import { ESCAPE_SEQUENCES, UNSEEN } from '../protocol/hidden-characters.ts';

export function cleanText(text: string): string {
  return text.replaceAll('\r\n', '\n').replace(ESCAPE_SEQUENCES, '').replace(UNSEEN, '�');
}

/** The same within one line. */
export const cleanLine = (text: string): string => cleanText(text).replace(/[\n\t]/g, ' ');

/** The same value in letters that a terminal shows: JSON leaves all but C0 as it is. */
export function cleanJson(value: unknown): string {
  return JSON.stringify(value).replace(UNSEEN, character => [...character].map(escaped).join(''));
}

const escaped = (character: string): string =>
  Array.from(
    { length: character.length },
    (_, index) => `\\u${character.charCodeAt(index).toString(16).padStart(4, '0')}`,
  ).join('');
