/**
 * `test [word] [--retries N]`: runs the tests of this checkout, of the files whose path holds the word.
 *
 * T1  What the tests need is set up before: the Python environments, the bus server, and bubblewrap
 *     and iproute2 where this may install them. What cannot be had is said; the tests that need it
 *     then say so.
 * T2  The last line of the output is `N passed, N failed`. No test at all is a failure.
 * T3  With retries, files in which something failed are run again, alone, and their last run counts;
 *     each is named. Tests that kill processes and wait for others can fail where a machine stalls.
 * T4  Tests have a temporary folder of their own. What is left of them at the end, however they
 *     ended, is removed: the folder, what is mounted in it, and the processes that were started
 *     with it.
 * T5  A run that is cut short says which files were running; every run says which took longest.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { systemClock } from '../../runtime/clock.ts';
import { type Config, wholeEnvironment } from '../../runtime/config.ts';
import { findNatsServer } from '../../runtime/nats-server/find.ts';
import { modulePath, packageRoot, sourceLoader } from '../../runtime/paths.ts';
import { readIfThere } from '../../runtime/read-if-there.ts';
import { runProgram } from '../../runtime/run-program.ts';
import { startProgram } from '../../runtime/spawn.ts';
import { ensureEnvironment } from '../../runtime/tools-environment.ts';
import type { CommandContext } from '../context.ts';
import { CliError, EXIT, toFailure } from '../exit-code.ts';
import { onStopSignals } from '../stop-signals.ts';
import { signalProcess } from '../supervisor/supervisor.ts';
import { environmentsFolder } from '../supervisor/system.ts';
import type { Terminal } from '../terminal.ts';
import type { FileEvent } from '../test-files-reporter.ts';

const CONCURRENCY = 2;
const WALL_MS = 30 * 60_000;
const SLOWEST_SHOWN = 10;
const INSTALL_TIMEOUT_MS = 120_000;
const NOT_ROOMS: ReadonlySet<string> = new Set(['dist', 'node_modules']);

export interface TestOptions {
  /** How often files that failed are run again (T3): `0` to `3`. */
  readonly retries: string;
}

export async function runTests(
  context: CommandContext,
  word: string | undefined,
  { retries }: TestOptions,
): Promise<number> {
  const { terminal } = context;
  const startedAt = systemClock.monotonic();
  const files = testFiles(word);
  if (files.length === 0) throw new CliError('not_found', `no test file is named like ${word}`);
  const prepared = await prepare(await context.config(), terminal);
  const scratch = mkdtempSync(join(tmpdir(), 'codegod-test-'));
  const env = { ...prepared, TMPDIR: scratch };
  try {
    let run = await runNode(files, CONCURRENCY, env, terminal);
    for (let tries = 0; tries < Number(retries) && run.failedFiles.length > 0; tries += 1) {
      const again = run.failedFiles.map(file => resolve(packageRoot(), file));
      terminal.note(`failed, and run once more, alone: ${run.failedFiles.join(', ')}`);
      run = afterRetry(run, await runNode(again, 1, env, terminal));
    }
    const duration_ms = Math.round(systemClock.monotonic() - startedAt);
    for (const line of filesNote(run.events)) terminal.note(line); // T5
    const { passed, failed, skipped } = run;
    const result = { passed, failed, skipped, files: files.length, duration_ms };
    terminal.result(result, () => `${passed} passed, ${failed} failed`); // T2
    if (run.exitCode === null) return EXIT.timeout;
    return run.exitCode === 0 && failed === 0 && passed > 0 ? EXIT.ok : EXIT.failed;
  } finally {
    endProcessesWith(`TMPDIR=${scratch}`); // T4
    await unmountUnder(scratch);
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Disks of limited size, of tests that were ended before they could take them away. */
async function unmountUnder(folder: string): Promise<void> {
  const mounts = readIfThere('/proc/self/mounts') ?? '';
  for (const line of mounts.split('\n').reverse()) {
    const [, place = ''] = line.split(' ');
    if (place.startsWith(`${folder}/`))
      await runProgram('umount', ['-l', place], { timeoutMs: 5_000 });
  }
}

/** Where the system tells the environment of processes, that is on Linux. */
function endProcessesWith(variable: string): void {
  if (process.platform !== 'linux') return;
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry) || Number(entry) === process.pid) continue;
    if (environmentOf(entry).includes(variable)) signalProcess(Number(entry), 'SIGKILL');
  }
}

function environmentOf(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
  } catch {
    return []; // It has ended, or is not ours.
  }
}

/** Of dist/, only those whose source is still there; of the sources where we run from them. */
function testFiles(word = ''): string[] {
  const root = packageRoot();
  return readdirSync(root)
    .filter(room => !NOT_ROOMS.has(room) && !room.startsWith('.'))
    .filter(room => statSync(join(root, room)).isDirectory())
    .flatMap(room =>
      readdirSync(join(root, room), { recursive: true, encoding: 'utf8' }).map(file =>
        join(room, file),
      ),
    )
    .filter(file => file.endsWith('.test.ts') && file.includes(word))
    .map(modulePath)
    .filter(file => existsSync(file))
    .sort();
}

/** T1. Answers the environment of the tests. */
async function prepare(
  config: Config,
  terminal: Terminal,
): Promise<Record<string, string | undefined>> {
  // A suite that a git hook starts would work in the repository of that hook.
  const env = Object.fromEntries(
    Object.entries(wholeEnvironment()).filter(([name]) => !name.startsWith('GIT_')),
  );
  const dir = environmentsFolder(config);
  const onProgress = (sentence: string): void => terminal.note(sentence);
  const made: Record<string, string> = {};
  const tools = ensureEnvironment({ name: 'tools', dir, env, onProgress });
  const attempt = async (what: string, work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      const { message, hint } = toFailure(error);
      terminal.note(`${what}: ${message}${hint === null ? '' : ` (${hint})`}`);
    }
  };
  await attempt('bus server', async () => {
    const server = await findNatsServer({
      configured: config.nats_server,
      cacheDir: config.paths.cache,
      toolsEnvironment: () => tools,
      env,
      onProgress,
    });
    made['CODEGOD_NATS_SERVER'] = server.binary;
  });
  await attempt('tools environment', async () => {
    await tools;
  });
  await attempt('checks environment', async () => {
    const checks = await ensureEnvironment({ name: 'checks', dir, env, onProgress });
    made['CODEGOD_CHECKS_PYTHON'] = checks.python;
  });
  await attempt('packages', () => ensurePackages(terminal));
  return { ...env, ...made };
}

/** What some tests run, the package it comes in, and what they do with it. */
const PACKAGES = [
  { program: 'bwrap', probe: ['--version'], name: 'bubblewrap', use: 'the sandbox' },
  { program: 'ip', probe: ['-V'], name: 'iproute2', use: 'networks of several machines' },
] as const;

/** Only root of a Debian machine may install them here; anybody else is told how. */
async function ensurePackages(terminal: Terminal): Promise<void> {
  if (process.platform !== 'linux') return;
  const missing: string[] = [];
  for (const { program, probe, name, use } of PACKAGES) {
    const found = await runProgram(program, probe, { timeoutMs: INSTALL_TIMEOUT_MS });
    if (found.failure === null) continue;
    if (process.getuid?.() === 0) missing.push(name);
    else terminal.note(`tests of ${use} are skipped: sudo apt-get install ${name}`);
  }
  if (missing.length === 0) return;
  terminal.note(`installing ${missing.join(', ')}`);
  const options = {
    timeoutMs: INSTALL_TIMEOUT_MS,
    env: { ...wholeEnvironment(), DEBIAN_FRONTEND: 'noninteractive' },
  };
  const install = ['install', '-y', '--no-install-recommends', ...missing];
  const first = await runProgram('apt-get', install, options);
  if (first.failure === null) return;
  await runProgram('apt-get', ['update'], options);
  const second = await runProgram('apt-get', install, options);
  if (second.failure !== null) terminal.note(`${missing.join(', ')}: ${second.failure}`);
}

export interface TestRun {
  /** Null where it took too long. */
  readonly exitCode: number | null;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** Of tests that failed; none where it took too long. */
  readonly failedFiles: readonly string[];
  readonly events: readonly FileEvent[];
}

/** T3: all tests of the first run, of which those fail that failed again. */
export function afterRetry(first: TestRun, again: TestRun): TestRun {
  const passed = first.passed + first.failed - again.failed;
  return { ...again, passed, skipped: first.skipped, events: first.events };
}

/** Runs Node's test runner in a process group of its own, to be ended as one. */
function runNode(
  files: readonly string[],
  concurrency: number,
  env: Readonly<Record<string, string | undefined>>,
  terminal: Terminal,
): Promise<TestRun> {
  const told = join(env['TMPDIR'] ?? tmpdir(), `files-${process.pid}-${systemClock.now()}`);
  const flags = [
    '--test',
    `--test-concurrency=${concurrency}`,
    ...['--test-reporter=spec', '--test-reporter-destination=stdout'],
    `--test-reporter=${modulePath('cli/test-files-reporter.ts')}`,
    `--test-reporter-destination=${told}`,
  ];
  const child = startProgram(process.execPath, [...sourceLoader(), ...flags, ...files], {
    cwd: packageRoot(),
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: process.platform !== 'win32',
  });
  let said = '';
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
    said += chunk;
    // With --json, stdout is for the result alone.
    terminal.print(chunk, terminal.isJson ? 'stderr' : 'stdout');
  });
  const end = (): void => {
    if (child.pid !== undefined) signalProcess(-child.pid, 'SIGKILL');
  };
  return new Promise((resolve, reject) => {
    let isLate = false;
    const wall = setTimeout(() => {
      isLate = true;
      terminal.note(`stopped after ${WALL_MS / 60_000} minutes`);
      end();
    }, WALL_MS);
    const release = onStopSignals(end);
    child.once('error', reject);
    child.once('close', code => {
      clearTimeout(wall);
      release();
      const exitCode = isLate ? null : (code ?? EXIT.interrupted);
      const events = eventsIn(readIfThere(told) ?? '');
      resolve({ exitCode, events, ...countTests(stripVTControlCharacters(said)) });
    });
  });
}

/** What the reporter wrote; a line that was cut short with the run is left out. */
function eventsIn(text: string): FileEvent[] {
  const lines = text.split('\n').slice(0, -1);
  return lines.map(line => JSON.parse(line) as FileEvent);
}

/** T5, as sentences. */
export function filesNote(events: readonly FileEvent[]): string[] {
  const begun = new Map(
    events.filter(event => !event.is_end).map(event => [event.file, event.at_ms]),
  );
  const ended = events.filter(event => event.is_end);
  for (const { file } of ended) begun.delete(file);
  const running = [...begun.keys()].map(inCheckout);
  const starts = new Map(events.map(({ file, at_ms, is_end }) => [is_end ? '' : file, at_ms]));
  const took = ended
    .map(({ file, at_ms }) => ({ file, seconds: (at_ms - (starts.get(file) ?? at_ms)) / 1_000 }))
    .sort((a, b) => b.seconds - a.seconds)
    .slice(0, SLOWEST_SHOWN)
    .map(({ file, seconds }) => `${seconds.toFixed(0).padStart(6)} s  ${inCheckout(file)}`);
  return [
    ...(took.length === 0 ? [] : [['the longest:', ...took].join('\n')]),
    ...(running.length === 0 ? [] : [`running when the run was cut short: ${running.join(', ')}`]),
  ];
}

const inCheckout = (file: string): string => relative(packageRoot(), file);

/**
 * From the runner's summary; where it was cut short, from its lines, the cut being one failure.
 * @param said what Node's `spec` reporter prints, without colours
 */
export function countTests(said: string): Omit<TestRun, 'exitCode' | 'events'> {
  const told = (name: string): number | null => {
    const found = new RegExp(`^ℹ ${name} (\\d+)$`, 'm').exec(said);
    return found === null ? null : Number(found[1]);
  };
  const passed = told('pass');
  if (passed !== null) {
    const failed = (told('fail') ?? 0) + (told('cancelled') ?? 0);
    const places = said.matchAll(/^test at (.+):\d+:\d+$/gm);
    const failedFiles = [...new Set([...places].map(([, file = '']) => file))];
    return { passed, failed, skipped: told('skipped') ?? 0, failedFiles };
  }
  const lines = (mark: string): number =>
    said.match(new RegExp(`^\\s*${mark} `, 'gm'))?.length ?? 0;
  return { passed: lines('✔'), failed: lines('✖') + 1, skipped: 0, failedFiles: [] };
}
