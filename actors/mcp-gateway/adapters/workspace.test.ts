/**
 * Goal: the life of a project on the disk, with real git: created, worked on in worktrees, merged,
 * archived; every step may be repeated, and a kill in its middle is mended by the next call.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ErrorCode } from '../../../protocol/error-codes.ts';
import { CodeGodError } from '../../../protocol/errors.ts';
import { runProgram } from '../../../runtime/run-program.ts';
import {
  gitIn,
  scopeOf,
  stampedScope,
  TEST_PATH,
  tempDir,
  workspaceWorld,
  write,
} from '../test-world.ts';
import { createGit } from './git.ts';
import type { CheckSyntax } from './syntax-check.ts';
import { createWorkspaces } from './workspace.ts';
import { workspaceRoots } from './workspace-place.ts';

const fails = (code: ErrorCode) => (error: unknown) =>
  error instanceof CodeGodError && error.code === code;

test('creating twice gives one project with one root commit', async t => {
  const { workspaces, build, path, head } = await workspaceWorld(t);
  const again = await workspaces.create({ build, name: 'another-name' });
  assert.deepEqual(again, { path, head });
  assert.equal(await gitIn(path, 'log', '--format=%s', 'main'), 'Start todo');
  assert.equal(await gitIn(path, 'status', '--porcelain'), '');
});

test('a creation that was killed in its middle is done over', async t => {
  const { workspaces, roots } = await workspaceWorld(t);
  await write(join(roots.scratch, 'create-b8'), { '.git/HEAD': 'half' });
  const { build } = scopeOf('store', 1, 'b8');
  const { path } = await workspaces.create({ build, name: 'shop' });
  assert.equal(await gitIn(path, 'log', '--format=%s', 'main'), 'Start shop');
});

test('builds whose ids share an ending do not find each other', async t => {
  const { workspaces, path } = await workspaceWorld(t);
  const other = await workspaces.create({ build: scopeOf('x', 1, 'b17').build, name: 'todo' });
  assert.notEqual(other.path, path);
  await assert.rejects(workspaces.open(scopeOf('store', 1, 'b77')), fails('not_found'));
});

test('opening twice gives the same worktree, and leaves what is in it', async t => {
  const { workspaces, head } = await workspaceWorld(t);
  const first = await workspaces.open(scopeOf());
  await write(first.path, { 'a.txt': 'kept' });
  assert.deepEqual(await workspaces.open(scopeOf()), first);
  assert.equal(first.base, head);
  assert.equal(await readFile(join(first.path, 'a.txt'), 'utf8'), 'kept');
});

test('a further turn finds whole files that are owned, and nothing else of the turn before', async t => {
  const { git, roots, attempt } = await workspaceWorld(t);
  const checkSyntax: CheckSyntax = async paths => {
    const broken = paths.filter(path => path.includes('broken'));
    return { error: broken.join(), broken, unchecked: [] };
  };
  const workspaces = createWorkspaces(git, roots, checkSyntax);
  await attempt(scopeOf('base'), { 'kept.md': 'as it was', 'src/broken.js': 'as it was' });
  await workspaces.merge(scopeOf('base'));
  const { path } = await workspaces.open(scopeOf());
  await write(path, {
    ...{ 'package.json/odd.txt': 'a folder', 'src/a.js': 'whole', 'src/broken.js': 'half' },
    ...{ 'kept.md': 'changed', 'foreign.txt': 'of others' },
  });
  await mkdir(join(path, 'index.html/deep'), { recursive: true });
  const owns = ['package.json', 'index.html', 'src/**'];
  await workspaces.open({ ...scopeOf(), turn: 2, owns });
  const files = (await readdir(path, { recursive: true })).filter(name => name !== '.git').sort();
  assert.deepEqual(files, ['kept.md', 'src', 'src/a.js', 'src/broken.js']);
  assert.equal(await readFile(join(path, 'kept.md'), 'utf8'), 'as it was');
  assert.equal(await readFile(join(path, 'src/broken.js'), 'utf8'), 'as it was');
  await write(path, { 'foreign.txt': 'of this turn' });
  await workspaces.open({ ...scopeOf(), turn: 2, owns });
  assert.equal(await readFile(join(path, 'foreign.txt'), 'utf8'), 'of this turn');
});

test('a worktree that cannot be mended is made anew for the next turn', async t => {
  const { workspaces } = await workspaceWorld(t);
  const { path } = await workspaces.open(scopeOf());
  await write(path, { 'a.js': 'of the turn before' });
  await rm(join(path, '.git'));
  await write(path, { 'nested/.git/HEAD': 'no repository' });
  await workspaces.open({ ...scopeOf(), turn: 2, owns: ['**'] });
  await write(path, { 'b.js': 'of this turn' });
  const request = { ...scopeOf(), title: 'Write', model: 'm', owns: ['**'] };
  assert.ok((await workspaces.commit(request)).files.includes('b.js'));
});

test('an opening that was killed in its middle is done over', async t => {
  const { workspaces, roots, path } = await workspaceWorld(t);
  await write(join(roots.worktrees, 'b7/store.1'), { 'torn.txt': 'half' });
  await mkdir(join(path, '.git/worktrees/store.1'), { recursive: true });
  await writeFile(join(path, '.git/worktrees/store.1/locked'), 'initializing');
  const opened = await workspaces.open(scopeOf());
  assert.deepEqual(await readdir(opened.path), ['.git']);
});

test('a commit carries the trailers, and the same request gives the same commit', async t => {
  const { attempt, path, head } = await workspaceWorld(t);
  const first = await attempt(scopeOf(), { 'src/store.js': 'one' });
  const again = await attempt(scopeOf(), {});
  assert.deepEqual(first, again);
  assert.deepEqual(first.files, ['src/store.js']);
  const message = await gitIn(path, 'log', '-1', '--format=%B', first.commit);
  assert.equal(message.trim(), 'Do store\n\nBuild: b7\nTask: store\nAttempt: 1\nModel: scaffold');
  assert.equal(await gitIn(path, 'rev-parse', `${first.commit}^`), head);
});

for (const [name, files, told] of [
  [
    'no encoding',
    { '.gitattributes': '* working-tree-encoding\n', 'a.js': 'x' },
    /no valid working/,
  ],
  [
    'an unknown one',
    { '.gitattributes': '*.js working-tree-encoding=NOPE\n', 'a.js': 'x' },
    /a\.js/,
  ],
  [
    'another one',
    { '.gitattributes': '*.js working-tree-encoding=UTF-16\n', 'a.js': 'x' },
    /UTF-8/,
  ],
] as const) {
  test(`files that git refuses are the answer's fault, in git's words: ${name}`, async t => {
    const { attempt } = await workspaceWorld(t);
    await assert.rejects(attempt(scopeOf(), files), error => {
      assert.ok(fails('answer_invalid')(error), String(error));
      assert.match((error as Error).message, /^cannot be committed: git says (fatal|error): /);
      assert.match((error as Error).message, told);
      return true;
    });
  });
}

test('a link under a name that git watches over is refused in its words', async t => {
  const { workspaces } = await workspaceWorld(t);
  const { path } = await workspaces.open(scopeOf());
  await symlink('/etc/passwd', join(path, '.gitmodules'));
  const request = { ...scopeOf(), title: 'Write', model: 'm', owns: ['**'] };
  await assert.rejects(workspaces.commit(request), error => {
    assert.ok(fails('answer_invalid')(error), String(error));
    return /invalid path '\.gitmodules'/.test((error as Error).message);
  });
});

test('a title cannot smuggle in a trailer', async t => {
  const { workspaces, path } = await workspaceWorld(t);
  const opened = await workspaces.open(scopeOf());
  await write(opened.path, { 'a.js': '1' });
  const title = 'x\n\nTask: other\nAttempt: 9';
  const made = await workspaces.commit({
    ...scopeOf(),
    title,
    model: 'm\nTask: other',
    owns: ['**'],
  });
  const body = await gitIn(
    path,
    'log',
    '-1',
    '--format=%(trailers:key=Task,valueonly)',
    made.commit,
  );
  assert.equal(body.trim(), 'store');
});

test('commits and branches that tools made become one commit on the base', async t => {
  const { workspaces, attempt, path, head } = await workspaceWorld(t);
  const opened = await workspaces.open(scopeOf());
  await write(opened.path, { 'a.js': '1' });
  await gitIn(opened.path, 'checkout', '-q', '-b', 'own-idea');
  await gitIn(opened.path, 'add', '.');
  await gitIn(opened.path, 'commit', '-q', '-m', 'by a tool');
  const made = await attempt(scopeOf(), { 'b.js': '2' });
  assert.deepEqual(made.files, ['a.js', 'b.js']);
  assert.equal(await gitIn(path, 'rev-parse', `${made.commit}^`), head);
  assert.equal(await gitIn(opened.path, 'status', '--porcelain', '--branch'), '## attempt/store.1');
});

test('files outside the owned globs are named and nothing is committed', async t => {
  const { attempt, path } = await workspaceWorld(t);
  const files = { 'src/a/store.js': '1', 'README.md': '2' };
  await assert.rejects(
    attempt(scopeOf(), files, ['src/**']),
    error => fails('outside_owned')(error) && /README\.md/.test(String(error)),
  );
  assert.equal(await gitIn(path, 'log', '--format=%s', 'attempt/store.1'), 'Start todo');
});

test('an attempt without a change, and one with a link, are refused', async t => {
  const { workspaces, attempt } = await workspaceWorld(t);
  await assert.rejects(attempt(scopeOf(), {}), fails('nothing_changed'));
  const opened = await workspaces.open(scopeOf('other'));
  await symlink('/etc/passwd', join(opened.path, 'link'));
  await assert.rejects(attempt(scopeOf('other'), {}), fails('denied'));
});

test('merged attempts form a line on main, one commit per task, trailers kept', async t => {
  const { workspaces, attempt, path } = await workspaceWorld(t);
  await attempt(scopeOf('a'), { 'a.js': '1' });
  await attempt(scopeOf('b'), { 'b.js': '2' });
  const [first, second] = await Promise.all([
    workspaces.merge(scopeOf('a')),
    workspaces.merge(scopeOf('b')),
  ]);
  assert.ok(first.merged && second.merged);
  const log = await gitIn(path, 'log', '--format=%s %P', 'main');
  assert.equal(log.split('\n').length, 3);
  assert.match(log, /^Do b [0-9a-f]{40}\nDo a [0-9a-f]{40}\nStart todo $/);
  assert.equal(await readFile(join(path, 'b.js'), 'utf8'), '2');
  assert.equal(await gitIn(path, 'status', '--porcelain'), '');
  assert.deepEqual(await workspaces.merge(scopeOf('a')), first);
  assert.equal(await gitIn(path, 'log', '--format=%s %P', 'main'), log);
});

test('a conflict names the files and leaves main and its folder as they were', async t => {
  const { workspaces, attempt, path } = await workspaceWorld(t);
  await attempt(scopeOf('a'), { 'same.js': 'one\n' });
  await attempt(scopeOf('b'), { 'same.js': 'two\n', 'fine.js': '' });
  await workspaces.merge(scopeOf('a'));
  const before = await gitIn(path, 'rev-parse', 'main');
  const merge = await workspaces.merge(scopeOf('b'));
  assert.deepEqual(merge, { merged: false, conflicts: ['same.js'] });
  assert.equal(await gitIn(path, 'rev-parse', 'main'), before);
  assert.equal(await gitIn(path, 'status', '--porcelain'), '');
});

test('a stale attempt and an uncommitted one are not merged', async t => {
  const { workspaces, attempt } = await workspaceWorld(t);
  await attempt(scopeOf('a', 1), { 'a.js': '1' });
  await attempt(scopeOf('a', 2), { 'a.js': '2' });
  await workspaces.merge(scopeOf('a', 2));
  await assert.rejects(workspaces.merge(scopeOf('a', 1)), fails('stale_attempt'));
  await workspaces.open(scopeOf('b'));
  await assert.rejects(workspaces.merge(scopeOf('b')), fails('conflict'));
});

test('a merge killed after its one atomic moment is completed by repeating it', async t => {
  const { workspaces, attempt, path } = await workspaceWorld(t);
  const { commit } = await attempt(scopeOf('a'), { 'a.js': '1', 'b/c.js': '2' });
  await gitIn(path, 'update-ref', 'refs/heads/main', commit);
  await write(path, { 'a.js': '1', '.git/index.lock': '' });
  const old = new Date(Date.now() - 60_000);
  await utimes(join(path, '.git/index.lock'), old, old);
  assert.deepEqual(await workspaces.merge(scopeOf('a')), { merged: true, commit });
  assert.equal(await readFile(join(path, 'a.js'), 'utf8'), '1');
  assert.equal(await gitIn(path, 'status', '--porcelain'), '');
});

test('a merge goes through over the locks of a killed git', async t => {
  const { workspaces, attempt, path } = await workspaceWorld(t);
  await attempt(scopeOf('a'), { 'a.js': '1' });
  await write(path, { '.git/refs/heads/main.lock': '', '.git/HEAD.lock': '' });
  assert.ok((await workspaces.merge(scopeOf('a'))).merged);
});

test('reading gives owned globs as text, without binary files and within the bytes', async t => {
  const { workspaces } = await workspaceWorld(t);
  const opened = await workspaces.open(scopeOf());
  await write(opened.path, { 'src/a.js': 'aaaa', 'src/b.js': 'ßßßß', 'bin.dat': '\0\0' });
  await symlink('/etc/passwd', join(opened.path, 'src/link.js'));
  const read = await workspaces.read({
    ...scopeOf(),
    paths: ['src/*.js', 'bin.dat', 'none.js'],
    bytes_max: 9,
  });
  assert.deepEqual(read.files, [
    { path: 'src/a.js', text: 'aaaa', truncated: false },
    { path: 'src/b.js', text: 'ßß', truncated: true },
  ]);
});

test('an archive is a clean clone: main only, no remote, no branches of attempts', async t => {
  const { workspaces, attempt, build } = await workspaceWorld(t);
  await attempt(scopeOf('a'), { 'a.js': 'text' });
  await attempt(scopeOf('b'), { 'b.js': 'never merged, secret-word' });
  await workspaces.merge(scopeOf('a'));
  const archive = await workspaces.archive({ build });
  const target = await tempDir(t);
  const timeoutMs = 60_000;
  const unpacked = await runProgram('tar', ['-xzf', archive.file, '-C', target], { timeoutMs });
  assert.equal(unpacked.failure, null);
  const clone = join(target, 'todo-b7');
  assert.equal(await gitIn(clone, 'status', '--porcelain', '--branch'), '## main');
  assert.equal(await gitIn(clone, 'for-each-ref', '--format=%(refname)'), 'refs/heads/main');
  assert.equal(await gitIn(clone, 'remote'), '');
  await gitIn(clone, 'fsck', '--strict');
  assert.equal(await gitIn(clone, 'count-objects'), '0 objects, 0 kilobytes');
  assert.deepEqual(archive.files, [{ path: 'a.js', size: 4 }]);
  assert.equal(archive.head, await gitIn(clone, 'rev-parse', 'HEAD'));
  await rm(archive.folder, { recursive: true });
});

test('finishing leaves the project with main alone; removing leaves nothing', async t => {
  const { workspaces, attempt, build, path, roots } = await workspaceWorld(t);
  await attempt(scopeOf('a'), { 'a.js': '1' });
  await workspaces.merge(scopeOf('a'));
  await workspaces.finish({ build });
  await workspaces.finish({ build });
  assert.equal(await gitIn(path, 'for-each-ref', '--format=%(refname)'), 'refs/heads/main');
  assert.equal(existsSync(join(roots.worktrees, 'b7')), false);
  assert.ok((await workspaces.merge(scopeOf('a'))).merged, 'a late repetition is still answered');
  await workspaces.remove({ build });
  await workspaces.remove({ build });
  assert.equal(existsSync(path), false);
});

test('a full disk is said as such and leaves main as it was', async t => {
  const folder = await tempDir(t);
  const mounted = await runProgram('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder], {
    timeoutMs: 10_000,
  });
  if (mounted.exitCode !== 0) return t.skip('mounting needs root');
  try {
    const { attempt, path, workspaces } = await workspaceWorld(t, folder);
    const opened = await workspaces.open(scopeOf('a'));
    await write(opened.path, { 'a.txt': randomText(600_000) });
    await assert.rejects(attempt(scopeOf('a'), {}), fails('disk_full'));
    assert.equal(await gitIn(path, 'log', '--format=%s', 'main'), 'Start todo');
  } finally {
    await runProgram('umount', ['-l', folder], { timeoutMs: 10_000 });
  }
  return undefined;
});

function randomText(length: number): string {
  let state = 1;
  let text = '';
  while (text.length < length) {
    state = (state * 48_271) % 2_147_483_647;
    text += state.toString(36);
  }
  return text;
}

test('a build of the same number after the bus lost its store gets a project of its own', async t => {
  const { workspaces, attempt, path, roots } = await workspaceWorld(t);
  await attempt(scopeOf(), { 'a.js': 'old' });
  await workspaces.merge(scopeOf());
  await write(path, { 'a.js': 'edited by a person' });
  const paths = new Set([path]);
  for (const stamp of ['aaaaaaaa', 'bbbbbbbb']) {
    const scope = stampedScope(stamp);
    const created = await workspaces.create({ ...scope, name: 'todo' });
    assert.equal((await workspaces.create({ ...scope, name: 'todo' })).path, created.path);
    paths.add(created.path);
    await attempt(scope, { 'a.js': stamp });
    await workspaces.merge(scope);
    assert.equal(await readFile(join(created.path, 'a.js'), 'utf8'), stamp);
    await workspaces.finish(scope);
  }
  assert.equal(paths.size, 3);
  assert.equal(await readFile(join(path, 'a.js'), 'utf8'), 'edited by a person');
  assert.ok(existsSync(join(roots.worktrees, 'b7')), 'the worktrees of the first are its own');
});

test("a person's folder that is named like a project is left alone", async t => {
  const { workspaces, roots } = await workspaceWorld(t);
  for (const [number, stamp] of [
    ['b8', 'aaaaaaaa'],
    ['b9', undefined],
  ] as const) {
    const theirs = join(roots.projects, `todo-${number}`);
    await write(theirs, { 'a.js': 'theirs' });
    await gitIn(theirs, 'init', '--quiet', '--initial-branch=main');
    await gitIn(theirs, 'add', '.');
    await gitIn(theirs, 'commit', '--quiet', '-m', 'Mine');
    const { build } = scopeOf('a', 1, number);
    const scope = stamp === undefined ? { build } : { ...stampedScope(stamp), build };
    if (stamp === undefined) {
      await assert.rejects(workspaces.create({ ...scope, name: 'todo' }), { code: 'conflict' });
    } else {
      const { path } = await workspaces.create({ ...scope, name: 'todo' });
      assert.equal(path, `${theirs}-${stamp}`);
    }
    assert.equal(await readFile(join(theirs, 'a.js'), 'utf8'), 'theirs');
    assert.equal(await gitIn(theirs, 'log', '--format=%s'), 'Mine');
  }
});

test('a project that an earlier release made, without a mark, is found by its first commit', async t => {
  const { workspaces, path, head, build } = await workspaceWorld(t);
  await gitIn(path, 'config', '--unset', 'codegod.build');
  const again = createWorkspaces(createGit({ path: TEST_PATH, now: () => Date.now() }), {
    ...workspaceRoots(join(path, '..', '..')),
  });
  assert.deepEqual(await again.create({ build, name: 'other' }), { path, head });
  const stamped = await workspaces.create({ ...stampedScope('aaaaaaaa'), name: 'todo' });
  assert.notEqual(stamped.path, path);
});
