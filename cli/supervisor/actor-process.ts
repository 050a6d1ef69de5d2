/**
 * The port of the supervision machine for an actor: a Node process with an IPC channel, over which
 * it tells its lifecycle. When we die, the channel closes and the actor ends by itself.
 *
 * A1  An actor is a process group of its own: Ctrl-C at the terminal reaches the supervisor only,
 *     which then stops everything in the right order.
 * A2  An actor stands in the state folder: the one we stand in may be removed under it, and its
 *     settings have been read already.
 * A3  An actor that is ready is asked over the same channel whether it is there. One that does not
 *     answer (silence.ts) is killed and so replaced; that needs no bus, which may be away.
 * A4  Settings go by environment, never by argument list: others can read argument lists.
 */
import { closeSync } from 'node:fs';
import { fromCallback } from 'xstate';
import { systemClock } from '../../runtime/clock.ts';
import { type ChildProcess, startProgram } from '../../runtime/spawn.ts';
import type { ProcessCommand, ProcessEvent, ProcessInput } from './child-machine.ts';
import { logFile, openLog, sizeOf, tailLog } from './log-file.ts';
import { Silence } from './silence.ts';

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

export const actorProcess = (command: ActorCommand, askEveryMs: number) =>
  fromCallback<ProcessCommand, ProcessInput, ProcessEvent>(({ sendBack, receive }) => {
    const file = logFile(command.stateFolder, command.name);
    const from = sizeOf(file);
    const child = start(command);
    const silence = new Silence(askEveryMs);
    let asking: NodeJS.Timeout | undefined;
    let isSilent = false;
    let isOver = false;
    const over = (reason: string): void => {
      if (isOver) return;
      isOver = true;
      clearInterval(asking);
      sendBack({ type: 'process.exited', reason });
    };
    const ask = (): void => {
      if (silence.isTooLong(systemClock.monotonic())) {
        isSilent = true;
        child.kill('SIGKILL');
        return;
      }
      // A channel that is closed or full answers nothing, which is counted.
      if (child.connected) child.send({ type: 'ping' }, () => {});
    };
    child.once('error', error => over(`it cannot be started: ${error.message}`));
    child.once('exit', (code, signal) => {
      if (isSilent) return over(silence.reason);
      if (signal !== null) return over(`killed by ${signal}`);
      const error = lastError(tailLog(file, LAST_LINES, from));
      over(`exit code ${code}${error === null ? '' : `: ${error}`}`);
    });
    child.on('message', message => {
      silence.answered();
      const event = eventOf(message);
      if (event === null) return;
      sendBack(event);
      if (event.type === 'process.ready') asking ??= setInterval(ask, askEveryMs); // A3
    });
    if (child.pid !== undefined) sendBack({ type: 'process.spawned', pid: child.pid });
    receive(asked => {
      clearInterval(asking); // Its end is bounded by the supervision machine.
      child.kill(asked.type === 'process.kill' ? 'SIGKILL' : 'SIGTERM');
    });
    return () => {
      clearInterval(asking);
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

/** What an actor may tell of itself beside its state. */
const DETAILS = ['http_url', 'sandbox_bounds'];

/** What a message of the lifecycle tells the supervision machine; null for every other message. */
function eventOf(message: unknown): ProcessEvent | null {
  if (typeof message !== 'object' || message === null) return null;
  const { type, state, trouble, ...rest } = message as Record<string, unknown>;
  if (type === 'trouble') {
    const reason = typeof trouble === 'string' ? trouble.slice(0, REASON_LENGTH_MAX) : null;
    return { type: 'process.trouble', trouble: reason };
  }
  if (type !== 'lifecycle' || state !== 'ready') return null;
  const known = DETAILS.flatMap(name => {
    const said = rest[name];
    return typeof said === 'string' ? [[name, said.slice(0, REASON_LENGTH_MAX)]] : [];
  });
  return { type: 'process.ready', details: Object.fromEntries(known) };
}

/** What ended an actor; other errors in its log may only follow from that. */
const ENDINGS: readonly unknown[] = ['actor.start_failed', 'actor.failed', 'actor.crashed'];

/** What an actor ended of, among lines of its log, else its last error; null where there is none. */
export function lastError(lines: readonly string[]): string | null {
  const errors = lines
    .map(parseLine)
    .filter(entry => entry?.level === 'error' || entry?.level === 'fatal');
  const last = errors.findLast(entry => ENDINGS.includes(entry?.event)) ?? errors.at(-1);
  if (last) {
    const { error, event } = last;
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
