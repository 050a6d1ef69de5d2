/**
 * `<state>/system.json`: what runs here, written by the supervisor at each change, read by every
 * other command. It is a note, not the truth: it counts only while its supervisor lives.
 *
 * R1  It is replaced in one step, so nobody reads half of it.
 * R2  A process is known by its id *and* its start, so nobody is stopped for having a reused id.
 * R3  Whoever starts a supervisor notes that in `<state>/starting/` before it returns, for the moment
 *     until the supervisor writes its own note: nothing comes up that `down` could not have seen.
 */
import { mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  identityOf,
  isAlive,
  ownIdentity,
  type ProcessIdentity,
} from '../../runtime/process-identity.ts';
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
  /** Of the gateway: who bounds the sums of what its sandbox runs. */
  readonly sandbox_bounds?: string;
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

/** The note of a supervisor that has taken this home and starts nothing yet: it may install. */
export function writeStarting(
  stateFolder: string,
  mode: SystemRecord['mode'],
  startedAt: number,
): void {
  const { pid, started } = ownIdentity();
  writeSystem(stateFolder, startingRecord({ pid, started }, mode, startedAt));
}

function startingRecord(
  supervisor: ProcessIdentity,
  mode: SystemRecord['mode'],
  startedAt: number,
): SystemRecord {
  const bus = {
    name: 'bus',
    pid: null,
    pid_started: null,
    state: 'cold' as const,
    restarts: 0,
    reason: null,
    since: startedAt,
  };
  return {
    supervisor_pid: supervisor.pid,
    supervisor_started: supervisor.started,
    mode,
    state: 'starting',
    started_at: startedAt,
    bus: { ...bus, url: null, monitoring_url: null },
    http: { url: null },
    actors: [],
  };
}

const startingFolder = (stateFolder: string): string => join(stateFolder, 'starting');

/** R3. */
export function noteStarting(stateFolder: string, pid: number): void {
  const identity = identityOf(pid);
  if (identity === null) return; // It has ended already.
  mkdirSync(startingFolder(stateFolder), { recursive: true, mode: 0o700 });
  writeFileSync(join(startingFolder(stateFolder), String(pid)), identity.started, { mode: 0o600 });
}

/** R3: this process has written its own note, or will not. */
export function forgetStarting(stateFolder: string, pid: number): void {
  rmSync(join(startingFolder(stateFolder), String(pid)), { force: true });
}

/** Supervisors that have been started and have not written their note yet. */
export function startingSupervisors(stateFolder: string): ProcessIdentity[] {
  const found: ProcessIdentity[] = [];
  for (const name of namesIn(startingFolder(stateFolder))) {
    const started = readIfThere(join(startingFolder(stateFolder), name));
    const identity = { pid: Number(name), started: started ?? '' };
    if (isAlive(identity)) found.push(identity);
    else forgetStarting(stateFolder, identity.pid);
  }
  return found;
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
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

/** The note of a system that runs or starts now; null where none does. */
export function runningSystem(stateFolder: string): SystemRecord | null {
  const record = readSystem(stateFolder);
  if (record !== null && supervisorLives(record)) return record;
  const [starting] = startingSupervisors(stateFolder);
  if (starting === undefined) return null;
  const note = statSync(join(startingFolder(stateFolder), String(starting.pid)), {
    throwIfNoEntry: false,
  });
  return startingRecord(starting, 'detached', Math.round(note?.mtimeMs ?? 0));
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
