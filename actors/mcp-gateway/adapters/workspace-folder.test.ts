/**
 * Goal: what a person has in a project's folder is never written over, and named where it is in the
 * way; with real git. Method: an attempt changes files, a person was there before, the merge comes.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { chmod, mkdir, readFile, rename, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { CodeGodError, toWireError } from '../../../protocol/errors.ts';
import { isHeldUp } from '../../../protocol/workspace.ts';
import { gitIn, scopeOf, tempDir, workspaceWorld, write } from '../test-world.ts';
import { createWorkspaces } from './workspace.ts';

const OLD = { 'a.js': 'old\n', 'gone.js': 'gone\n', 'deep/b.js': 'old b\n', 'other.js': 'other\n' };

/** A project with OLD on main, and an attempt that changes, removes and adds. */
async function projectWithChange(t: TestContext) {
  const world = await workspaceWorld(t);
  await world.attempt(scopeOf('first'), OLD);
  await world.workspaces.merge(scopeOf('first'));
  const { path: worktree } = await world.workspaces.open(scopeOf('next'));
  await rm(join(worktree, 'gone.js'));
  await world.attempt(scopeOf('next'), {
    ...{ 'a.js': 'new\n', 'deep/b.js': 'new b\n', 'secret/key.js': 'new key\n' },
  });
  const merge = () => world.workspaces.merge(scopeOf('next'));
  return { ...world, merge };
}

const text = (...path: string[]): Promise<string> => readFile(join(...path), 'utf8');

async function refused(
  world: Awaited<ReturnType<typeof projectWithChange>>,
  named: RegExp,
): Promise<void> {
  const before = await gitIn(world.path, 'rev-parse', 'main');
  const status = await gitIn(world.path, 'status', '--porcelain', '--ignored');
  await assert.rejects(world.merge(), (error: unknown) => {
    assert.ok(error instanceof CodeGodError && isHeldUp(toWireError(error)), String(error));
    assert.match(error.message, named);
    assert.match(error.message, /codegod retry b7/);
    return true;
  });
  assert.equal(await gitIn(world.path, 'rev-parse', 'main'), before);
  assert.equal(await gitIn(world.path, 'status', '--porcelain', '--ignored'), status);
}

/** What a person did, how it is named, and what they do about it. */
const CASES: Record<
  string,
  {
    readonly does: (path: string) => Promise<unknown>;
    readonly named: RegExp;
    readonly kept: (path: string) => Promise<unknown>;
    readonly tidies: (path: string) => Promise<unknown>;
  }
> = {
  'a file that was edited': {
    does: path => write(path, { 'a.js': 'mine' }),
    named: /in the way: a\.js;/,
    kept: async path => assert.equal(await text(path, 'a.js'), 'mine'),
    tidies: path => gitIn(path, 'checkout', 'a.js'),
  },
  'a file that was edited, and that main loses': {
    does: path => write(path, { 'gone.js': 'mine' }),
    named: /gone\.js/,
    kept: async path => assert.equal(await text(path, 'gone.js'), 'mine'),
    tidies: path => rename(join(path, 'gone.js'), join(path, 'mine.js')),
  },
  'a file that was removed': {
    does: path => rm(join(path, 'a.js')),
    named: /a\.js/,
    kept: async path => assert.ok(!existsSync(join(path, 'a.js'))),
    tidies: path => gitIn(path, 'checkout', 'a.js'),
  },
  'an edit that is only staged': {
    async does(path) {
      await write(path, { 'a.js': 'staged' });
      await gitIn(path, 'add', 'a.js');
      await write(path, { 'a.js': OLD['a.js'] });
    },
    named: /a\.js/,
    kept: async path => assert.equal(await gitIn(path, 'show', ':a.js'), 'staged'),
    tidies: path => gitIn(path, 'reset', '-q'),
  },
  'a mode that was changed': {
    does: path => chmod(join(path, 'a.js'), 0o755),
    named: /a\.js/,
    kept: async path => assert.match(await gitIn(path, 'diff', '--summary'), /=> 100755/),
    tidies: path => chmod(join(path, 'a.js'), 0o644),
  },
  'an untracked folder with a file of that name': {
    does: path => write(path, { 'secret/key.js': 'mine', 'secret/more.js': 'mine' }),
    named: /in the way: secret\/key\.js;/,
    kept: async path => assert.equal(await text(path, 'secret/key.js'), 'mine'),
    tidies: path => rm(join(path, 'secret/key.js')),
  },
  'an ignored file': {
    async does(path) {
      await write(path, { '.git/info/exclude': 'secret\n', 'secret/key.js': 'mine' });
    },
    named: /secret\/key\.js/,
    kept: async path => assert.equal(await text(path, 'secret/key.js'), 'mine'),
    tidies: path => rm(join(path, 'secret/key.js')),
  },
  'a file where a folder comes': {
    does: path => write(path, { secret: 'mine' }),
    named: /in the way: secret;/,
    kept: async path => assert.equal(await text(path, 'secret'), 'mine'),
    tidies: path => rm(join(path, 'secret')),
  },
  'a folder where a file comes': {
    does: path => write(path, { 'secret/key.js/mine.txt': 'mine' }),
    named: /secret\/key\.js\/mine\.txt/,
    kept: async path => assert.equal(await text(path, 'secret/key.js/mine.txt'), 'mine'),
    // An empty folder is nobody's work.
    tidies: path => rm(join(path, 'secret/key.js/mine.txt')),
  },
  'a folder that is a link now': {
    async does(path) {
      await rename(join(path, 'deep'), join(path, 'elsewhere'));
      await symlink('elsewhere', join(path, 'deep'));
    },
    named: /in the way: deep;/,
    kept: async path => assert.equal(await text(path, 'elsewhere/b.js'), 'old b\n'),
    async tidies(path) {
      await rm(join(path, 'deep'));
      await rename(join(path, 'elsewhere'), join(path, 'deep'));
    },
  },
  'a file that is a link now': {
    async does(path) {
      await rm(join(path, 'a.js'));
      await symlink('other.js', join(path, 'a.js'));
    },
    named: /a\.js/,
    kept: async path => assert.equal(await text(path, 'a.js'), OLD['other.js']),
    async tidies(path) {
      await rm(join(path, 'a.js'));
      await gitIn(path, 'checkout', 'a.js');
    },
  },
};

for (const [what, { does, named, kept, tidies }] of Object.entries(CASES)) {
  test(`in the way of a merge: ${what}`, async t => {
    const world = await projectWithChange(t);
    const { path, build, workspaces } = world;
    await does(path);
    await refused(world, named);
    await kept(path);
    await workspaces.finish({ build });
    await kept(path);
    await tidies(path);
    assert.ok((await world.merge()).merged, 'also after the attempts of the build are gone');
    assert.equal(await text(path, 'a.js'), 'new\n');
    assert.equal(await text(path, 'secret/key.js'), 'new key\n');
    assert.ok(!existsSync(join(path, 'gone.js')));
    assert.equal(await gitIn(path, 'diff', 'HEAD'), '');
    const refs = await gitIn(path, 'for-each-ref', '--format=%(refname)');
    assert.doesNotMatch(refs, /codegod\/(kept|shown)/);
  });
}

test('edits elsewhere stay through merges, repetitions and the end', async t => {
  const { path, merge, workspaces, build } = await projectWithChange(t);
  await write(path, { 'other.js': 'mine', 'new.txt': 'mine', 'staged.txt': 'mine' });
  await gitIn(path, 'add', 'staged.txt');
  await gitIn(path, 'branch', 'mine');
  await merge();
  await write(path, { 'a.js': 'edited after the merge' });
  await merge();
  await workspaces.finish({ build });
  assert.equal(await text(path, 'a.js'), 'edited after the merge');
  const status = await gitIn(path, 'status', '--porcelain');
  assert.deepEqual(status.split('\n').sort(), [
    ...[' M a.js', ' M other.js', '?? new.txt', 'A  staged.txt'],
  ]);
  assert.equal(await text(path, 'deep/b.js'), 'new b\n');
  assert.ok(await gitIn(path, 'rev-parse', 'mine'), 'so does a branch');
});

test('an edit that says what the merge brings is not in its way', async t => {
  const { path, merge } = await projectWithChange(t);
  await write(path, { 'a.js': 'new\n', 'secret/key.js': 'new key\n' });
  await merge();
  assert.equal(await gitIn(path, 'status', '--porcelain'), '');
});

test('an edit that a person commits is merged with the work that waited', async t => {
  const world = await projectWithChange(t);
  const { path, merge } = world;
  await write(path, { 'a.js': 'new\n', 'other.js': 'theirs\n', 'deep/b.js': 'theirs\n' });
  await refused(world, /deep\/b\.js/);
  await gitIn(path, 'checkout', 'deep/b.js');
  await gitIn(path, 'commit', '--quiet', '--all', '-m', 'Mine');
  await merge();
  assert.equal(await text(path, 'other.js'), 'theirs\n');
  assert.equal(await gitIn(path, 'status', '--porcelain'), '');
});

for (const args of [
  ['checkout', '-q', '-b', 'mine'],
  ['checkout', '-q', '--detach'],
]) {
  test(`a folder that shows something else is left alone: ${args.join(' ')}`, async t => {
    const { path, merge, workspaces, build } = await projectWithChange(t);
    await gitIn(path, ...args);
    await write(path, { 'a.js': 'mine' });
    const head = await gitIn(path, 'rev-parse', 'HEAD');
    await merge();
    await workspaces.finish({ build });
    assert.equal(await text(path, 'a.js'), 'mine');
    assert.equal(await gitIn(path, 'rev-parse', 'HEAD'), head);
    assert.equal(await gitIn(path, 'show', 'main:a.js'), 'new');
    await gitIn(path, 'checkout', '-q', 'a.js');
    await gitIn(path, 'checkout', '-q', 'main');
    await merge();
    assert.equal(await gitIn(path, 'status', '--porcelain'), '');
  });
}

test('a folder where a file was, and a file where a folder was', async t => {
  const { path, attempt, workspaces } = await workspaceWorld(t);
  await attempt(scopeOf('first'), { one: 'file\n', 'two/deep/file.js': 'file\n' });
  await workspaces.merge(scopeOf('first'));
  const { path: worktree } = await workspaces.open(scopeOf('next'));
  await rm(join(worktree, 'one'));
  await rm(join(worktree, 'two'), { recursive: true });
  await attempt(scopeOf('next'), { 'one/deep/file.js': 'new\n', two: 'new\n' });
  await mkdir(join(path, 'two/empty'));
  await workspaces.merge(scopeOf('next'));
  assert.equal(await text(path, 'two'), 'new\n');
  assert.equal(await gitIn(path, 'status', '--porcelain'), '');
});

test('line ends and odd names are those of git', async t => {
  const { path, attempt, workspaces } = await workspaceWorld(t);
  const odd = 'ü "quoted" \\ back.txt';
  await attempt(scopeOf('first'), {
    ...{ '.gitattributes': '*.txt text eol=crlf\n', 'a.txt': 'one\n', [odd]: 'one\n' },
  });
  await workspaces.merge(scopeOf('first'));
  assert.equal(await text(path, odd), 'one\r\n');
  await attempt(scopeOf('next'), { 'a.txt': 'two\n', [odd]: 'two\n' });
  await workspaces.merge(scopeOf('next'));
  assert.equal(await text(path, 'a.txt'), 'two\r\n');
  assert.equal(await gitIn(path, 'status', '--porcelain'), '');
});

test('killed before any step of git or after it, with edits of a person: nothing of them is lost', async t => {
  for (let step = 0; ; step++) {
    const world = await projectWithChange(t);
    const { path, git, roots, merge } = world;
    await write(path, { 'other.js': 'mine' });
    let left = step;
    const dies = async (): Promise<void> => {
      left -= 1;
      if (left < 0) throw new Error('killed');
    };
    const run: typeof git.run = async (...args) => {
      await dies();
      const result = await git.run(...args);
      await dies();
      return result;
    };
    const asText: typeof git.text = async (...args) => {
      await dies();
      return await git.text(...args);
    };
    const mortal = createWorkspaces({ run, text: asText }, roots);
    const cameThrough = await mortal.merge(scopeOf('next')).then(
      () => true,
      (error: unknown) => {
        assert.match(String(error), /killed/);
        return false;
      },
    );
    assert.ok((await merge()).merged);
    assert.equal(await gitIn(path, 'status', '--porcelain'), ' M other.js', `killed at ${step}`);
    assert.equal(await text(path, 'other.js'), 'mine');
    const log = await gitIn(path, 'log', '--format=%s', 'main');
    assert.equal(log, 'Do next\nDo first\nStart todo');
    if (cameThrough) return;
  }
});

test('what a person writes between a kill and the next call stays and is named', async t => {
  const { path, git, roots, merge, workspaces, attempt, build } = await projectWithChange(t);
  const run: typeof git.run = async (place, args, options) => {
    if (args[0] === 'checkout-index') throw new Error('killed');
    return await git.run(place, args, options);
  };
  await assert.rejects(createWorkspaces({ ...git, run }, roots).merge(scopeOf('next')), /killed/);
  await write(path, { 'a.js': 'mine' });
  assert.ok((await merge()).merged, 'main has moved: that is so');
  await workspaces.finish({ build });
  assert.equal(await text(path, 'a.js'), 'mine');
  assert.equal(await text(path, 'deep/b.js'), 'new b\n');
  await attempt(scopeOf('last'), { 'last.js': 'last\n' });
  await assert.rejects(workspaces.merge(scopeOf('last')), /in the way: a\.js;/);
  await gitIn(path, 'checkout', 'HEAD', 'a.js');
  assert.ok((await workspaces.merge(scopeOf('last'))).merged);
  assert.equal(await gitIn(path, 'status', '--porcelain'), '');
});

test('a project that a release before was killed in is brought to main', async t => {
  const { path, attempt, workspaces } = await workspaceWorld(t);
  const { commit } = await attempt(scopeOf('a'), { 'a.js': '1' });
  await gitIn(path, 'update-ref', 'refs/heads/main', commit);
  await workspaces.merge(scopeOf('a'));
  assert.equal(await gitIn(path, 'status', '--porcelain'), '');
});

test('a worktree of a person stays when the build ends', async t => {
  const { path, merge, workspaces, build } = await projectWithChange(t);
  const theirs = join(await tempDir(t), 'theirs');
  await gitIn(path, 'worktree', 'add', '-q', '-b', 'mine', theirs);
  await merge();
  await workspaces.finish({ build });
  assert.equal(await gitIn(theirs, 'status', '--porcelain', '--branch'), '## mine');
});
