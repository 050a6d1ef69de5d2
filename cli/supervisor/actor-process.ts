/**
 * The port of the supervision machine for an actor: a Node process with an IPC channel, over which
 * it tells its lifecycle. When we die, the channel closes and the actor ends by itself.
 *
 * A1  An actor is a process group of its own: Ctrl-C at the terminal reaches the supervisor only,
 *     which then stops everything in the right order.
 * A2  An actor stands in the state folder: the one we stand in may be removed under it, and its
 *     settings have been read already.
 * A3  Settings go by environment, never by argument list: others can read argument lists.
 */
import { closeSync } from 'node:fs';
import { fromCallback } from 'xstate';
import { type ChildProcess, startProgram } from '../../runtime/spawn.ts';
import type { ChildDetails, ProcessCommand, ProcessEvent, ProcessInput } from './child-machine.ts';
import { logFile, openLog, sizeOf, tailLog } from './log-file.ts';

const LAST_LINES = 50;
const REASON_LENGTH_MAX = 1_000;

export interface ActorCommand {
  readonly name: string;
  /** Absolute path of the module to run. */
  readonly module: string;
  readonly execArgv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stateFolder: string;
}

export const actorProcess = (command: ActorCommand) =>
  fromCallback<ProcessCommand, ProcessInput, ProcessEvent>(({ sendBack, receive }) => {
    const file = logFile(command.stateFolder, command.name);
    const from = sizeOf(file);
    const child = start(command);
    let isOver = false;
    const over = (reason: string): void => {
      if (isOver) return;
      isOver = true;
      sendBack({ type: 'process.exited', reason });
    };
    child.once('error', error => over(`it cannot be started: ${error.message}`));
    child.once('exit', (code, signal) => {
      if (signal !== null) return over(`killed by ${signal}`);
      const error = lastError(tailLog(file, LAST_LINES, from));
      over(`exit code ${code}${error === null ? '' : `: ${error}`}`);
    });
    child.on('message', message => {
      const details = readyDetails(message);
      if (details !== null) sendBack({ type: 'process.ready', details });
    });
    if (child.pid !== undefined) sendBack({ type: 'process.spawned', pid: child.pid });
    receive(asked => {
      child.kill(asked.type === 'process.kill' ? 'SIGKILL' : 'SIGTERM');
    });
    return () => {
      if (!isOver) child.kill('SIGKILL');
    };
  });

function start(command: ActorCommand): ChildProcess {
  const log = openLog(command.stateFolder, command.name);
  try {
    return startProgram(process.execPath, [...command.execArgv, command.module], {
      cwd: command.stateFolder, // A2
      env: command.env,
      stdio: ['ignore', log, log, 'ipc'],
      detached: true, // A1
    });
  } finally {
    closeSync(log);
  }
}

/** What a `ready` message of the lifecycle tells; null for every other message. */
function readyDetails(message: unknown): ChildDetails | null {
  if (typeof message !== 'object' || message === null) return null;
  const { type, state, http_url: httpUrl } = message as Record<string, unknown>;
  if (type !== 'lifecycle' || state !== 'ready') return null;
  return typeof httpUrl === 'string' ? { http_url: httpUrl } : {};
}

/** The message of the last error among lines of a log; null where there is none. */
export function lastError(lines: readonly string[]): string | null {
  for (const line of lines.toReversed()) {
    const entry = parseLine(line);
    if (entry?.level !== 'error' && entry?.level !== 'fatal') continue;
    const { error, event } = entry;
    const message = typeof error === 'object' && error !== null ? error.message : error;
    return String(message ?? event ?? 'an error').slice(0, REASON_LENGTH_MAX);
  }
  // A process that ends before it can log leaves what Node prints of an uncaught error.
  const printed = lines.findLast(line => /^\w*Error\b.*: /.test(line));
  return printed?.slice(0, REASON_LENGTH_MAX) ?? null;
}

interface LogEntry {
  readonly level?: string;
  readonly event?: string;
  readonly error?: string | { readonly message?: string } | null;
}

function parseLine(line: string): LogEntry | null {
  try {
    return JSON.parse(line) as LogEntry | null;
  } catch {
    return null; // What Node itself prints is not JSON.
  }
}
