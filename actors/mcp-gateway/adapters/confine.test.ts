/**
 * Goal: a check or a tool server has no descriptor of this process, on any rung, as any user. Method:
 * this process holds an open journal and a descriptor that it inherited, as the gateway does; the
 * program inside lists what it has.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { openSync } from 'node:fs';
import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { systemClock } from '../../../runtime/clock.ts';
import { openJournal } from '../../../runtime/journal.ts';
import { sourceLoader } from '../../../runtime/paths.ts';
import { CONFINER, TEST_PATH, tempDir } from '../test-world.ts';
import { confined } from './confine.ts';
import { findSandbox, type SandboxRung } from './sandbox.ts';
import { sandboxView } from './sandbox-view.ts';
import { startRpc } from './stdio-rpc.ts';

const isLinux = process.platform === 'linux';
const isRoot = process.getuid?.() === 0;
/** Prints the descriptors above 2; the folder that is read for it is not one of them. */
const LIST =
  'for n in $(ls /proc/$$/fd); do [ "$n" -le 2 ] || readlink "/proc/$$/fd/$n" || :; done';

/** This process opens what the gateway has open. */
async function withJournal(t: TestContext): Promise<string> {
  const folder = await tempDir(t);
  const journal = await openJournal(join(folder, 'journal'));
  t.after(() => journal.close());
  await journal.put('check.b1.1', { passed: false });
  const plain = spawnSync('sh', ['-c', LIST], { encoding: 'utf8' }).stdout;
  assert.match(plain, /journal/, 'what must not be seen is there to be seen');
  return folder;
}

for (const rung of ['bwrap', 'unshare', 'none'] as const satisfies readonly SandboxRung[]) {
  for (const python of [CONFINER, null]) {
    const by = python === null ? 'without Python' : 'confined';
    test(`${rung}, ${by}: a check has no descriptor of ours`, { skip: !isLinux }, async t => {
      const folder = await withJournal(t);
      const sandbox = await findSandbox({
        scratch: join(folder, 'scratch'),
        path: TEST_PATH,
        python,
        clock: systemClock,
        ladder: [rung],
      });
      if (sandbox.rung !== rung) return t.skip(sandbox.account);
      const work = join(folder, 'work');
      await mkdir(work);
      const view = await sandboxView({ node: process.execPath, python: null });
      const result = await sandbox.run({ work, command: ['sh', '-c', LIST], view });
      assert.equal(result.exitCode, 0, result.output);
      const open = result.output.split('\n').filter(line => line !== '');
      if (python !== null) assert.deepEqual(open, []);
      assert.deepEqual(
        open.filter(target => target !== '/dev/null'),
        [],
      );
      return undefined;
    });
  }
}

for (const python of [CONFINER, null]) {
  const by = python === null ? 'without Python' : 'confined';
  test(`${by}: a tool server has no descriptor of ours`, { skip: !isLinux }, async t => {
    const folder = await withJournal(t);
    const list = { program: 'sh', args: ['-c', `exec >&2; ${LIST}`] };
    const environment = { PATH: TEST_PATH };
    const program = { ...confined(python, list), cwd: folder, environment };
    const { errorTail, reason } = await startRpc(program, systemClock).ended;
    assert.equal(reason, 'exited with 0', errorTail);
    const open = errorTail.split('\n').filter(line => line !== '');
    assert.deepEqual(
      open.filter(target => target !== '/dev/null'),
      [],
    );
  });
}

test('what is kept is there, and signals are as a program expects them', { skip: !isLinux }, () => {
  const script = `${LIST}; grep SigIgn /proc/$$/status`;
  const { program, args } = confined(
    CONFINER,
    { program: 'sh', args: ['-c', script] },
    { keep: [4] },
  );
  const nothing = openSync('/dev/null', 'r');
  const { stdout } = spawnSync(program, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit', 1, nothing, 1],
  });
  assert.match(stdout, /^\/dev\/null\nSigIgn:\s+0{16}\n$/);
});

test('the same as an ordinary user', { skip: !isRoot || !isLinux }, async t => {
  const folder = await tempDir(t);
  await chmod(folder, 0o777);
  const node = [...sourceLoader(), '--test', '--test-reporter=tap', import.meta.filename];
  const user = ['--reuid=65534', '--regid=65534', '--clear-groups', '--', process.execPath];
  const env = { PATH: TEST_PATH, HOME: folder, TMPDIR: folder };
  const { stdout, status } = spawnSync('setpriv', [...user, ...node], { encoding: 'utf8', env });
  if (/EACCES/.test(stdout)) return t.skip('that user may not read this tree');
  assert.equal(status, 0, stdout);
  assert.match(stdout, /^ok \d+ - bwrap, confined: a check has no descriptor of ours$/m);
  return undefined;
});
