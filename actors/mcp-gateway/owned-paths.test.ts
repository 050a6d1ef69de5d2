/** Goal: a task owns exactly what its globs say. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pathsOutside } from './owned-paths.ts';

const owned = (path: string, ...globs: string[]) => pathsOutside([path], globs).length === 0;

test('stars stay in their segment, double stars do not, a folder owns what is below', () => {
  assert.ok(owned('src/a.js', 'src/*.js'));
  assert.ok(!owned('src/a/b.js', 'src/*.js'));
  assert.ok(owned('src/a/b/c.js', 'src/**'));
  assert.ok(owned('src/c.test.js', 'src/**/*.test.js'));
  assert.ok(owned('src/a/b/c.test.js', 'src/**/*.test.js'));
  assert.ok(owned('README.md', '**'));
  assert.ok(owned('src/a/b.js', 'src'));
  assert.ok(owned('src/a/b.js', 'src/'));
  assert.ok(!owned('srcx/a.js', 'src'));
  assert.ok(!owned('src.js', 'src/**'));
});

test('everything else in a glob is literal', () => {
  assert.ok(owned('a+(b).js', 'a+(b).js'));
  assert.ok(!owned('aab.js', 'a+b.js'));
  assert.ok(!owned('axjs', 'a.js'));
  assert.ok(owned('[id].tsx', '[id].tsx'));
  assert.ok(owned('a1.js', 'a?.js'));
});
