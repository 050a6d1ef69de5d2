/**
 * One term of office: from the lease to its loss. While it lasts this master, and no other, takes
 * builds and reports in and drives the machines of all builds.
 *
 * O1: every build that has not ended is opened again before anything new is taken in.
 * O2: when the lease is lost everything stops without another fact; the log would refuse it anyway.
 */
import { BUILD_ENDS, type BuildSummary, ControlRequest } from '../../../protocol/build.ts';
import { encode, JSON_TYPE } from '../../../protocol/codec.ts';
import { HEADER } from '../../../protocol/envelope.ts';
import { CodeGodError, toWireError, type WireError } from '../../../protocol/errors.ts';
import type { FactBody } from '../../../protocol/fact.ts';
import { BuildId, type NodeId, stampedBuild } from '../../../protocol/ids.ts';
import { STREAMS } from '../../../protocol/streams.ts';
import { controlSubject, eventsOf } from '../../../protocol/subjects.ts';
import { eachAtOnce } from '../../../runtime/at-once.ts';
import type { Subscription } from '../../../runtime/bus.ts';
import type { Clock } from '../../../runtime/clock.ts';
import { createDurableHost, type DurableHost } from '../../../runtime/durable-host.ts';
import { createStreamFactLog } from '../../../runtime/fact-log-stream.ts';
import type { Journal } from '../../../runtime/journal.ts';
import type { Logger } from '../../../runtime/log.ts';
import type { Messenger } from '../../../runtime/messages.ts';
import type { Metrics } from '../../../runtime/metrics.ts';
import { Admission } from '../admission.ts';
import { type BuildContext, NEW_BUILD } from '../build-context.ts';
import { controlFact, noSuchBuild } from '../build-control.ts';
import { buildMachine } from '../build-machine.ts';
import type { RequestDefaults } from '../build-request.ts';
import { summaryOf } from '../build-summary.ts';
import { createPerformer, failedEffect, withdraw } from '../effects.ts';
import { lostAttempts } from '../lost-attempts.ts';
import type { Pool } from '../pool/pool.ts';
import { Replicas } from '../pool/replicas.ts';
import type { NodePort, NodesPort } from '../ports.ts';
import { type StrayLease, StrayLeases } from '../stray-leases.ts';
import { deadlineFact } from '../task-deadline.ts';
import type { BuildIndex } from './build-index.ts';
import { createGatewayPort } from './bus-gateways.ts';
import { createWorkerPort } from './bus-workers.ts';
import { countFact } from './fact-counters.ts';
import { Intake } from './intake.ts';
import type { Misreports } from './misreports.ts';

/** Of the machine's states and context; a snapshot of another version is not read. */
const SCHEMA_VERSION = 1;
/** Builds that wait for their turn hold an effect each; those at work are few. */
const EFFECTS_MAX = 100_000;
const LOOK_AT_NODES_MS = 1_000;
/** Builds that are opened at once after a start: most of it is waiting for the bus and the disk. */
const OPENED_AT_ONCE = 16;

export interface TermOptions {
  readonly messenger: Messenger;
  readonly clock: Clock;
  readonly log: Logger;
  readonly journal: Journal;
  readonly index: BuildIndex;
  readonly nodes: NodesPort;
  readonly pool: Pool;
  readonly misreports: Misreports;
  readonly fence: number;
  /** `n1-17`: who leads. */
  readonly leader: string;
  readonly metrics: Metrics;
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
  readonly #workers: NodePort;
  readonly #admission: Admission;
  readonly #intake: Intake;
  readonly #subscriptions: Subscription[] = [];
  #watching: Promise<void> = Promise.resolve();
  readonly #ending = new AbortController();
  #allOpen: () => void = () => {};
  /** Until all builds are open again. */
  readonly #opened = new Promise<void>(resolve => {
    this.#allOpen = resolve;
  });
  readonly #beganMs: number;
  /** The state of each open build as the list has it. */
  readonly #listed = new Map<BuildId, string>();

  constructor(options: TermOptions) {
    this.#options = options;
    const { messenger, clock, log, journal, nodes, pool, settings, fence, leader } = options;
    this.#beganMs = clock.monotonic();
    this.#admission = new Admission(settings.buildsMax);
    this.#workers = createWorkerPort({ messenger, clock, log, fence: () => fence });
    const perform = createPerformer({
      gateways: createGatewayPort(messenger, nodes),
      workers: this.#workers,
      nodes,
      pool,
      admission: this.#admission,
      stampOf: build => this.#host.context(build)?.stamp,
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
      // What the first builds want done would only be in the way of the others.
      perform: async (...effect) => {
        await this.#opened;
        if (this.#ending.signal.aborted) throw termOver('overloaded');
        return await perform(...effect);
      },
      failed: (_entity, _key, effect, error, at) => failedEffect(effect, error, at),
      onDeadline: (key, at, build) => this.#onDeadline(BuildId.parse(build), key, at),
      resumed: context =>
        context.ended_at === null && context.request !== null
          ? [{ type: 'build.recovered' as const, at: clock.now(), leader }]
          : [],
      notLeader: () => options.overtaken(),
    });
    const { signal } = this.#ending;
    const left = (build: BuildId): void => this.#leave(build);
    this.#intake = new Intake({ ...options, ...settings, host: this.#host, left, signal });
    this.#host.onFact((entity, fact, _context, position) => {
      if (fact.type === 'task.reported') nodes.released(fact.report.node, fact.report.lease);
      countFact(options.metrics, fact);
      this.#note(BuildId.parse(entity), position.seq);
    });
  }

  /** Opens what has not ended, then takes in what is new (O1). */
  async begin(signal: AbortSignal): Promise<void> {
    await this.#recover(signal);
    this.#admission.open();
    signal.throwIfAborted();
    this.#subscriptions.push(this.#serveControl(), await this.#intake.reports());
    this.#subscriptions.push(await this.#intake.builds());
    this.#watching = this.#watchNodes();
    this.#keepReplicas();
  }

  async end(): Promise<void> {
    this.#allOpen(); // Whoever waits for it is aborted below.
    this.#options.pool.onLoads = null;
    this.#ending.abort(termOver('cancelled'));
    await Promise.all(this.#subscriptions.map(subscription => subscription.stop()));
    await this.#watching;
    await this.#host.stop();
  }

  /** A build that is open now, or undefined. */
  summary(build: BuildId): BuildSummary | undefined {
    const state = this.#host.state(build);
    return state === undefined ? undefined : summaryOf(build, state.value, state.context);
  }

  /** Why a build is set aside, or undefined. */
  setAside(build: BuildId): WireError | undefined {
    return this.#host.quarantined().get(build);
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
    await eachAtOnce(builds, OPENED_AT_ONCE, build => this.#reopen(build, signal));
    await this.#host.forgetOthers();
    this.#allOpen();
    await this.#intake.catchUp(this.openBuilds(), signal);
    log.info('master.recovered', { builds: builds.size });
  }

  async #reopen(build: BuildId, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    try {
      await this.#host.open(build);
      this.#note(build, this.#host.state(build)?.position.seq ?? 0);
    } catch (error) {
      const wire = toWireError(error);
      if (wire.code !== 'log_corrupt' && wire.code !== 'internal') throw error;
      // Set aside, never guessed at: the others go on.
      this.#options.log.error('build.set_aside', { build, error: wire });
    }
  }

  #onDeadline(build: BuildId, key: string, at: number): FactBody {
    const { clock, nodes, settings } = this.#options;
    const context = this.#host.context(build) ?? NEW_BUILD;
    const heardForMs = clock.monotonic() - this.#beganMs;
    const about = { now: at, limitMs: settings.taskTimeoutMs, heardForMs, views: nodes.views() };
    return deadlineFact(build, context, key, about);
  }

  /** Only one master asks nodes for the copies that rules want. */
  #keepReplicas(): void {
    const { pool } = this.#options;
    const replicas = new Replicas(this.#options);
    const ended = (id: string): void => pool.loadEnded(id);
    pool.onLoads = loads => replicas.wanted(loads, this.#ending.signal, ended);
    pool.decide();
  }

  /**
   * Attempts on nodes that went silent are given up before their time is over, and places that
   * nobody waits for are given back.
   */
  async #watchNodes(): Promise<void> {
    const { clock, nodes } = this.#options;
    const { signal } = this.#ending;
    const startedAt = nodes.now();
    const strays = new StrayLeases();
    const lookup = (build: BuildId) =>
      // Every build that has not ended is open, or was set aside: of others nobody here waits.
      this.#host.context(build) ?? (this.setAside(build) === undefined ? 'ended' : null);
    const heardAt = (node: NodeId): number => Math.max(startedAt, nodes.heardAt(node));
    while (!signal.aborted) {
      for (const build of this.openBuilds()) {
        const context = this.#host.context(build);
        const lost = (now: BuildContext): readonly string[] =>
          lostAttempts(now, heardAt, nodes.now());
        const keys = context === undefined ? [] : lost(context);
        for (const key of keys) await this.#giveUp(build, key, lost);
      }
      for (const stray of strays.found(nodes.views(), lookup, nodes.now())) this.#takeBack(stray);
      await clock.sleep(LOOK_AT_NODES_MS, signal).catch(() => {
        // Woken by the end of the term.
      });
    }
  }

  /** Not waited for: its node may be slow to answer. */
  #takeBack(stray: StrayLease): void {
    const { log, nodes } = this.#options;
    log.warn('lease.stray', { ...stray });
    nodes.released(stray.node, stray.lease); // Until its advert says so it is not found again.
    const parts = { workers: this.#workers, nodes };
    const { signal } = this.#ending;
    const taken = stray.foreign
      ? this.#workers
          .stop(stray.node, stray, signal)
          .then(() => this.#workers.release(stray.node, stray.lease))
      : withdraw(parts, stampedBuild(stray), stray, signal);
    taken.catch(error => {
      log.warn('lease.stray_kept', { lease: stray.lease, error: toWireError(error) });
    });
  }

  async #giveUp(
    build: BuildId,
    key: string,
    lost: (context: BuildContext) => readonly string[],
  ): Promise<void> {
    const { clock, log } = this.#options;
    log.warn('node.lost', { build, key });
    try {
      await this.#host.decide(build, ({ context }) =>
        lost(context).includes(key) ? { type: 'deadline.passed', at: clock.now(), key } : null,
      );
      this.#leave(build);
    } catch (error) {
      log.warn('node.loss_unsaid', { build, key, error: toWireError(error) });
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
      // Its facts bring it back whenever somebody wants to try it again.
      this.#host.forget(build).catch(error => this.#unforgotten(build, error));
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
    const { clock, index } = this.#options;
    try {
      await this.#host.decide(build, state => controlFact(build, control, state, clock.now()));
      const summary = this.summary(build) ?? (await index.get(build));
      if (summary === null) throw noSuchBuild(build);
      return summary;
    } finally {
      this.#leave(build);
    }
  }

  /** A build that was opened only to be looked at is open no longer than that. */
  #leave(build: BuildId): void {
    if (this.#host.context(build)?.created_at !== 0) this.#note(build, 0);
    else this.#host.close(build).catch(error => this.#unforgotten(build, error));
  }

  #unforgotten(build: BuildId, error: unknown): void {
    this.#options.log.warn('build.unforgotten', { build, error: toWireError(error) });
  }
}

const termOver = (code: 'cancelled' | 'overloaded'): CodeGodError =>
  new CodeGodError(code, 'the term of office is over');
