/**
 * `test [word]`: runs the tests of this checkout, of the files whose path holds the word.
 *
 * T1  What the tests need is set up before: the Python environments, the bus server, and bubblewrap
 *     where this may install it. What cannot be had is said; the tests that need it then say so.
 * T2  The last line of the output is `N passed, N failed`. No test at all is a failure.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { systemClock } from '../../runtime/clock.ts';
import { type Config, wholeEnvironment } from '../../runtime/config.ts';
import { findNatsServer } from '../../runtime/nats-server/find.ts';
import { packageRoot } from '../../runtime/paths.ts';
import { runProgram } from '../../runtime/run-program.ts';
import { ensureEnvironment } from '../../runtime/tools-environment.ts';
import type { CommandContext } from '../context.ts';
import { CliError, EXIT, toFailure } from '../exit-code.ts';
import { sourceLoader } from '../supervisor/actor-process.ts';
import { environmentsFolder } from '../supervisor/system.ts';
import type { Terminal } from '../terminal.ts';

const CONCURRENCY = 2;
const WALL_MS = 14 * 60_000;
const INSTALL_TIMEOUT_MS = 120_000;
const TAIL_LENGTH = 8_192;
const NOT_ROOMS: ReadonlySet<string> = new Set(['dist', 'node_modules']);

export async function runTests(context: CommandContext, word: string | undefined): Promise<number> {
  const { terminal } = context;
  const startedAt = systemClock.monotonic();
  const files = testFiles(word);
  if (files.length === 0) throw new CliError('not_found', `no test file is named like ${word}`);
  const env = await prepare(await context.config(), terminal);
  const { exitCode, tail } = await runNode(files, env, terminal, WALL_MS);
  const count = (name: string): number =>
    Number(new RegExp(`^(?:ℹ|#) ${name} (\\d+)$`, 'm').exec(tail)?.[1] ?? 0);
  const passed = count('pass');
  const failed = count('fail') + count('cancelled');
  const duration_ms = Math.round(systemClock.monotonic() - startedAt);
  const result = { passed, failed, skipped: count('skipped'), files: files.length, duration_ms };
  terminal.result(result, () => `${passed} passed, ${failed} failed`); // T2
  if (exitCode === null) return EXIT.timeout;
  return exitCode === 0 && failed === 0 && passed > 0 ? EXIT.ok : EXIT.failed;
}

/** Of dist/, only those whose source is still there; of the sources where we run from them. */
function testFiles(word = ''): string[] {
  const root = packageRoot();
  const isSource = sourceLoader().length > 0;
  return readdirSync(root)
    .filter(room => !NOT_ROOMS.has(room) && !room.startsWith('.'))
    .filter(room => statSync(join(root, room)).isDirectory())
    .flatMap(room =>
      readdirSync(join(root, room), { recursive: true, encoding: 'utf8' }).map(file =>
        join(room, file),
      ),
    )
    .filter(file => file.endsWith('.test.ts') && file.includes(word))
    .map(file => join(root, isSource ? file : join('dist', file.replace(/ts$/, 'js'))))
    .filter(file => existsSync(file))
    .sort();
}

/** T1. Answers the environment of the tests. */
async function prepare(
  config: Config,
  terminal: Terminal,
): Promise<Record<string, string | undefined>> {
  const env = wholeEnvironment();
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
  await attempt('sandbox', () => ensureBubblewrap(terminal));
  return { ...env, ...made };
}

/** Only root of a Debian machine may install it here; anybody else is told how. */
async function ensureBubblewrap(terminal: Terminal): Promise<void> {
  const probe = await runProgram('bwrap', ['--version'], { timeoutMs: INSTALL_TIMEOUT_MS });
  if (probe.failure === null || process.platform !== 'linux') return;
  if (process.getuid?.() !== 0) {
    terminal.note('without bubblewrap its tests are skipped: sudo apt-get install bubblewrap');
    return;
  }
  terminal.note('installing bubblewrap');
  const options = {
    timeoutMs: INSTALL_TIMEOUT_MS,
    env: { ...wholeEnvironment(), DEBIAN_FRONTEND: 'noninteractive' },
  };
  const install = ['install', '-y', '--no-install-recommends', 'bubblewrap'];
  const first = await runProgram('apt-get', install, options);
  if (first.failure === null) return;
  await runProgram('apt-get', ['update'], options);
  const second = await runProgram('apt-get', install, options);
  if (second.failure !== null) terminal.note(`bubblewrap: ${second.failure}`);
}

/** Runs Node's test runner; answers null as its exit code where it took too long. */
function runNode(
  files: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  terminal: Terminal,
  wallMs: number,
): Promise<{ readonly exitCode: number | null; readonly tail: string }> {
  const args = [
    ...sourceLoader(),
    '--test',
    `--test-concurrency=${CONCURRENCY}`,
    '--test-reporter=spec',
    ...files,
  ];
  const child = spawn(process.execPath, args, {
    cwd: packageRoot(),
    env: { ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: process.platform !== 'win32', // A group, to be ended as one.
  });
  let tail = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    tail = (tail + chunk).slice(-TAIL_LENGTH);
    // With --json, stdout is for the result alone.
    (terminal.isJson ? terminal.stderr : terminal.stdout).write(chunk);
  });
  return new Promise((resolve, reject) => {
    let isLate = false;
    const end = (): void => {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    };
    const wall = setTimeout(() => {
      isLate = true;
      terminal.note(`stopped after ${wallMs / 60_000} minutes`);
      end();
    }, wallMs);
    const interrupt = (): void => end();
    process.once('SIGINT', interrupt).once('SIGTERM', interrupt);
    child.once('error', reject);
    child.once('close', code => {
      clearTimeout(wall);
      process.off('SIGINT', interrupt).off('SIGTERM', interrupt);
      resolve({
        exitCode: isLate ? null : (code ?? EXIT.interrupted),
        tail: stripVTControlCharacters(tail),
      });
    });
  });
}
