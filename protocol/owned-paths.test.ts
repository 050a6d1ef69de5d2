/** Who owns which file. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ownsPath, pathsOutside } from './owned-paths.ts';

test('literal paths, stars within a segment, double stars across', () => {
  const owned: readonly (readonly [string, string])[] = [
    ['src/store.js', 'src/store.js'],
    ['src/*.js', 'src/store.js'],
    ['src/**', 'src/a/b/c.js'],
    ['**', 'anything/at/all'],
    ['**/*.test.js', 'a.test.js'],
    ['**/*.test.js', 'test/deep/a.test.js'],
    ['src/**/index.js', 'src/index.js'],
    ['src', 'src/a/b.js'],
    ['src/', 'src/a.js'],
    ['a?c.js', 'abc.js'],
    ['a+b.js', 'a+b.js'],
  ];
  for (const [glob, path] of owned) assert.ok(ownsPath([glob], path), `${glob} owns ${path}`);
  const foreign: readonly (readonly [string, string])[] = [
    ['src/store.js', 'src/stores.js'],
    ['src/*.js', 'src/a/store.js'],
    ['src', 'srcs/a.js'],
    ['**/*.test.js', 'test/a.js'],
    ['a?c.js', 'ac.js'],
    ['a.b', 'aXb'],
    ['src/a/b.js', 'src/a'],
  ];
  for (const [glob, path] of foreign) assert.ok(!ownsPath([glob], path), `${glob} not ${path}`);
});

test('paths outside keep their order', () => {
  assert.deepEqual(pathsOutside(['b', 'a', 'src/x'], ['src']), ['b', 'a']);
});

test('a hostile glob takes no longer than a kind one', { timeout: 5_000 }, () => {
  const glob = 'a*'.repeat(100);
  assert.equal(ownsPath([glob], `${'a'.repeat(230)}!`), true);
  assert.equal(ownsPath([`${glob}b`], 'a'.repeat(230)), false);
  assert.equal(ownsPath([`${'**/'.repeat(60)}x`], `${'a/'.repeat(100)}y`), false);
});
