/**
 * `<state>/system.json`: what runs here, written by the supervisor at each change, read by every
 * other command. It is a note, not the truth: it counts only while its supervisor lives.
 *
 * R1  It is replaced in one step, so nobody reads half of it.
 * R2  A process is known by its id *and* its start, so nobody is stopped for having a reused id.
 */
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isAlive } from '../../runtime/process-identity.ts';
import { readIfThere } from '../../runtime/read-if-there.ts';

/**
 * How one supervised process does. `crash_loop`: it keeps dying and is started ever again.
 * `degraded`: it runs, and something keeps it from its work.
 */
export type ProcessState =
  | 'cold'
  | 'starting'
  | 'ready'
  | 'degraded'
  | 'draining'
  | 'backoff'
  | 'crash_loop'
  | 'stopped';

export interface ProcessRecord {
  readonly name: string;
  readonly pid: number | null;
  /** When that process started, in the system's own words (R2). */
  readonly pid_started: string | null;
  readonly state: ProcessState;
  readonly restarts: number;
  /** Why it died last; where it is `degraded`, what keeps it from its work. */
  readonly reason: string | null;
  /** When it came into this state, in milliseconds since the epoch. */
  readonly since?: number;
}

export interface BusRecord extends ProcessRecord {
  readonly url: string | null;
  readonly monitoring_url: string | null;
}

export interface SystemRecord {
  readonly supervisor_pid: number;
  readonly supervisor_started: string;
  /** `ephemeral`: it belongs to one `build` and ends with it. */
  readonly mode: 'foreground' | 'detached' | 'ephemeral';
  readonly state: 'starting' | 'ready' | 'degraded' | 'stopping';
  /** Milliseconds since the epoch. */
  readonly started_at: number;
  readonly bus: BusRecord;
  readonly http: { readonly url: string | null };
  readonly actors: readonly ProcessRecord[];
}

/** Everything runs, in whatever trouble it may be. */
export const isUp = ({ bus, actors }: SystemRecord): boolean =>
  actors.length > 0 &&
  [bus, ...actors].every(({ state }) => state === 'ready' || state === 'degraded');

const FILE = 'system.json';

export function writeSystem(stateFolder: string, record: SystemRecord): void {
  const file = join(stateFolder, FILE);
  const draft = `${file}.new`;
  writeFileSync(draft, `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 });
  renameSync(draft, file);
}

/** The note as it lies there, whether its supervisor lives or not; null where there is none. */
export function readSystem(stateFolder: string): SystemRecord | null {
  const text = readIfThere(join(stateFolder, FILE));
  if (text === null) return null;
  try {
    return JSON.parse(text) as SystemRecord;
  } catch {
    return null; // Cut short by a power loss: whoever wrote it is gone.
  }
}

/** The note of a system that runs now; null where none does. */
export function runningSystem(stateFolder: string): SystemRecord | null {
  const record = readSystem(stateFolder);
  return record !== null && supervisorLives(record) ? record : null;
}

export function supervisorLives(record: SystemRecord): boolean {
  return isAlive({ pid: record.supervisor_pid, started: record.supervisor_started });
}

export function removeSystem(stateFolder: string): void {
  rmSync(join(stateFolder, FILE), { force: true });
}

/** The processes of a note that still run, whoever owned them. */
export function survivors(record: SystemRecord): ProcessRecord[] {
  return [record.bus, ...record.actors].filter(
    one => one.pid !== null && isAlive({ pid: one.pid, started: one.pid_started ?? '' }),
  );
}
