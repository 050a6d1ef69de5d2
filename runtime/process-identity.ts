/**
 * Tells processes of this machine apart: an id alone is recycled, soonest in a restarted container,
 * where the new process often has the very id of the dead one. An id and a start time are not.
 */
import { readFileSync } from 'node:fs';
import { outputOf } from './spawn.ts';

export interface ProcessIdentity {
  readonly pid: number;
  /** Opaque; equal for the same process only. */
  readonly started: string;
}

/** The process that runs under this id now; null where none does (one that only waits to be reaped
 * does not run). */
export function identityOf(pid: number): ProcessIdentity | null {
  const started = pid > 0 ? startOf(pid) : null;
  return started === null ? null : { pid, started };
}

/** This process, as others will recognise it. */
export function ownIdentity(): ProcessIdentity {
  return identityOf(process.pid) ?? { pid: process.pid, started: '' };
}

/** True while that very process (not another of the same id) runs. */
export function isAlive(identity: ProcessIdentity): boolean {
  return identityOf(identity.pid)?.started === identity.started;
}

/** When the process of this id started, in the system's own words; null where there is none. */
function startOf(pid: number): string | null {
  if (process.platform === 'linux') {
    let stat: string;
    try {
      stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    } catch {
      return null; // No such process: /proc has no other reason for a missing stat file.
    }
    // The second field is the program's name in brackets and may hold spaces and brackets.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? null : (fields[19] ?? null);
  }
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return null;
  }
  if (process.platform === 'win32') return 'alive';
  try {
    return outputOf('ps', ['-o', 'lstart=', '-p', String(pid)]).trim();
  } catch {
    return null; // `ps` answers 1 for a process that has just ended.
  }
}
