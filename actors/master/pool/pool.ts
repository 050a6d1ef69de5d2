/**
 * The one queue before all nodes: whatever runs on a model, for a build or for a client, gets its
 * place here. Who goes where and in which order is decided by `scheduling/`; this is the part that
 * lives: it waits, wakes and remembers.
 *
 * O1: nothing is polled. It is decided anew when something arrives or ends, when a node says
 *     something new, and at the moment that the last decision named.
 * O2: what was sent to a node counts until it is over, or until the caller has noted its lease.
 * O3: waiting is bounded in number and in time; builds, which are bounded elsewhere, in time only.
 * O4: an inference on a node that is gone, or whose worker was started again, is over at once.
 * O5: a build that says aloud why it waits keeps its place in the queue while it does so.
 * O6: a client whose model went away with all its nodes is told so when they do not come back.
 */
import { CodeGodError, toWireError, type WireError } from '../../../protocol/errors.ts';
import type { InferUsage } from '../../../protocol/inference.ts';
import type { PlacementDecision } from '../../../protocol/node.ts';
import type { Clock, TimerHandle } from '../../../runtime/clock.ts';
import { canonicalModelName } from '../../../scheduling/model-names.ts';
import type { NodeView } from '../../../scheduling/node-view.ts';
import { type PlacementPlan, type PlacementRequest, place } from '../../../scheduling/placement.ts';
import { decide, explainWait, type QueueDecision, type Wait } from '../../../scheduling/queue.ts';
import {
  emptyQueue,
  ended,
  entered,
  type Job,
  type QueueState,
  reconfigured,
  returned,
} from '../../../scheduling/queue-state.ts';
import type { NodesPort } from '../ports.ts';
import { Decisions } from './decisions.ts';
import { type Asking, type Grant, jobOf } from './grant.ts';
import {
  endOf,
  expectedWaitMs,
  forgotten,
  heldModels,
  type Lives,
  livesOf,
  lostGrants,
  overloaded,
  RETURN_MS,
  vanished,
  verdictOf,
} from './outlook.ts';
import type { Policies } from './policies.ts';
import type { PoolMetrics } from './pool-metrics.ts';

export interface PoolOptions {
  readonly nodes: Pick<NodesPort, 'views' | 'onChange'>;
  readonly policies: Pick<Policies, 'all' | 'of' | 'onChange'>;
  /** As configured now. */
  readonly aliases: () => Readonly<Record<string, string>>;
  readonly clock: Clock;
  readonly metrics: PoolMetrics;
  readonly settings: PoolSettings;
}

export interface PoolSettings {
  readonly queueMax: number;
  readonly waitMaxMs: number;
  readonly ageBoundMs: number;
  readonly residencyMs: number;
}

type Settle = (outcome: Grant | CodeGodError | null) => void;

interface Entry {
  readonly job: Job;
  /** Null while nobody attends (O5). */
  settle: Settle | null;
  timer: TimerHandle;
  wait: Wait | null;
  /** Since when no worker has its model (O6). */
  missingSince: number | null;
  /** Given while nobody attended. */
  grant: Grant | null;
}

/** What follows from the adverts as they are now. */
interface Look {
  readonly views: readonly NodeView[];
  readonly lives: Lives;
  /** Null until somebody asks. */
  held: ReadonlySet<string> | null;
}

/** How long a place in the queue is kept that nobody attends. */
const UNATTENDED_MS = 10_000;

export class Pool {
  readonly decisions = new Decisions();
  readonly #options: PoolOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #running = new Map<string, Grant>();
  readonly #forget: readonly (() => void)[];
  #state: QueueState;
  #timer: TimerHandle | null = null;
  #seen: Look | null = null;
  #isDeciding = false;
  #isStale = false;
  #isClosed = false;
  /** Told which copies a rule wants that are not there; has to call `loadEnded` for each. */
  onLoads: ((loads: QueueDecision['loads']) => void) | null = null;

  constructor(options: PoolOptions) {
    this.#options = options;
    const { policies, nodes } = options;
    this.#state = emptyQueue(this.#queueOptions());
    this.#forget = [
      policies.onChange(() => {
        this.#state = reconfigured(this.#state, this.#queueOptions());
        this.decide();
      }),
      nodes.onChange(() => {
        this.#endLost();
        this.decide();
      }),
    ];
  }

  /** What runs goes on. */
  close(): void {
    this.#isClosed = true;
    for (const forget of this.#forget) forget();
    if (this.#timer !== null) this.#options.clock.clearTimeout(this.#timer);
    for (const id of [...this.#entries.keys()]) this.#leave(id, stopping());
  }

  /**
   * Waits for a place, at most `patienceMs`: null after that.
   * @throws CodeGodError `overloaded` where the queue is full (O3), `no_capacity` where no node can
   *   ever take it, `cancelled` after `cancel`
   */
  acquire(asking: Asking, patienceMs: number): Promise<Grant | null> {
    const known = this.#entries.get(asking.id);
    const isSame = known?.job.request.needs_model === asking.request.needs_model;
    if (known !== undefined && (isSame || known.grant !== null))
      return this.#attended(known, patienceMs);
    if (this.#isClosed) return Promise.reject(stopping());
    // It has learnt what it needs: another request, in the old place.
    this.#leave(asking.id, null);
    const { model } = asking.request;
    const { clock, policies } = this.#options;
    const more = model === null ? 0 : (policies.of(model)?.priority ?? 0);
    const job = jobOf(asking, more, known?.job.arrived_at ?? clock.now());
    this.decisions.entered(job);
    this.#state = entered(this.#state, job);
    return this.#attended(this.#enter(job), patienceMs);
  }

  /**
   * The node declined, or failed; waits for another place, where it was in the order. Until
   * `pauseMs` are over it is not the same node.
   */
  again(
    grant: Grant,
    error: WireError,
    waits: { readonly pauseMs: number; readonly patienceMs: number },
  ): Promise<Grant | null> {
    const { job } = grant;
    this.#finish(
      grant,
      waits.pauseMs >= this.#options.settings.waitMaxMs ? 'failed' : 'refused',
      error,
    );
    if (this.#isClosed) return Promise.reject(stopping());
    const reason = error.message.slice(0, 512);
    const now = this.#options.clock.now();
    this.#state = returned(this.#state, job.id, now, reason, waits.pauseMs);
    return this.#attended(this.#enter(job), waits.patienceMs);
  }

  /** Nobody waits for it any more. */
  cancel(id: string): void {
    this.#leave(id, new CodeGodError('cancelled', `nobody waits for ${id}`));
  }

  /** The node's own books show it from now on: the caller has noted its lease (O2). */
  handedOver(grant: Grant): void {
    grant.lost = null;
    this.#running.delete(grant.job.id);
    this.#state = forgotten(this.#state, grant.job.id);
  }

  ended(grant: Grant, usage: InferUsage | null): void {
    this.#over(grant, 'done', null);
    this.decisions.ended(grant.job.id, 'done', null, usage);
    this.decide();
  }

  /** Nothing came of it, and nothing is tried again. */
  failed(grant: Grant, error: WireError): void {
    this.#over(grant, endOf(error), error);
    this.decide();
  }

  /** A request came to nothing. */
  gaveUp(id: string, error: unknown): void {
    const wire = toWireError(error);
    this.decisions.ended(id, endOf(wire), wire, null);
  }

  /** Why it waits, where it does; else what would be decided now. Nothing is reserved. */
  preview(request: Omit<PlacementRequest, 'refused'>, id?: string): PlacementDecision {
    const { clock, nodes } = this.#options;
    const [views, now] = [nodes.views(), clock.now()];
    this.#rename();
    const waits = id === undefined ? null : explainWait(this.#state, views, now, id);
    return waits ?? place({ ...request, refused: {} }, views, now, this.#state.options).decision;
  }

  /** A copy that a rule wants is loaded, or it came to nothing. */
  loadEnded(id: string): void {
    this.#state = ended(this.#state, id, this.#options.clock.now());
  }

  /** What somebody who comes now can expect to wait; null where nobody knows. */
  get expectedWaitMs(): number | null {
    const waits = [...this.#entries.values()].map(({ wait }) => wait);
    return waits.length === 0 ? 0 : expectedWaitMs(waits);
  }

  /** The error for who cannot be taken in, with the time to come back. */
  overloaded(reason: string): CodeGodError {
    return overloaded(reason, this.expectedWaitMs, this.#options.settings.waitMaxMs);
  }

  waiting(): readonly { readonly job: Job; readonly wait: Wait | null }[] {
    const position = ({ wait }: Entry): number => wait?.position ?? Number.MAX_SAFE_INTEGER;
    return [...this.#entries.values()].sort((left, right) => position(left) - position(right));
  }

  running(): readonly Grant[] {
    return [...this.#running.values()];
  }

  /** O1 */
  decide(): void {
    if (this.#isDeciding) {
      this.#isStale = true;
      return;
    }
    this.#isDeciding = true;
    try {
      do {
        this.#isStale = false;
        this.#decideOnce();
      } while (this.#isStale);
    } finally {
      this.#isDeciding = false;
    }
  }

  #decideOnce(): void {
    const isIdle = this.#entries.size === 0 && this.#options.policies.all().length === 0;
    if (isIdle || this.#isClosed) return;
    const { clock, nodes } = this.#options;
    const now = clock.now();
    this.#rename();
    const { state, starts, loads, waits, wake_at } = decide(this.#state, nodes.views(), now);
    this.#state = state;
    for (const { job, plan, decision } of starts) this.#start(job, plan, decision, now);
    for (const [id, wait] of waits) {
      const entry = this.#entries.get(id);
      if (entry !== undefined) entry.wait = wait;
      if (entry !== undefined && wait.impossible) this.#refuse(entry);
    }
    const returnAt = this.#endMissing(now);
    if (this.onLoads !== null) this.onLoads(loads);
    else for (const { id } of loads) this.loadEnded(id);
    this.#wakeAt(earliest(wake_at, returnAt), now);
  }

  #start(job: Job, plan: PlacementPlan, decision: PlacementDecision, now: number): void {
    const entry = this.#entries.get(job.id);
    if (entry === undefined) {
      this.#state = ended(this.#state, job.id, now);
      return;
    }
    const { metrics } = this.#options;
    const epoch = this.#lives().get(plan.node)?.epoch ?? 0;
    const grant: Grant = { job, plan, decision, granted_at: now, epoch, lost: null };
    this.#running.set(job.id, grant);
    this.decisions.placed(job, plan, decision, now);
    metrics.placed(verdictOf(plan, decision), now - job.arrived_at);
    if (entry.settle === null) entry.grant = grant;
    else this.#leave(job.id, grant);
  }

  /** A new entry in the queue, which nobody attends yet. */
  #enter(job: Job): Entry {
    const timer = this.#options.clock.setTimeout(() => this.#drop(job.id), UNATTENDED_MS);
    const entry: Entry = { job, settle: null, timer, wait: null, missingSince: null, grant: null };
    this.#entries.set(job.id, entry);
    return entry;
  }

  #attended(entry: Entry, patienceMs: number): Promise<Grant | null> {
    const { clock, settings } = this.#options;
    const { job } = entry;
    return new Promise((resolve, reject) => {
      entry.settle = outcome => {
        if (outcome instanceof CodeGodError) reject(outcome);
        else resolve(outcome);
      };
      clock.clearTimeout(entry.timer);
      if (entry.grant !== null) return this.#leave(job.id, entry.grant);
      entry.timer = clock.setTimeout(() => this.#unattend(entry), patienceMs);
      this.decide();
      if (!this.#entries.has(job.id)) return;
      const isBounded = job.request.kind === 'inference';
      if (isBounded && this.#entries.size > settings.queueMax)
        this.#leave(job.id, this.overloaded(`${settings.queueMax} requests wait already`));
      else if (patienceMs <= 0) this.#unattend(entry);
      else this.#options.metrics.queued(this.#entries.size);
    });
  }

  /** Patience is over; a build comes back for it (O5). */
  #unattend(entry: Entry): void {
    const { clock } = this.#options;
    const { job, settle } = entry;
    this.decisions.decided(job.id, this.preview(job.request, job.id));
    clock.clearTimeout(entry.timer);
    if (job.request.kind === 'inference') this.#leave(job.id, null);
    else {
      entry.settle = null;
      entry.timer = clock.setTimeout(() => this.#drop(job.id), UNATTENDED_MS);
      settle?.(null);
    }
  }

  /** Nobody came back for it. */
  #drop(id: string): void {
    const entry = this.#entries.get(id);
    if (entry?.grant != null) this.failed(entry.grant, toWireError(stopping()));
    this.#leave(id, null);
  }

  #leave(id: string, outcome: Grant | CodeGodError | null): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    const { clock, metrics } = this.#options;
    this.#entries.delete(id);
    clock.clearTimeout(entry.timer);
    metrics.queued(this.#entries.size);
    const isGrant = outcome !== null && !(outcome instanceof CodeGodError);
    if (!isGrant) this.#state = ended(this.#state, id, clock.now());
    entry.settle?.(outcome);
  }

  #over(grant: Grant, outcome: 'done' | 'failed' | 'cancelled', error: WireError | null): void {
    this.#finish(grant, outcome, error);
    const { id } = grant.job;
    // An advert that was written before it began does not show it, and need not be corrected.
    const isShown = (this.#lives().get(grant.plan.node)?.seen_at ?? 0) >= grant.granted_at;
    const now = this.#options.clock.now();
    this.#state = isShown ? ended(this.#state, id, now) : forgotten(this.#state, id);
  }

  #finish(
    grant: Grant,
    outcome: 'done' | 'refused' | 'failed' | 'cancelled',
    error: WireError | null,
  ): void {
    grant.lost = null;
    this.#running.delete(grant.job.id);
    this.decisions.tried(grant.job.id, outcome, error);
  }

  /** No node that has the model can ever take it. */
  #refuse({ job, settle }: Entry): void {
    if (job.request.kind !== 'inference' || settle === null || !this.#isHeld(job)) return;
    const decision = this.preview(job.request, job.id);
    this.decisions.decided(job.id, decision);
    const { reason, would_change } = decision;
    const more = would_change === undefined ? {} : { hint: would_change };
    this.#leave(job.id, new CodeGodError('no_capacity', reason, more));
  }

  /** O6: answers when the next one is to be told. */
  #endMissing(now: number): number | null {
    let nextAt: number | null = null;
    for (const entry of [...this.#entries.values()]) {
      const { job } = entry;
      if (job.request.kind !== 'inference') continue;
      // Whoever knows how long it waits has a node to wait for.
      const isHeld = (entry.wait?.expected_ms ?? null) !== null || this.#isHeld(job);
      entry.missingSince = isHeld ? null : (entry.missingSince ?? now);
      if (entry.missingSince === null) continue;
      const at = entry.missingSince + RETURN_MS;
      if (at > now) nextAt = earliest(nextAt, at);
      else {
        const decision = this.preview(job.request, job.id);
        this.decisions.decided(job.id, decision);
        this.#leave(job.id, vanished(job.request.model, decision.reason));
      }
    }
    return nextAt;
  }

  #isHeld({ request: { model } }: Job): boolean {
    const look = this.#look();
    look.held ??= heldModels(look.views);
    const { held } = look;
    return model === null ? held.size > 0 : held.has(canonicalModelName(model));
  }

  #wakeAt(at: number | null, now: number): void {
    const { clock } = this.#options;
    if (this.#timer !== null) clock.clearTimeout(this.#timer);
    this.#timer = at === null ? null : clock.setTimeout(() => this.decide(), Math.max(1, at - now));
  }

  /** Aliases may change while everything runs. */
  #rename(): void {
    if (this.#options.aliases() === this.#state.options.aliases) return;
    this.#state = reconfigured(this.#state, this.#queueOptions());
  }

  #queueOptions(): QueueState['options'] {
    const { aliases, policies, settings } = this.#options;
    return {
      age_bound_ms: settings.ageBoundMs,
      residency_ms: settings.residencyMs,
      aliases: aliases(),
      policies: policies.all(),
    };
  }

  /** O4 */
  #endLost(): void {
    if (this.#running.size === 0) return;
    for (const { grant, reason } of lostGrants(this.#running.values(), this.#lives())) {
      grant.lost?.(new CodeGodError('no_responders', reason));
    }
  }

  #lives(): Lives {
    return this.#look().lives;
  }

  #look(): Look {
    const views = this.#options.nodes.views();
    if (this.#seen?.views !== views) this.#seen = { views, lives: livesOf(views), held: null };
    return this.#seen;
  }
}

const earliest = (left: number | null, right: number | null): number | null =>
  left === null || right === null ? (left ?? right) : Math.min(left, right);

const stopping = (): CodeGodError => new CodeGodError('overloaded', 'this master stops; ask again');
