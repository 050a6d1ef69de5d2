/** The measure behind every "did you mean". */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { editDistance } from './edit-distance.ts';

test('letters inserted, removed and replaced are counted', () => {
  assert.equal(editDistance('', ''), 0);
  assert.equal(editDistance('port', 'prot'), 2);
  assert.equal(editDistance('write_file', 'writefile'), 1);
  assert.equal(editDistance('', 'abc'), 3);
  assert.equal(editDistance('kitten', 'sitting'), 3);
});

test('it is the same both ways, and 0 only for equal texts', () => {
  const word = fc.string({ maxLength: 20 });
  fc.assert(
    fc.property(word, word, (one, other) => {
      assert.equal(editDistance(one, other), editDistance(other, one));
      assert.equal(editDistance(one, other) === 0, one === other);
    }),
  );
});
