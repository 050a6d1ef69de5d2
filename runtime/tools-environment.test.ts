/**
 * Environments on machines made of scripts: a folder of fake programs is the whole search path, and
 * every call they get is logged. The last test installs the real thing.
 */
import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { CodeGodError } from '../protocol/errors.ts';
import { loadConfig, wholeEnvironment } from './config.ts';
import { runProgram } from './run-program.ts';
import {
  type EnvironmentOptions,
  ensureEnvironment,
  findEnvironment,
} from './tools-environment.ts';

let root: string;
let said: string[];
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'codegod environments '));
  said = [];
  mkdirSync(join(root, 'bin'));
  writeFileSync(join(root, 'requirements.txt'), 'thing==1.0 --hash=sha256:00\n');
  writeFileSync(join(root, 'calls'), '');
  program('venv-python', `[ "$2" != pip ] || install_into "\${0%/bin/*}"`);
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function program(name: string, lines: string): void {
  const file = join(root, 'bin', name);
  writeFileSync(
    file,
    `#!/bin/sh
    ROOT='${root}' CALLS='${root}/calls' PATH=/usr/bin:/bin
    echo "${name} $*" >>"$CALLS"
    echo "told \${PIP_USER:-} \${PIP_TARGET:-} \${PYTHONPATH:-} \${UV_SYSTEM_PYTHON:-}." >>"$CALLS"
    install_into() {
      mkdir -p "$1/lib/python3.11/site-packages"
      for one in $(sed -n 's/^\\([a-z]*\\)==\\([0-9.]*\\).*/\\1-\\2/p' "$ROOT/requirements.txt"); do
        mkdir "$1/lib/python3.11/site-packages/$one.dist-info"
      done
    }
    ${lines}\n`,
  );
  chmodSync(file, 0o755);
}

/** What `-m venv` and `uv venv` leave: a folder with an interpreter that takes what pip is told. */
const MAKE_VENV = `make_venv() {
  mkdir -p "$1/bin"
  cp "$ROOT/bin/venv-python" "$1/bin/python"
  chmod 755 "$1/bin/python"
}`;

interface FakePython {
  readonly version?: string;
  readonly pip?: boolean;
  readonly ensurepip?: boolean;
  /** Whether pip finds what it is asked for. */
  readonly index?: boolean;
  /** What `-m venv` says when it fails. */
  readonly venvFailure?: string;
}

function python(fake: FakePython = {}): void {
  const { version = '[3, 11, 2]', pip = true, ensurepip = true, index = true } = fake;
  const { venvFailure = '' } = fake;
  const answer = JSON.stringify([
    join(root, 'bin', 'python3'),
    JSON.parse(version),
    pip,
    ensurepip,
  ]);
  program(
    'python3',
    `${MAKE_VENV}
    case "$1 $2" in
      "-I -c") echo '${answer}' ;;
      "-m venv") make_venv "$3"; ${venvFailure && `echo "${venvFailure}" >&2; exit 1`} ;;
      "-m pip") ${index ? '' : 'echo "no index" >&2; exit 1'}
        while [ "$1" != --target ]; do shift; done
        mkdir -p "$2/bin"; cp '${root}/uv-program' "$2/bin/uv" ;;
    esac`,
  );
}

const UV = `[ "$1" != --no-cache ] || shift
case $1 in
  venv) for last; do :; done; make_venv "$last" ;;
  pip) echo "index \${UV_DEFAULT_INDEX:-none} venv \${VIRTUAL_ENV:-none}" >>"$CALLS"
    while [ "$1" != --python ]; do shift; done
    [ -e "$ROOT/stray" ] || install_into "\${2%/bin/*}" ;;
esac`;

/** A uv that pip can install, and one on the search path if so wished. */
function uv(options: { onPath: boolean }): void {
  program('uv', `${MAKE_VENV}\n${UV}`);
  const text = readFileSync(join(root, 'bin', 'uv'), 'utf8');
  writeFileSync(join(root, 'uv-program'), text, { mode: 0o755 });
  if (!options.onPath) rmSync(join(root, 'bin', 'uv'));
}

function options(more: Partial<EnvironmentOptions> = {}): EnvironmentOptions {
  return {
    name: 'tools',
    requirementsFile: join(root, 'requirements.txt'),
    dir: join(root, 'environments'),
    env: { PATH: join(root, 'bin'), HOME: root },
    onProgress: sentence => said.push(sentence),
    ...more,
  };
}

const calls = (): string => readFileSync(join(root, 'calls'), 'utf8');

async function refusal(work: Promise<unknown>): Promise<CodeGodError> {
  try {
    await work;
  } catch (error) {
    assert(error instanceof CodeGodError);
    return error;
  }
  throw new Error('an environment was made');
}

describe('an environment', () => {
  it('is installed with the uv of the machine, from the lock alone', async () => {
    python();
    uv({ onPath: true });
    const made = await ensureEnvironment(options());
    assert(existsSync(made.python));
    assert.equal(made.python, join(made.bin, 'python'));
    assert.match(calls(), /uv pip install .*--no-deps --require-hashes --only-binary :all:/);
  });

  it('is found again without starting any program', async () => {
    python();
    uv({ onPath: true });
    const made = await ensureEnvironment(options());
    const before = calls();
    assert.deepEqual(await ensureEnvironment(options()), made);
    assert.deepEqual(findEnvironment(options()), made);
    assert.equal(calls(), before);
  });

  it('is another one when the requirements change, and the old one stays', async () => {
    python();
    uv({ onPath: true });
    const old = await ensureEnvironment(options());
    writeFileSync(join(root, 'requirements.txt'), 'thing==2.0 --hash=sha256:11\n');
    assert.equal(findEnvironment(options()), null);
    const fresh = await ensureEnvironment(options());
    assert.notEqual(fresh.bin, old.bin);
    assert(existsSync(old.python));
  });

  it('is installed with a uv of our own where the machine has none', async () => {
    python();
    uv({ onPath: false });
    await ensureEnvironment(options());
    assert.match(calls(), /python3 -m pip install .*--require-hashes .*--target .*uv-[0-9a-f]+ -r/);
    assert.match(calls(), /uv --no-cache venv/);
  });

  it('is installed with pip where uv cannot be had', async () => {
    python({ index: false });
    const made = await ensureEnvironment(options());
    assert.match(calls(), /venv-python -m pip install .*--require-hashes --only-binary=:all:/);
    assert.match(readFileSync(join(made.bin, '..', '.complete'), 'utf8'), /pip/);
  });

  it("heeds the user's package mirror, but no active environment of the user's", async () => {
    python();
    uv({ onPath: true });
    const { env } = options();
    const mirror = {
      ...env,
      PIP_INDEX_URL: 'https://mirror.example/simple',
      VIRTUAL_ENV: '/theirs',
    };
    await ensureEnvironment(options({ env: mirror }));
    assert.match(calls(), /index https:\/\/mirror\.example\/simple venv none/);
  });

  it('is put where it belongs, whatever pip and uv are told about other ones', async () => {
    python({ index: false });
    uv({ onPath: true });
    mkdirSync(join(root, '.config', 'pip'), { recursive: true });
    writeFileSync(
      join(root, '.config', 'pip', 'pip.conf'),
      '[global]\nindex-url = https://conf.example/simple\n[install]\nuser = true\ntarget = /theirs\n',
    );
    const theirs = { PIP_USER: '1', PIP_TARGET: '/x', PYTHONPATH: '/x', UV_SYSTEM_PYTHON: '1' };
    const env = { ...options().env, ...theirs };
    await ensureEnvironment(options({ env }));
    assert.match(calls(), /uv pip install --no-config /);
    assert.match(calls(), /index https:\/\/conf\.example\/simple /);
    for (const [, told] of calls().matchAll(/^told (.*)\.$/gm)) assert.equal(told?.trim(), '');
  });

  it('whose packages went elsewhere does not count', async () => {
    python({ index: false });
    uv({ onPath: true });
    mkdirSync(join(root, '.config', 'uv'), { recursive: true });
    const config = '[[index]]\nurl = "https://mirror.example"\n[pip]\ntarget = "/theirs"\n';
    writeFileSync(join(root, '.config', 'uv', 'uv.toml'), config);
    writeFileSync(join(root, 'stray'), '');
    const made = await ensureEnvironment(options());
    assert.match(calls(), /uv pip install --quiet/);
    assert.match(readFileSync(join(made.bin, '..', '.complete'), 'utf8'), /pip/);
  });

  it('that was left half made is made again', async () => {
    python();
    uv({ onPath: true });
    const made = await ensureEnvironment(options());
    rmSync(join(made.bin, '..', '.complete'));
    writeFileSync(join(made.bin, 'half-written'), '');
    assert.equal(findEnvironment(options()), null);
    await ensureEnvironment(options());
    assert.equal(existsSync(join(made.bin, 'half-written')), false);
    assert(existsSync(made.python));
  });

  it('whose interpreter went away with an upgrade is made again', async () => {
    python();
    uv({ onPath: true });
    const made = await ensureEnvironment(options());
    rmSync(made.python);
    assert.deepEqual(await ensureEnvironment(options()), made);
    assert(existsSync(made.python));
  });

  it('that many want at once is made once', async () => {
    python();
    uv({ onPath: true });
    const made = await Promise.all([1, 2, 3].map(() => ensureEnvironment(options())));
    assert.equal(new Set(made.map(({ python }) => python)).size, 1);
    assert.equal(calls().split('uv venv').length - 1, 1);
  });

  it('that cannot be installed leaves nothing behind and tells every reason', async () => {
    python({ venvFailure: 'disk quota exceeded' });
    program('uv', 'case $1 in pip) echo "no route to host" >&2; exit 2 ;; esac');
    const error = await refusal(ensureEnvironment(options()));
    assert.equal(error.code, 'dependency_missing');
    assert.match(error.message, /uv: no route to host; venv: disk quota exceeded/);
    assert.deepEqual(readdirSync(join(root, 'environments')), []);
  });
});

describe('a machine', () => {
  it('whose Python is too old is told which one it needs', async () => {
    python({ version: '[3, 9, 2]' });
    const error = await refusal(ensureEnvironment(options()));
    assert.match(error.message, /version 3\.9\.2 is older than 3\.10/);
    assert.match(error.hint ?? '', /python/i);
  });

  it('without any Python is told so', async () => {
    const error = await refusal(ensureEnvironment(options()));
    assert.match(error.message, /python3: not found/);
  });

  it('with an old python3 and a newer one beside it uses the newer one', async () => {
    python();
    uv({ onPath: true });
    const good = readFileSync(join(root, 'bin', 'python3'), 'utf8');
    writeFileSync(join(root, 'bin', 'python3.12'), good, { mode: 0o755 });
    python({ version: '[3, 9, 2]' });
    await ensureEnvironment(options());
  });

  const isRoot = process.getuid?.() === 0;

  it("with Debian's bare python3 gets what is missing, aloud", { skip: !isRoot }, async () => {
    python({ pip: true, ensurepip: true, index: false });
    const whole = readFileSync(join(root, 'bin', 'python3'), 'utf8');
    writeFileSync(join(root, 'whole'), whole, { mode: 0o755 });
    python({ pip: false, ensurepip: false });
    program('apt-get', `[ "$1" != install ] || cp '${root}/whole' '${root}/bin/python3'`);
    await ensureEnvironment(options());
    assert.match(calls(), /apt-get install -y .*python3-venv/);
    assert.match(said.join('\n'), /installing the system package python3-venv/);
  });

  it("with Debian's bare python3 and no way to complete it names the command", async () => {
    python({ pip: false, ensurepip: false });
    const error = await refusal(ensureEnvironment(options()));
    assert.equal(error.code, 'dependency_missing');
    assert.match(error.message, /has no ensurepip/);
    if (process.platform === 'linux') assert.match(error.hint ?? '', /apt-get install -y python3/);
  });
});

describe('the tools environment of this machine', () => {
  it('holds the bus server and the Python tool servers', { timeout: 300_000 }, async () => {
    const { paths } = loadConfig({ cwd: tmpdir() });
    const { python, bin } = await ensureEnvironment({
      name: 'tools',
      dir: join(paths.data, 'environments'),
      env: wholeEnvironment(),
    });
    const server = await runProgram(join(bin, 'nats-server'), ['--version'], { timeoutMs: 10_000 });
    assert.match(server.stdout, /^nats-server: v2\.15\.1/);
    const code = 'import mcp_server_fetch, mcp_server_git, mcp_server_time';
    const servers = await runProgram(python, ['-c', code], { timeoutMs: 60_000 });
    assert.equal(servers.failure, null);
  });
});
