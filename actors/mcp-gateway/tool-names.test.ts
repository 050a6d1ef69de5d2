/** Goal: spelling is forgiven, guessing is not done. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nearestNames } from './nearest-names.ts';
import { findTool, renameArguments, splitToolId } from './tool-names.ts';

const SERVERS = ['filesystem', 'git', 'sequential-thinking', 'fetch'];
const GIT = ['git_add', 'git_status', 'git_commit'];

test('server and tool are told apart in every known spelling', () => {
  const split = (server: string, tool: string) => splitToolId({ server, tool }, SERVERS);
  const expected = { server: 'git', tool: 'git_add' };
  assert.deepEqual(split('git', 'git_add'), expected);
  assert.deepEqual(split('', 'git.git_add'), expected);
  assert.deepEqual(split('', 'git__git_add'), expected);
  assert.deepEqual(split('', 'git/git_add'), expected);
  assert.deepEqual(split('git', 'git.git_add'), expected);
  assert.deepEqual(split('', 'sequential_thinking.x'), {
    server: 'sequential-thinking',
    tool: 'x',
  });
  assert.deepEqual(split('git', 'filesystem.read'), { server: 'git', tool: 'filesystem.read' });
  assert.equal(split('', 'nothing.x').server, null);
  assert.equal(split('', 'write_file').server, null);
});

test('a tool is found by spelling, by its short name and by its old name, never by a guess', () => {
  assert.equal(findTool('git', 'Git_Add', GIT)?.tool, 'git_add');
  assert.equal(findTool('git', 'add', GIT)?.tool, 'git_add');
  assert.equal(findTool('git', 'gitCommit', GIT)?.tool, 'git_commit');
  assert.equal(findTool('git', 'ad', GIT), null);
  assert.equal(findTool('x', 'ab', ['a_b', 'a-b']), null);
  const html = findTool('fetch', 'fetch_html', ['fetch']);
  assert.deepEqual(html, { server: 'fetch', tool: 'fetch', implied: { raw: true } });
});

test('arguments get their right names, and a right one is never replaced', () => {
  const files = { files: { type: 'array' }, repo_path: {} };
  assert.deepEqual(renameArguments('git_add', { paths: ['a'] }, files), { files: ['a'] });
  assert.deepEqual(renameArguments('git_add', { file: 'a' }, files), { files: ['a'] });
  const write = { path: {}, content: {} };
  const both = { path: 'right', filename: 'wrong', text: 'x' };
  assert.deepEqual(renameArguments('write_file', both, write), {
    path: 'right',
    filename: 'wrong',
    content: 'x',
  });
  const thought = renameArguments(
    'sequentialthinking',
    { thought_number: 1 },
    { thoughtNumber: {} },
  );
  assert.deepEqual(thought, { thoughtNumber: 1 });
});

test('suggestions are the nearest names, and none where nothing is near', () => {
  assert.deepEqual(nearestNames('git_comit', GIT).slice(0, 1), ['git_commit']);
  assert.deepEqual(nearestNames('quantum', ['read', 'write']), []);
});
