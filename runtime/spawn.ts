/**
 * Starts every other program: the only file that may import `node:child_process`.
 *
 * D1  A program gets descriptors 0, 1 and 2 and those that its `stdio` names; never a file of ours.
 *     LevelDB opens the journals without close-on-exec, Node's own channel to its parent lacks it
 *     too, and so does whatever this process inherited. Node has no way to set that mark. So on
 *     Linux /dev/null is laid over each descriptor that lacks it. On macOS the system closes what is
 *     not named, on Windows nothing is inherited unasked. What LevelDB's own threads open between
 *     the look and the fork, a fraction of a millisecond, goes through: programs that nobody vouches
 *     for are started by a wrapper besides, which closes everything.
 * D2  A program is told nothing of our environment but what any program may know, unless the caller
 *     says more.
 * D3  A program and its pipes have error listeners from the first instant: what writes to a program
 *     that has gone, or reads from one that is torn down, must not end us. Its end tells why.
 */
import { type ChildProcess, execFileSync, type StdioOptions, spawn } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { plainEnvironment } from './config-environment.ts';

export type { ChildProcess };

/** What descriptor n of the program is: nothing, a pipe to us, our own n, or this one of ours. */
export type Descriptor = 'ignore' | 'pipe' | 'inherit' | 'ipc' | number;

export interface StartOptions {
  readonly stdio: readonly Descriptor[];
  readonly cwd?: string;
  /** Absent: {@link plainEnvironment}, without any key or setting of ours. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Leads a process group of its own and outlives us. */
  readonly detached?: boolean;
}

const CLOSE_ON_EXEC = 0o2000000;

/** Starts a program without a shell. That it cannot be started comes as its event `error`. */
export function startProgram(
  file: string,
  args: readonly string[],
  options: StartOptions,
): ChildProcess {
  const { stdio, cwd, env, detached = false } = options;
  const child = spawn(file, [...args], {
    stdio: covered(stdio),
    ...(cwd === undefined ? {} : { cwd }),
    env: { ...(env ?? plainEnvironment()) },
    detached,
    windowsHide: true,
  });
  for (const one of [child, ...child.stdio]) one?.on('error', toldByItsEnd); // D3
  return child;
}

/** The output of a program that answers at once. Throws where it fails. */
export function outputOf(file: string, args: readonly string[]): string {
  return execFileSync(file, [...args], {
    encoding: 'utf8',
    env: plainEnvironment(),
    stdio: covered(['ignore', 'pipe', 'ignore']),
    timeout: 10_000,
  });
}

const toldByItsEnd = (): void => undefined;

/**
 * D1. Free numbers are left alone: libuv opens a pipe of its own at one of them, by which it hears
 * that a program cannot be started.
 */
function covered(stdio: readonly Descriptor[]): StdioOptions {
  if (process.platform !== 'linux') return [...stdio];
  const all: Descriptor[] = [...stdio];
  for (const number of inheritable()) {
    if (number < stdio.length) continue;
    while (all.length < number) all.push('ignore');
    all[number] = devNull();
  }
  return all;
}

let opened: number | undefined;

const devNull = (): number => {
  opened ??= openSync('/dev/null', 'r+');
  return opened;
};

/**
 * Closes what this process was given by whoever started it besides 0, 1, 2 and Node's channel to
 * its parent. To be called at the start, before anything is opened.
 */
export function dropInherited(): void {
  if (process.platform !== 'linux') return;
  const channel = (process.channel as { readonly fd?: number } | undefined)?.fd;
  for (const number of inheritable()) if (number > 2 && number !== channel) closeSync(number);
}

/** The open descriptors of this process that every program started plainly would get. */
function inheritable(): number[] {
  const open = readdirSync('/proc/self/fd')
    .map(Number)
    .sort((a, b) => a - b);
  return open.filter(number => {
    let about: string;
    try {
      about = readFileSync(`/proc/self/fdinfo/${number}`, 'utf8');
    } catch {
      return false; // The one with which the folder was read is closed again.
    }
    const flags = Number.parseInt(/^flags:\s+([0-7]+)/m.exec(about)?.[1] ?? '0', 8);
    return (flags & CLOSE_ON_EXEC) === 0;
  });
}
