/** Text of others on a terminal: nothing of it is obeyed, and nothing hides. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { cleanJson, cleanLine, cleanText } from './clean-text.ts';

const ROWS: readonly (readonly [what: string, given: string, shown: string])[] = [
  ['colours', '\x1b[31mred\x1b[0m', 'red'],
  ['the screen cleared, the cursor moved', '\x1b[2J\x1b[Hpwned', 'pwned'],
  ['a title', '\x1b]0;title\x07text', 'text'],
  ['a link', '\x1b]8;;http://x\x1b\\here\x1b]8;;\x1b\\', 'here'],
  ['the clipboard, in 8-bit', '\x9d52;c;ZXZpbA==\x9ctext', 'text'],
  ['a device string', '\x1bP$qm\x1b\\text', 'text'],
  ['a reset', '\x1bctext', 'text'],
  ['8-bit colours', '\x9b31mred', 'red'],
  ['a string without an end hides nothing', '\x1b]0;title and more', '�]0;title and more'],
  ['an escape at the end', 'text\x1b', 'text�'],
  ['a line over another', 'failed\rpassed', 'failed�passed'],
  ["Windows' line ends", 'a\r\nb', 'a\nb'],
  ['bells and deletes', 'a\x07b\x08c\x7fd', 'a�b�c�d'],
  ['bidirectional', 'a\u202eb\u2066c\u200fd', 'a�b�c�d'],
  ['zero width', 'chat\u200b:8b\ufeff\u00ad', 'chat�:8b��'],
  ['tags and half characters', 'a\u{e0041}b\ud800c', 'a�b�c'],
  ['letters of all kinds', 'ü 漢字 😀 עברית\n\tx', 'ü 漢字 😀 עברית\n\tx'],
];

for (const [what, given, shown] of ROWS) {
  test(`${what}`, () => assert.equal(cleanText(given), shown));
}

test('a cell has no line of its own', () => {
  assert.equal(cleanLine('b1\nb2 succeeded\tx'), 'b1 b2 succeeded x');
});

test('whatever is given, no control character but line breaks and tabs is left', () => {
  const text = fc.string({
    unit: fc.constantFrom('\x1b', '\x9b', '[', ']', '\\', 'm', '\r', '\n', '\u202e', 'x', '\x07'),
  });
  fc.assert(
    fc.property(text, given => {
      assert.doesNotMatch(cleanText(given), /(?![\n\t])[\p{Cc}\p{Cf}\p{Cs}]/u);
    }),
  );
});

test('JSON keeps its value and is all letters', () => {
  const value = { a: '\x1b[31m\x9b\u202e\u{e0041}\ud800 ü' };
  assert.doesNotMatch(cleanJson(value), /[\p{Cc}\p{Cf}\p{Cs}]/u);
  assert.deepEqual(JSON.parse(cleanJson(value)), value);
});

test('a flood of openings is looked at once', () => {
  for (const piece of ['\x1b]', '\x1b[0', '\x1bP\x1b', '\x9d', '\x1b', '\x1b[;']) {
    const flood = piece.repeat(Math.ceil(2 ** 20 / piece.length)) + 'x'.repeat(2 ** 20);
    const before = process.cpuUsage();
    cleanText(flood);
    const { user } = process.cpuUsage(before);
    assert.ok(user < 5_000_000, `${JSON.stringify(piece)}: ${user / 1e6} s`);
  }
});
