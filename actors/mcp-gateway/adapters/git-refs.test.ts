/** Goal: a reference means the same to us as to git, however the repository keeps it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TEST_PATH, tempDir } from '../test-world.ts';
import { createGit, type Git } from './git.ts';
import { moveRef, resolveRef } from './git-refs.ts';

test('a reference is found loose, packed and behind another; what is none is null', async t => {
  const calls: string[] = [];
  const real = createGit({ path: TEST_PATH, now: Date.now });
  const git: Git = {
    ...real,
    run: (place, args, options) => {
      calls.push(args[0] ?? '');
      return real.run(place, args, options);
    },
  };
  const gitDir = await tempDir(t);
  const place = { gitDir };
  await git.run(null, ['init', '--quiet', '--bare', gitDir]);
  const tree = await git.text(place, ['mktree'], { input: '' });
  const commit = await git.text(place, ['commit-tree', '-m', 'one', tree]);
  await moveRef(git, place, 'refs/heads/main', { from: null, to: commit });
  await git.run(place, ['symbolic-ref', 'refs/heads/other', 'refs/heads/main']);
  calls.length = 0;
  assert.equal(await resolveRef(git, place, 'refs/heads/main'), commit);
  assert.deepEqual(calls, [], 'git was asked for what stands in a file');
  assert.equal(await resolveRef(git, place, 'refs/heads/other'), commit);
  await git.run(place, ['pack-refs', '--all']);
  assert.equal(await resolveRef(git, place, 'refs/heads/main'), commit);
  for (const none of ['refs/heads/main^', 'refs/heads/nothing', 'refs/heads']) {
    assert.equal(await resolveRef(git, place, none), null, none);
  }
});
