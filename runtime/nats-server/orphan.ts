/**
 * The files by which a bus server is recognised after its supervisor died, and the end of such an
 * orphan.
 *
 * O1: only a process that runs with *our* configuration file is ever stopped: the id in a pid file
 *     may long belong to somebody else.
 * O2: a server whose supervisor lives is no orphan.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CodeGodError } from '../../protocol/errors.ts';
import { systemClock } from '../clock.ts';
import { isAlive, ownIdentity, type ProcessIdentity } from '../process-identity.ts';
import { readIfThere } from '../read-if-there.ts';
import { outputOf } from '../spawn.ts';

const TERMINATE_MS = 6_000;
const KILL_MS = 2_000;
const POLL_MS = 20;

const FILES = {
  config: 'nats-server.conf',
  /** Written by the server itself, so there is no instant at which it runs unnoted. */
  pid: 'nats-server.pid',
  ports: 'nats-server.ports.json',
  /** The path below which it shows its monitoring. */
  monitoring: 'nats-server.monitoring-path',
  /** Who may connect. */
  users: 'nats-server.users.conf',
  supervisor: 'nats-server.supervisor.json',
};

export function serverFile(configDir: string, file: keyof typeof FILES): string {
  return join(configDir, FILES[file]);
}

/** Notes that this process supervises the server of the folder. */
export function claimFolder(configDir: string): void {
  writeFileSync(serverFile(configDir, 'supervisor'), JSON.stringify(ownIdentity()));
}

/**
 * Stops the server that a dead supervisor left running from this folder, if there is one.
 * Returns its pid, or null. Throws CodeGodError `conflict` when its supervisor lives.
 */
export async function stopOrphan(configDir: string): Promise<number | null> {
  const pid = runningPid(configDir);
  if (pid === null) return null;
  const supervisor = readSupervisor(configDir); // O2
  if (supervisor && supervisor.pid !== process.pid && isAlive(supervisor)) {
    throw new CodeGodError('conflict', `process ${supervisor.pid} runs the bus of ${configDir}`, {
      hint: 'use the running system, or stop it with `codegod down`',
    });
  }
  for (const [signal, waitMs] of [
    ['SIGTERM', TERMINATE_MS],
    ['SIGKILL', KILL_MS],
  ] as const) {
    kill(pid, signal);
    const deadline = systemClock.monotonic() + waitMs;
    while (systemClock.monotonic() < deadline) {
      if (!runsFrom(pid, serverFile(configDir, 'config'))) return pid;
      await systemClock.sleep(POLL_MS);
    }
  }
  throw new CodeGodError('conflict', `the orphaned bus server ${pid} cannot be stopped`);
}

/** The pid of the server that runs from this folder; null where none does. */
export function runningPid(configDir: string): number | null {
  const pid = Number(readIfThere(serverFile(configDir, 'pid')) ?? '');
  if (!Number.isInteger(pid) || pid <= 0) return null;
  return runsFrom(pid, serverFile(configDir, 'config')) ? pid : null;
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error; // ESRCH: already gone.
  }
}

/** O1: was the process started with that very configuration file? Only ours ever is. */
function runsFrom(pid: number, configFile: string): boolean {
  try {
    const command =
      process.platform === 'linux'
        ? readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
        : outputOf('ps', ['-o', 'command=', '-p', String(pid)]);
    return command.includes(configFile);
  } catch {
    return false; // No such process, or none that we may look at: not ours.
  }
}

function readSupervisor(configDir: string): ProcessIdentity | null {
  const text = readIfThere(serverFile(configDir, 'supervisor')) ?? '';
  try {
    return JSON.parse(text);
  } catch {
    return null; // Absent or cut short: nobody claims the server.
  }
}
