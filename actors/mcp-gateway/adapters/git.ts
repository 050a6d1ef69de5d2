/**
 * The git program, always called the same way: no configuration of the user or the system, no hooks,
 * no prompts, no locale, one author.
 *
 * G1: nothing a repository holds can start a program: hooks are off, no pager, no file monitor.
 * G2: every call names its git directory and work tree; a `.git` file in a worktree is never trusted.
 * G3: objects and references are on the disk before a call returns (power cut).
 */
import { isAbsolute } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CodeGodError } from '../../../protocol/errors.ts';
import { type ProgramResult, runProgram } from '../../../runtime/run-program.ts';
import { diskFull, isFull } from './disk.ts';
import { complainsOfLock, LOCK_STALE_MS, removeStaleLocks } from './git-locks.ts';

export interface GitPlace {
  readonly gitDir: string;
  readonly workTree?: string;
  readonly indexFile?: string;
}

export interface GitOptions {
  readonly input?: string;
  /** Exit codes besides 0 that are an answer and not a failure. */
  readonly answers?: readonly number[];
  readonly signal?: AbortSignal;
}

export interface GitResult {
  readonly code: number;
  readonly stdout: string;
}

export interface Git {
  /** Runs `git <args>`. Throws `disk_full`, `dependency_missing`, `timeout` or {@link GitFailure}. */
  run(place: GitPlace | null, args: readonly string[], options?: GitOptions): Promise<GitResult>;
  /** The standard output of a successful call, without its last line break. */
  text(place: GitPlace | null, args: readonly string[], options?: GitOptions): Promise<string>;
}

/** Git said no: local to this room, translated before it leaves it. */
export class GitFailure extends Error {
  readonly code: number;
  readonly stderr: string;

  constructor(args: readonly string[], code: number, stderr: string) {
    super(`git ${args[0] ?? ''} failed with ${code}: ${stderr.trim().slice(-2_000)}`);
    this.name = 'GitFailure';
    this.code = code;
    this.stderr = stderr;
  }
}

const CALL_TIMEOUT_MS = 120_000;
const LOCK_TRIES_MAX = 10;
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

const CONFIGURATION: readonly (readonly [string, string])[] = [
  ['core.hooksPath', '/dev/null'],
  ['core.fsmonitor', 'false'],
  ['core.fsync', 'committed,reference'],
  ['core.logAllRefUpdates', 'false'],
  ['core.autocrlf', 'false'],
  ['core.quotePath', 'false'],
  ['gc.auto', '0'],
  ['maintenance.auto', 'false'],
  ['advice.detachedHead', 'false'],
  ['protocol.allow', 'never'],
  ['protocol.file.allow', 'always'],
  ['safe.directory', '*'],
];

/** The environment of every git process, also of the tool servers that call git. */
export function gitEnvironment(path: string): Record<string, string> {
  const environment: Record<string, string> = {
    PATH: path,
    LC_ALL: 'C',
    TZ: 'UTC',
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_TERMINAL_PROMPT: '0',
    GIT_OPTIONAL_LOCKS: '0',
    GIT_AUTHOR_NAME: 'Code-God',
    GIT_AUTHOR_EMAIL: 'codegod@localhost',
    GIT_COMMITTER_NAME: 'Code-God',
    GIT_COMMITTER_EMAIL: 'codegod@localhost',
    GIT_CONFIG_COUNT: String(CONFIGURATION.length),
  };
  CONFIGURATION.forEach(([key, value], index) => {
    environment[`GIT_CONFIG_KEY_${index}`] = key;
    environment[`GIT_CONFIG_VALUE_${index}`] = value;
  });
  return environment;
}

export interface GitHost {
  /** The search path on which `git` is looked for. */
  readonly path: string;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

export function createGit(host: GitHost): Git {
  const environment = gitEnvironment(host.path);
  const once: Git['run'] = async (place, args, options = {}) => {
    const result = await runProgram('git', args, {
      env: {
        ...environment,
        ...(place === null ? {} : { GIT_DIR: place.gitDir }),
        ...(place?.workTree === undefined ? {} : { GIT_WORK_TREE: place.workTree }),
        ...(place?.indexFile === undefined ? {} : { GIT_INDEX_FILE: place.indexFile }),
      },
      cwd: place?.workTree ?? '/',
      timeoutMs: CALL_TIMEOUT_MS,
      outputBytesMax: OUTPUT_BYTES_MAX,
      killSignal: 'SIGTERM', // It removes its locks.
      input: options.input,
      signal: options.signal,
    }).catch((error: unknown) => {
      if (options.signal?.aborted !== true) throw error;
      throw new CodeGodError('cancelled', `git ${args[0] ?? ''} was cancelled`, { cause: error });
    });
    if (result.exitCode === 0 || options.answers?.includes(result.exitCode ?? -1) === true) {
      return { code: result.exitCode ?? -1, stdout: result.stdout };
    }
    throw failureOf(args, result, place);
  };
  const run: Git['run'] = async (place, args, options) => {
    for (let tries = 1; ; tries++) {
      try {
        return await once(place, args, options);
      } catch (error) {
        const locked = error instanceof GitFailure && complainsOfLock(error.stderr);
        if (!locked || place === null || tries === LOCK_TRIES_MAX) throw error;
        await removeStaleLocks(place.gitDir, host.now());
        await sleep(LOCK_STALE_MS / (LOCK_TRIES_MAX - 2));
      }
    }
  };
  return {
    run,
    async text(place, args, options) {
      const { stdout } = await run(place, args, options);
      return stdout.replace(/\n$/, '');
    },
  };
}

const saysFull = (stderr: string): boolean =>
  /no space left on device|disk quota exceeded/i.test(stderr);

/** Git does not say why it cannot write a lock. */
const saysUnwritten = (stderr: string): boolean =>
  /(couldn't|could not|unable to|failed to) write|write error/i.test(stderr);

/** Where it works: its repository, or the folder that it makes one of. */
const hasNoRoom = (place: GitPlace | null, args: readonly string[]): boolean => {
  const folder = place?.gitDir ?? args.findLast(isAbsolute);
  return folder !== undefined && isFull(folder);
};

function failureOf(args: readonly string[], ended: ProgramResult, place: GitPlace | null): Error {
  const what = `git ${args[0] ?? ''}`;
  if (saysFull(ended.stderr) || (saysUnwritten(ended.stderr) && hasNoRoom(place, args))) {
    return diskFull(what, new GitFailure(args, ended.exitCode ?? -1, ended.stderr));
  }
  if (ended.end === 'not_found') {
    return new CodeGodError('dependency_missing', 'git is not on the search path', {
      hint: 'install git 2.38 or newer',
    });
  }
  if (ended.end === 'timeout') {
    return new CodeGodError('timeout', `${what} took longer than ${CALL_TIMEOUT_MS} ms`);
  }
  return new GitFailure(args, ended.exitCode ?? -1, ended.stderr || (ended.failure ?? ''));
}
