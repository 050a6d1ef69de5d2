/**
 * Characters that a reader does not see but that change what is read: controls and escapes, marks of
 * direction, blanks without width. Foreign text can use them to look like something else.
 *
 * H1  The time is linear in the length: a sequence is looked for up to the next escape only.
 */

/** Command and string sequences of terminals, in their 7-bit and 8-bit forms; a string where it ends. */
export const ESCAPE_SEQUENCES = new RegExp(
  [
    String.raw`(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]`,
    String.raw`(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\x9d\x90\x98\x9e\x9f]*(?:\x07|\x1b\\|\x9c)`,
    String.raw`\x1b[ -/]*[0-Z\\^-~]`,
  ].join('|'),
  'g',
);

/**
 * What Unicode counts as control (C0, C1, a lone carriage return), format (bidirectional, zero-width),
 * line separator or half a character. Line breaks and tabs are what they are.
 */
export const UNSEEN = /(?![\n\t])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

export const withoutHidden = (text: string): string =>
  text.replace(ESCAPE_SEQUENCES, '').replace(UNSEEN, '');
