/** Tool lists on the disk. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { test } from 'node:test';
import { tempDir } from '../test-world.ts';
import { createToolCache } from './tool-cache.ts';

test('the list of another version of a server goes, and those of other servers stay', async t => {
  const folder = await tempDir(t);
  const cache = createToolCache(folder);
  for (const [server, version] of [
    ['git', '1'],
    ['git2', '1'],
    ['git', '2'],
  ] as const) {
    await cache.write(server, version, []);
  }
  assert.deepEqual((await readdir(folder)).sort(), ['git2@1.json', 'git@2.json']);
  assert.equal(await cache.read('git', '1'), null);
  assert.deepEqual(await cache.read('git', '2'), []);
});
