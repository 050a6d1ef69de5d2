/**
 * The one queue before all nodes: whatever runs on a model, for a build or for a client, gets its
 * place here. Who goes where and in which order is decided by `scheduling/`; this is the part that
 * lives: it waits, wakes, counts and remembers.
 *
 * O1: nothing is polled. It is decided anew when something arrives or ends, when a node says
 *     something new, and at the moment that the last decision named.
 * O2: what was sent to a node counts until the node's own advert shows it, or it is over.
 * O3: waiting is bounded in number and in time; builds, which are bounded elsewhere, wait in time
 *     only.
 * O4: an inference on a node that is gone, or whose worker was started again, is over at once.
 */
import { CodeGodError, toWireError, type WireError } from '../../../protocol/errors.ts';
import type { NodeId } from '../../../protocol/ids.ts';
import type { InferUsage } from '../../../protocol/inference.ts';
import type { PlacementDecision } from '../../../protocol/node.ts';
import type { Clock, TimerHandle } from '../../../runtime/clock.ts';
import type { NodeView } from '../../../scheduling/node-view.ts';
import {
  type PlacementContext,
  type PlacementPlan,
  place,
} from '../../../scheduling/placement.ts';
import { decide, type Job, type QueueSettings } from '../../../scheduling/queue.ts';
import type { NodesPort } from '../ports.ts';
import { Decisions } from './decisions.ts';
import { Dispatched } from './dispatched.ts';
import type { Policies } from './policies.ts';
import type { PoolMetrics } from './pool-metrics.ts';
import { Ticket, type TicketInput } from './ticket.ts';

export interface PoolSettings extends QueueSettings {
  readonly queueMax: number;
  readonly waitMaxMs: number;
}

export interface PoolOptions {
  readonly nodes: Pick<NodesPort, 'views' | 'onChange'>;
  readonly policies: Pick<Policies, 'all' | 'of' | 'onChange'>;
  readonly aliases: Readonly<Record<string, string>>;
  readonly clock: Clock;
  readonly metrics: PoolMetrics;
  readonly settings: PoolSettings;
}

/** A place: to be ended exactly once, by one of `Pool.{ended,refused,failed,handedOver}`. */
export interface Grant {
  readonly ticket: Ticket;
  readonly plan: PlacementPlan;
  readonly decision: PlacementDecision;
  readonly granted_at: number;
  /** When the advert was seen that it was decided by. */
  readonly seen_at: number;
  readonly epoch: number;
  /** Set by whoever wants to know that the node is gone (O4). */
  lost: ((error: CodeGodError) => void) | null;
}

interface Waiting {
  readonly ticket: Ticket;
  readonly settle: (outcome: Grant | CodeGodError | null) => void;
  readonly timer: TimerHandle;
  reason: string;
}

/** Memory of when a build's attempt came first, over the pauses in which it does not wait. */
const ARRIVALS_MAX = 10_000;
/** How much the latest end counts in the mean time between two of them. */
const MEAN_WEIGHT = 0.1;
/** How long a place counts that no advert ever shows. */
const UNSHOWN_MS = 60_000;

export class Pool {
  readonly decisions = new Decisions();
  readonly #options: PoolOptions;
  readonly #waiting = new Map<string, Waiting>();
  readonly #running = new Map<string, Grant>();
  readonly #arrivals = new Map<string, number>();
  readonly #dispatched = new Dispatched();
  readonly #forget: (() => void)[];
  #context: PlacementContext;
  #timer: TimerHandle | null = null;
  #isDeciding = false;
  #decideAgain = false;
  #lastEndAt: number | null = null;
  #endEveryMs: number | null = null;
  #isClosed = false;

  constructor(options: PoolOptions) {
    this.#options = options;
    const { aliases, policies, nodes } = options;
    this.#context = { aliases, policies: policies.all() };
    this.#forget = [
      policies.onChange(() => {
        this.#context = { aliases, policies: policies.all() };
        this.#decide();
      }),
      nodes.onChange(() => {
        this.#endLost();
        this.#decide();
      }),
    ];
  }

  /** Nobody waits any more; what runs goes on. */
  close(): void {
    this.#isClosed = true;
    for (const forget of this.#forget) forget();
    if (this.#timer !== null) this.#options.clock.clearTimeout(this.#timer);
    const error = new CodeGodError('overloaded', 'this master stops; ask again');
    for (const { ticket } of [...this.#waiting.values()]) this.#leave(ticket.id, error);
  }

  /** A request arrives; the same id again keeps its place in time. */
  enter(input: TicketInput): Ticket {
    const arrivedAt = this.#arrivals.get(input.id) ?? this.#options.clock.now();
    if (!input.bounded) this.#remember(input.id, arrivedAt);
    const ticket = new Ticket(input, arrivedAt);
    this.decisions.entered(ticket);
    return ticket;
  }

  /**
   * Waits for a place, at most `patienceMs`: null after that.
   * @throws CodeGodError `overloaded` where the queue is full (O3), `cancelled` after `cancel`
   */
  acquire(ticket: Ticket, patienceMs: number): Promise<Grant | null> {
    return new Promise((resolve, reject) => {
      const { clock } = this.#options;
      const settle = (outcome: Grant | CodeGodError | null): void => {
        if (outcome instanceof CodeGodError) reject(outcome);
        else resolve(outcome);
      };
      if (this.#isClosed) return settle(new CodeGodError('overloaded', 'this master stops'));
      const timer = clock.setTimeout(() => this.#leave(ticket.id, null), patienceMs);
      const reason = 'it has just arrived';
      this.#waiting.set(ticket.id, { ticket, settle, timer, reason });
      this.#decide();
      if (!this.#waiting.has(ticket.id)) return;
      if (ticket.bounded && this.#waiting.size > this.#options.settings.queueMax) {
        this.#leave(ticket.id, this.#full());
      } else if (patienceMs <= 0) this.#leave(ticket.id, null);
    });
  }

  /** Nobody waits for it any more. */
  cancel(ticket: Ticket): void {
    this.#leave(ticket.id, new CodeGodError('cancelled', `nobody waits for ${ticket.id}`));
    this.#arrivals.delete(ticket.id);
  }

  /** What would be decided now, and why; nothing is reserved. */
  preview(ticket: Ticket): PlacementDecision {
    const { clock } = this.#options;
    const views = this.#views();
    const { decision } = place(ticket.request(views), views, clock.now(), this.#context);
    const waits = this.#waiting.get(ticket.id)?.reason;
    return waits === undefined ? decision : { ...decision, reason: waits };
  }

  /** The node's own books show it from now on: the caller has noted its lease (O2). */
  handedOver(grant: Grant): void {
    this.#arrivals.delete(grant.ticket.id);
    this.#finish(grant);
    this.#dispatched.forget(grant.ticket.id, grant.plan.node);
    this.decisions.ended(grant.ticket.id, 'running', null, null);
  }

  ended(grant: Grant, usage: InferUsage | null): void {
    this.#over(grant);
    this.decisions.tried(grant.ticket.id, 'done', null);
    this.decisions.ended(grant.ticket.id, 'done', null, usage);
    this.#countEnd();
    this.#decide();
  }

  /** The node did nothing; it may be asked again when it has said something new. */
  refused(grant: Grant, error: WireError): void {
    const { ticket, plan, seen_at } = grant;
    ticket.refusedBy(plan.node, error.message.slice(0, 512), seen_at);
    this.#without(grant, 'refused', error);
    this.#dispatched.forget(ticket.id, plan.node);
  }

  /** It failed there; `again`: it may be tried once more on the same node. */
  failed(grant: Grant, error: WireError): void {
    grant.ticket.refusedBy(grant.plan.node, error.message.slice(0, 512), null);
    this.#without(grant, 'failed', error);
    this.#decide();
  }

  cancelled(grant: Grant): void {
    this.#without(grant, 'cancelled', null);
    this.#decide();
  }

  /** A request is over without an answer. */
  gaveUp(ticket: Ticket, error: unknown): void {
    const wire = toWireError(error);
    const state = wire.code === 'cancelled' ? 'cancelled' : 'failed';
    this.decisions.ended(ticket.id, state, wire, null);
  }

  /** What somebody who comes now can expect to wait; null where nothing has ended yet. */
  get expectedWaitMs(): number | null {
    if (this.#waiting.size === 0) return 0;
    return this.#endEveryMs === null ? null : this.#waiting.size * this.#endEveryMs;
  }

  /** In the order of arrival. */
  waiting(): readonly { readonly ticket: Ticket; readonly reason: string }[] {
    return [...this.#waiting.values()].sort(
      (left, right) => left.ticket.arrived_at - right.ticket.arrived_at,
    );
  }

  running(): readonly Grant[] {
    return [...this.#running.values()];
  }

  get context(): PlacementContext {
    return this.#context;
  }

  /** The adverts with what this master knows better (O2). */
  views(): readonly NodeView[] {
    return this.#views();
  }

  #views(): readonly NodeView[] {
    return this.#dispatched.over(this.#options.nodes.views(), this.#options.clock.now());
  }

  /** O1 */
  #decide(): void {
    if (this.#isDeciding) {
      this.#decideAgain = true;
      return;
    }
    this.#isDeciding = true;
    try {
      do {
        this.#decideAgain = false;
        if (this.#waiting.size > 0) this.#decideOnce();
      } while (this.#decideAgain);
    } finally {
      this.#isDeciding = false;
    }
    this.#options.metrics.queued(this.#waiting.size);
  }

  #decideOnce(): void {
    const { clock, settings } = this.#options;
    const now = clock.now();
    const views = this.#views();
    const jobs = [...this.#waiting.values()].map(({ ticket }) => this.#jobOf(ticket, views));
    const { starts, waits, wake_at } = decide(
      { jobs, settings, context: this.#context },
      views,
      now,
    );
    for (const { job, plan, decision } of starts) this.#start(job.id, plan, decision, views, now);
    for (const [id, reason] of waits) {
      const waiting = this.#waiting.get(id);
      if (waiting !== undefined) waiting.reason = reason;
    }
    this.#wakeAt(wake_at, now);
  }

  #jobOf(ticket: Ticket, views: readonly NodeView[]): Job {
    const { id, share, arrived_at } = ticket;
    const more = ticket.model === null ? 0 : (this.#options.policies.of(ticket.model)?.priority ?? 0);
    return { id, share, priority: ticket.priority + more, arrived_at, request: ticket.request(views) };
  }

  #start(
    id: string,
    plan: PlacementPlan,
    decision: PlacementDecision,
    views: readonly NodeView[],
    now: number,
  ): void {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    const { ticket, settle, timer } = waiting;
    const { clock, metrics } = this.#options;
    this.#waiting.delete(id);
    clock.clearTimeout(timer);
    const runtime = views.find(({ node }) => node === plan.node)?.runtime ?? null;
    const seen = { seen_at: runtime?.seen_at ?? now, epoch: runtime?.advert.epoch ?? 0 };
    const grant: Grant = { ticket, plan, decision, granted_at: now, ...seen, lost: null };
    this.#running.set(id, grant);
    this.#dispatched.begun(id, plan, now + UNSHOWN_MS);
    this.decisions.placed(ticket, plan, decision, now);
    metrics.placed(verdictOf(plan, decision), now - ticket.arrived_at);
    settle(grant);
  }

  #wakeAt(at: number | null, now: number): void {
    const { clock } = this.#options;
    if (this.#timer !== null) clock.clearTimeout(this.#timer);
    this.#timer = null;
    if (at === null || this.#isClosed) return;
    this.#timer = clock.setTimeout(() => this.#decide(), Math.max(1, at - now));
  }

  #leave(id: string, outcome: CodeGodError | null): void {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    this.#waiting.delete(id);
    this.#options.clock.clearTimeout(waiting.timer);
    this.#options.metrics.queued(this.#waiting.size);
    if (outcome === null) this.decisions.decided(id, this.#reasoned(waiting));
    waiting.settle(outcome);
  }

  #reasoned({ ticket, reason }: Waiting): PlacementDecision {
    return { ...this.preview(ticket), reason };
  }

  #full(): CodeGodError {
    const { queueMax } = this.#options.settings;
    const waitMs = this.expectedWaitMs;
    const wait = waitMs === null ? '' : `; expect ${Math.ceil(waitMs / 1_000)} s`;
    return new CodeGodError('overloaded', `${queueMax} requests wait already${wait}`, {
      details: waitMs === null ? {} : { retry_after_s: this.retryAfterS(waitMs) },
    });
  }

  retryAfterS(waitMs: number): number {
    return Math.min(this.#options.settings.waitMaxMs / 1_000, Math.max(1, Math.ceil(waitMs / 1_000)));
  }

  #without(grant: Grant, outcome: 'refused' | 'failed' | 'cancelled', error: WireError | null): void {
    this.#over(grant);
    this.decisions.tried(grant.ticket.id, outcome, error);
  }

  #over(grant: Grant): void {
    this.#finish(grant);
    this.#dispatched.ended(grant.ticket.id, grant.plan.node, this.#options.clock.now());
  }

  #finish(grant: Grant): void {
    grant.lost = null;
    if (this.#running.get(grant.ticket.id) === grant) this.#running.delete(grant.ticket.id);
  }

  #countEnd(): void {
    const now = this.#options.clock.monotonic();
    if (this.#lastEndAt !== null) {
      const everyMs = now - this.#lastEndAt;
      const mean = this.#endEveryMs ?? everyMs;
      this.#endEveryMs = mean + (everyMs - mean) * MEAN_WEIGHT;
    }
    this.#lastEndAt = now;
  }

  /** O4 */
  #endLost(): void {
    if (this.#running.size === 0) return;
    const epochs = new Map<NodeId, number>();
    for (const { node, runtime } of this.#options.nodes.views()) {
      if (runtime !== null) epochs.set(node, runtime.advert.epoch);
    }
    for (const grant of [...this.#running.values()]) {
      const epoch = epochs.get(grant.plan.node);
      if (epoch === grant.epoch || grant.lost === null) continue;
      const what = epoch === undefined ? 'is silent' : 'was started again';
      grant.lost(new CodeGodError('no_responders', `${grant.plan.node} ${what}`));
    }
  }

  #remember(id: string, arrivedAt: number): void {
    this.#arrivals.set(id, arrivedAt);
    if (this.#arrivals.size <= ARRIVALS_MAX) return;
    const oldest = this.#arrivals.keys().next();
    if (oldest.done !== true) this.#arrivals.delete(oldest.value);
  }
}

function verdictOf(plan: PlacementPlan, decision: PlacementDecision): string {
  const chosen = decision.candidates.find(
    ({ node, model, engine }) =>
      node === plan.node && model === plan.model && engine === plan.engine,
  );
  return chosen?.verdict ?? 'fits';
}
