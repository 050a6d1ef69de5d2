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
import { type ChildProcess, fork } from 'node:child_process';
import { closeSync } from 'node:fs';
import { fromCallback } from 'xstate';
import type { ChildDetails, ProcessCommand, ProcessEvent, ProcessInput } from './child-machine.ts';
import { openLog } from './log-file.ts';

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
    const child = start(command);
    let isOver = false;
    const over = (reason: string): void => {
      if (isOver) return;
      isOver = true;
      sendBack({ type: 'process.exited', reason });
    };
    child.once('error', error => over(`it cannot be started: ${error.message}`));
    child.once('exit', (code, signal) =>
      over(signal === null ? `exit code ${code}` : `killed by ${signal}`),
    );
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

/** What Node needs to run our sources; nothing where we run from dist/. Any folder will do. */
export function sourceLoader(): readonly string[] {
  return import.meta.filename.endsWith('.ts') ? ['--import', import.meta.resolve('tsx')] : [];
}

function start(command: ActorCommand): ChildProcess {
  const log = openLog(command.stateFolder, command.name);
  try {
    return fork(command.module, [], {
      cwd: command.stateFolder, // A2
      env: { ...command.env },
      execArgv: [...command.execArgv],
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
