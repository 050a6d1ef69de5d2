/**
 * Reports of attempts: read, compared with where the attempt was placed, and made facts.
 *
 * R1: a node speaks for its own attempts only. The bus server vouches for the node in the subject
 *     (runtime/nats-server/node-permissions.ts); the report has to name the same one, and the attempt
 *     to be with it. Anything else is a dead letter and changes nothing.
 * R2: a report that cannot be read stops nobody but its attempt: it is a dead letter, and the attempt
 *     has failed by no fault of the model, so that it is done again.
 * R3: a report is taken off its stream when it has become a fact, or is known to become none, so that
 *     the node has room for the next one: the stream keeps only so many of each (protocol/streams.ts).
 */
import { NO_USAGE } from '../../../protocol/build.ts';
import { HEADER } from '../../../protocol/envelope.ts';
import { CodeGodError, toWireError, type WireError } from '../../../protocol/errors.ts';
import type { FactBody } from '../../../protocol/fact.ts';
import type { BuildId, StampedAttempt } from '../../../protocol/ids.ts';
import { STREAMS } from '../../../protocol/streams.ts';
import { nodeOnSubject, REPORTS, reportedAttempt } from '../../../protocol/subjects.ts';
import { TaskReport } from '../../../protocol/task.ts';
import { eachAtOnce } from '../../../runtime/at-once.ts';
import type { Outcome, StoredMessage } from '../../../runtime/bus.ts';
import type { Clock } from '../../../runtime/clock.ts';
import type { DurableHost } from '../../../runtime/durable-host.ts';
import type { Logger } from '../../../runtime/log.ts';
import type { Messenger } from '../../../runtime/messages.ts';
import type { BuildContext, Lease } from '../build-context.ts';
import { reportCounts } from '../build-fold.ts';
import type { Misreports } from './misreports.ts';

const AT_ONCE = 32;

export interface ReportsOptions {
  readonly messenger: Messenger;
  readonly host: DurableHost<FactBody, BuildContext>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly misreports: Misreports;
  /** Fires when the term of office ends: what is there then is the successor's. */
  readonly signal: AbortSignal;
  /** Told of a build that was looked at: one that has ended need not stay open. */
  readonly left: (build: BuildId) => void;
}

export class Reports {
  readonly #options: ReportsOptions;

  constructor(options: ReportsOptions) {
    this.#options = options;
  }

  /** What a predecessor had pulled and not acknowledged, or not taken off. All builds are open. */
  async catchUp(signal: AbortSignal): Promise<void> {
    const range = { filter: REPORTS, from_seq: 1, signal };
    const stored = this.#options.messenger.bus.streams.read(STREAMS.report.name, range);
    await eachAtOnce(stored, AT_ONCE, message => this.#replay(message));
  }

  async #replay(message: StoredMessage): Promise<void> {
    const about = attemptOf(message);
    if (about === null) return;
    if (this.#leaseOf(about) === null) {
      // Dealt with, as the last thing in a term. One that names no node takes nobody's room.
      if (nodeOnSubject(message.subject) !== null) await this.#forget(message);
      return;
    }
    let report: TaskReport;
    try {
      report = this.#options.messenger.decode(message, TaskReport);
    } catch (error) {
      if (!(error instanceof CodeGodError)) throw error;
      await this.unreadable(error, message);
      return;
    }
    await this.take(report, message);
  }

  async take(report: TaskReport, message: StoredMessage): Promise<Outcome> {
    const fault = this.#foreign(report, message);
    if (fault !== null) {
      const outcome = await this.#bury(message, { code: 'denied', message: fault }); // R1
      await this.#forget(message);
      return outcome;
    }
    if (this.#leaseOf(report) === null) this.#options.misreports.note(report.node);
    await this.#submit(report);
    await this.#forget(message);
    return { kind: 'done' };
  }

  async #submit(report: TaskReport): Promise<void> {
    const { host, clock, left } = this.#options;
    const { build, task, attempt } = report;
    // A build that is not open has ended: its late reports change nothing.
    if (host.context(build) === undefined) return;
    await host.decide(build, ({ context }) =>
      reportCounts(context, report)
        ? { type: 'task.reported', at: clock.now(), task, attempt, report }
        : null,
    );
    left(build);
  }

  /** R2 */
  async unreadable(error: CodeGodError, message: StoredMessage): Promise<Outcome> {
    const reason = toWireError(error);
    const outcome = await this.#bury(message, reason);
    const about = attemptOf(message);
    const lease = about === null ? null : this.#leaseOf(about);
    const node = nodeOnSubject(message.subject);
    const isOwn = node === null || node === lease?.node; // R1
    if (about !== null && lease !== null && isOwn) {
      await this.#submit(failedReport(about, lease, reason));
    }
    await this.#forget(message);
    return outcome;
  }

  /** R3 */
  async #forget({ subject, seq }: StoredMessage): Promise<void> {
    const { messenger, log, signal } = this.#options;
    if (signal.aborted) return;
    try {
      await messenger.bus.streams.remove(STREAMS.report.name, seq);
    } catch (error) {
      log.info('report.stays', { subject, error: toWireError(error) }); // Until it is too old.
    }
  }

  /** What is wrong with who speaks; null where nothing is. */
  #foreign(report: TaskReport, { subject }: StoredMessage): string | null {
    const node = nodeOnSubject(subject);
    if (node !== null && node !== report.node) {
      return `the report says ${report.node}, its subject ${subject}`;
    }
    const lease = this.#leaseOf(report);
    if (lease === null || lease.node === report.node) return null;
    return `${report.node} reports on an attempt that was given to ${lease.node}`;
  }

  /** Where the attempt is; null where it is over or not placed, so that its report is a late one. */
  #leaseOf({ build, stamp, task, attempt }: StampedAttempt): Lease | null {
    const context = this.#options.host.context(build);
    // Of another build of its number, on a store of the bus that is no more.
    if (stamp !== undefined && stamp !== context?.stamp) return null;
    const tasks = context?.tasks ?? [];
    const found = tasks.find(({ id }) => id === task);
    return found?.attempt === attempt ? found.lease : null;
  }

  async #bury(message: StoredMessage, error: WireError): Promise<Outcome> {
    const { messenger, log, misreports } = this.#options;
    const node = nodeOnSubject(message.subject);
    if (node === null || misreports.note(node)) {
      log.warn('report.refused', { subject: message.subject, error });
    }
    await messenger.deadLetter(STREAMS.report.name, message, error);
    return { kind: 'reject', reason: error.message };
  }
}

function failedReport(about: StampedAttempt, lease: Lease, error: WireError): TaskReport {
  const { build, task, attempt } = about;
  const { node, engine, model } = lease;
  return {
    ...{ build, task, attempt, lease: lease.lease, node, engine, model },
    outcome: 'failed',
    error,
    blame: 'infrastructure',
    summary: `the report of ${node} cannot be read`,
    plan: null,
    commit: null,
    files: [],
    tool_calls: [],
    usage: NO_USAGE,
  };
}

/** By the id of its message, which can be read where the report cannot. */
const attemptOf = ({ headers }: StoredMessage): StampedAttempt | null =>
  reportedAttempt(headers[HEADER.messageId] ?? '');
