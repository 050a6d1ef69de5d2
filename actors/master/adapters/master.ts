/**
 * The master's process: standby until it holds the lease, one term of office at a time, and what
 * the HTTP door may ask of it in either case.
 *
 * S1: without the lease nothing is decided; reading is always possible.
 * S2: a lost lease ends the term, not the process: it waits for the next one.
 */
import type { BuildSummary } from '../../../protocol/build.ts';
import { CodeGodError, toWireError } from '../../../protocol/errors.ts';
import type { BuildId } from '../../../protocol/ids.ts';
import type { PoolStatus } from '../../../protocol/pool.ts';
import { BUCKETS, STREAMS } from '../../../protocol/streams.ts';
import type { ActorContext } from '../../../runtime/actor.ts';
import { steadyClock } from '../../../runtime/clock.ts';
import { type Journal, openJournal } from '../../../runtime/journal.ts';
import { MASTER_KEYS } from '../../../runtime/journal-keys.ts';
import { createLeadership, type Leadership, leaseHolder } from '../../../runtime/leadership.ts';
import { ensureStores } from '../../../runtime/stores.ts';
import { ApiKeys } from '../pool/api-keys.ts';
import { ModelDirectory } from '../pool/model-directory.ts';
import { Policies } from '../pool/policies.ts';
import { Pool } from '../pool/pool.ts';
import { PoolMetrics } from '../pool/pool-metrics.ts';
import { poolStatus } from '../pool/pool-status.ts';
import { BuildIndex } from './build-index.ts';
import { NodeMemory } from './known-nodes.ts';
import { Misreports } from './misreports.ts';
import { NodeTable } from './node-table.ts';
import { Term, type TermSettings } from './term.ts';

/** A term that fails is begun again after this. */
const PAUSE_MS = 1_000;
/** What a request may ask for (`BuildRequest.max_parallel_tasks`). */
const PARALLEL_TASKS_MAX = 64;

export type MasterRole = 'standby' | 'recovering' | 'leading';

export class Master {
  readonly nodes: NodeTable;
  readonly index: BuildIndex;
  readonly keys: ApiKeys;
  readonly policies: Policies;
  readonly misreports: Misreports;
  readonly directory: ModelDirectory;
  readonly pool: Pool;
  readonly poolMetrics: PoolMetrics;
  readonly #context: MasterContext;
  readonly #journal: Journal;
  readonly #leadership: Leadership;
  readonly #stopping = new AbortController();
  #role: MasterRole = 'standby';
  #term: Term | null = null;
  #terms: Promise<void> = Promise.resolve();
  #nodeMemory: NodeMemory | null = null;

  private constructor(context: MasterContext, journal: Journal, index: BuildIndex) {
    const { bus, clock, log, node, config, epoch, metrics } = context;
    this.#context = context;
    this.#journal = journal;
    this.index = index;
    const steady = steadyClock(clock);
    this.nodes = new NodeTable({ bus, clock: steady, log, ownNode: node });
    this.misreports = new Misreports({ clock: steady, log });
    this.keys = new ApiKeys({ bus, clock, log });
    this.policies = new Policies({ bus, log });
    this.poolMetrics = new PoolMetrics(metrics);
    const { aliases = () => config.models.aliases } = context;
    const { nodes, policies } = this;
    this.directory = new ModelDirectory({ nodes, aliases, clock: steady });
    this.pool = new Pool({
      ...{ nodes, policies, aliases, clock: steady, metrics: this.poolMetrics },
      settings: poolSettingsOf(config.pool),
    });
    this.#leadership = createLeadership({
      kv: bus.kv(BUCKETS.lease.name),
      holder: leaseHolder(`${node}-${epoch}`),
      clock,
      ttl_ms: config.lease_ttl_ms,
    });
  }

  /** Opens what it keeps on disk and on the bus. Leads as soon as it may. */
  static async start(context: MasterContext, journalDirectory: string): Promise<Master> {
    await ensureStores(context.bus);
    const journal = await openJournal(journalDirectory, context.log, MASTER_KEYS);
    const master = new Master(context, journal, await BuildIndex.open(journal, context.log));
    const { signal } = master.#stopping;
    await Promise.all([
      master.nodes.watch(signal),
      master.policies.watch(signal),
      master.keys.watch(signal),
    ]);
    const { nodes } = master;
    const { clock, log } = context;
    master.#nodeMemory = await NodeMemory.start({ nodes, journal, clock, log });
    master.#terms = master.#lead();
    return master;
  }

  get role(): MasterRole {
    return this.#role;
  }

  /** Resolves when it leads, or when it is plain that somebody else does. */
  async settled(limitMs: number): Promise<void> {
    const { clock } = this.#context;
    const endMs = clock.monotonic() + limitMs;
    while (this.#role !== 'leading' && clock.monotonic() < endMs) await clock.sleep(20);
  }

  /** Of a build that is open here, or as it was last listed; null where it is unknown. */
  async summary(build: BuildId): Promise<BuildSummary | null> {
    const open = this.#term?.summary(build);
    if (open !== undefined) return open;
    const listed = await this.index.get(build);
    const error = this.#term?.setAside(build);
    return listed === null || error === undefined ? listed : { ...listed, error };
  }

  poolStatus(): PoolStatus {
    const { config } = this.#context;
    const limits = { now: this.nodes.now(), queueMax: config.pool.queue_max };
    return poolStatus(this.pool, this.directory, limits);
  }

  /** Stops taking in; what is at work on other machines goes on there. */
  async drain(): Promise<void> {
    this.pool.close();
    this.#stopping.abort();
    await this.#terms;
  }

  async stop(): Promise<void> {
    await this.drain();
    await this.#leadership.release();
    await this.index.flush();
    await this.#nodeMemory?.stop();
    await this.#journal.close();
  }

  /** The list is of the stream of facts that is there now. */
  async #keepList(): Promise<void> {
    const { name } = STREAMS.event;
    const stream = await this.#context.bus.streams.info(name);
    if (stream === null) throw new CodeGodError('bus_unavailable', `the stream ${name} is missing`);
    await this.index.listOf(stream);
  }

  /** S2 */
  async #lead(): Promise<void> {
    const { log, clock } = this.#context;
    const stopping = this.#stopping.signal;
    while (!stopping.aborted) {
      try {
        await this.#serveTerm(stopping);
      } catch (error) {
        if (stopping.aborted) return;
        log.error('master.term_failed', { error: toWireError(error) });
        await this.#leadership.release();
        await clock.sleep(PAUSE_MS, stopping).catch(() => {
          // Woken because the process stops: the loop ends.
        });
      }
    }
  }

  async #serveTerm(stopping: AbortSignal): Promise<void> {
    const { log, messenger, clock, node, epoch, config, metrics } = this.#context;
    this.#role = 'standby';
    // The bus may have come back without anything of what it held.
    await ensureStores(messenger.bus);
    const { fence, lost } = await this.#leadership.acquire(stopping);
    log.info('master.leading', { fence });
    await this.#keepList();
    this.#role = 'recovering';
    const over = new AbortController();
    const signal = AbortSignal.any([stopping, lost, over.signal]);
    const term = new Term({
      messenger,
      clock,
      log,
      journal: this.#journal,
      index: this.index,
      nodes: this.nodes,
      pool: this.pool,
      misreports: this.misreports,
      fence,
      leader: `${node}-${epoch}`,
      metrics,
      settings: settingsOf(config),
      overtaken: () => over.abort(),
    });
    this.#term = term;
    try {
      await term.begin(signal);
      this.#role = 'leading';
      await aborted(signal);
      log.info('master.stepped_back', { fence, lost: lost.aborted || over.signal.aborted });
    } finally {
      this.#role = 'standby';
      await term.end();
      this.#term = null;
      await this.#leadership.release();
    }
  }
}

export type MasterContext = Pick<
  ActorContext,
  'bus' | 'messenger' | 'clock' | 'log' | 'node' | 'epoch' | 'metrics'
> & {
  readonly config: MasterConfig;
  /** As configured now; absent: as at the start. */
  readonly aliases?: () => Readonly<Record<string, string>>;
};

type MasterConfig = Pick<
  ActorContext['config'],
  | 'lease_ttl_ms'
  | 'builds_max'
  | 'task_timeout_s'
  | 'master_model'
  | 'worker_model'
  | 'ack_wait_ms'
  | 'max_parallel_tasks'
  | 'fallback'
  | 'prefer_local'
  | 'pool'
  | 'models'
>;

function poolSettingsOf(pool: MasterConfig['pool']) {
  return {
    queueMax: pool.queue_max,
    waitMaxMs: pool.wait_max_s * 1_000,
    ageBoundMs: pool.age_bound_s * 1_000,
    residencyMs: pool.residency_s * 1_000,
  };
}

function settingsOf(config: MasterConfig): TermSettings {
  return {
    buildsMax: config.builds_max,
    taskTimeoutMs: config.task_timeout_s * 1000,
    masterModel: config.master_model,
    workerModel: config.worker_model,
    ackWaitMs: config.ack_wait_ms,
    defaults: {
      max_parallel_tasks: Math.min(PARALLEL_TASKS_MAX, config.max_parallel_tasks),
      fallback: config.fallback,
      prefer_local: config.prefer_local,
    },
  };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
