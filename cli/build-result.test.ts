/** The summary of a build tells of its own project, whatever the person's git is told to look at. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { historyOf } from './build-result.ts';

const git = (cwd: string, ...args: string[]): void => {
  const env = { PATH: process.env['PATH'], HOME: cwd, GIT_CONFIG_NOSYSTEM: '1' };
  const who = ['-c', 'user.name=a', '-c', 'user.email=a@b', '-c', 'init.defaultBranch=main'];
  execFileSync('git', [...who, ...args], { cwd, env });
};

test('the log is that of the project, not of the repository that GIT_DIR names', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'codegod-history-'));
  t.after(() => rmSync(folder, { recursive: true }));
  for (const name of ['other', 'project']) {
    git(folder, 'init', '-q', name);
    git(join(folder, name), 'commit', '-q', '--allow-empty', '-m', `of the ${name}`);
  }
  process.env['GIT_DIR'] = join(folder, 'other', '.git');
  t.after(() => {
    Reflect.deleteProperty(process.env, 'GIT_DIR');
  });
  assert.match((await historyOf(join(folder, 'project'))).join('\n'), /of the project/);
  // A folder that is no repository shows none above it either.
  assert.match((await historyOf(join(folder, 'project', '.git', 'info'))).join('\n'), /not a git/);
});
