/**
 * What comes in for the builds: requests from `codegod.build` and reports of attempts (reports.ts).
 *
 * I1: what was taken from a stream is acknowledged after its fact is stored, never before.
 */
import { CodeGodError, toWireError, type WireError } from '../../../protocol/errors.ts';
import type { FactBody } from '../../../protocol/fact.ts';
import { type BuildId, buildIdOf } from '../../../protocol/ids.ts';
import { CONSUMERS, STREAMS } from '../../../protocol/streams.ts';
import { BUILD_SUBJECT, REPORTS } from '../../../protocol/subjects.ts';
import { TaskReport } from '../../../protocol/task.ts';
import { eachAtOnce } from '../../../runtime/at-once.ts';
import type {
  ConsumeOptions,
  Outcome,
  ReadOptions,
  StoredMessage,
  Subscription,
} from '../../../runtime/bus.ts';
import type { Clock } from '../../../runtime/clock.ts';
import type { DurableHost } from '../../../runtime/durable-host.ts';
import type { Logger } from '../../../runtime/log.ts';
import type { Messenger } from '../../../runtime/messages.ts';
import { type BuildContext, NEW_BUILD } from '../build-context.ts';
import { excerptOf, nameHint, type RequestDefaults, readBuildRequest } from '../build-request.ts';
import { summaryOf } from '../build-summary.ts';
import type { BuildIndex } from './build-index.ts';
import { stampOf } from './build-stamp.ts';
import type { Misreports } from './misreports.ts';
import { Reports } from './reports.ts';

const CONCURRENCY = 16;
const RETRY_MS = 1_000;

export interface IntakeOptions {
  readonly messenger: Messenger;
  readonly host: DurableHost<FactBody, BuildContext>;
  readonly index: BuildIndex;
  readonly clock: Clock;
  readonly log: Logger;
  readonly misreports: Misreports;
  readonly ackWaitMs: number;
  readonly defaults: RequestDefaults;
  /** Told of a build that was looked at: one that has ended need not stay open. */
  readonly left: (build: BuildId) => void;
  /** Fires when the term of office ends. */
  readonly signal: AbortSignal;
}

export class Intake {
  readonly #options: IntakeOptions;
  readonly #reports: Reports;

  constructor(options: IntakeOptions) {
    this.#options = options;
    this.#reports = new Reports(options);
  }

  builds(): Promise<Subscription> {
    const { bus } = this.#options.messenger;
    const options = this.#consumerOf(CONSUMERS.master_build, BUILD_SUBJECT);
    return bus.consume(STREAMS.build.name, options, message =>
      this.#answered(() => this.#receive(message)),
    );
  }

  reports(): Promise<Subscription> {
    const { messenger } = this.#options;
    const options = this.#consumerOf(CONSUMERS.master_report, REPORTS);
    return messenger.consume(
      STREAMS.report.name,
      options,
      TaskReport,
      (report, delivery) => this.#answered(() => this.#reports.take(report, delivery)),
      (error, delivery) => this.#answered(() => this.#reports.unreadable(error, delivery)),
    );
  }

  /**
   * What a predecessor had pulled and not acknowledged comes again only after its ack wait. It is
   * looked up here instead, so that nothing waits for that; the second delivery changes nothing.
   */
  async catchUp(open: readonly BuildId[], signal: AbortSignal): Promise<void> {
    const { host, index } = this.#options;
    await this.#reports.catchUp(signal);
    const listed = open.filter(build => host.context(build)?.created_at === 0).map(numberOf);
    await eachAtOnce(listed, CONCURRENCY, seq =>
      this.#receiveRange({ from_seq: seq, to_seq: seq, signal }),
    );
    const [latest] = index.page(1, null);
    const from_seq = latest === undefined ? 1 : numberOf(latest) + 1;
    await this.#receiveRange({ from_seq, signal });
  }

  async #receiveRange(range: Omit<ReadOptions, 'filter'>): Promise<void> {
    const { streams } = this.#options.messenger.bus;
    const options = { filter: BUILD_SUBJECT, ...range };
    const messages = streams.read(STREAMS.build.name, options);
    await eachAtOnce(messages, CONCURRENCY, message => this.#receive(message));
  }

  #consumerOf(
    consumer: Pick<ConsumeOptions, 'durable' | 'max_deliver'>,
    filter: string,
  ): ConsumeOptions {
    return {
      ...consumer,
      filter,
      ack_wait_ms: this.#options.ackWaitMs,
      max_ack_pending: CONCURRENCY,
      concurrency: CONCURRENCY,
    };
  }

  async #receive(message: StoredMessage): Promise<Outcome> {
    const { clock, log, defaults, host, index } = this.#options;
    const build = buildIdOf(message.seq);
    // A message that is delivered again brings no build back that has ended.
    if (index.hasEnded(build)) return { kind: 'done' };
    if ((await host.open(build)).created_at > 0) {
      this.#options.left(build);
      return { kind: 'done' };
    }
    let fact: Extract<FactBody, { type: 'build.received' }>;
    try {
      const request = readBuildRequest(message.body, message.headers, defaults);
      const name_hint = nameHint(request.prompt);
      const stamp = stampOf(message);
      fact = { type: 'build.received', at: clock.now(), request, name_hint, stamp };
    } catch (error) {
      if (!(error instanceof CodeGodError)) throw error;
      return await this.#reject(build, message, toWireError(error));
    }
    await this.#list(build, { request: fact.request });
    await this.#first(build, fact);
    log.info('build.received', { build });
    return { kind: 'done' };
  }

  /** The first fact of a build, unless another delivery of its message was before this one. */
  async #first(build: BuildId, fact: FactBody): Promise<void> {
    const { host, left } = this.#options;
    await host.decide(build, ({ context }) => (context.created_at === 0 ? fact : null));
    left(build);
  }

  async #reject(build: BuildId, message: StoredMessage, error: WireError): Promise<Outcome> {
    const { clock, messenger, log } = this.#options;
    await messenger.deadLetter(STREAMS.build.name, message, error);
    const excerpt = excerptOf(message.body);
    await this.#list(build, { error });
    await this.#first(build, { type: 'build.rejected', at: clock.now(), error, excerpt });
    log.warn('build.rejected', { build, error });
    return { kind: 'reject', reason: error.message };
  }

  /** Before its first fact, so that the list is never behind the stream. */
  async #list(build: BuildId, known: Partial<BuildContext>): Promise<void> {
    const { index, clock } = this.#options;
    const at = clock.now();
    const context = { ...NEW_BUILD, created_at: at, updated_at: at, ...known };
    index.put(summaryOf(build, 'received', context), 0);
    await index.flush();
  }

  /** A handler's failure as an outcome: what may pass is delivered again (I1). */
  async #answered(handle: () => Promise<Outcome>): Promise<Outcome> {
    const { clock, signal } = this.#options;
    for (;;) {
      try {
        return await handle();
      } catch (error) {
        const { code, message } = toWireError(error);
        const isAway = code === 'bus_unavailable' || code === 'timeout';
        if (!isAway) return { kind: 'retry', delay_ms: RETRY_MS, reason: message };
        if (signal.aborted) return { kind: 'retry', delay_ms: 0, reason: message };
        // Waiting here does not use up deliveries; the message stays ours while we wait.
        await clock.sleep(RETRY_MS, signal).catch(() => {
          // Woken by the end of the term: the loop comes to it.
        });
      }
    }
  }
}

const numberOf = (build: BuildId): number => Number(build.slice(1));
