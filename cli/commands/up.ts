/**
 * `up`, in the foreground or detached, and the hidden `supervise` that a detached `up` starts.
 *
 * U1  A second `up` on the same home is not an error: it waits for the first and names its doors.
 * U2  A detached supervisor holds nothing of the terminal: no descriptor, no process group.
 * U3  A node whose bus is away does not give up: it is started, tries for ever, and `up` says so.
 * U4  A supervisor drops the descriptors of the shell that started it: its children would have them.
 */
import { closeSync } from 'node:fs';
import { systemClock } from '../../runtime/clock.ts';
import { type Config, childEnvironment } from '../../runtime/config.ts';
import { ensurePaths, sourceLoader } from '../../runtime/paths.ts';
import { dropInherited, startProgram } from '../../runtime/spawn.ts';
import type { CommandContext } from '../context.ts';
import { CliError, EXIT, toFailure } from '../exit-code.ts';
import { statusOf } from '../status-view.ts';
import { onStopSignals } from '../stop-signals.ts';
import { appendLog, logFile, openLog, sizeOf, tailLog } from '../supervisor/log-file.ts';
import { withSystem } from '../supervisor/system.ts';
import {
  forgetStarting,
  isUp,
  noteStarting,
  runningSystem,
  type SystemRecord,
} from '../supervisor/system-record.ts';

/** Name of the detached supervisor's own log. */
const SUPERVISOR = 'supervisor';
/** The first start may install Python environments. */
const READY_TIMEOUT_MS = 600_000;
const POLL_MS = 50;

export async function up(
  context: CommandContext,
  options: { readonly detach: boolean },
): Promise<number> {
  return options.detach ? await upDetached(context) : await upForeground(context);
}

async function upForeground(context: CommandContext): Promise<number> {
  const config = await context.config();
  const { terminal } = context;
  const code = await superviseUntilStopped(config, 'foreground', {
    actors: context.actors,
    onProgress: sentence => terminal.note(sentence),
    onReady: record => {
      announce(context, record);
      terminal.note('stop with Ctrl-C');
    },
    onChange: changeTeller(sentence => terminal.note(sentence)),
  });
  if (code !== null) return code;
  return await joinRunning(context, config);
}

/** Hidden: the process behind `up -d`. Its stdout and stderr are the log file that it writes to. */
export async function supervise(context: CommandContext): Promise<number> {
  const config = await context.config();
  const say = (sentence: string): void => {
    const at = new Date(systemClock.now()).toISOString();
    appendLog(config.paths.state, SUPERVISOR, `${at} ${sentence}`);
  };
  const forget = (): void => forgetStarting(config.paths.state, process.pid);
  try {
    const code = await superviseUntilStopped(config, 'detached', {
      actors: context.actors,
      onProgress: say,
      onBegin: forget,
      onReady: () => say('everything is ready'),
      onChange: changeTeller(say),
    });
    return code ?? EXIT.ok;
  } finally {
    forget();
  }
}

interface Hooks {
  readonly onProgress: (sentence: string) => void;
  /** The note of this system is written. */
  readonly onBegin?: () => void;
  readonly onReady: (record: SystemRecord) => void;
  readonly onChange: (record: SystemRecord) => void;
  readonly actors: CommandContext['actors'];
}

/** Answers null where the home has a supervisor already. */
async function superviseUntilStopped(
  config: Config,
  mode: SystemRecord['mode'],
  hooks: Hooks,
): Promise<number | null> {
  dropInherited(); // U4
  const stop = new AbortController();
  const release = onStopSignals(() => stop.abort(new CliError('interrupted', 'interrupted')));
  try {
    return await withSystem(
      {
        config,
        mode,
        signal: stop.signal,
        onProgress: hooks.onProgress,
        onChange: hooks.onChange,
        ...(hooks.onBegin ? { onBegin: hooks.onBegin } : {}),
        actors: hooks.actors,
      },
      async system => {
        try {
          hooks.onReady(await system.ready(stop.signal));
        } catch (error) {
          if (stop.signal.aborted) return EXIT.ok;
          if (config.bus.joined)
            hooks.onProgress(`${toFailure(error).message}; it is tried for ever`);
          else throw new CliError('dependency_missing', toFailure(error).message, logHint(config));
        }
        await aborted(stop.signal);
        hooks.onProgress('stopping');
        return EXIT.ok;
      },
    );
  } catch (error) {
    if (stop.signal.aborted) return EXIT.interrupted;
    throw error;
  } finally {
    release();
  }
}

async function upDetached(context: CommandContext): Promise<number> {
  const config = await context.config();
  announce(context, await ensureDetached(context, config));
  return EXIT.ok;
}

/**
 * A running, ready system of this home; started detached where there is none.
 * @throws CliError with the end of the supervisor's log where it cannot be started
 */
export async function ensureDetached(
  context: CommandContext,
  config: Config,
): Promise<SystemRecord> {
  const { terminal } = context;
  const running = runningSystem(config.paths.state);
  if (running !== null) return await untilReady(config, running.supervisor_pid, () => null);
  ensurePaths(config.paths);
  const file = logFile(config.paths.state, SUPERVISOR);
  const log = openLog(config.paths.state, SUPERVISOR);
  const from = sizeOf(file);
  const child = startProgram(process.execPath, [...sourceLoader(), entry(), 'supervise'], {
    cwd: config.paths.state,
    env: childEnvironment(config),
    detached: true,
    stdio: ['ignore', log, log], // U2
  });
  closeSync(log);
  child.unref();
  if (child.pid !== undefined) noteStarting(config.paths.state, child.pid);
  const shown = new Set<string>();
  return await untilReady(config, child.pid ?? null, () => {
    const lines = tailLog(file, 1_000, from);
    for (const step of stepsIn(lines)) {
      if (!shown.has(step)) terminal.note(step);
      shown.add(step);
    }
    if (child.exitCode === null && child.signalCode === null) return 'starting';
    if (child.exitCode === EXIT.ok) return null; // U1: it has met another supervisor.
    if (child.exitCode === EXIT.interrupted || child.signalCode === 'SIGTERM') {
      return new CliError('cancelled', 'it was stopped while it started');
    }
    const reason = reasonIn(lines, logHint(config));
    return new CliError(
      'dependency_missing',
      `the system does not start: ${reason}`,
      logHint(config),
    );
  });
}

/**
 * Waits for a ready system; `look` is asked at each turn for a reason to give up. `starting`: a
 * supervisor of ours lives, and will tell by its end what is wrong.
 */
async function untilReady(
  config: Config,
  pid: number | null,
  look: () => Error | 'starting' | null,
): Promise<SystemRecord> {
  const deadline = systemClock.monotonic() + READY_TIMEOUT_MS;
  let wasRunning = false;
  while (systemClock.monotonic() < deadline) {
    const record = runningSystem(config.paths.state);
    if (record !== null && record.state !== 'stopping' && isUp(record)) return record;
    if (record !== null && config.bus.joined && isTrying(record)) return record; // U3
    const outlook = look();
    if (outlook instanceof Error) throw outlook;
    if (wasRunning && record === null && outlook === null) {
      throw new CliError('bus_unavailable', `the system (process ${pid}) has stopped`);
    }
    wasRunning ||= record !== null;
    await systemClock.sleep(POLL_MS);
  }
  throw new CliError('timeout', 'the system does not become ready', logHint(config));
}

/** An actor could not do its work at first, and is started again. */
const isTrying = (record: SystemRecord): boolean => record.actors.some(actor => actor.restarts > 0);

/** U1. */
async function joinRunning(context: CommandContext, config: Config): Promise<number> {
  context.terminal.note('it is running already');
  announce(context, await untilReady(config, null, () => null));
  return EXIT.ok;
}

function announce(context: CommandContext, record: SystemRecord): void {
  for (const { name, state, reason } of record.actors) {
    if (state !== 'ready') context.terminal.note(`${name} ${state}: ${reason ?? 'not ready yet'}`);
  }
  context.terminal.result(statusOf(record), () =>
    [`bus        ${record.bus.url}`, `http       ${record.http.url ?? '(none)'}`].join('\n'),
  );
}

/** The program that runs now, to be run again. */
const entry = (): string => process.argv[1] ?? '';

const logHint = (config: Config): string => `the logs are in ${logFile(config.paths.state, '*')}`;

const TIME = /^\d{4}-\d\d-\d\dT[\d:.]+Z /;
const REASON_LINES_MAX = 20;

/** What a detached supervisor has said of its start; why something failed is told at the end, once. */
const stepsIn = (lines: readonly string[]): string[] =>
  lines
    .filter(line => TIME.test(line))
    .map(line => line.replace(TIME, '').replace(/^(\S+ (?:backoff|crash_loop)): .*/, '$1'));

/** What it, or its Node, has printed at its end; else the last that it has said. */
function reasonIn(lines: readonly string[], hint: string): string {
  const printed = lines.filter(line => !TIME.test(line) && line !== hint);
  const last = lines.at(-1)?.replace(TIME, '') ?? 'it said nothing';
  const reason = printed.slice(-REASON_LINES_MAX).join('\n') || last;
  return reason.replace(/^codegod: /, '');
}

/** Tells each process whose state has changed since it was told before. */
function changeTeller(tell: (sentence: string) => void): (record: SystemRecord) => void {
  const told = new Map<string, string>();
  return record => {
    for (const one of [record.bus, ...record.actors]) {
      if (one.state === 'cold' || told.get(one.name) === one.state) continue;
      told.set(one.name, one.state);
      const isWell =
        one.reason === null || !['backoff', 'crash_loop', 'degraded'].includes(one.state);
      tell(`${one.name} ${one.state}${isWell ? '' : `: ${one.reason}`}`);
    }
  };
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise(resolve => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
