/**
 * One build on one system: published if it is not yet, followed to its end, then shown.
 *
 * W1  A build goes on when we stop looking, unless it was cancelled: Ctrl-C once is a question,
 *     twice is a cancellation, three times is impatience.
 */
import { z } from 'zod';
import type { BuildRequest } from '../protocol/build.ts';
import { CodeGodError } from '../protocol/errors.ts';
import type { BuildId } from '../protocol/ids.ts';
import { controlSubject } from '../protocol/subjects.ts';
import { systemClock } from '../runtime/clock.ts';
import type { Config } from '../runtime/config.ts';
import { factsOf, publishBuild } from './build-follow.ts';
import type { BuildProgress } from './build-progress.ts';
import type { BuildOptions } from './build-request.ts';
import { showResult } from './build-result.ts';
import { type BusSession, withBus } from './bus-session.ts';
import { CliError, EXIT } from './exit-code.ts';
import { onStopSignals } from './stop-signals.ts';
import type { ActorsOf } from './supervisor/system.ts';
import { runningSystem } from './supervisor/system-record.ts';
import type { Terminal } from './terminal.ts';

export interface BuildRun {
  readonly config: Config;
  readonly terminal: Terminal;
  readonly actors: ActorsOf | undefined;
  readonly options: BuildOptions;
  readonly request: BuildRequest;
  readonly publishId: string;
  readonly progress: BuildProgress;
  /** On the monotonic clock. */
  readonly startedAt: number;
  build: BuildId | null;
  /** Where the log of the build goes on. */
  nextSeq: number;
}

/**
 * Whose system it is: `ephemeral` ours for this build, `borrowed` that of another build,
 * `persistent` this home's, `foreign` somebody else's bus.
 */
export type SystemKind = 'ephemeral' | 'borrowed' | 'persistent' | 'foreign';

/** Why following ended before the build did. */
type Stop = 'lost' | 'stopped' | 'detached' | 'interrupted' | 'timeout';

const LOST_AFTER_MS = 2_000;
const LOOK_EVERY_MS = 500;
const DETACH_AFTER_MS = 1_500;
const CANCEL_WITHIN_MS = 20_000;
const CONTROL_TIMEOUT_MS = 5_000;

/** Answers the exit code, or `lost` where a borrowed system has ended and another may go on. */
export async function followBuild(run: BuildRun, system: SystemKind): Promise<number | 'lost'> {
  return await withBus(run.config, async session => {
    const watch = new Watch(run, system, session);
    try {
      const stopped = await follow(run, session, watch);
      if (stopped === null) {
        run.progress.end();
        const code = await showResult(run, session.bus);
        return watch.cancelled ? EXIT.interrupted : code;
      }
      return stopped === 'lost' ? 'lost' : tellStop(run, system, stopped);
    } catch (error) {
      const isGone = error instanceof CodeGodError && error.code === 'bus_unavailable';
      if (isGone && system === 'borrowed') return 'lost';
      throw error;
    } finally {
      watch.close();
    }
  });
}

/** Answers null when the build has ended, else why we stopped looking. */
async function follow(run: BuildRun, session: BusSession, watch: Watch): Promise<Stop | null> {
  const { messenger } = session;
  if (run.progress.view.end !== null) return null; // Only the result could not be fetched.
  try {
    if (run.build === null) {
      const { request, publishId } = run;
      run.build = await publishBuild(messenger, request, publishId, watch.signal);
      run.progress.say(`build ${run.build}`);
    }
    for await (const { fact, seq } of factsOf(messenger, run.build, run.nextSeq, watch.signal)) {
      run.nextSeq = seq + 1;
      run.progress.take(fact);
    }
  } catch (error) {
    if (watch.stopped === null) throw error;
  }
  return run.progress.view.end === null ? (watch.stopped ?? 'stopped') : null;
}

function tellStop(run: BuildRun, system: SystemKind, stop: Exclude<Stop, 'lost'>): number {
  run.progress.end();
  const { build } = run;
  const goesOn =
    build === null
      ? 'nothing was published'
      : system === 'ephemeral'
        ? goesOnLater(build)
        : `build ${build} goes on: \`codegod logs ${build} -f\` follows it`;
  if (stop === 'stopped') {
    throw new CliError('bus_unavailable', 'the system has been stopped', goesOnLater(build));
  }
  if (stop === 'timeout') {
    const seconds = run.options.timeout;
    throw new CliError('timeout', `the build has not ended within ${seconds} s`, goesOn);
  }
  if (stop === 'interrupted') throw new CliError('interrupted', 'interrupted', goesOn);
  run.terminal.note(goesOn);
  return EXIT.interrupted;
}

const goesOnLater = (build: BuildId | null): string =>
  `build ${build} goes on with the next \`codegod up\` or \`codegod build\``;

/** Everything that may end our looking: signals, the time limit, a system that vanishes. */
class Watch {
  readonly #run: BuildRun;
  readonly #system: SystemKind;
  readonly #session: BusSession;
  readonly #stop = new AbortController();
  readonly #release: () => void;
  readonly #timers: NodeJS.Timeout[] = [];
  #interrupts = 0;
  #goneSince: number | null = null;
  stopped: Stop | null = null;
  cancelled = false;

  constructor(run: BuildRun, system: SystemKind, session: BusSession) {
    this.#run = run;
    this.#system = system;
    this.#session = session;
    this.#release = onStopSignals(signal => this.#onSignal(signal));
    const { timeout } = run.options;
    if (timeout !== undefined) {
      const leftMs = run.startedAt + timeout * 1_000 - systemClock.monotonic();
      this.#after(Math.max(0, leftMs), () => this.#end('timeout'));
    }
    if (system === 'borrowed' || system === 'persistent') {
      this.#timers.push(setInterval(() => this.#look(), LOOK_EVERY_MS));
    }
  }

  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  close(): void {
    this.#release();
    for (const timer of this.#timers) clearTimeout(timer);
  }

  #onSignal(signal: NodeJS.Signals): void {
    this.#interrupts++;
    if (signal !== 'SIGINT' || this.#interrupts > 2) this.#end('interrupted');
    else if (this.#interrupts === 2) this.#cancel();
    else if (this.#system === 'ephemeral') {
      this.#run.progress.say('still building; Ctrl-C again cancels the build');
    } else {
      this.#run.progress.say('detaching; Ctrl-C again, now, cancels the build'); // W1
      this.#after(DETACH_AFTER_MS, () => {
        if (!this.cancelled) this.#end('detached');
      });
    }
  }

  #cancel(): void {
    const { build, progress } = this.#run;
    if (build === null) {
      this.#end('interrupted');
      return;
    }
    this.cancelled = true;
    progress.say('cancelling');
    this.#after(CANCEL_WITHIN_MS, () => this.#end('interrupted'));
    const request = { action: 'cancel', reason: 'cancelled with Ctrl-C' };
    this.#session.messenger
      .ask(controlSubject(build), request, z.unknown(), { timeout_ms: CONTROL_TIMEOUT_MS })
      .catch((error: Error) => {
        progress.say(`cannot be cancelled: ${error.message}`);
        this.#end('interrupted');
      });
  }

  /** Noted twice before it counts: a supervisor that is replaced leaves a short gap. */
  #look(): void {
    if (runningSystem(this.#run.config.paths.state) !== null) {
      this.#goneSince = null;
      return;
    }
    this.#goneSince ??= systemClock.monotonic();
    if (systemClock.monotonic() - this.#goneSince < LOST_AFTER_MS) return;
    this.#end(this.#system === 'borrowed' ? 'lost' : 'stopped');
  }

  #end(stop: Stop): void {
    this.stopped ??= stop;
    this.#stop.abort(new CliError('interrupted', stop));
  }

  #after(delayMs: number, fire: () => void): void {
    this.#timers.push(setTimeout(fire, delayMs));
  }
}
