/**
 * Goal: what the filter refuses is refused on every rung, what tools need goes on working, and memory
 * cannot be hidden. Method: a Python inside makes the calls by their numbers and tells the errors.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { sourceLoader } from '../../../runtime/paths.ts';
import { CONFINER, sandboxWorld, TEST_PATH, tempDir } from '../test-world.ts';
import { confined } from './confine.ts';
import type { SandboxRung } from './sandbox.ts';

const PYTHON = '/usr/bin/python3';
const canLook = process.platform === 'linux' && CONFINER !== null && existsSync(PYTHON);
const isRoot = process.getuid?.() === 0;
const MIB = 1024 ** 2;

/** Name, numbers on x86_64 and aarch64, arguments. */
const REFUSED = `
calls = {
  'keyctl': (250, 219, 0, -3, 1), 'add_key': (248, 217, b'user', b'a', b'b', 1, -3),
  'request_key': (249, 218, b'user', b'a', None, 0), 'unshare user': (272, 97, 0x10000000),
  'setns': (308, 268, 0, 0), 'mount': (165, 40, b'none', b'/tmp', b'tmpfs', 0, None),
  'umount2': (166, 39, b'/tmp', 0), 'fsopen': (430, 430, b'tmpfs', 0), 'ptrace': (101, 117, 0, 0, 0, 0),
  'process_vm_readv': (310, 270, os.getpid(), None, 0, None, 0, 0), 'bpf': (321, 280, 0, None, 0),
  'userfaultfd': (323, 282, 1), 'perf_event_open': (298, 241, None, 0, -1, -1, 0),
  'io_uring_setup': (425, 425, 8, b'\\0' * 120), 'clone3': (435, 435, None, 0),
  'clone user': (56, 220, 0x10000000 | 17, 0, 0, 0, 0), 'memfd_create': (319, 279, b'a', 0),
  'shmget': (29, 194, 0, 4096, 0o1600), 'vsock': (41, 198, 40, 1, 0), 'alg': (41, 198, 38, 5, 0),
  'netlink audit': (41, 198, 16, 3, 9), 'ioctl TIOCSTI': (16, 29, 1, 0x5412, b'x'),
}
column = {'x86_64': 0, 'aarch64': 1}[os.uname().machine]
for name, call in calls.items():
    result = libc.syscall(call[column], *call[2:])
    if name.startswith('clone') and result == 0: os._exit(0)
    print(name, 'done' if result >= 0 else errno.errorcode[ctypes.get_errno()])
`;

const ALLOWED = `
import asyncio, multiprocessing, socket, subprocess, threading
subprocess.run(['true'], check=True)
thread = threading.Thread(target=print, args=('thread',)); thread.start(); thread.join()
with multiprocessing.Pool(2) as pool: print('pool', sum(pool.map(abs, [-1, 2])))
async def loop(): print('loop', (await (await asyncio.create_subprocess_exec('true')).wait()))
asyncio.run(loop())
socket.socketpair()
server = socket.create_server(('127.0.0.1', 0))
socket.create_connection(server.getsockname())
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
print('sockets')
`;

const HEAD = `
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
`;

async function world(t: TestContext, rung: SandboxRung) {
  const { work, sandbox, view } = await sandboxWorld(t, { ladder: [rung] });
  const python = async (script: string, limits = {}) => {
    await writeFile(join(work, 'script.py'), HEAD + script);
    const command = [PYTHON, '-I', 'script.py'];
    return sandbox.run({ work, command, view, limits: { timeoutMs: 20_000, ...limits } });
  };
  const sh = (script: string, limits = {}) =>
    sandbox.run({ work, command: ['sh', '-c', script], view, limits });
  return { work, sandbox, view, python, sh };
}

for (const rung of ['bwrap', 'unshare', 'none'] as const) {
  const inside = (name: string, body: (made: Awaited<ReturnType<typeof world>>) => Promise<void>) =>
    test(`${rung}: ${name}`, { skip: !canLook }, async t => {
      const made = await world(t, rung);
      if (made.sandbox.rung !== rung) return t.skip(made.sandbox.account);
      await body(made);
      return undefined;
    });

  inside('what no tool needs is refused, with an error that programs expect', async made => {
    assert.doesNotMatch(made.sandbox.account, /without a seccomp filter/);
    const { output } = await made.python(REFUSED);
    const told = new Map(
      output
        .trim()
        .split('\n')
        .map(line => line.split(/ (?=\S+$)/)) as [string, string][],
    );
    const unknown = ['io_uring_setup', 'clone3', 'memfd_create', 'shmget'];
    const families = ['vsock', 'alg', 'netlink audit'];
    assert.equal(told.size, 22, output);
    for (const [name, error] of told) {
      const expected = unknown.includes(name)
        ? 'ENOSYS'
        : families.includes(name)
          ? 'EAFNOSUPPORT'
          : 'EPERM';
      assert.equal(error, expected, name);
    }
  });

  inside('what tools need works', async made => {
    const { output, exitCode } = await made.python(ALLOWED);
    assert.equal(exitCode, 0, output);
    assert.equal(output, 'thread\npool 3\nloop 0\nsockets\n');
    await writeFile(
      join(made.work, 'a.test.mjs'),
      `import { test } from 'node:test'; import { execSync } from 'node:child_process';
       import { networkInterfaces } from 'node:os'; import { Worker } from 'node:worker_threads';
       import { createServer } from 'node:http';
       test('a', async () => {
         execSync('true'); networkInterfaces();
         await new Promise(done => new Worker('', { eval: true }).on('exit', done));
         const server = createServer((_, r) => r.end('hi')).listen(0, '127.0.0.1');
         await new Promise(done => server.on('listening', done));
         const { port } = server.address();
         const text = await (await fetch('http://127.0.0.1:' + port)).text();
         server.close(); server.closeAllConnections();
         if (text !== 'hi') throw new Error(text);
       });`,
    );
    const node = await made.sandbox.run({
      ...{ work: made.work, view: made.view, command: ['node', '--test', 'a.test.mjs'] },
    });
    assert.equal(node.exitCode, 0, node.output);
  });

  inside('its folder does not grow without a bound', async made => {
    const limits = { workBytesMax: 64 * MIB, timeoutMs: 20_000 };
    const fill = 'i=0; while :; do head -c 8000000 /dev/zero > "f$i"; i=$((i + 1)); done';
    const result = await made.sh(fill, limits);
    assert.equal(result.end, 'disk', result.output);
  });
}

for (const rung of ['bwrap', 'unshare'] as const) {
  test(`${rung}: no file system in memory is without a bound`, { skip: !canLook }, async t => {
    const made = await world(t, rung);
    if (made.sandbox.rung !== rung) return t.skip(made.sandbox.account);
    const limits = { tmpBytesMax: 8 * MIB, sharedMemoryBytesMax: 4 * MIB };
    const fill = (file: string) =>
      `{ head -c 40000000 /dev/zero > ${file}; stat -c %s ${file} || echo 0; } 2>/dev/null;`;
    const { output } = await made.sh(
      ['/tmp/a', '/dev/shm/a', '/dev/a', '/run/a', '/a'].map(fill).join(''),
      limits,
    );
    const sizes = output.trim().split('\n').map(Number);
    assert.ok((sizes[0] ?? 0) <= 8 * MIB && (sizes[1] ?? 0) <= 4 * MIB, output);
    assert.ok((sizes[1] ?? 0) > MIB, 'shared memory can be used');
    assert.deepEqual(sizes.slice(2), [0, 0, 0]);
    return undefined;
  });
}

test('keys of the session that started us cannot be had by what is confined', {
  skip: !canLook,
}, t => {
  // A session with a key in it, and somebody in it who looks for the key: plainly, then confined.
  const keyctl = `${HEAD}
import json, sys
column = {'x86_64': 0, 'aarch64': 1}[os.uname().machine]
keyctl = lambda *args: libc.syscall((250, 219)[column], *args)
`;
  const look = `${keyctl}
key = keyctl(10, -3, b'user', b'codegod-test', 0)
print(key > 0, keyctl(11, int(sys.argv[1]), ctypes.create_string_buffer(6), 6) == 6)`;
  const begin = `${keyctl}
import subprocess
keyctl(1, None)
key = libc.syscall((248, 217)[column], b'user', b'codegod-test', b'secret', 6, -3)
print(key > 0)
for command in json.loads(sys.argv[1]): subprocess.run([*command, str(key)])`;
  const plain = { program: PYTHON, args: ['-I', '-c', look] };
  const held = confined(CONFINER, plain);
  const commands = [plain, held].map(({ program, args }) => [program, ...args]);
  const { stdout } = spawnSync(PYTHON, ['-I', '-u', '-c', begin, JSON.stringify(commands)], {
    encoding: 'utf8',
  });
  if (stdout.startsWith('False')) return t.skip('this kernel keeps no keys');
  assert.equal(stdout, 'True\nTrue True\nFalse False\n');
  return undefined;
});

test('the same as an ordinary user', { skip: !isRoot || !canLook }, async t => {
  const folder = await tempDir(t);
  await chmod(folder, 0o777);
  const node = [...sourceLoader(), '--test', '--test-reporter=tap', import.meta.filename];
  const user = ['--reuid=65534', '--regid=65534', '--clear-groups', '--', process.execPath];
  const env = { PATH: TEST_PATH, HOME: folder, TMPDIR: folder };
  const { stdout, status } = spawnSync('setpriv', [...user, ...node], { encoding: 'utf8', env });
  if (/EACCES/.test(stdout)) return t.skip('that user may not read this tree');
  assert.equal(status, 0, stdout);
  assert.match(stdout, /^ok \d+ - bwrap: what no tool needs is refused[^#]*$/m);
  return undefined;
});
