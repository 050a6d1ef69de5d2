/**
 * Private Python environments, installed from hash-locked requirements: `tools` holds the bus server
 * and the Python tool servers, `checks` what a generated Python project needs to be tested.
 *
 * T1: an environment's folder carries the hash of its requirements. A changed lock makes a new one;
 *     the old one stays whole for whoever still runs from it.
 * T2: an environment counts only with its `.complete` marker, written last. A half-made folder is
 *     removed and made again. (It is made in place: environments do not survive being moved.)
 * T3: processes that want the same environment at once wait for the one that builds it.
 * T4: only wheels are installed, and only with the hashes of the lock: nothing is compiled, and no
 *     install script of a package runs.
 */
import { createHash } from 'node:crypto';
import { accessSync, existsSync, readFileSync, rmSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { CodeGodError } from '../protocol/errors.ts';
import { findPython, lastLine, type Python } from './find-python.ts';
import { packageRoot } from './paths.ts';
import { withProcessLock } from './process-lock.ts';
import { runProgram } from './run-program.ts';

export interface EnvironmentOptions {
  readonly name: 'tools' | 'checks';
  /** Default: tools/requirements.txt or tools/checks.txt of the checkout. */
  readonly requirementsFile?: string;
  /** The folder that holds all environments. */
  readonly dir: string;
  /** The user's environment: search path, proxies, package mirrors and certificates count. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** One sentence per step that takes noticeable time. */
  readonly onProgress?: (sentence: string) => void;
  readonly signal?: AbortSignal | undefined;
}

export interface PythonEnvironment {
  /** Absolute path of the environment's interpreter. */
  readonly python: string;
  /** The folder of its programs: `nats-server`, `mcp-server-git`, `pytest`. */
  readonly bin: string;
}

const INSTALL_TIMEOUT_MS = 300_000;
const APT_TIMEOUT_MS = 180_000;
const WAIT_FOR_OTHER_MS = 600_000;

/** Where an environment is or would be; null while there is no complete one. Touches nothing. */
export function findEnvironment(
  options: Pick<EnvironmentOptions, 'name' | 'requirementsFile' | 'dir'>,
): PythonEnvironment | null {
  const found = environmentAt(folderOf(options));
  return existsSync(join(dirname(found.bin), '.complete')) && works(found.python) ? found : null;
}

/**
 * The environment, made now if need be. Throws CodeGodError `dependency_missing`, whose hint is the
 * one command to run, when there is no usable Python and none can be obtained.
 */
export async function ensureEnvironment(options: EnvironmentOptions): Promise<PythonEnvironment> {
  const ready = findEnvironment(options);
  if (ready) return ready;
  const folder = folderOf(options);
  const lock = {
    waitMs: WAIT_FOR_OTHER_MS,
    signal: options.signal,
    onWait: (holder: { pid: number }) =>
      options.onProgress?.(`waiting for process ${holder.pid}, which installs the same`),
  };
  return await withProcessLock(`${folder}.lock`, lock, async () => {
    const madeByOther = findEnvironment(options);
    if (madeByOther) return madeByOther;
    rmSync(folder, { recursive: true, force: true });
    options.onProgress?.(`installing the Python environment "${options.name}"`);
    const installer = await install(folder, options);
    const made = environmentAt(folder);
    await writeFile(join(folder, '.complete'), `${installer}\n`);
    return made;
  });
}

function requirementsOf(options: Pick<EnvironmentOptions, 'name' | 'requirementsFile'>): string {
  const file = options.name === 'tools' ? 'requirements.txt' : 'checks.txt';
  return options.requirementsFile ?? join(packageRoot(), 'tools', file);
}

/** T1. */
function folderOf(options: Pick<EnvironmentOptions, 'name' | 'requirementsFile' | 'dir'>): string {
  return join(options.dir, `${options.name}-${hashOf(requirementsOf(options))}`);
}

function hashOf(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex').slice(0, 12);
}

function environmentAt(folder: string): PythonEnvironment {
  return process.platform === 'win32'
    ? { python: join(folder, 'Scripts', 'python.exe'), bin: join(folder, 'Scripts') }
    : { python: join(folder, 'bin', 'python'), bin: join(folder, 'bin') };
}

/** False for the dangling link that is left when the system's Python was replaced. */
function works(python: string): boolean {
  try {
    accessSync(python);
    return true;
  } catch {
    return false; // Whatever the reason, it is not usable and will be made again.
  }
}

/** Each way in turn, fastest first. Returns how it was done; throws with all reasons. */
async function install(folder: string, options: EnvironmentOptions): Promise<string> {
  const tried: string[] = [];
  let python = await findPython(options.env, tried, options.signal);
  let way = python && (await installWith(python, folder, options, tried));
  if (!way && !python?.hasEnsurepip) {
    python = await aptInstallPython(options, tried);
    way = python && (await installWith(python, folder, options, tried));
  }
  if (way) return way;
  if (!python?.hasEnsurepip) throw noPython(tried);
  throw new CodeGodError(
    'dependency_missing',
    `the Python environment "${options.name}" cannot be installed: ${tried.join('; ')}`,
    {
      hint: 'see that a package index can be reached: PIP_INDEX_URL and the proxy variables count',
      details: { tried },
    },
  );
}

async function installWith(
  python: Python,
  folder: string,
  options: EnvironmentOptions,
  tried: string[],
): Promise<'uv' | 'pip' | null> {
  const uv = (await uvOnPath(options)) ?? (await obtainUv(python, options, tried));
  if (uv && (await installWithUv(uv, python, folder, options, tried))) return 'uv';
  if (!python.hasEnsurepip) tried.push(`${python.path}: has no ensurepip`);
  else if (await installWithPip(python, folder, options, tried)) return 'pip';
  return null;
}

async function uvOnPath(options: EnvironmentOptions): Promise<string | null> {
  const result = await run('uv', ['--version'], options, 10_000);
  return result.failure === null ? 'uv' : null;
}

/**
 * Our own copy of uv, hash-locked like the rest and kept beside the environments. Fetching it with
 * pip and then using it is several times faster than installing with pip.
 */
async function obtainUv(
  python: Python,
  options: EnvironmentOptions,
  tried: string[],
): Promise<string | null> {
  const lock = join(packageRoot(), 'tools', 'uv.txt');
  const folder = join(options.dir, `uv-${hashOf(lock)}`);
  const uv = join(folder, 'bin', process.platform === 'win32' ? 'uv.exe' : 'uv');
  const waiting = { waitMs: WAIT_FOR_OTHER_MS, signal: options.signal };
  return await withProcessLock(`${folder}.lock`, waiting, async () => {
    if (existsSync(join(folder, '.complete'))) return uv;
    rmSync(folder, { recursive: true, force: true });
    const args = ['-m', 'pip', 'install', ...PIP_FLAGS, '--target', folder, '-r', lock];
    let pip = python.path;
    if (!python.hasPip) {
      if (!python.hasEnsurepip) return null;
      const venv = join(folder, 'pip');
      const step = ['-m', 'venv', venv];
      if (!(await allSucceed('venv', pip, [step], folder, options, tried))) return null;
      pip = environmentAt(venv).python;
    }
    if (!(await allSucceed('uv by pip', pip, [args], folder, options, tried))) return null;
    await writeFile(join(folder, '.complete'), '');
    return uv;
  });
}

// Every package and its hash are in the lock, so there is nothing to resolve (--no-deps). Compiling
// 100 MB of Python in advance takes longer than the rest of the installation (--no-compile).
const PIP_FLAGS = [
  '--quiet',
  '--disable-pip-version-check',
  '--no-input',
  '--no-compile',
  '--no-deps',
  '--require-hashes',
  '--only-binary=:all:',
];

async function installWithUv(
  uv: string,
  python: Python,
  folder: string,
  options: EnvironmentOptions,
  tried: string[],
): Promise<boolean> {
  const steps = [
    ['venv', '--quiet', '--no-project', '--no-config', '--python', python.path, folder],
    [
      ...['pip', 'install', '--quiet', '--no-deps', '--require-hashes', '--only-binary', ':all:'],
      ...['--python', environmentAt(folder).python, '-r', requirementsOf(options)],
    ],
  ];
  return await allSucceed('uv', uv, steps, folder, options, tried);
}

async function installWithPip(
  python: Python,
  folder: string,
  options: EnvironmentOptions,
  tried: string[],
): Promise<boolean> {
  const made = await allSucceed(
    'venv',
    python.path,
    [['-m', 'venv', folder]],
    folder,
    options,
    tried,
  );
  if (!made) return false;
  const args = ['-m', 'pip', 'install', ...PIP_FLAGS, '-r', requirementsOf(options)];
  return await allSucceed('pip', environmentAt(folder).python, [args], folder, options, tried);
}

/** Runs the steps in order; a failed one is noted in `tried` and leaves no folder behind (T2). */
async function allSucceed(
  name: string,
  program: string,
  steps: readonly (readonly string[])[],
  folder: string,
  options: EnvironmentOptions,
  tried: string[],
): Promise<boolean> {
  await mkdir(dirname(folder), { recursive: true, mode: 0o700 });
  for (const args of steps) {
    const result = await run(program, args, options, INSTALL_TIMEOUT_MS);
    if (result.failure === null) continue;
    tried.push(`${name}: ${lastLine(result.failure)}`);
    await rm(folder, { recursive: true, force: true });
    return false;
  }
  return true;
}

/** Debian and its children, as root: Python itself or the missing half of it. */
async function aptInstallPython(
  options: EnvironmentOptions,
  tried: string[],
): Promise<Python | null> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return null;
  const apt = await run('apt-get', ['--version'], options, 10_000);
  if (apt.failure !== null) return null;
  options.onProgress?.('installing the system package python3-venv with apt-get');
  const args = ['install', '-y', '--no-install-recommends', 'python3', 'python3-venv'];
  let result = await run('apt-get', args, options, APT_TIMEOUT_MS);
  if (result.failure !== null) {
    // A fresh container has no package lists yet.
    await run('apt-get', ['update'], options, APT_TIMEOUT_MS);
    result = await run('apt-get', args, options, APT_TIMEOUT_MS);
  }
  if (result.failure !== null) {
    tried.push(`apt-get: ${lastLine(result.failure)}`);
    return null;
  }
  return await findPython(options.env, tried, options.signal);
}

function noPython(tried: readonly string[]): CodeGodError {
  const hint: Partial<Record<NodeJS.Platform, string>> = {
    darwin: 'brew install python@3.13',
    win32: 'winget install Python.Python.3.13',
    linux: 'sudo apt-get install -y python3 python3-venv (or the same with your package manager)',
  };
  return new CodeGodError(
    'dependency_missing',
    `a Python of version 3.10 or newer that can make environments is needed: ${tried.join('; ')}`,
    { hint: hint[process.platform] ?? 'install Python 3.10 or newer', details: { tried } },
  );
}

function run(
  program: string,
  args: readonly string[],
  options: EnvironmentOptions,
  timeoutMs: number,
): ReturnType<typeof runProgram> {
  const env = installerEnvironment(options.env);
  return runProgram(program, args, { env, timeoutMs, signal: options.signal });
}

/**
 * The user's environment, so that proxies, mirrors and certificates hold; what pip has been told
 * counts for uv too. An active environment of the user's must not attract our packages.
 */
function installerEnvironment(
  env: Readonly<Record<string, string | undefined>>,
): Record<string, string | undefined> {
  return {
    ...env,
    UV_DEFAULT_INDEX: env['UV_DEFAULT_INDEX'] ?? env['UV_INDEX_URL'] ?? env['PIP_INDEX_URL'],
    UV_INDEX: env['UV_INDEX'] ?? env['UV_EXTRA_INDEX_URL'] ?? env['PIP_EXTRA_INDEX_URL'],
    UV_FIND_LINKS: env['UV_FIND_LINKS'] ?? env['PIP_FIND_LINKS'],
    SSL_CERT_FILE: env['SSL_CERT_FILE'] ?? env['PIP_CERT'],
    UV_NO_PROGRESS: '1',
    DEBIAN_FRONTEND: 'noninteractive',
    VIRTUAL_ENV: undefined,
    PYTHONHOME: undefined,
    PYTHONPATH: undefined,
    PIP_REQUIRE_VIRTUALENV: undefined,
    PIP_USER: undefined,
    PIP_TARGET: undefined,
  };
}
