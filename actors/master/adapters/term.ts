/**
 * One term of office: from the lease to its loss. While it lasts this master, and no other, takes
 * builds and reports in and drives the machines of all builds.
 *
 * O1: every build that has not ended is opened again before anything new is taken in.
 * O2: what was taken from a stream is acknowledged after its fact is stored, never before.
 * O3: when the lease is lost everything stops without another fact; the log would refuse it anyway.
 */
import { BUILD_ENDS, type BuildSummary, ControlRequest } from '../../../protocol/build.ts';
import { encode, JSON_TYPE } from '../../../protocol/codec.ts';
import { HEADER } from '../../../protocol/envelope.ts';
import { CodeGodError, toWireError, type WireError } from '../../../protocol/errors.ts';
import type { FactBody } from '../../../protocol/fact.ts';
import { BuildId, buildIdOf } from '../../../protocol/ids.ts';
import { CONSUMERS, STREAMS } from '../../../protocol/streams.ts';
import {
  BUILD_SUBJECT,
  controlSubject,
  eventsOf,
  REPORTS,
  reportSubject,
} from '../../../protocol/subjects.ts';
import { TaskReport } from '../../../protocol/task.ts';
import type { Outcome, StoredMessage, Subscription } from '../../../runtime/bus.ts';
import type { Clock } from '../../../runtime/clock.ts';
import { createDurableHost, type DurableHost } from '../../../runtime/durable-host.ts';
import { createStreamFactLog } from '../../../runtime/fact-log-stream.ts';
import type { Journal } from '../../../runtime/journal.ts';
import type { Logger } from '../../../runtime/log.ts';
import type { Messenger } from '../../../runtime/messages.ts';
import { Admission } from '../admission.ts';
import type { BuildContext } from '../build-context.ts';
import { controlApplies } from '../build-control.ts';
import { buildMachine } from '../build-machine.ts';
import { excerptOf, nameHint, type RequestDefaults, readBuildRequest } from '../build-request.ts';
import { summaryOf } from '../build-summary.ts';
import { createPerformer, failedEffect } from '../effects.ts';
import type { NodesPort } from '../ports.ts';
import type { BuildIndex } from './build-index.ts';
import { createGatewayPort } from './bus-gateways.ts';
import { createWorkerPort } from './bus-workers.ts';

/** Of the machine's states and context; a snapshot of another version is not read. */
const SCHEMA_VERSION = 1;
/** Builds that wait for their turn hold an effect each; those at work are few. */
const EFFECTS_MAX = 100_000;
const CONCURRENCY = 16;
const RETRY_MS = 1_000;

export interface TermOptions {
  readonly messenger: Messenger;
  readonly clock: Clock;
  readonly log: Logger;
  readonly journal: Journal;
  readonly index: BuildIndex;
  readonly nodes: NodesPort;
  readonly fence: number;
  /** `n1-17`: who leads. */
  readonly leader: string;
  readonly settings: TermSettings;
  /** Told when somebody newer turns out to lead. */
  readonly overtaken: () => void;
}

export interface TermSettings {
  readonly buildsMax: number;
  readonly taskTimeoutMs: number;
  readonly masterModel: string;
  readonly workerModel: string;
  readonly ackWaitMs: number;
  readonly defaults: RequestDefaults;
}

export class Term {
  readonly #options: TermOptions;
  readonly #host: DurableHost<FactBody, BuildContext>;
  readonly #admission: Admission;
  readonly #subscriptions: Subscription[] = [];
  readonly #ending = new AbortController();
  /** The state of each open build as the list has it. */
  readonly #listed = new Map<BuildId, string>();

  constructor(options: TermOptions) {
    this.#options = options;
    const { messenger, clock, log, journal, nodes, settings, fence, leader } = options;
    this.#admission = new Admission(settings.buildsMax);
    const perform = createPerformer({
      gateways: createGatewayPort(messenger),
      workers: createWorkerPort({ messenger, clock, log, fence: () => fence }),
      nodes,
      admission: this.#admission,
      clock,
      log,
      ...settings,
    });
    this.#host = createDurableHost({
      machine: buildMachine,
      log: createStreamFactLog({
        bus: messenger.bus,
        source: messenger.source,
        fence: () => fence,
      }),
      snapshots: journal,
      schemaVersion: SCHEMA_VERSION,
      migrations: {},
      clock,
      logger: log,
      effectsMax: EFFECTS_MAX,
      perform,
      failed: (_entity, _key, effect, error, at) => failedEffect(effect, error, at),
      onDeadline: (key, at) => ({ type: 'deadline.passed' as const, key, at }),
      resumed: context =>
        context.ended_at === null && context.request !== null
          ? [{ type: 'build.recovered' as const, at: clock.now(), leader }]
          : [],
      notLeader: () => options.overtaken(),
    });
    this.#host.onFact((entity, fact, _context, position) => {
      if (fact.type === 'task.reported') nodes.released(fact.report.node, fact.report.lease);
      this.#note(BuildId.parse(entity), position.seq);
    });
  }

  /** Opens what has not ended, then takes in what is new (O1). */
  async begin(signal: AbortSignal): Promise<void> {
    await this.#recover(signal);
    this.#admission.open();
    signal.throwIfAborted();
    this.#subscriptions.push(
      this.#serveControl(),
      await this.#consumeReports(),
      await this.#consumeBuilds(),
    );
  }

  async end(): Promise<void> {
    this.#ending.abort(new CodeGodError('cancelled', 'the term of office is over'));
    await Promise.all(this.#subscriptions.map(subscription => subscription.stop()));
    await this.#host.stop();
  }

  /** A build that is open now, or undefined. */
  summary(build: BuildId): BuildSummary | undefined {
    const state = this.#host.state(build);
    return state === undefined ? undefined : summaryOf(build, state.value, state.context);
  }

  openBuilds(): readonly BuildId[] {
    return this.#host.entities().map(entity => BuildId.parse(entity));
  }

  async #recover(signal: AbortSignal): Promise<void> {
    const { index, log } = this.#options;
    const builds = new Set(index.unended());
    const { streams } = this.#options.messenger.bus;
    const range = { filter: eventsOf('*'), from_seq: index.scanned + 1, signal };
    for await (const message of streams.read(STREAMS.event.name, range)) {
      const build = BuildId.safeParse(message.subject.split('.')[2]);
      if (build.success) builds.add(build.data);
    }
    for (const build of builds) {
      signal.throwIfAborted();
      try {
        await this.#host.open(build);
        this.#note(build, this.#host.state(build)?.position.seq ?? 0);
      } catch (error) {
        const wire = toWireError(error);
        if (wire.code !== 'log_corrupt' && wire.code !== 'internal') throw error;
        // Set aside, never guessed at: the others go on.
        log.error('build.set_aside', { build, error: wire });
      }
    }
    await this.#fetchMissed(signal);
    log.info('master.recovered', { builds: builds.size });
  }

  /**
   * What a predecessor had pulled and not acknowledged comes again only after its ack wait. It is
   * looked up here instead, so that nothing waits for that; the second delivery changes nothing.
   */
  async #fetchMissed(signal: AbortSignal): Promise<void> {
    const { index, messenger } = this.#options;
    const { streams } = messenger.bus;
    for (const build of this.openBuilds()) {
      for (const { id, attempt, state } of this.#host.context(build)?.tasks ?? []) {
        signal.throwIfAborted();
        if (state !== 'leased' && state !== 'running') continue;
        const subject = reportSubject(build, id, attempt);
        const message = await streams.last(STREAMS.report.name, subject);
        if (message !== null) await this.#report(messenger.decode(message, TaskReport));
      }
    }
    const [latest] = index.page(1, null);
    const from_seq = latest === undefined ? 1 : Number(latest.slice(1)) + 1;
    const range = { filter: BUILD_SUBJECT, from_seq, signal };
    for await (const message of streams.read(STREAMS.build.name, range)) {
      await this.#receive(message);
    }
  }

  /** Keeps the list, the places and the open machines in step with a build's state. */
  #note(build: BuildId, seq: number): void {
    const summary = this.summary(build);
    if (summary === undefined) return;
    this.#admission.note(build, summary.state);
    if (this.#listed.get(build) !== summary.state) {
      this.#listed.set(build, summary.state);
      this.#options.index.put(summary, seq);
    }
    const context = this.#host.context(build);
    if (BUILD_ENDS.includes(summary.state) && Object.keys(context?.pending ?? {}).length === 0) {
      this.#listed.delete(build);
      void this.#host.close(build);
    }
  }

  #consumeBuilds(): Promise<Subscription> {
    const { settings, messenger } = this.#options;
    const options = {
      ...CONSUMERS.master_build,
      filter: BUILD_SUBJECT,
      ack_wait_ms: settings.ackWaitMs,
      max_ack_pending: CONCURRENCY,
      concurrency: CONCURRENCY,
    };
    return messenger.bus.consume(STREAMS.build.name, options, delivery =>
      this.#answered(() => this.#receive(delivery)),
    );
  }

  async #receive(message: StoredMessage): Promise<Outcome> {
    const { clock, log, settings } = this.#options;
    const build = buildIdOf(message.seq);
    if ((await this.#host.open(build)).created_at > 0) return { kind: 'done' };
    let fact: FactBody;
    try {
      const request = readBuildRequest(message.body, message.headers, settings.defaults);
      const name_hint = nameHint(request.prompt);
      fact = { type: 'build.received', at: clock.now(), request, name_hint };
    } catch (error) {
      if (!(error instanceof CodeGodError)) throw error;
      return await this.#reject(build, message, toWireError(error));
    }
    await this.#host.submit(build, fact);
    log.info('build.received', { build });
    return { kind: 'done' };
  }

  async #reject(build: BuildId, message: StoredMessage, error: WireError): Promise<Outcome> {
    const { clock, messenger, log } = this.#options;
    await messenger.deadLetter(STREAMS.build.name, message, error);
    const excerpt = excerptOf(message.body);
    await this.#host.submit(build, { type: 'build.rejected', at: clock.now(), error, excerpt });
    log.warn('build.rejected', { build, error });
    return { kind: 'reject', reason: error.message };
  }

  #consumeReports(): Promise<Subscription> {
    const { settings, messenger } = this.#options;
    const options = {
      ...CONSUMERS.master_report,
      filter: REPORTS,
      ack_wait_ms: settings.ackWaitMs,
      max_ack_pending: CONCURRENCY,
      concurrency: CONCURRENCY,
    };
    return messenger.consume(STREAMS.report.name, options, TaskReport, report =>
      this.#answered(() => this.#report(report)),
    );
  }

  async #report(report: TaskReport): Promise<Outcome> {
    const { build, task, attempt } = report;
    // A build that is not open has ended: its late reports change nothing.
    if (this.#host.context(build) === undefined) return { kind: 'done' };
    const at = this.#options.clock.now();
    await this.#host.submit(build, { type: 'task.reported', at, task, attempt, report });
    return { kind: 'done' };
  }

  /** A handler's failure as an outcome: what may pass is delivered again (O2). */
  async #answered(handle: () => Promise<Outcome>): Promise<Outcome> {
    for (;;) {
      try {
        return await handle();
      } catch (error) {
        const { code, message } = toWireError(error);
        const isAway = code === 'bus_unavailable' || code === 'timeout';
        if (!isAway) return { kind: 'retry', delay_ms: RETRY_MS, reason: message };
        // Waiting here does not use up deliveries; the message stays ours while we wait.
        if (this.#ending.signal.aborted) return { kind: 'retry', delay_ms: 0, reason: message };
        await this.#options.clock.sleep(RETRY_MS, this.#ending.signal).catch(() => {
          // Woken by the end of the term: the loop comes to it.
        });
      }
    }
  }

  #serveControl(): Subscription {
    const { bus } = this.#options.messenger;
    return bus.serve(
      controlSubject('*'),
      async message => {
        const build = BuildId.safeParse(message.subject.split('.').at(-1));
        if (!build.success) throw new CodeGodError('not_found', 'there is no such build');
        const request = this.#options.messenger.decode(message, ControlRequest);
        const summary = await this.control(build.data, request);
        return {
          body: encode(summary, JSON_TYPE),
          headers: { [HEADER.contentType]: JSON_TYPE },
        };
      },
      { queue: 'master' },
    );
  }

  /**
   * Steers a build. Answers its summary afterwards.
   * @throws CodeGodError `not_found`, `conflict`
   */
  async control(build: BuildId, control: ControlRequest): Promise<BuildSummary> {
    const context = await this.#host.open(build);
    const before = this.summary(build);
    if (context.created_at === 0 || before === undefined) {
      await this.#host.close(build);
      throw new CodeGodError('not_found', `there is no build ${build}`);
    }
    try {
      if (controlApplies(build, before.state, control.action)) {
        const at = this.#options.clock.now();
        await this.#host.submit(build, { type: 'build.controlled', at, control });
      }
      return this.summary(build) ?? before;
    } finally {
      this.#note(build, 0);
    }
  }
}
