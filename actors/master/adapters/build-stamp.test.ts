/** A stamp is that of one stored message. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stampOf } from './build-stamp.ts';

const TIME = '2026-05-04T10:00:00.123Z';

test('a stamp is the same at every reading, however exactly the time is told', () => {
  assert.match(stampOf({ seq: 1, time: TIME }), /^[a-z2-7]{8}$/);
  assert.equal(
    stampOf({ seq: 1, time: TIME }),
    stampOf({ seq: 1, time: '2026-05-04T10:00:00.123456789Z' }),
  );
});

test('a message of the same number that was stored at another time has another stamp', () => {
  const stamps = [0, 1, 2, 3].map(ms => stampOf({ seq: 1, time: `2026-05-04T10:00:00.12${ms}Z` }));
  assert.equal(new Set([...stamps, stampOf({ seq: 2, time: TIME })]).size, 5);
});
