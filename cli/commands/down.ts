/**
 * `down`: stops the system of this home and waits until everything of it is gone. Doing it twice is
 * not an error. What a killed supervisor left behind is stopped too.
 */
import { systemClock } from '../../runtime/clock.ts';
import type { CommandContext } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import { signalProcess, stopLeftovers } from '../supervisor/supervisor.ts';
import {
  readSystem,
  type SystemRecord,
  startingSupervisors,
  supervisorLives,
  survivors,
} from '../supervisor/system-record.ts';

/** Actors drain for at most 10 s, then the bus for at most 12 s. */
const STOP_TIMEOUT_MS = 30_000;
const POLL_MS = 50;

export async function down(context: CommandContext): Promise<number> {
  const { terminal } = context;
  const config = await context.config();
  const wasRunning = await stopSystem(config.paths.state);
  terminal.result({ stopped: wasRunning }, () => (wasRunning ? 'stopped' : 'nothing runs here'));
  return EXIT.ok;
}

/** Answers whether anything ran. */
export async function stopSystem(stateFolder: string): Promise<boolean> {
  const wasStarting = await stopStarting(stateFolder);
  const record = readSystem(stateFolder);
  const wasRunning = record !== null && (supervisorLives(record) || survivors(record).length > 0);
  if (record !== null) await stop(stateFolder, record);
  return wasRunning || wasStarting;
}

/** Supervisors that have no note yet. One that writes it meanwhile is stopped by that. */
async function stopStarting(stateFolder: string): Promise<boolean> {
  const starting = startingSupervisors(stateFolder);
  for (const { pid } of starting) signalProcess(pid, 'SIGTERM');
  const isOver = (): boolean => startingSupervisors(stateFolder).length === 0;
  if (!(await within(STOP_TIMEOUT_MS, isOver))) {
    for (const { pid } of startingSupervisors(stateFolder)) signalProcess(pid, 'SIGKILL');
  }
  return starting.length > 0;
}

async function stop(stateFolder: string, record: SystemRecord): Promise<void> {
  const isGone = (): boolean => {
    const latest = readSystem(stateFolder) ?? record;
    return !supervisorLives(record) && survivors(latest).length === 0;
  };
  if (supervisorLives(record)) {
    signalProcess(record.supervisor_pid, 'SIGTERM');
    if (await within(STOP_TIMEOUT_MS, isGone)) return;
    if (supervisorLives(record)) signalProcess(record.supervisor_pid, 'SIGKILL');
    await within(2_000, () => !supervisorLives(record));
  }
  await stopLeftovers(stateFolder, systemClock);
  if (isGone()) return;
  const left = survivors(record).map(one => `${one.name} (${one.pid})`);
  throw new CliError('internal', `cannot be stopped: ${left.join(', ')}`);
}

async function within(timeoutMs: number, isDone: () => boolean): Promise<boolean> {
  const deadline = systemClock.monotonic() + timeoutMs;
  while (!isDone()) {
    if (systemClock.monotonic() > deadline) return false;
    await systemClock.sleep(POLL_MS);
  }
  return true;
}
