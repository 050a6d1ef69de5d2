/**
 * Goal: a call does what is meant, only there where it may, and once. Method: real servers, a real
 * worktree with bait around it, and a journal that is cut off at chosen moments.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ErrorCode } from '../../../protocol/error-codes.ts';
import { CallId } from '../../../protocol/ids.ts';
import type { CallReply } from '../../../protocol/mcp.ts';
import type { Journal } from '../../../runtime/journal.ts';
import { sourcePath } from '../../../test/source-tree.ts';
import { CATALOG, configuredEntry } from '../catalog.ts';
import {
  callWorld,
  gitIn,
  requestOf,
  scopeOf,
  stampedScope,
  tempDir,
  toolsPython,
  write,
} from '../test-world.ts';

const ODD = sourcePath('actors/mcp-gateway/fixtures/odd-server.mjs');
const FILES = CATALOG.filter(entry => entry.name === 'filesystem');
const signal = new AbortController().signal;

function refused(reply: CallReply, code: ErrorCode) {
  assert.ok(!reply.ok, `it was done: ${JSON.stringify(reply)}`);
  assert.equal(reply.error.code, code, JSON.stringify(reply.error));
  return reply.error;
}

function done(reply: CallReply): string {
  assert.ok(reply.ok, JSON.stringify(reply));
  return JSON.stringify(reply.result);
}

test('a file is written into a folder that was not there, under every spelling', async t => {
  const { call, worktree } = await callWorld(t, { entries: FILES });
  const spellings = [
    ['filesystem', 'write_file', { path: 'a/b/1.txt', content: 'x' }],
    ['', 'filesystem.write_file', { path: './a/2.txt', content: 'x' }],
    ['', 'filesystem__write_file', { path: join(worktree, 'a/3.txt'), content: 'x' }],
    ['Filesystem', 'filesystem/writeFile', { file_path: 'a/4.txt', contents: 'x' }],
  ] as const;
  for (const [server, tool, args] of spellings) done(await call(server, tool, args));
  for (const path of ['a/b/1.txt', 'a/2.txt', 'a/3.txt', 'a/4.txt']) {
    assert.equal(await readFile(join(worktree, path), 'utf8'), 'x');
  }
});

test('unknown names are answered with the nearest, wrong arguments with the schema', async t => {
  const { call } = await callWorld(t, { entries: FILES });
  const server = refused(await call('file_sistem', 'x', {}), 'unknown_server');
  assert.deepEqual(server.did_you_mean, ['filesystem']);
  const tool = refused(await call('filesystem', 'write_fil', {}), 'unknown_tool');
  assert.equal(tool.did_you_mean[0], 'write_file');
  const args = refused(await call('filesystem', 'write_file', { path: 'a' }), 'invalid_arguments');
  assert.match(args.message, /required property 'content'/);
  assert.ok(args.expected_arguments);
  assert.deepEqual(args.received, { path: 'a' });
});

test('no path leads out of the worktree or into git', async t => {
  const { call, worktree, data } = await callWorld(t, { entries: FILES });
  await write(data, { secret: 'outside', 'worktrees/b7/store.1x/near.txt': 'sibling' });
  await symlink(data, join(worktree, 'way-out'));
  await symlink(`${worktree}x`, join(worktree, 'sibling'));
  await symlink(join(data, 'not-yet'), join(worktree, 'dangling'));
  const bad = [
    '../secret',
    'a/../../secret',
    `${worktree}/../secret`,
    `${worktree}x/near.txt`,
    join(data, 'secret'),
    'way-out/secret',
    'sibling/near.txt',
    'dangling',
    'dangling/x',
    'a\0b',
    'x'.repeat(10_000),
    `${'d/'.repeat(110)}${'y'.repeat(300)}`,
    'file:///etc/passwd',
    '/etc/passwd',
    '~/x',
    '-rf',
    '.git',
    '.GIT/config',
    'sub/.git/hooks/pre-commit',
    'a\\..\\b',
    '/',
  ];
  for (const path of bad) {
    refused(await call('filesystem', 'read_text_file', { path }), 'denied');
    refused(await call('filesystem', 'write_file', { path, content: 'evil' }), 'denied');
    const move = { source: path, destination: 'inside.txt' };
    refused(await call('filesystem', 'move_file', move), 'denied');
    refused(await call('filesystem', 'read_multiple_files', { paths: ['ok', path] }), 'denied');
  }
  assert.equal(existsSync(join(data, 'not-yet')), false);
  assert.equal(await readFile(join(data, 'secret'), 'utf8'), 'outside');
});

test('a pattern that the server could not try on every name in time is refused', async t => {
  const { call, worktree } = await callWorld(t, { entries: FILES });
  await write(worktree, { 'src/a.test.js': '1' });
  const found = await call('filesystem', 'search_files', {
    path: '.',
    pattern: 'src/**/*.{js,ts}',
  });
  assert.match(JSON.stringify(done(found)), /a\.test\.js/);
  const hostile = [
    '{a,b}'.repeat(24),
    '{1..100000000}',
    '*(*(*(*(a))))',
    '*a'.repeat(20),
    '**/'.repeat(20),
    '*'.repeat(5_000),
  ];
  for (const pattern of hostile) {
    const args = { path: '.', pattern };
    refused(await call('filesystem', 'search_files', args), 'invalid_arguments');
    const excluding = { path: '.', pattern: '*.js', excludePatterns: ['x', pattern] };
    refused(await call('filesystem', 'directory_tree', excluding), 'invalid_arguments');
  }
});

test('the filesystem server refuses by itself what is outside of all worktrees', async t => {
  const { servers } = await callWorld(t, { entries: FILES });
  const limits = { timeoutMs: 10_000 };
  const raw = await servers.call('filesystem', 'read_text_file', { path: '/etc/passwd' }, limits);
  assert.match(JSON.stringify(raw), /Access denied/);
});

test('git works in the worktree, with the repository filled in', async t => {
  const { call, worktree } = await callWorld(t, { python: await toolsPython() });
  await write(worktree, { 'a.js': '1', 'b.js': '2' });
  done(await call('git', 'git_add', { paths: ['a.js'] }));
  assert.match(done(await call('git', 'status', {})), /new file: {3}a\.js/);
  done(await call('git', 'git_commit', { message: '-m is fine here', repo_path: worktree }));
  assert.equal(await gitIn(worktree, 'log', '-1', '--format=%an %s'), 'Code-God -m is fine here');
  const hint = refused(await call('git', 'git_init', {}), 'unknown_tool');
  assert.match(hint.hint ?? '', /exists already/);
});

test('git takes no options, no paths outside, no other repository', async t => {
  const { call, worktree, path, data } = await callWorld(t, { python: await toolsPython() });
  await write(worktree, { 'a.js': '1' });
  for (const repo of ['/root/.ssh', path, join(data, 'worktrees'), '../other.1']) {
    refused(await call('git', 'git_status', { repo_path: repo }), 'denied');
  }
  for (const files of [['../../etc/passwd'], ['-A'], ['--all'], [':/'], ['.git/config']]) {
    refused(await call('git', 'git_add', { files }), 'denied');
  }
  const out = join(data, 'out');
  refused(await call('git', 'git_diff', { target: `--output=${out}` }), 'denied');
  refused(await call('git', 'git_checkout', { branch_name: '--help' }), 'denied');
  refused(await call('git', 'git_show', { revision: '-p' }), 'denied');
  refused(await call('git', 'git_log', { start_timestamp: '--output=x' }), 'denied');
  assert.equal(existsSync(out), false);
});

test('a .git file cannot be planted: git runs with the real one', async t => {
  const { call, worktree } = await callWorld(t, { entries: FILES });
  const content = 'gitdir: /tmp/evil';
  refused(await call('filesystem', 'write_file', { path: '.git', content }), 'denied');
  const edits = [{ oldText: 'gitdir', newText: 'evil' }];
  refused(await call('filesystem', 'edit_file', { path: '.git', edits }), 'denied');
  assert.match(await readFile(join(worktree, '.git'), 'utf8'), /projects\/todo-b7/);
});

test('only the public internet is fetched', async t => {
  const addresses = { 'inside.example': '10.1.2.3', 'six.example': '::1' };
  const { call } = await callWorld(t, { python: await toolsPython(), addresses });
  const bad = [
    'http://127.0.0.1/',
    'http://[::1]:80/',
    'http://0x7f.1/',
    'http://2130706433/',
    'http://169.254.169.254/latest/meta-data/',
    'http://[::ffff:10.0.0.1]/',
    'http://inside.example/',
    'http://six.example/',
    'http://user:word@93.184.216.34/',
    'file:///etc/passwd',
    'ftp://93.184.216.34/',
    'gopher://x',
    'not a url',
  ];
  for (const url of bad) {
    const reply = await call('fetch', 'fetch', { url });
    assert.ok(!reply.ok);
    assert.ok(['denied', 'invalid_arguments'].includes(reply.error.code), url);
  }
});

test('outside of a build only tools without effect and without files may be called', async t => {
  const { make } = await callWorld(t, { python: await toolsPython() });
  const callTool = make();
  const ask = (server: string, tool: string, args: object) => {
    const { scope: _, ...request } = requestOf(server, tool, args);
    return callTool(request, signal);
  };
  done(await ask('time', 'get_current_time', { timezone: 'UTC' }));
  refused(await ask('filesystem', 'read_text_file', { path: 'a' }), 'denied');
  refused(await ask('memory', 'create_entities', { entities: [] }), 'denied');
});

test('an attempt without an open worktree is not served', async t => {
  const { call } = await callWorld(t, { entries: FILES });
  const args = { path: 'a', content: 'b' };
  const scope = scopeOf('store', 9);
  refused(await call('filesystem', 'write_file', args, { scope }), 'not_found');
});

test('a failing tool is an error with its words; a large result is cut; keys are masked', async t => {
  const { call, worktree } = await callWorld(t, { entries: FILES });
  const absent = refused(await call('filesystem', 'read_text_file', { path: 'no' }), 'tool_failed');
  assert.match(absent.message, /ENOENT/);
  const key = `ghp_${'a1B2'.repeat(9)}`;
  await write(worktree, { 'big.txt': 'ß'.repeat(400_000), 'env.txt': `token=${key}` });
  const big = done(await call('filesystem', 'read_text_file', { path: 'big.txt' }));
  assert.ok(Buffer.byteLength(big) < 256 * 1024);
  assert.match(big, /\[cut: 400000 characters in all\]/);
  const masked = done(await call('filesystem', 'read_text_file', { path: 'env.txt' }));
  assert.equal(masked.includes(key), false);
  assert.match(masked, /token=\[masked\]/);
});

test('a repeated call is answered from the journal and not fired again', async t => {
  const { make, worktree } = await callWorld(t, { entries: FILES });
  const request = requestOf('filesystem', 'write_file', { path: 'a.txt', content: 'one' });
  const first = await make()(request, signal);
  await writeFile(join(worktree, 'a.txt'), 'changed since');
  const again = await make()(request, signal);
  assert.deepEqual(again, { ...first, replayed: true });
  assert.equal(await readFile(join(worktree, 'a.txt'), 'utf8'), 'changed since');
  const other = { ...request, arguments: { path: 'a.txt', content: 'two' } };
  refused(await make()(other, signal), 'conflict');
});

test('the same call asked for twice at once is fired once', async t => {
  const file = join(await tempDir(t), 'count');
  const { make } = await callWorld(t, { entries: [oddEntry('plain', file)] });
  const request = requestOf('odd', 'count', {});
  const callTool = make();
  const replies = await Promise.all([callTool(request, signal), callTool(request, signal)]);
  assert.deepEqual(replies.map(reply => reply.replayed).sort(), [false, true]);
  assert.equal(await readFile(file, 'utf8'), 'x');
});

function oddEntry(mode: string, file = '') {
  return configuredEntry('odd', { command: process.execPath, args: [ODD, mode, file] });
}

type KeptCalls = Pick<Journal, 'get' | 'put'>;

/** A journal whose process dies at the first record of a result. */
const dying = (journal: KeptCalls): KeptCalls => ({
  get: key => journal.get(key),
  put: async (key, value) => {
    if (Object(value).state === 'done') throw new Error('killed before the result was noted');
    await journal.put(key, value);
  },
});

test('died between firing and noting: the effect is found, or said to be unknown', async t => {
  const { make, journal, worktree } = await callWorld(t, { entries: FILES });
  const fired = async (id: string) => Object(await journal.get(`call.${id}`)).fired;
  const text = { path: 'deep/a.txt', content: 'one' };
  const written = requestOf('filesystem', 'write_file', text);
  await assert.rejects(make(dying(journal))(written, signal), /killed/);
  assert.match(done(await make()(written, signal)), /had been done/);
  assert.equal(await fired(written.call_id), 1);

  const lost = requestOf('filesystem', 'write_file', { path: 'b.txt', content: 'one' });
  await assert.rejects(make(dying(journal))(lost, signal), /killed/);
  await writeFile(join(worktree, 'b.txt'), 'somebody else');
  refused(await make()(lost, signal), 'outcome_unknown');
  refused(await make()(lost, signal), 'outcome_unknown');
  assert.equal(await fired(lost.call_id), 1);
  assert.equal(await readFile(join(worktree, 'b.txt'), 'utf8'), 'somebody else');

  const folder = requestOf('filesystem', 'create_directory', { path: 'made' });
  await assert.rejects(make(dying(journal))(folder, signal), /killed/);
  done(await make()(folder, signal));
  assert.equal(await fired(folder.call_id), 1);

  const read = requestOf('filesystem', 'read_text_file', { path: 'b.txt' });
  await assert.rejects(make(dying(journal))(read, signal), /killed/);
  assert.match(done(await make()(read, signal)), /somebody else/);
});

test('a server killed in mid-call: a tool with an effect is not fired again', async t => {
  const { make, journal } = await callWorld(t, { entries: [oddEntry('plain')] });
  const request = requestOf('odd', 'die', {});
  refused(await make()(request, signal), 'outcome_unknown');
  refused(await make()(request, signal), 'outcome_unknown');
  assert.equal(Object(await journal.get(`call.${request.call_id}`)).fired, 1);
});

test('a call that could not be fired may come again under its id', async t => {
  const file = join(await tempDir(t), 'refuse-to-start');
  const { make, call, journal, servers } = await callWorld(t, {
    entries: [oddEntry('exits_when_told', file)],
  });
  done(await call('odd', 'echo', {}));
  await call('odd', 'die', {});
  await writeFile(file, '');
  const request = requestOf('odd', 'count', {});
  const fired = async () => Object(await journal.get(`call.${request.call_id}`)).fired;
  refused(await make()(request, signal), 'server_down');
  assert.equal(await fired(), 0);
  await rm(file);
  servers.reset('odd');
  done(await make()(request, signal));
  assert.equal(await fired(), 1);
  assert.equal(await readFile(file, 'utf8'), 'x');
});

test('a link that is swapped in is caught at the next call', async t => {
  const { call, worktree, data } = await callWorld(t, { entries: FILES });
  await mkdir(join(worktree, 'dir'));
  done(await call('filesystem', 'write_file', { path: 'dir/a.txt', content: 'x' }));
  await symlink(data, join(worktree, 'dir/link'));
  refused(await call('filesystem', 'write_file', { path: 'dir/link/b', content: 'x' }), 'denied');
  assert.equal(existsSync(join(data, 'b')), false);
});

test('a call of a build of the same number is a call of its own', async t => {
  const { call, workspaces, worktree } = await callWorld(t, { entries: FILES });
  const extra = { call_id: CallId.parse('b7.store.1.1.0') };
  const args = { path: 'a.txt', content: 'x' };
  done(await call('filesystem', 'write_file', args, extra));
  const scope = stampedScope('aaaaaaaa');
  await workspaces.create({ ...scope, name: 'todo' });
  const { path } = await workspaces.open(scope);
  const second = await call('filesystem', 'write_file', args, { ...extra, scope });
  done(second);
  assert.ok(second.ok && !second.replayed);
  assert.equal(await readFile(join(path, 'a.txt'), 'utf8'), 'x');
  assert.notEqual(path, worktree);
});
