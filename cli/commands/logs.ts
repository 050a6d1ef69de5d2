/** `logs`: the facts of builds from their log, or the lines of an actor's log file. */
import { existsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { CodeGodError } from '../../protocol/errors.ts';
import { Fact } from '../../protocol/fact.ts';
import { STREAMS } from '../../protocol/streams.ts';
import { eventsOf } from '../../protocol/subjects.ts';
import { systemClock } from '../../runtime/clock.ts';
import { describeFact } from '../build-view.ts';
import { withBus } from '../bus-session.ts';
import type { CommandContext } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import { parseSince } from '../since.ts';
import { onStopSignals } from '../stop-signals.ts';
import { logFile, sizeOf, tailLog } from '../supervisor/log-file.ts';
import { resolveBuild } from './control.ts';

export interface LogsOptions {
  readonly follow: boolean;
  readonly since?: string;
  readonly actor?: string;
  readonly lines?: number;
}

/** Of an actor, where nobody says how many. */
const ACTOR_LINES = 100;

export async function logs(
  context: CommandContext,
  build: string | undefined,
  options: LogsOptions,
): Promise<number> {
  const stop = new AbortController();
  const release = onStopSignals(() => stop.abort(new CliError('interrupted', 'interrupted')));
  try {
    if (options.actor !== undefined) await actorLog(context, options.actor, options, stop.signal);
    else await buildLog(context, build, options, stop.signal);
    return EXIT.ok;
  } catch (error) {
    if (stop.signal.aborted) return EXIT.ok; // Ctrl-C is how following ends.
    throw error;
  } finally {
    release();
  }
}

async function buildLog(
  context: CommandContext,
  text: string | undefined,
  options: LogsOptions,
  signal: AbortSignal,
): Promise<void> {
  const { terminal } = context;
  const sinceMs = sinceOf(options.since);
  await withBus(await context.config(), async session => {
    const { streams } = session.bus;
    const id = text === undefined ? '*' : await resolveBuild(session, text);
    const range = { filter: eventsOf(id), from_seq: 1, signal };
    const { name } = STREAMS.event;
    const messages = options.follow ? streams.follow(name, range) : streams.read(name, range);
    const lastSeq = (await streams.last(name, range.filter))?.seq ?? 0;
    const tail = new Tail(terminal, lastSeq === 0 ? null : (options.lines ?? null));
    let count = 0;
    for await (const message of messages) {
      const fact = session.messenger.decode(message, Fact);
      count++;
      if (fact.at >= sinceMs) tail.take(fact);
      if (message.seq >= lastSeq) tail.flush();
      const isEnd = fact.type === 'build.ended' || fact.type === 'build.rejected';
      // A build that was tried again has facts after an end.
      if (id !== '*' && isEnd && (await streams.last(name, range.filter))?.seq === message.seq) {
        break;
      }
    }
    tail.flush();
    if (count === 0 && id !== '*') {
      throw new CodeGodError('not_found', `there are no facts about ${id}`);
    }
  });
}

/** Shows facts as they come, or of those that are there already only the last. */
class Tail {
  readonly #terminal: CommandContext['terminal'];
  readonly #kept: (() => void)[] = [];
  /** Null from when everything is shown. */
  #lines: number | null;

  constructor(terminal: CommandContext['terminal'], lines: number | null) {
    this.#terminal = terminal;
    this.#lines = lines;
  }

  take(fact: Fact): void {
    const line = describeFact(fact);
    if (line === null && !this.#terminal.isJson) return;
    const show = (): void => {
      if (this.#terminal.isJson) this.#terminal.data(fact);
      else this.#terminal.line(`${timeOf(fact.at)}  ${fact.build}  ${line}`);
    };
    this.#kept.push(show);
    if (this.#lines === null) this.flush();
    else if (this.#kept.length > this.#lines) this.#kept.shift();
  }

  flush(): void {
    this.#lines = null;
    for (const show of this.#kept.splice(0)) show();
  }
}

function sinceOf(text: string | undefined): number {
  if (text === undefined) return 0;
  const moment = parseSince(text, systemClock.now());
  if (moment !== null) return moment;
  throw new CliError('usage', `--since ${text}: expected 30s, 10m, 2h, 1d or a date`);
}

const timeOf = (at: number): string => new Date(at).toISOString().slice(0, 19).replace('T', ' ');

const POLL_MS = 200;

async function actorLog(
  context: CommandContext,
  name: string,
  options: LogsOptions,
  signal: AbortSignal,
): Promise<void> {
  const { terminal } = context;
  const config = await context.config();
  const file = logFile(config.paths.state, name);
  if (!/^[a-z-]+$/.test(name) || !existsSync(file)) {
    throw new CliError('not_found', `there is no log of ${name}`, 'logs lie in the state folder');
  }
  let position = sizeOf(file);
  for (const line of tailLog(file, options.lines ?? ACTOR_LINES)) terminal.print(`${line}\n`);
  while (options.follow) {
    await systemClock.sleep(POLL_MS, signal);
    const size = sizeOf(file);
    if (size < position) position = 0; // It was cut short: its size is bounded.
    if (size === position) continue;
    for await (const line of linesBetween(file, position, size)) {
      terminal.print(`${line}\n`);
    }
    position = size;
  }
}

/** A log that was moved away between the look and the opening has no lines. */
async function* linesBetween(path: string, from: number, to: number): AsyncGenerator<string> {
  const file = await open(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
  if (file === undefined) return;
  yield* file.readLines({ start: from, end: to - 1 });
}
