/** `up -d`, `down` and what lies between, as a user types them, with fake actors. */
import assert from 'node:assert/strict';
import { type StdioOptions, spawn } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { systemClock } from '../../runtime/clock.ts';
import { loadConfig, wholeEnvironment } from '../../runtime/config.ts';
import { testServerBinary } from '../../runtime/nats-server/test-server.ts';
import { isAlive } from '../../runtime/process-identity.ts';
import { ensureEnvironment } from '../../runtime/tools-environment.ts';
import { programOf } from '../../test/source-tree.ts';
import { readSystem, runningSystem, survivors } from '../supervisor/system-record.ts';
import { openHome } from '../test-world.ts';

const OPTIONS = { timeout: 180_000 };
const PROGRAM = programOf('cli/test-cli.ts');

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

async function openCli(t: TestContext, variables: Readonly<Record<string, string>> = {}) {
  const home = openHome(t);
  await shareEnvironments(home.folder);
  const env = {
    ...wholeEnvironment(),
    ...home.env,
    CODEGOD_NATS_SERVER: await testServerBinary(),
    ...variables,
  };
  const start = (options: { readonly stdio: StdioOptions }, ...argv: string[]) =>
    spawn(process.execPath, [...PROGRAM, ...argv], { env, cwd: home.folder, ...options });
  /** Resolves on `close`: when the last holder of its output is gone, not merely the process. */
  const run = (...argv: string[]): Promise<Ended> =>
    new Promise(resolve => {
      const child = start({ stdio: ['ignore', 'pipe', 'pipe'] }, ...argv);
      let stdout = '';
      let stderr = '';
      child.stdout?.on('data', chunk => (stdout += chunk));
      child.stderr?.on('data', chunk => (stderr += chunk));
      child.once('close', code => resolve({ code, stdout, stderr }));
    });
  home.atEnd(() => run('down'));
  return { ...home, start, run };
}

/** The Python environments of this machine, which take seconds to make, serve this home too. */
async function shareEnvironments(folder: string): Promise<void> {
  const dir = join(loadConfig({ cwd: folder }).paths.data, 'environments');
  await ensureEnvironment({ name: 'tools', dir, env: wholeEnvironment() });
  mkdirSync(join(folder, 'data'));
  symlinkSync(dir, join(folder, 'data', 'environments'));
}

async function until<T>(look: () => T | null): Promise<T> {
  for (;;) {
    const found = look();
    if (found !== null) return found;
    await systemClock.sleep(10);
  }
}

test('up -d, a second up, status, down, a second down', OPTIONS, async t => {
  const cli = await openCli(t);
  const up = await cli.run('up', '-d', '--json');
  assert.equal(up.code, 0, up.stderr);
  const view = JSON.parse(up.stdout);
  assert.match(view.bus.url, /^nats:\/\/127\.0\.0\.1:\d+$/);
  assert.deepEqual(
    view.actors.map((actor: { name: string; state: string }) => [actor.name, actor.state]),
    [
      ['master', 'ready'],
      ['worker', 'ready'],
    ],
  );
  const again = await cli.run('up', '--json');
  assert.equal(again.code, 0);
  assert.match(again.stderr, /running already/);
  assert.equal(JSON.parse(again.stdout).supervisor_pid, view.supervisor_pid);
  const status = await cli.run('status', '--json');
  assert.deepEqual(JSON.parse(status.stdout), view);
  const record = readSystem(cli.state);
  assert.ok(record);
  const down = await cli.run('down');
  assert.equal(down.code, 0, down.stderr);
  assert.deepEqual(survivors(record), []);
  assert.equal(readSystem(cli.state), null);
  const twice = await cli.run('down', '--json');
  assert.deepEqual([twice.code, JSON.parse(twice.stdout)], [0, { stopped: false }]);
});

test('nothing that the shell had open is open in the system', OPTIONS, async t => {
  const cli = await openCli(t);
  if (process.platform !== 'linux') return t.skip('descriptors are looked at in /proc');
  const secret = join(cli.folder, 'secret');
  writeFileSync(secret, 'of the shell');
  // Node itself marks the lowest ones it finds as not to be passed on.
  const between = Array.from({ length: 57 }, () => 'ignore' as const);
  const stdio = ['ignore', 'ignore', 'pipe', ...between, openSync(secret, 'r')] as const;
  for (const [mode, argv] of Object.entries({ foreground: ['up'], detached: ['up', '-d'] })) {
    const up = cli.start({ stdio: [...stdio] }, ...argv);
    t.after(() => up.kill());
    let record = runningSystem(cli.state);
    for (; record?.state !== 'ready'; record = runningSystem(cli.state)) {
      await systemClock.sleep(50);
      assert.ok(up.exitCode === null || up.exitCode === 0, `${mode}: ended with ${up.exitCode}`);
    }
    for (const { pid } of [...record.actors, record.bus, { pid: record.supervisor_pid }]) {
      assert.ok(pid !== null);
      const folder = `/proc/${pid}/fd`;
      // A descriptor may be closed between the listing and the look.
      const held = readdirSync(folder).map(name => readIfLink(join(folder, name)));
      assert.ok(held.length > 2);
      assert.ok(!held.includes(secret), `${mode}: process ${pid} has it open`);
    }
    await cli.run('down');
  }
  return undefined;
});

function readIfLink(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

test('two who start at once share one system', OPTIONS, async t => {
  const cli = await openCli(t);
  const [one, two] = await Promise.all([
    cli.run('up', '-d', '--json'),
    cli.run('up', '-d', '--json'),
  ]);
  assert.deepEqual([one.code, two.code], [0, 0], one.stderr + two.stderr);
  assert.equal(JSON.parse(one.stdout).supervisor_pid, JSON.parse(two.stdout).supervisor_pid);
});

test('what starts is seen as starting, and down stops it for good', OPTIONS, async t => {
  const folder = mkdtempSync(join(tmpdir(), 'codegod-slow-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const slow = join(folder, 'nats-server');
  const server = await testServerBinary();
  writeFileSync(slow, `#!/bin/sh\ncase "$*" in *-c*) sleep 5;; esac\nexec '${server}' "$@"\n`);
  chmodSync(slow, 0o755);
  const cli = await openCli(t, { CODEGOD_NATS_SERVER: slow });
  for (const moment of ['started', 'has taken the home'] as const) {
    const up = cli.run('up', '-d', '--json');
    const seen = await until(() => {
      const record = runningSystem(cli.state);
      return moment === 'started' || readSystem(cli.state) !== null ? record : null;
    });
    assert.equal(seen.state, 'starting', moment);
    const status = await cli.run('status', '--json');
    const { running, state, supervisor_pid } = JSON.parse(status.stdout);
    assert.deepEqual(
      [status.code, running, state, supervisor_pid],
      [0, true, 'starting', seen.supervisor_pid],
    );
    const down = await cli.run('down', '--json');
    assert.deepEqual([down.code, JSON.parse(down.stdout)], [0, { stopped: true }], moment);
    assert.equal(isAlive({ pid: seen.supervisor_pid, started: seen.supervisor_started }), false);
    assert.equal(runningSystem(cli.state), null);
    const { code, stdout } = await up;
    assert.notEqual(code, 0);
    assert.match(JSON.parse(stdout).error.message, /stopped while it started|has stopped/);
  }
});

test('after a killed supervisor the next up carries on', OPTIONS, async t => {
  const cli = await openCli(t);
  await cli.run('up', '-d');
  const record = runningSystem(cli.state);
  assert.ok(record);
  process.kill(record.supervisor_pid, 'SIGKILL');
  const identity = { pid: record.supervisor_pid, started: record.supervisor_started };
  while (isAlive(identity)) await systemClock.sleep(10);
  const status = await cli.run('status', '--json');
  assert.equal(status.code, 3);
  const up = await cli.run('up', '-d', '--json');
  assert.equal(up.code, 0, up.stderr);
  assert.equal(JSON.parse(up.stdout).bus.url, record.bus.url);
  assert.deepEqual(survivors(record), []);
});

test('up in the foreground drains on Ctrl-C and ends with exit code 0', OPTIONS, async t => {
  const cli = await openCli(t);
  const child = cli.start({ stdio: ['ignore', 'pipe', 'pipe'] }, 'up');
  let stdout = '';
  child.stdout?.on('data', chunk => (stdout += chunk));
  const ended = new Promise<number | null>(resolve => child.once('close', resolve));
  while (!stdout.includes('http ')) await systemClock.sleep(20);
  const record = runningSystem(cli.state);
  assert.ok(record);
  assert.equal(record.mode, 'foreground');
  child.kill('SIGINT');
  assert.equal(await ended, 0);
  assert.deepEqual(survivors(record), []);
});

test('a system that cannot start says why and leaves nothing', OPTIONS, async t => {
  const cli = await openCli(t, { CODEGOD_NATS_SERVER: '/no/such/program' });
  const up = await cli.run('up', '-d', '--json');
  assert.equal(up.code, 3);
  const { message } = JSON.parse(up.stdout).error;
  assert.match(message, /^the system does not start: .*\/no\/such\/program/);
  const told = (await cli.run('up', '-d')).stderr;
  assert.equal(told.split('/no/such/program').length - 1, 1, `the reason is told once: ${told}`);
  assert.equal(told.split('the logs are in').length - 1, 1, told);
  assert.equal(runningSystem(cli.state), null);
});
