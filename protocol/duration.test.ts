/** Goal: a duration means what Ollama takes it for. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { secondsOf } from './duration.ts';

test('numbers are seconds, texts are those of Go, and anything below nothing is for good', () => {
  const meant: readonly (readonly [unknown, number | null])[] = [
    ...([
      [0, 0],
      [90, 90],
      [1.5, 1.5],
      [-1, -1],
      [-300, -1],
    ] as const),
    ...([
      ['0', 0],
      ['0s', 0],
      ['5m', 300],
      ['1h30m', 5_400],
      ['1.5h', 5_400],
      ['-1m', -1],
    ] as const),
    ...([
      ['300', 300],
      ['-1', -1],
      ['250ms', 0.25],
      ['+2s', 2],
      [' 2s ', 2],
    ] as const),
    ...([
      ['', null],
      ['soon', null],
      ['5m!', null],
      ['m', null],
      [null, null],
      [[], null],
    ] as const),
    ...([
      [Number.NaN, null],
      ['9'.repeat(99), null],
      ['5 m', null],
    ] as const),
  ];
  for (const [value, seconds] of meant) assert.equal(secondsOf(value), seconds, String(value));
});
