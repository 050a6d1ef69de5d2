/**
 * Goal: a program that we start has no descriptor that nobody gave it. Method: this process holds
 * what the real ones hold, a journal and descriptors without close-on-exec, and the program lists
 * what it has.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openJournal } from './journal.ts';
import { modulePath, sourceLoader } from './paths.ts';
import { runProgram } from './run-program.ts';
import { outputOf, startProgram } from './spawn.ts';

const LIST = 'for f in /proc/self/fd/*; do echo "$(basename $f) $(readlink $f)"; done';
const isLinux = process.platform === 'linux';

/** What stands at descriptors above 2, save the shell's own look at the folder. */
const foreign = (listed: string): string[] =>
  listed
    .trim()
    .split('\n')
    .filter(line => Number.parseInt(line, 10) > 2)
    .filter(line => !/^\d+( \/dev\/null| \/proc\/.*| *)$/.test(line));

test('no file of a journal is open in a program', { skip: !isLinux }, async t => {
  const folder = mkdtempSync(join(tmpdir(), 'codegod-spawn-'));
  const journal = await openJournal(folder);
  t.after(async () => {
    await journal.close();
    rmSync(folder, { recursive: true });
  });
  // The very thing that must not happen is there to be seen when a program is started plainly.
  const plain = spawnSync('sh', ['-c', LIST], { encoding: 'utf8' }).stdout;
  assert.ok(
    foreign(plain).some(line => line.includes(folder)),
    plain,
  );

  const { stdout } = await runProgram('sh', ['-c', LIST], { timeoutMs: 10_000 });
  assert.deepEqual(foreign(stdout), []);
  assert.deepEqual(foreign(outputOf('sh', ['-c', LIST])), []);
});

test('what the stdio names is open, and nothing else', { skip: !isLinux }, async () => {
  const named = openSync('/etc/passwd', 'r');
  const child = startProgram('sh', ['-c', LIST], { stdio: ['ignore', 'pipe', 'pipe', named] });
  let said = '';
  child.stdout?.on('data', chunk => {
    said += chunk;
  });
  await once(child, 'close');
  assert.deepEqual(foreign(said), ['3 /etc/passwd']);
});

test('descriptors of whoever started us are dropped on demand', { skip: !isLinux }, () => {
  const drop = `import { dropInherited } from ${JSON.stringify(modulePath('runtime/spawn.ts'))};
    import { spawnSync } from 'node:child_process';
    dropInherited();
    console.log(spawnSync('sh', ['-c', ${JSON.stringify(LIST)}], { encoding: 'utf8' }).stdout);`;
  const inherited = openSync('/etc/passwd', 'r');
  // Node itself marks the lowest ones it finds as not to be passed on.
  const between = Array.from({ length: 57 }, () => 'ignore' as const);
  const { stdout, stderr } = spawnSync(
    process.execPath,
    [...sourceLoader(), '--input-type=module', '-e', drop],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe', ...between, inherited] },
  );
  assert.match(stdout, /^0 /m, stderr);
  assert.deepEqual(foreign(stdout), []);
});

test('a program that has gone does not end who writes to it', async () => {
  const deaf = 'exec 0<&-; echo deaf; sleep 0.2';
  const child = startProgram('sh', ['-c', deaf], { stdio: ['pipe', 'pipe', 'ignore'] });
  assert.ok(child.stdin !== null && child.stdout !== null);
  await once(child.stdout, 'data');
  const failed = once(child.stdin, 'error');
  child.stdin.write('x'.repeat(1_000_000));
  const [broken] = await failed;
  assert.equal(broken.code, 'EPIPE');
  // Nobody but the one that every program gets listens for this; without it we would end here.
  assert.equal(child.stdin.listenerCount('error'), 1);
  const absent = startProgram('no-such-program', [], { stdio: ['pipe', 'pipe', 'pipe'] });
  const [error] = await once(absent, 'error');
  assert.equal(error.code, 'ENOENT');
});
