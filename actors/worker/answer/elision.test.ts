/**
 * Goal: a file with a hole is never written, and a whole file is never refused for one line that
 * looks like a hole. Method: two collections of files in the languages that models write.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { findElision } from './elision.ts';
import { TO_DO } from './test-answers.ts';
import { HOLE_FILES } from './test-hole-files.ts';
import { WHOLE_FILES } from './test-whole-files.ts';

const FALSE_ALARMS_MAX = 0.02;
const MISSES_MAX = 0.05;

function filesOf(collection: string): { path: string; text: string }[] {
  return collection
    .split(/^=== /m)
    .slice(1)
    .map(part => {
      const newline = part.indexOf('\n');
      const text = part.slice(newline + 1).replaceAll('@@:', `${TO_DO}:`);
      return { path: part.slice(0, newline), text: text.replace(/@@ (?!-)/g, `${TO_DO} `) };
    });
}

describe('code that was left out', () => {
  const holes = filesOf(HOLE_FILES);
  const whole = filesOf(WHOLE_FILES);

  it('is looked for in sixty files and more, each way', () => {
    assert.ok(holes.length >= 60, `${holes.length} files with a hole`);
    assert.ok(whole.length >= 60, `${whole.length} whole files`);
  });
  it(`is found in all but ${MISSES_MAX * 100} % of the files with a hole`, () => {
    const missed = holes.filter(({ path, text }) => findElision(path, text) === null);
    const names = missed.map(({ path, text }) => `${path}\n${text}`).join('\n');
    assert.ok(missed.length <= holes.length * MISSES_MAX, names);
  });
  it(`is seen in no more than ${FALSE_ALARMS_MAX * 100} % of the whole files`, () => {
    const alarms = whole.map(({ path, text }) => findElision(path, text)).filter(Boolean);
    assert.ok(alarms.length <= whole.length * FALSE_ALARMS_MAX, alarms.join('\n'));
  });
  it('is named with its line', () => {
    assert.equal(
      findElision('src/a.js', 'one();\n// ... rest of the code\n'),
      'src/a.js line 2 leaves code out: // ... rest of the code',
    );
  });
});
