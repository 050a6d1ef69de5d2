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
 * T5: what pip and uv are told elsewhere (variables, pip.conf, uv.toml) counts where it says how
 *     packages are found, and does not where it says what is done with them: `user`, `target`,
 *     `prefix` and their kind would put them into another folder.
 */
import { createHash } from 'node:crypto';
import { accessSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { CodeGodError } from '../protocol/errors.ts';
import { installerEnvironment } from './config-environment.ts';
import { findPython, lastLine, type Python } from './find-python.ts';
import { packageRoot } from './paths.ts';
import { pipVariables, uvFindsByFile } from './pip-settings.ts';
import { withProcessLock } from './process-lock.ts';
import { removeTree } from './remove-tree.ts';
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
    await removeTree(folder);
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

/** One installation under way. */
interface Job {
  readonly folder: string;
  readonly options: EnvironmentOptions;
  /** Why each way that was tried did not work. */
  readonly tried: string[];
}

type Command = readonly [program: string, ...args: string[]];

/** Each way in turn, fastest first. Returns how it was done; throws with all reasons. */
async function install(folder: string, options: EnvironmentOptions): Promise<string> {
  const tried: string[] = [];
  const job = { folder, options, tried };
  let python = await findPython(options.env, tried, options.signal);
  let way = python && (await installWith(python, job));
  if (!way && !python?.hasEnsurepip) {
    python = await aptInstallPython(job);
    way = python && (await installWith(python, job));
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

async function installWith(python: Python, job: Job): Promise<'uv' | 'pip' | null> {
  const uv = (await uvOnPath(job)) ?? (await obtainUv(python, job));
  if (uv && (await installWithUv(uv, python, job))) return 'uv';
  if (!python.hasEnsurepip) job.tried.push(`${python.path}: has no ensurepip`);
  else if (await installWithPip(python, job)) return 'pip';
  return null;
}

async function uvOnPath(job: Job): Promise<Command | null> {
  const result = await run(['uv', '--version'], job, 10_000);
  return result.failure === null ? ['uv'] : null;
}

/**
 * Our own copy of uv, hash-locked like the rest and kept beside the environments. Fetching it with
 * pip and then using it is several times faster than installing with pip. It leaves no cache behind,
 * which nobody else would ever use.
 */
async function obtainUv(python: Python, job: Job): Promise<Command | null> {
  const lock = join(packageRoot(), 'tools', 'uv.txt');
  const folder = join(job.options.dir, `uv-${hashOf(lock)}`);
  const uv = join(folder, 'bin', process.platform === 'win32' ? 'uv.exe' : 'uv');
  const waiting = { waitMs: WAIT_FOR_OTHER_MS, signal: job.options.signal };
  return await withProcessLock(`${folder}.lock`, waiting, async () => {
    if (existsSync(join(folder, '.complete'))) return [uv, '--no-cache'];
    await removeTree(folder);
    let pip = python.path;
    const uvJob = { ...job, folder };
    if (!python.hasPip) {
      if (!python.hasEnsurepip) return null;
      const venv = join(folder, 'pip');
      if (!(await allSucceed('venv', [[pip, '-m', 'venv', venv]], uvJob))) return null;
      pip = environmentAt(venv).python;
    }
    const args = ['install', ...PIP_FLAGS, '--target', folder, '-r', lock];
    if (!(await allSucceed('uv by pip', [[pip, '-m', 'pip', ...args]], uvJob))) return null;
    await writeFile(join(folder, '.complete'), '');
    return [uv, '--no-cache'];
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

async function installWithUv(uv: Command, python: Python, job: Job): Promise<boolean> {
  const venv = ['venv', '--quiet', '--no-project', '--no-config', '--python', python.path];
  const config = uvFindsByFile(job.options.env) ? [] : ['--no-config'];
  const install = ['pip', 'install', ...config, '--quiet', '--no-deps', '--require-hashes'];
  const target = ['--only-binary', ':all:', '--python', environmentAt(job.folder).python];
  const steps: Command[] = [
    [...uv, ...venv, job.folder],
    [...uv, ...install, ...target, '-r', requirementsOf(job.options)],
  ];
  return (await allSucceed('uv', steps, job)) && (await holdsPackages('uv', job));
}

async function installWithPip(python: Python, job: Job): Promise<boolean> {
  const made = await allSucceed('venv', [[python.path, '-m', 'venv', job.folder]], job);
  if (!made) return false;
  const pip = environmentAt(job.folder).python;
  const args = ['install', ...PIP_FLAGS, '-r', requirementsOf(job.options)];
  const done = await allSucceed('pip', [[pip, '-m', 'pip', ...args]], job);
  return done && (await holdsPackages('pip', job));
}

/** T5: whether what the lock names without a condition has come to lie in the environment. */
async function holdsPackages(name: string, job: Job): Promise<boolean> {
  const plain = (text: string): string => text.toLowerCase().replaceAll(/[-_.]+/g, '_');
  const lock = readFileSync(requirementsOf(job.options), 'utf8');
  const wanted = [...lock.matchAll(/^([\w.-]+)==([^\s;\\]+)(?!.*;)/gm)].map(
    ([, project = '', version = '']) => `${plain(project)}-${version}.dist-info`,
  );
  const found = new Set(packagesIn(job.folder).map(name => name.replace(/^[^-]+/, plain)));
  const missing = wanted.filter(one => !found.has(one));
  if (missing.length === 0) return true;
  job.tried.push(`${name}: ${missing.length} packages did not come into the environment`);
  await removeTree(job.folder);
  return false;
}

function packagesIn(folder: string): string[] {
  const lib = join(folder, process.platform === 'win32' ? 'Lib' : 'lib');
  if (!existsSync(lib)) return [];
  const versions = process.platform === 'win32' ? ['.'] : readdirSync(lib);
  return versions
    .map(version => join(lib, version, 'site-packages'))
    .filter(packages => existsSync(packages))
    .flatMap(packages => readdirSync(packages));
}

/** Runs the steps in order; a failed one is noted in `tried` and leaves no folder behind (T2). */
async function allSucceed(name: string, steps: readonly Command[], job: Job): Promise<boolean> {
  await mkdir(dirname(job.folder), { recursive: true, mode: 0o700 });
  for (const command of steps) {
    const result = await run(command, job, INSTALL_TIMEOUT_MS);
    if (result.failure === null) continue;
    job.tried.push(`${name}: ${lastLine(result.failure)}`);
    await removeTree(job.folder);
    return false;
  }
  return true;
}

/** Debian and its children, as root: Python itself or the missing half of it. */
async function aptInstallPython(job: Job): Promise<Python | null> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return null;
  const apt = await run(['apt-get', '--version'], job, 10_000);
  if (apt.failure !== null) return null;
  job.options.onProgress?.('installing the system package python3-venv with apt-get');
  const packages = ['--no-install-recommends', 'python3', 'python3-venv'];
  const command: Command = ['apt-get', 'install', '-y', ...packages];
  let result = await run(command, job, APT_TIMEOUT_MS);
  if (result.failure !== null) {
    // A fresh container has no package lists yet.
    await run(['apt-get', 'update'], job, APT_TIMEOUT_MS);
    result = await run(command, job, APT_TIMEOUT_MS);
  }
  if (result.failure !== null) {
    job.tried.push(`apt-get: ${lastLine(result.failure)}`);
    return null;
  }
  return await findPython(job.options.env, job.tried, job.options.signal);
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

function run(command: Command, job: Job, timeoutMs: number): ReturnType<typeof runProgram> {
  const [program, ...args] = command;
  const { env, signal } = job.options;
  return runProgram(program, args, {
    env: isolatedEnvironment(env),
    cwd: job.options.dir, // A project that the user stands in may hold a configuration for uv.
    timeoutMs,
    signal,
  });
}

/**
 * The user's environment, so that proxies, mirrors and certificates hold; what pip has been told
 * counts for uv too. Where it would lead packages elsewhere, it does not count (T5).
 */
function isolatedEnvironment(
  env: Readonly<Record<string, string | undefined>>,
): Record<string, string | undefined> {
  const kept = { ...installerEnvironment(env), ...pipVariables(env) };
  return {
    ...kept,
    UV_DEFAULT_INDEX: kept['UV_DEFAULT_INDEX'] ?? kept['UV_INDEX_URL'] ?? kept['PIP_INDEX_URL'],
    UV_INDEX: kept['UV_INDEX'] ?? kept['UV_EXTRA_INDEX_URL'] ?? kept['PIP_EXTRA_INDEX_URL'],
    UV_FIND_LINKS: kept['UV_FIND_LINKS'] ?? kept['PIP_FIND_LINKS'],
    SSL_CERT_FILE: kept['SSL_CERT_FILE'] ?? kept['PIP_CERT'],
    UV_NO_PROGRESS: '1',
    DEBIAN_FRONTEND: 'noninteractive',
  };
}
