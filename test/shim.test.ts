/**
 * The front door, ./codegod, in a tiny checkout of its own: the real compiler and Node, but an `npm`
 * that only notes that it was called. Folder names have spaces, as they have on users' machines.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { packageRoot } from '../runtime/paths.ts';

let root: string;
let checkout: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'codegod shim '));
  checkout = join(root, 'the checkout');
  mkdirSync(join(checkout, 'cli'), { recursive: true });
  for (const file of ['codegod', 'tsconfig.json']) {
    copyFileSync(join(packageRoot(), file), join(checkout, file));
  }
  write('package.json', '{"name":"codegod","type":"module"}');
  write('package-lock.json', '{"lockfileVersion":3}');
  write('cli/main.ts', say('one'));
  mkdirSync(join(root, 'bin'));
  symlinkSync(process.execPath, join(root, 'bin', 'node'));
  npm('');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const write = (file: string, content: string): void => writeFileSync(join(checkout, file), content);

const say = (word: string): string =>
  `const words: string[] = ['${word}', ...process.argv.slice(2), process.cwd()];
   console.log(words.join('|'));`;

/** An npm that notes its call, does `lines`, and brings the compiler. */
function npm(lines: string): void {
  const modules = join(packageRoot(), 'node_modules');
  executable(
    'npm',
    `echo "$*" >>'${root}/npm-calls'
    ${lines}
    rm -rf '${checkout}/node_modules'
    mkdir -p '${checkout}/node_modules'
    ln -s '${modules}/typescript' '${modules}/@typescript' '${modules}/@types' '${checkout}/node_modules/'`,
  );
}

function executable(name: string, lines: string): void {
  const file = join(root, 'bin', name);
  rmSync(file, { force: true });
  writeFileSync(file, `#!/bin/sh\n${lines}\n`);
  chmodSync(file, 0o755);
}

const environment = (): NodeJS.ProcessEnv => ({ PATH: `${join(root, 'bin')}:/usr/bin:/bin` });

function run(args: readonly string[] = [], more: { program?: string; path?: string } = {}) {
  const result = spawnSync(more.program ?? join(checkout, 'codegod'), args, {
    cwd: root,
    encoding: 'utf8',
    timeout: 60_000,
    env: more.path === undefined ? environment() : { PATH: more.path },
  });
  return { status: result.status, stdout: result.stdout.trim(), stderr: result.stderr };
}

const npmCalls = (): number => {
  const log = join(root, 'npm-calls');
  return existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n').length : 0;
};

/** Makes a file's last change one that comes after any build so far. */
function touch(file: string): void {
  const later = new Date(Date.now() + 2_000);
  utimesSync(join(checkout, file), later, later);
}

describe('the front door of a fresh checkout', () => {
  it('installs, builds and runs, keeping arguments and folder', () => {
    const first = run(['build', 'a b', '']);
    assert.equal(first.stdout, `one|build|a b||${root}`);
    assert.equal(first.stderr.split('\n').length, 3, 'one line per step');
    assert.equal(npmCalls(), 1);
    assert.match(readFileSync(join(root, 'npm-calls'), 'utf8'), / ci .*--ignore-scripts/);
  });

  it('hides the secret of a join from the list of processes before it does anything', () => {
    if (process.platform !== 'linux') return;
    npm(`grep -l 'SUSEC[R]ET' /proc/[0-9]*/cmdline >>'${root}/seen' 2>/dev/null`);
    write(
      'cli/main.ts',
      "console.log(process.env['CODEGOD_JOIN_TOKEN'], ...process.argv.slice(2))",
    );
    for (const token of [['--token', 'SUSECRET'], ['--token=SUSECRET']]) {
      const { stdout } = run(['join', 'nats://a b:4222', ...token, '-d']);
      assert.equal(stdout, 'SUSECRET join nats://a b:4222 -d');
    }
    assert.equal(readFileSync(join(root, 'seen'), 'utf8'), '');
    for (const args of [['--token', '-'], ['--token-file', 'f'], ['--token'], []]) {
      assert.equal(run(['join', 'u', ...args]).stdout, ['undefined join u', ...args].join(' '));
    }
  });

  it('says and does nothing the second time', () => {
    run();
    assert.deepEqual(run(), { status: 0, stdout: `one|${root}`, stderr: '' });
    assert.equal(npmCalls(), 1);
  });

  it('is found through symbolic links', () => {
    mkdirSync(join(root, 'links'));
    symlinkSync('../the checkout/codegod', join(root, 'links', 'inner'));
    symlinkSync(join(root, 'links', 'inner'), join(root, 'links', 'outer'));
    assert.equal(run([], { program: join(root, 'links', 'outer') }).stdout, `one|${root}`);
  });

  it('gives back the exit code of the program', () => {
    write('cli/main.ts', 'process.exitCode = 7;');
    assert.equal(run().status, 7);
  });
});

describe('a checkout that changed', () => {
  it('is built again when a source was edited', () => {
    run();
    write('cli/main.ts', say('two'));
    touch('cli/main.ts');
    assert.equal(run().stdout, `two|${root}`);
    assert.equal(npmCalls(), 1);
  });

  it('forgets what was built from a source that is gone', () => {
    write('cli/other.ts', 'export const other = 1;');
    run();
    assert(existsSync(join(checkout, 'dist', 'cli', 'other.js')));
    rmSync(join(checkout, 'cli', 'other.ts'));
    touch('cli');
    run();
    assert.equal(existsSync(join(checkout, 'dist', 'cli', 'other.js')), false);
  });

  it('is installed and built again when the lock file changed', () => {
    run();
    write('package-lock.json', '{"lockfileVersion":3,"name":"codegod"}');
    const { stderr } = run();
    assert.equal(npmCalls(), 2);
    assert.match(stderr, /installing[\s\S]*building/);
  });

  it('is installed again when somebody removed node_modules', () => {
    run();
    rmSync(join(checkout, 'node_modules'), { recursive: true });
    assert.equal(run().status, 0);
    assert.equal(npmCalls(), 2);
  });
});

describe('a step that fails', () => {
  it('shows the end of its log, and is tried again next time', () => {
    npm('echo "network is down" >&2; exit 1');
    const { status, stderr } = run();
    assert.equal(status, 3);
    assert.match(stderr, /network is down[\s\S]*could not be installed[\s\S]*install\.log/);
    npm('');
    assert.equal(run().status, 0);
  });

  it('of the compiler leaves the old build as it was', () => {
    run();
    write('cli/main.ts', 'const = ;');
    touch('cli/main.ts');
    const { status, stderr } = run();
    assert.equal(status, 3);
    assert.match(stderr, /main\.ts[\s\S]*do not compile/);
    assert.match(readFileSync(join(checkout, 'dist', 'cli', 'main.js'), 'utf8'), /one/);
  });
});

describe('several at once', () => {
  it('prepare the checkout once', async () => {
    npm('sleep 0.3');
    const runs = [1, 2, 3].map(number => start([String(number)]));
    const outputs = await Promise.all(runs.map(({ ended }) => ended));
    assert.deepEqual(outputs.sort(), [`one|1|${root}`, `one|2|${root}`, `one|3|${root}`]);
    assert.equal(npmCalls(), 1);
  });

  it('wait for the step that a killed one left running, then go on', async () => {
    const release = join(root, 'release');
    npm(`while [ ! -e '${release}' ]; do sleep 0.1; done`);
    const first = start([]);
    while (npmCalls() === 0) await new Promise(resolve => setTimeout(resolve, 50));
    first.child.kill('SIGKILL');
    const second = start([]);
    await new Promise(resolve => setTimeout(resolve, 1_500));
    assert.equal(npmCalls(), 1, 'nobody installs beside the first, which still does');
    writeFileSync(release, '');
    assert.equal(await second.ended, `one|${root}`);
  });

  it('do not wait for one that is dead', () => {
    mkdirSync(join(checkout, '.cache', 'setup.lock'), { recursive: true });
    const dead = spawnSync('true').pid;
    appendFileSync(join(checkout, '.cache', 'setup.lock', 'pids'), `${dead}\n`);
    assert.equal(run().stdout, `one|${root}`);
    assert.equal(existsSync(join(checkout, '.cache', 'setup.lock')), false);
  });

  function start(args: readonly string[]): { child: ChildProcess; ended: Promise<string> } {
    const child = spawn(join(checkout, 'codegod'), args, {
      cwd: root,
      env: environment(),
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', text => {
      output += text;
    });
    const ended = new Promise<string>(resolve => child.once('close', () => resolve(output.trim())));
    return { child, ended };
  }
});

describe('a machine that lacks something', () => {
  /** A search path with these programs of the system and what the test puts there. */
  function without(...missing: readonly string[]): string {
    const bin = join(root, 'bare');
    mkdirSync(bin);
    const names = ['sh', 'dirname', 'readlink', 'cat', 'cksum', 'uname', 'find', 'git', 'mkdir'];
    for (const name of [...names, 'rm', 'mv', 'tail', 'sleep']) {
      const path = spawnSync('sh', ['-c', `command -v ${name}`], {
        encoding: 'utf8',
      }).stdout.trim();
      if (!missing.includes(name)) symlinkSync(path, join(bin, name));
    }
    if (!missing.includes('node')) symlinkSync(process.execPath, join(bin, 'node'));
    return bin;
  }

  for (const [name, remedy] of [
    ['git', /git is missing[\s\S]*apt-get install git/],
    ['node', /Node\.js is missing; version 20\.19[\s\S]*nodejs\.org/],
    ['npm', /npm is missing/],
  ] as const) {
    it(`is told about ${name} and how to get it`, () => {
      const { status, stderr } = run([], { path: without(name) });
      assert.equal(status, 3);
      assert.match(stderr, remedy);
    });
  }

  for (const [version, expected] of [
    ['v18.20.4', /Node\.js v18\.20\.4 is too old; version 20\.19/],
    ['v20.18.3', /too old/],
    ['banana', /which is no version/],
  ] as const) {
    it(`is refused with Node.js ${version}`, () => {
      executable('node', `echo ${version}`);
      const { status, stderr } = run();
      assert.equal(status, 3);
      assert.match(stderr, expected);
    });
  }
});

const NOBODY = ['--reuid=65534', '--regid=65534', '--clear-groups'];

it('a finished checkout runs for a user who may not write there', {
  skip: !canActAsNobody(),
}, () => {
  assert.equal(run().status, 0);
  for (const folder of [root, dirname(checkout), checkout]) chmodSync(folder, 0o755);
  // The folder of temporary files may be a private one; others need to pass through it.
  const { mode } = statSync(tmpdir());
  if ((mode & 0o001) === 0) chmodSync(tmpdir(), (mode & 0o777) | 0o011);
  const asNobody = () => run([...NOBODY, join(checkout, 'codegod')], { program: 'setpriv' });
  assert.deepEqual(asNobody(), { status: 0, stdout: `one|${root}`, stderr: '' });
  touch('cli/main.ts');
  const refused = asNobody();
  assert.equal(refused.status, 3);
  assert.match(refused.stderr, /not ready to run, and you may not write there/);
});

/** Needs root, util-linux, and a Node.js outside of root's own folder. */
function canActAsNobody(): boolean {
  return spawnSync('setpriv', [...NOBODY, process.execPath, '--version']).status === 0;
}
