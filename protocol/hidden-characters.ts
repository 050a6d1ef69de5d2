/**
 * Characters that a reader does not see but that change what is read: controls and escapes, marks of
 * direction, blanks without width. Foreign text can use them to look like something else.
 */

/** All of that kind but line breaks and tabs. */
const HIDDEN = /(?![\n\t])\p{Cc}|\p{Cf}|[\u2028\u2029\u115f\u1160\u3164\uffa0]/gu;

const ESC = String.fromCharCode(0x1b);
const BEL = String.fromCharCode(0x07);
/** An escape sequence as a whole, so that its printable part does not stay behind. */
const ESCAPES = new RegExp(
  [
    `${ESC}\\[[0-?]{0,64}[ -/]{0,8}[@-~]`,
    `${ESC}[\\]PX^_][^${BEL}${ESC}]{0,4096}(?:${BEL}|${ESC}\\\\)?`,
    `${ESC}[ -/]{0,8}[0-~]`,
  ].join('|'),
  'g',
);

export const withoutHidden = (text: string): string =>
  text.replace(ESCAPES, '').replace(HIDDEN, '');
