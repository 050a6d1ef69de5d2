/**
 * Goal: each rung of the ladder that this machine reaches really holds. Method: programs that try to
 * get out, to take everything, or never to end; the world outside is looked at afterwards.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../../runtime/clock.ts';
import { CONFINER, TEST_PATH, tempDir } from '../test-world.ts';
import { findSandbox, type SandboxRun, type SandboxRung } from './sandbox.ts';
import { sandboxView } from './sandbox-view.ts';

const MIB = 1024 ** 2;

async function sandboxWorld(t: TestContext, rung: SandboxRung) {
  const folder = await tempDir(t);
  await chmod(folder, 0o700);
  const work = join(folder, 'work');
  await mkdir(work);
  const view = await sandboxView({ node: process.execPath, python: null });
  const found = await findSandbox({
    scratch: join(folder, 'scratch'),
    path: TEST_PATH,
    python: CONFINER,
    clock: systemClock,
    ladder: [rung],
  });
  const run = (options: Omit<SandboxRun, 'view'>) => found.run({ ...options, view });
  const sandbox = { rung: found.rung, account: found.account, run };
  return { folder, work, sandbox };
}

async function node(sandbox: World['sandbox'], work: string, script: string, limits = {}) {
  await writeFile(join(work, 'script.mjs'), script);
  const bounded = { timeoutMs: 20_000, ...limits };
  return sandbox.run({ work, command: ['node', 'script.mjs'], limits: bounded });
}

for (const rung of ['bwrap', 'unshare'] as const) {
  const held = (name: string, body: (t: TestContext, world: World) => Promise<void>) =>
    test(`${rung}: ${name}`, async t => {
      const world = await sandboxWorld(t, rung);
      if (world.sandbox.rung !== rung) return t.skip(world.sandbox.account);
      await body(t, world);
      return undefined;
    });

  held('the home and the files outside are not there', async (_t, { folder, work, sandbox }) => {
    await writeFile(join(folder, 'secret'), 'outside');
    const result = await node(
      sandbox,
      work,
      `import { readdirSync, readFileSync } from 'node:fs';
       const look = path => { try { return readdirSync(path).join() } catch (e) { return e.code } };
       const read = path => { try { return readFileSync(path, 'utf8') } catch (e) { return e.code } };
       console.log(JSON.stringify([look(${JSON.stringify(homedir())}), read(${JSON.stringify(
         join(folder, 'secret'),
       )}), read('/etc/shadow'), look('/sys'), look('/.old'), look('/var')]));`,
    );
    const [home, ...rest] = JSON.parse(result.output);
    assert.ok(home === 'ENOENT' || home === '', `the home shows ${home}`);
    assert.deepEqual(rest, ['ENOENT', 'ENOENT', 'ENOENT', 'ENOENT', 'ENOENT']);
  });

  held('nothing outside the own folder can be written', async (_t, { work, sandbox }) => {
    const result = await node(
      sandbox,
      work,
      `import { writeFileSync } from 'node:fs';
       for (const path of ['/usr/x', '/etc/x', '/x', '/usr/bin/env', '/tmp/cg-inside', '/work/x']) {
         try { writeFileSync(path, 'x'); console.log(path) } catch (refused) { void refused }
       }`,
    );
    assert.equal(result.output, '/tmp/cg-inside\n/work/x\n');
    assert.equal(existsSync('/tmp/cg-inside'), false);
    assert.equal(await readFile(join(work, 'x'), 'utf8'), 'x');
  });

  held('a listener outside is out of reach, one inside works', async (t, { work, sandbox }) => {
    const server = createServer(socket => socket.end('outside'));
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
    t.after(() => server.close());
    const address = server.address();
    const port = address !== null && typeof address === 'object' ? address.port : 0;
    const result = await node(
      sandbox,
      work,
      `import { connect, createServer } from 'node:net';
       connect(${port}, '127.0.0.1').on('data', d => console.log(String(d)))
         .on('error', e => console.log(e.code));
       const server = createServer(s => s.end('inside')).listen(0, '127.0.0.1', () =>
         connect(server.address().port, '127.0.0.1').on('data', d => console.log(String(d)))
           .on('close', () => server.close()));`,
    );
    assert.deepEqual(result.output.trim().split('\n').sort(), ['ECONNREFUSED', 'inside']);
  });

  held(
    'the environment is cleared, and other processes are not seen',
    async (_t, { work, sandbox }) => {
      const result = await node(
        sandbox,
        work,
        `import { readdirSync } from 'node:fs';
       const pids = readdirSync('/proc').filter(name => /^[0-9]+$/.test(name)).length;
       console.log(pids < 8, Object.keys(process.env).sort().join());`,
      );
      assert.match(
        result.output,
        /^true CI,HOME,LANG,NO_COLOR,PATH,(PWD,)?PYTHONDONTWRITEBYTECODE,/,
      );
    },
  );

  held('no right over the namespaces is left', async (_t, { work, sandbox }) => {
    const script =
      'grep Cap /proc/self/status; mount -o remount,bind,rw /usr && echo remounted; ' +
      'umount -l /usr && echo unmounted; exit 0';
    const { output, exitCode } = await sandbox.run({ work, command: ['sh', '-c', script] });
    assert.equal(output.match(/^Cap\w+:\s0{16}$/gm)?.length, 5, output);
    assert.equal(exitCode, 0);
    assert.doesNotMatch(output, /^(remounted|unmounted)$/m);
  });

  held('an endless loop is ended in time with all its children', async (_t, { work, sandbox }) => {
    const started = systemClock.monotonic();
    const result = await node(
      sandbox,
      work,
      `import { spawn } from 'node:child_process';
       spawn('sh', ['-c', 'trap "" TERM HUP; while :; do echo x >> /work/beat; sleep 0.1; done'],
         { detached: true, stdio: 'ignore' }).unref();
       for (;;) {}`,
      { timeoutMs: 1_500 },
    );
    assert.equal(result.end, 'timeout');
    assert.ok(systemClock.monotonic() - started < 5_000);
    const beats = await readFile(join(work, 'beat'), 'utf8');
    assert.ok(beats.length > 0);
    await sleep(400);
    assert.equal(await readFile(join(work, 'beat'), 'utf8'), beats, 'the child still runs');
  });

  held('a fork bomb is ended', async (_t, { work, sandbox }) => {
    const command = ['sh', '-c', 'bomb() { bomb | bomb & }; bomb; sleep 30'];
    const limits = { timeoutMs: 4_000, processesMax: 64 };
    const result = await sandbox.run({ work, command, limits });
    assert.ok(['timeout', 'processes', 'exited'].includes(result.end));
    assert.ok(result.durationMs < 8_000);
    assert.match(result.output, /fork|Resource temporarily unavailable|^$/i);
  });

  held('a memory hog is ended, alone or as many', async (_t, { work, sandbox }) => {
    const limits = { memoryBytesMax: 300 * MIB };
    const alone = await node(
      sandbox,
      work,
      'const all = []; for (;;) all.push(Buffer.alloc(16 * 1024 ** 2, 1));',
      limits,
    );
    assert.notEqual(alone.exitCode, 0);
    assert.ok(alone.durationMs < 10_000);
    const hog = 'const all=[]; for(let i=0;i<6;i++) all.push(Buffer.alloc(16*1024**2,1));';
    const many = await node(
      sandbox,
      work,
      `import { spawn } from 'node:child_process';
       for (let i = 0; i < 6; i++) spawn('node', ['-e', '${hog} setTimeout(() => {}, 20000)']);`,
      limits,
    );
    assert.equal(many.end, 'memory');
  });

  held('a flood of output is bounded and keeps its end', async (_t, { work, sandbox }) => {
    const result = await node(
      sandbox,
      work,
      `for (let i = 0; i < 4000; i++) process.stdout.write('y'.repeat(1024));
       process.stdout.write('END');`,
    );
    assert.ok(result.output.length <= MIB);
    assert.ok(result.outputBytes > 4_000_000);
    assert.ok(result.output.endsWith('END'));
  });

  held("node's own tests with fetch and WebAssembly run", async (_t, { work, sandbox }) => {
    await writeFile(
      join(work, 'a.test.js'),
      `const { test } = require('node:test');
       test('a', async () => { await (await fetch('data:text/plain,hi')).text(); });`,
    );
    const result = await sandbox.run({ work, command: ['node', '--test'] });
    assert.equal(result.exitCode, 0, result.output);
    assert.match(result.output, /# pass 1/);
  });
}

type World = Awaited<ReturnType<typeof sandboxWorld>>;

test('without a rung the program still has a bound and a clear environment', async t => {
  const { work, sandbox } = await sandboxWorld(t, 'none');
  assert.match(sandbox.account, /there is no sandbox/);
  const result = await node(sandbox, work, 'console.log(process.env.HOME); for (;;) {}', {
    timeoutMs: 1_000,
  });
  assert.equal(result.end, 'timeout');
  assert.equal(result.output, `${work}/.home\n`);
});

test('a program that takes its own folder away comes to its own end', async t => {
  const { work, sandbox } = await sandboxWorld(t, 'none');
  const command = ['sh', '-c', 'rm -rf "$PWD"; sleep 0.6; echo done'];
  const result = await sandbox.run({ work, command });
  assert.equal(result.end, 'exited');
  assert.match(result.output, /done/);
});

test('a ladder whose rungs fail says why', async t => {
  const folder = await tempDir(t);
  const sandbox = await findSandbox({
    scratch: folder,
    path: '/nowhere',
    python: CONFINER,
    clock: systemClock,
  });
  assert.equal(sandbox.rung, 'none');
  assert.match(sandbox.account, /bwrap.*ENOENT.*unshare.*ENOENT/);
});

test('unshare is reached with the search path of an ordinary user, without sbin', async t => {
  const find = async (path: string) =>
    findSandbox({
      scratch: join(await tempDir(t), 'scratch'),
      path,
      python: CONFINER,
      clock: systemClock,
      ladder: ['unshare', 'none'],
    });
  const wide = await find('/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin');
  if (wide.rung === 'none') return t.skip(wide.account);
  const narrow = await find('/usr/local/bin:/usr/bin:/bin');
  assert.equal(narrow.rung, 'unshare', narrow.account);
  return undefined;
});
