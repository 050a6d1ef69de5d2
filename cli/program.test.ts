/** The command line from outside: exit codes, the shapes of `--json`, what a person reads. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { systemClock } from '../runtime/clock.ts';
import { ensureDoorKey } from '../runtime/door-key.ts';
import { type Paths, sourceLoader } from '../runtime/paths.ts';
import { programOf } from '../test/source-tree.ts';
import { openHome, startFakeMaster, summary } from './test-world.ts';

test('a wrong command line is exit code 2, in words or as JSON', async t => {
  const home = openHome(t);
  for (const argv of [
    ['bulid'],
    ['show'],
    ['show', 'b0'],
    ['build'],
    ['build', 'x', '--stack', 'cobol'],
    ['build', 'x', '--timeout', 'soon'],
    ['build', 'x', '--name', 'Not A Slug'],
    ['build', '   '],
    ['logs', '--since', 'yesterday-ish'],
    ['up', '--sideways'],
  ]) {
    const said = await home.run(...argv);
    assert.equal(said.code, 2, argv.join(' '));
    assert.match(said.stderr, /^codegod: .+/);
    assert.equal(said.stdout, '');
    const asked = await home.run(...argv, '--json');
    assert.equal(asked.code, 2, argv.join(' '));
    const { error } = JSON.parse(asked.stdout);
    assert.equal(error.code, 'usage');
    assert.deepEqual(Object.keys(error), ['code', 'message', 'hint']);
  }
});

test('a mistyped command is answered with the nearest one', async t => {
  const { stderr } = await openHome(t).run('bulid');
  assert.match(stderr, /Did you mean build\?/);
});

test('help lists every command and is no error; no command at all is one', async t => {
  const home = openHome(t);
  const { code, stdout } = await home.run('--help');
  assert.equal(code, 0);
  for (const name of [
    'build',
    'up',
    'down',
    'status',
    'builds',
    'show',
    'logs',
    'archive',
    'nodes',
    'mcp',
    'cancel',
    'approve',
    'retry',
    'pause',
    'resume',
    'doctor',
    'config',
    'test',
    'pub',
    'req',
    'sub',
  ]) {
    assert.match(stdout, new RegExp(`^  ${name}\\b`, 'm'));
  }
  assert.doesNotMatch(stdout, /supervise/);
  assert.equal((await home.run()).code, 2);
});

test('status where nothing runs has the same keys and exit code 3', async t => {
  const home = openHome(t);
  const idle = await home.run('status', '--json');
  assert.equal(idle.code, 3);
  const view = JSON.parse(idle.stdout);
  assert.equal(view.running, false);
  assert.deepEqual([view.bus.url, view.bus.pid, view.http.url], [null, null, null]);
  assert.deepEqual(view.actors, []);
  home.pretendRunning({ http: 'http://127.0.0.1:1' });
  const busy = await home.run('status', '--json');
  assert.equal(busy.code, 0);
  const running = JSON.parse(busy.stdout);
  assert.deepEqual(Object.keys(running), Object.keys(view));
  assert.deepEqual(Object.keys(running.bus), Object.keys(view.bus));
  assert.equal(running.http.url, 'http://127.0.0.1:1');
  assert.deepEqual(running.actors[0], {
    name: 'master',
    pid: process.pid,
    state: 'ready',
    restarts: 2,
    reason: 'killed by SIGKILL',
    since: null,
  });
  assert.match((await home.run('status')).stdout, /^master +\d+ +ready +2 +-$/m);
});

test("the owner's key opens the door of his own home, and is shown to no other", async t => {
  const home = openHome(t);
  const master = await startFakeMaster(t, { '/nodes': { nodes: [] } });
  const paths = { config: join(home.folder, 'config') } as Paths;
  const key = ensureDoorKey(paths);
  assert.equal(statSync(join(paths.config, 'http-owner.key')).mode & 0o777, 0o600);
  home.pretendRunning({ http: master.url });
  assert.equal((await home.run('nodes')).code, 0);
  const elsewhere = openHome(t, { CODEGOD_HTTP_PORT: String(master.port) });
  ensureDoorKey({ config: join(elsewhere.folder, 'config') } as Paths);
  assert.equal((await elsewhere.run('nodes')).code, 0);
  assert.deepEqual(master.presented, [`Bearer ${key}`, undefined]);
});

test('builds and show print what the master says, newest first', async t => {
  const home = openHome(t);
  const master = await startFakeMaster(t, {
    '/builds?limit=50': { builds: [summary('b9'), summary('b10')], next: null },
    '/builds?limit=1': { builds: [summary('b10')], next: 'b10' },
    '/builds/b10': summary('b10', {
      state: 'failed',
      error: { code: 'unplannable', message: 'no' },
    }),
  });
  home.pretendRunning({ http: master.url });
  const list = await home.run('builds', '--json');
  assert.deepEqual(
    JSON.parse(list.stdout).map((one: { id: string }) => one.id),
    ['b10', 'b9'],
  );
  for (const name of ['b10', '10', 'latest']) {
    const shown = await home.run('show', name, '--json');
    assert.equal(shown.code, 0);
    const { id, state, path } = JSON.parse(shown.stdout);
    assert.deepEqual([id, state, path], ['b10', 'failed', '/projects/todo-list']);
  }
  const text = await home.run('show', '10');
  assert.match(text.stdout, /^b10 {2}failed$/m);
  assert.match(text.stdout, /^why +no$/m);
});

test('what the master does not know is its own error and exit code 1', async t => {
  const home = openHome(t);
  const master = await startFakeMaster(t, {});
  home.pretendRunning({ http: master.url });
  const { code, stdout } = await home.run('show', '7', '--json');
  assert.equal(code, 1);
  assert.deepEqual(JSON.parse(stdout).error, {
    code: 'not_found',
    message: 'no /builds/b7',
    hint: 'look at the list',
  });
});

test('a master that is just starting again is waited for', async t => {
  const home = openHome(t);
  const port = (await startFakeMaster(t, {})).port + 1;
  home.pretendRunning({ http: `http://127.0.0.1:${port}` });
  const asked = home.run('builds', '--json');
  await systemClock.sleep(700);
  await startFakeMaster(t, { '/builds?limit=50': { builds: [summary('b1')] } }, port);
  const { code, stdout } = await asked;
  assert.equal(code, 0);
  assert.equal(JSON.parse(stdout)[0].id, 'b1');
});

test("the door of this home is not taken for that of another's bus", async t => {
  const home = openHome(t);
  const master = await startFakeMaster(t, { '/builds/b1': summary('b1') });
  home.pretendRunning({ http: master.url });
  const { code, stderr } = await home.run('--nats', 'nats://127.0.0.1:1', 'show', '1');
  assert.equal(code, 3);
  assert.match(stderr, /nobody said where the master of nats:\/\/127\.0\.0\.1:1 answers/);
});

test('commands that need a system say so where none runs', async t => {
  const home = openHome(t);
  for (const argv of [
    ['builds'],
    ['show', '1'],
    ['nodes'],
    ['mcp'],
    ['cancel', '1'],
    ['logs'],
    ['pub', 'a', 'b'],
    ['archive', '1'],
  ]) {
    const { code, stderr } = await home.run(...argv);
    assert.equal(code, 3, argv.join(' '));
    assert.match(stderr, /nothing runs here\nstart the system with `codegod up -d`/);
  }
});

test('a bus that cannot be reached is exit code 3', async t => {
  const home = openHome(t);
  const { code, stdout } = await home.run(
    '--nats',
    'nats://127.0.0.1:1',
    'pub',
    'a',
    'b',
    '--json',
  );
  assert.equal(code, 3);
  assert.equal(JSON.parse(stdout).error.code, 'bus_unavailable');
});

test('the tool servers keep their public shape', async t => {
  const home = openHome(t);
  const server = { name: 'git', state: 'ready', tools: ['git_log'], version: '1', reason: null };
  const master = await startFakeMaster(t, { '/mcp/servers': { servers: [server] } });
  home.pretendRunning({ http: master.url });
  const { stdout } = await home.run('mcp', '--json');
  assert.equal(JSON.parse(stdout).servers[0].name, 'git');
  assert.match((await home.run('mcp')).stdout, /^git +ready +1/m);
});

test('config show masks secrets and names origins', async t => {
  const home = openHome(t);
  const { stdout } = await home.run('--nats', 'nats://h:1', 'config', 'show', '--origin', '--json');
  const { settings, paths } = JSON.parse(stdout);
  const url = settings.find((row: { key: string }) => row.key === 'bus.url');
  assert.deepEqual([url.value, url.origin], ['nats://h:1', 'flag']);
  assert.equal(paths.state, home.state);
});

test('the completion script for bash completes commands and their flags', async t => {
  const { stdout } = await openHome(t).run('completion', 'bash');
  const complete = (...words: string[]): string[] => {
    const set = `COMP_WORDS=(${words.join(' ')} ''); COMP_CWORD=${words.length}`;
    const script = `${stdout}\n${set}; _codegod; echo "\${COMPREPLY[@]}"`;
    return execFileSync('bash', ['-c', script], { encoding: 'utf8' }).trim().split(' ');
  };
  assert.ok(complete('codegod').includes('build'));
  assert.ok(!complete('codegod').includes('supervise'));
  assert.ok(complete('codegod', 'build').includes('--out'));
});

test('help costs little more than Node itself', t => {
  const time = (args: readonly string[]): number => {
    const from = systemClock.monotonic();
    execFileSync(process.execPath, args, { stdio: 'ignore' });
    return systemClock.monotonic() - from;
  };
  const bare = Math.min(...[1, 2, 3].map(() => time([...sourceLoader(), '-e', '0'])));
  const help = Math.min(...[1, 2, 3].map(() => time([...programOf('cli/main.ts'), '--help'])));
  t.diagnostic(`node ${bare.toFixed(0)} ms, help ${help.toFixed(0)} ms`);
  assert.ok(help < 5 * bare, `help takes ${(help / bare).toFixed(1)} times as long as bare node`);
});

test('a reader that goes away early is no crash', () => {
  const command = [process.execPath, ...programOf('cli/main.ts'), '--help'];
  const { stderr } = spawnSync('sh', ['-c', '"$@" | true', 'sh', ...command], { encoding: 'utf8' });
  assert.equal(stderr, '');
});
