/**
 * Text of others, such as prompts, titles, output of checks and what joined machines say of
 * themselves, as a terminal may show it: letters, and nothing that the terminal acts on or hides.
 *
 * C1  Whole escape sequences go without a trace, since output that was coloured reads well without.
 *     Every other control or invisible character is shown as `�`: who looks sees that there is one.
 *     That is what Unicode counts as control (C0, C1, a lone carriage return), format (bidirectional,
 *     zero-width), line separator or half a character.
 * C2  The time is linear in the length: a sequence is looked for up to the next escape only.
 */

/** Command and string sequences, in their 7-bit and 8-bit forms; a string only where it ends. */
const SEQUENCES = new RegExp(
  [
    String.raw`(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]`,
    String.raw`(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\x9d\x90\x98\x9e\x9f]*(?:\x07|\x1b\\|\x9c)`,
    String.raw`\x1b[ -/]*[0-Z\\^-~]`,
  ].join('|'),
  'g',
);
/** Line breaks and tabs are what they are. */
const UNSEEN = /(?![\n\t])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

export function cleanText(text: string): string {
  return text.replaceAll('\r\n', '\n').replace(SEQUENCES, '').replace(UNSEEN, '�');
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
