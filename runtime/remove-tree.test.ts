/** Leftovers of checks are removed whatever they are, and never stop anything. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { silentLogger } from './log.ts';
import { emptyFolder, removeTree } from './remove-tree.ts';

async function tempDir(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'codegod-remove-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

async function write(root: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
  }
}

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
