/**
 * The attempts of this worker: taken in, kept alive by the durable host, closed, and remembered for a
 * day so that a message that comes twice is known.
 *
 * A1: a task counts as taken once its first fact is in the journal. Only then is its message acked.
 * A2: a cancellation is written down before it is acted on, so that it also reaches a task whose
 *     message has not come yet.
 * A3: an attempt that cannot be read is none, as is a lease (lease-book.ts). It is tried again at each
 *     start for a day, since another release may read it, and then forgotten. Marks say what they say
 *     by being there: where the time in one is damaged, its day begins anew.
 */
import { CodeGodError, toWireError } from '../../protocol/errors.ts';
import { attemptKey } from '../../protocol/ids.ts';
import type { AttemptScope } from '../../protocol/mcp.ts';
import type { TaskMessage } from '../../protocol/task.ts';

import type { Clock } from '../../runtime/clock.ts';
import { createDurableHost, type DurableHost } from '../../runtime/durable-host.ts';
import { createJournalFactLog, type JournalFactLog } from '../../runtime/fact-log-journal.ts';
import type { Journal } from '../../runtime/journal.ts';
import { WORKER_KEYS } from '../../runtime/journal-keys.ts';
import type { Logger } from '../../runtime/log.ts';
import { type PerformAttempt, stepFailed } from './attempt-effects.ts';
import {
  type AttemptContext,
  type AttemptFact,
  MIGRATIONS,
  SCHEMA_VERSION,
} from './attempt-facts.ts';
import { attemptMachine } from './attempt-machine.ts';
import type { AttemptProgress } from './attempt-progress.ts';

const REMEMBERED_MS = 24 * 3_600_000;
const ERROR_LOGGED_MAX = 300;
const { closed: CLOSED, cancelled: CANCELLED, unreadable: UNREADABLE } = WORKER_KEYS;

export interface AttemptsOptions {
  readonly journal: Journal;
  readonly clock: Clock;
  readonly log: Logger;
  readonly perform: PerformAttempt;
  readonly progress: AttemptProgress;
  /** Called when an attempt begins, and when it is over and reported. */
  readonly begun: (task: TaskMessage) => void;
  readonly over: (attempt: string) => Promise<void>;
}

export class Attempts {
  readonly #options: AttemptsOptions;
  readonly #facts: JournalFactLog<AttemptFact>;
  readonly #host: DurableHost<AttemptFact, AttemptContext>;
  readonly #closing = new Set<Promise<void>>();

  constructor(options: AttemptsOptions) {
    const { journal, clock, log, perform } = options;
    this.#options = options;
    this.#facts = createJournalFactLog<AttemptFact>(journal);
    this.#host = createDurableHost({
      machine: attemptMachine,
      log: this.#facts,
      snapshots: journal,
      schemaVersion: SCHEMA_VERSION,
      migrations: MIGRATIONS,
      clock,
      logger: log,
      perform: async (attempt, key, effect, signal) => {
        const context = this.#host.context(attempt);
        // Closed in the meantime: what is returned is dropped.
        if (context === undefined) throw new CodeGodError('cancelled', `${attempt} is closed`);
        return perform(attempt, key, effect, signal, context);
      },
      failed: (_attempt, key, _effect, error, at) => [stepFailed(key, error, at)],
      onDeadline: (key, at, attempt) => this.#onDeadline(key, at, attempt),
    });
    this.#host.onFact((attempt, fact, context) => this.#onFact(attempt, fact, context));
  }

  /** Goes on with whatever was under way when the process ended. */
  async resume(): Promise<void> {
    const { log, journal } = this.#options;
    for (const attempt of await this.#facts.entities()) {
      if (await this.#has(CLOSED + attempt)) continue;
      try {
        await this.#host.open(attempt);
      } catch (error) {
        // Set aside; the master gives the attempt up at its deadline. The others must go on.
        log.error('attempt.not_resumed', { attempt, error });
        if (this.#host.quarantined().has(attempt)) await this.#noteUnreadable(attempt);
        continue;
      }
      if (await this.#has(UNREADABLE + attempt)) {
        await journal.batch([{ type: 'del', key: UNREADABLE + attempt }]);
      }
      const turns = this.#host.context(attempt)?.drifted ?? [];
      if (turns.length > 0) log.warn('attempt.prompt_changed', { attempt, turns });
      if (this.#host.state(attempt)?.value === 'closed') await this.#close(attempt);
    }
  }

  /** Tasks at work, by attempt. */
  open(): ReadonlyMap<string, TaskMessage> {
    const tasks = new Map<string, TaskMessage>();
    for (const attempt of this.#host.entities()) {
      const task = this.#host.context(attempt)?.task;
      if (task !== null && task !== undefined) tasks.set(attempt, task);
    }
    return tasks;
  }

  /** Whether the attempt was taken, now or in the last day. */
  async knows(scope: AttemptScope): Promise<boolean> {
    const attempt = keyOf(scope);
    if (this.open().has(attempt)) return true;
    return await this.#has(CLOSED + attempt);
  }

  /** Takes a task (A1). One that is known already changes nothing. */
  async take(task: TaskMessage): Promise<void> {
    if (await this.knows(task)) return;
    const attempt = keyOf(task);
    const { clock } = this.#options;
    await this.#host.decide(attempt, ({ context }) =>
      context.task === null ? { type: 'attempt.received', at: clock.now(), task } : null,
    );
    if (await this.#has(CANCELLED + attempt)) await this.#submitCancel(attempt);
  }

  /** Stops an attempt. Cancelling what is over, or unknown, is no error (A2). */
  async cancel(scope: AttemptScope): Promise<void> {
    const attempt = keyOf(scope);
    const { clock, journal } = this.#options;
    await journal.put(CANCELLED + attempt, { at: clock.now() });
    if (this.open().has(attempt)) await this.#submitCancel(attempt);
  }

  /** Forgets what has been over, or could not be read, for a day. */
  async prune(): Promise<void> {
    const { clock, journal, log } = this.#options;
    const limit = clock.now() - REMEMBERED_MS;
    for (const prefix of [CLOSED, CANCELLED, UNREADABLE]) {
      for await (const key of journal.keys(prefix)) {
        const attempt = key.slice(prefix.length);
        if (prefix === UNREADABLE && this.open().has(attempt)) continue;
        if ((await this.#timeOf(key)) > limit) continue;
        if (prefix === UNREADABLE) log.warn('attempt.unreadable_forgotten', { attempt });
        // The mark goes last: a prune that is cut short is done again.
        if (prefix !== CANCELLED) {
          await this.#facts.forget(attempt);
          await this.#host.forget(attempt);
        }
        await journal.batch([{ type: 'del', key }]);
      }
    }
    await this.#host.forgetOthers();
  }

  async stop(): Promise<void> {
    await this.#host.stop();
    await Promise.all(this.#closing);
  }

  /** Whether there is such a key, whatever its value (A3). */
  async #has(key: string): Promise<boolean> {
    for await (const found of this.#options.journal.keys(key)) return found === key;
    return false;
  }

  async #noteUnreadable(attempt: string): Promise<void> {
    const { clock, journal } = this.#options;
    const key = UNREADABLE + attempt;
    if (!(await this.#has(key))) await journal.put(key, { at: clock.now() });
  }

  /** Of a mark (A3). */
  async #timeOf(key: string): Promise<number> {
    const { clock, journal, log } = this.#options;
    try {
      return atOf(await journal.get(key));
    } catch (error) {
      if (toWireError(error).code !== 'log_corrupt') throw error;
      log.warn('attempt.mark_unreadable', { key });
      await journal.put(key, { at: clock.now() });
      return clock.now();
    }
  }

  async #submitCancel(attempt: string): Promise<void> {
    const { clock } = this.#options;
    const { end } = await this.#host.decide(attempt, ({ context }) =>
      context.end === null ? { type: 'attempt.cancelled', at: clock.now() } : null,
    );
    // It ended before this one's turn came, and was brought back for it.
    if (end !== null && this.#host.state(attempt)?.value === 'closed') await this.#close(attempt);
  }

  /** Over, or on until it is looked at again. */
  #onDeadline(key: string, at: number, attempt: string): AttemptFact {
    const { task = null, deadlines = {} } = this.#host.context(attempt) ?? {};
    const deadline = deadlines[key] ?? at;
    const until =
      task === null ? null : this.#options.progress.extended(attempt, task, deadline, at);
    if (until === null) return { type: 'deadline.passed', at, key };
    return { type: 'deadline.moved', at, key, until };
  }

  #onFact(attempt: string, fact: AttemptFact, context: AttemptContext): void {
    const { log, begun } = this.#options;
    log.info(fact.type, { attempt, ...summaryOf(fact) });
    if (fact.type !== 'deadline.moved') this.#options.progress.moved(attempt);
    if (fact.type === 'attempt.received') begun(fact.task);
    if (context.end !== null && fact.type === 'attempt.reported') {
      const closing = this.#close(attempt).catch((error: unknown) => {
        // The next start finds it closed and does it again.
        log.error('attempt.not_closed', { attempt, error });
      });
      this.#closing.add(closing);
      void closing.finally(() => this.#closing.delete(closing));
    }
  }

  async #close(attempt: string): Promise<void> {
    const { clock, journal, over } = this.#options;
    await journal.put(CLOSED + attempt, { at: clock.now() });
    await this.#host.close(attempt);
    this.#options.progress.forget(attempt);
    await over(attempt);
  }
}

const keyOf = (scope: AttemptScope): string => attemptKey(scope);

const atOf = (value: unknown): number =>
  typeof value === 'object' && value !== null && 'at' in value && typeof value.at === 'number'
    ? value.at
    : 0;

/** What a log line says of a fact: figures, never a prompt or an answer. */
function summaryOf(fact: AttemptFact): Record<string, unknown> {
  switch (fact.type) {
    case 'attempt.received':
      return { kind: fact.task.kind, engine: fact.task.engine, model: fact.task.model };
    case 'files.read':
      return { files: fact.files.length };
    case 'tools.listed':
      return { tools: fact.tools.length };
    case 'turn.answered': {
      const { turn, finish, prompt_tokens, output_tokens, load_ms, total_ms, answer } = fact;
      const counts = { turn, finish, prompt_tokens, output_tokens, load_ms, total_ms };
      const error = answer !== undefined && 'error' in answer ? answer.error : null;
      const why = error === null ? {} : { error: error.slice(0, ERROR_LOGGED_MAX) };
      return { ...counts, answer: answer?.kind ?? null, ...why };
    }
    case 'call.ended':
      return { turn: fact.turn, index: fact.index, error_code: fact.error?.code ?? null };
    case 'attempt.committed':
      return { commit: fact.commit, files: fact.files.length };
    case 'step.failed':
      return { key: fact.key, error_code: fact.error.code, message: fact.error.message };
    case 'deadline.passed':
      return { key: fact.key };
    case 'deadline.moved':
      return { key: fact.key, until: fact.until };
    default:
      return {};
  }
}
