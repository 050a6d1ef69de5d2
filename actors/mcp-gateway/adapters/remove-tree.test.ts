/** Leftovers of checks are removed whatever they are, and never stop anything. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { silentLogger } from '../../../runtime/log.ts';
import { tempDir, write } from '../test-world.ts';
import { emptyFolder, removeTree } from './remove-tree.ts';

/** Deeper than any path may be long: every folder is made from within the one above. */
function nest(folder: string, depth: number): void {
  const script = `import os,sys
os.chdir(sys.argv[1])
for _ in range(int(sys.argv[2])):
    os.mkdir('deep'); os.chdir('deep')
open('file', 'w').close()`;
  execFileSync('python3', ['-c', script, folder, String(depth)]);
}

test('three thousand nested folders are removed', async t => {
  const folder = join(await tempDir(t), 'work');
  await mkdir(folder);
  nest(folder, 3_000);
  await removeTree(folder, silentLogger);
  assert.equal(existsSync(folder), false);
  assert.deepEqual(readdirSync(join(folder, '..')), []);
});

test('folders that nobody may write are removed, and what links point to stays', async t => {
  const root = await tempDir(t);
  const folder = join(root, 'work');
  await write(root, { 'kept/file': 'x', 'work/a/b/c': 'x' });
  await symlink(join(root, 'kept'), join(folder, 'link'));
  await chmod(join(folder, 'a'), 0o500);
  await chmod(folder, 0o500);
  await removeTree(folder, silentLogger);
  assert.deepEqual(readdirSync(root), ['kept']);
  assert.deepEqual(readdirSync(join(root, 'kept')), ['file']);
});

test('a folder is empty after a start, whatever lay in it', async t => {
  const root = await tempDir(t);
  const folder = join(root, 'scratch');
  await write(root, { 'scratch/check-1/a': 'x' });
  nest(folder, 3_000);
  await chmod(folder, 0o500);
  await emptyFolder(folder, silentLogger);
  assert.deepEqual(readdirSync(folder), []);
  await writeFile(join(folder, 'new'), '');
  await emptyFolder(folder, silentLogger);
  assert.deepEqual(readdirSync(root), ['scratch']);
});
