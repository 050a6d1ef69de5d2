/**
 * Which waiting requests start now, and where: `decide(state, nodes, now)`.
 *
 * D1: a request whose model is loaded with a free slot starts, whatever else is being loaded.
 * D2: models are collated: one that others wait for is not evicted before its requests are done, or
 *     until somebody has waited for longer than the age bound and it has had as long itself.
 * D3: who is overdue closes the copies in the way to all that come after it, so that they become
 *     idle: nobody waits for ever.
 * D4: a second copy is loaded only where waiting for the first would take longer.
 * D5: nothing at work, being loaded or kept is evicted, and no memory is promised twice: what starts
 *     counts from the moment of the decision until adverts show it.
 */
import type { PlacementDecision } from '../protocol/node.ts';
import type { NodeView } from './node-view.ts';
import { type PlacementPlan, type PlacementRequest, planOf } from './placement.ts';
import { type Candidates, rankMs, takes, waitMs } from './placement-candidates.ts';
import { decisionOf } from './placement-decision.ts';
import type { Offer } from './placement-offer.ts';
import { waitingReason } from './placement-reason.ts';
import { wantedLoads } from './queue-policies.ts';
import type { Job, QueueState, Waiting } from './queue-state.ts';
import { QueueView } from './queue-view.ts';

export interface Start {
  readonly job: Job;
  readonly plan: PlacementPlan;
  readonly decision: PlacementDecision;
}

/** Why a request waits. */
export interface Wait {
  readonly reason: string;
  /** From 0, over all that wait. */
  readonly position: number;
  /** Expected from now to its start; null where nobody knows. */
  readonly expected_ms: number | null;
  /** No node that is heard of could ever take it, as the nodes are now. */
  readonly impossible: boolean;
}

/** A copy to be loaded though nobody asked for it: a rule wants so many kept. */
export interface WantedLoad {
  /** It runs in the queue under this id: `ended()` when the load is over, however it went. */
  readonly id: string;
  readonly model: string;
  readonly plan: PlacementPlan;
  readonly decision: PlacementDecision;
}

export interface QueueDecision {
  /** The next state, in which what starts runs. */
  readonly state: QueueState;
  readonly starts: readonly Start[];
  readonly loads: readonly WantedLoad[];
  readonly waits: ReadonlyMap<string, Wait>;
  /** When to decide again, though nothing happens; null: not before something does. */
  readonly wake_at: number | null;
}

/** While somebody waits though a node could load its model, estimates are looked at again. */
const LOOK_AGAIN_MS = 1_000;

export function decide(state: QueueState, nodes: readonly NodeView[], now: number): QueueDecision {
  return new Pass(state, nodes, now).run();
}

/** Why a request that waits does: its placement as it stands. Null where it does not wait. */
export function explainWait(
  state: QueueState,
  nodes: readonly NodeView[],
  now: number,
  id: string,
): PlacementDecision | null {
  const waiting = state.waiting.find(({ job }) => job.id === id);
  if (waiting === undefined) return null;
  const candidates = new QueueView(state, nodes, now).candidatesFor(waiting);
  const ranked = candidates.ranked();
  return decisionOf({ request: candidates.request, candidates, ranked, taken: null, now });
}

/** Requests that want the same: what is found for one holds for the next. */
interface Group {
  readonly candidates: Candidates;
  readonly ranked: readonly Offer[];
  readonly version: number;
  /** Requests of this pass that wait, per place in `ranked`. */
  readonly ahead: number[];
  reason: string | null;
}

class Pass {
  readonly #state: QueueState;
  readonly #now: number;
  readonly #view: QueueView;
  readonly #groups = new Map<string, Group>();
  readonly #starts: Start[] = [];
  readonly #waits = new Map<string, Wait>();
  #virtualMs: number;
  #wakeAt = Number.POSITIVE_INFINITY;

  constructor(state: QueueState, nodes: readonly NodeView[], now: number) {
    this.#state = state;
    this.#now = now;
    this.#view = new QueueView(state, nodes, now);
    this.#virtualMs = state.virtual_ms;
  }

  run(): QueueDecision {
    const left = this.#state.waiting.filter(waiting => !this.#start(waiting));
    left.forEach((waiting, position) => {
      const wait = this.#waits.get(waiting.job.id);
      if (wait !== undefined) this.#waits.set(waiting.job.id, { ...wait, position });
      this.#wakeFor(waiting);
    });
    const loads = wantedLoads(this.#view);
    const state = {
      ...this.#state,
      ...this.#view.rest(),
      waiting: left.length === this.#state.waiting.length ? this.#state.waiting : left,
      virtual_ms: this.#virtualMs,
    };
    const wake = Math.min(this.#wakeAt, this.#view.nextChange());
    return {
      state,
      starts: this.#starts,
      loads,
      waits: this.#waits,
      wake_at: Number.isFinite(wake) ? Math.max(this.#now + 1, wake) : null,
    };
  }

  /** Starts it, or says why it waits. */
  #start(waiting: Waiting): boolean {
    const group = this.#groupOf(waiting);
    const waitedMs = this.#now - waiting.job.arrived_at;
    const index = bestOf(group, waitedMs, waiting.job.request);
    const best = group.ranked[index];
    if (best !== undefined && takes(best)) {
      this.#begin(waiting, group, best);
      return true;
    }
    if (best !== undefined) {
      group.ahead[index] = (group.ahead[index] ?? 0) + 1;
      this.#view.queueAhead(best);
      if (this.#view.isOverdue(waiting)) this.#view.claim(waiting, best);
    }
    const expected_ms =
      best === undefined ? null : waitMs(best, (group.ahead[index] ?? 1) - 1, waitedMs);
    group.reason ??= waitingReason(this.#outcome(group));
    const impossible = best === undefined && isImpossible(group);
    this.#waits.set(waiting.job.id, {
      ...{ reason: group.reason, position: 0, expected_ms, impossible },
    });
    return false;
  }

  #begin(waiting: Waiting, group: Group, best: Offer): void {
    const plan = planOf(best);
    const ranked = [best, ...group.ranked.filter(offer => offer !== best)];
    const { candidates } = group;
    const outcome = {
      request: candidates.request,
      candidates,
      ranked,
      taken: best,
      now: this.#now,
    };
    this.#starts.push({ job: waiting.job, plan, decision: decisionOf(outcome) });
    this.#view.begin(waiting, plan);
    this.#virtualMs = Math.max(this.#virtualMs, waiting.turn);
  }

  #outcome({ candidates, ranked }: Group) {
    return { request: candidates.request, candidates, ranked, taken: null, now: this.#now };
  }

  #groupOf(waiting: Waiting): Group {
    const key = this.#view.groupKeyOf(waiting);
    const known = this.#groups.get(key);
    if (known !== undefined && known.version === this.#view.version) return known;
    const candidates = this.#view.candidatesFor(waiting);
    const ranked = candidates.ranked();
    const group = {
      ...{ candidates, ranked, reason: null, version: this.#view.version },
      ahead: ranked.map(offer => this.#view.aheadOf(offer)),
    };
    this.#groups.set(key, group);
    return group;
  }

  /** When the answer for one that waits may be another by itself. */
  #wakeFor(waiting: Waiting): void {
    const { arrived_at } = waiting.job;
    const overdueAt = arrived_at + this.#state.options.age_bound_ms;
    if (overdueAt > this.#now) this.#wakeAt = Math.min(this.#wakeAt, overdueAt);
    for (const { until } of Object.values(waiting.declined)) {
      if (until > this.#now) this.#wakeAt = Math.min(this.#wakeAt, until);
    }
    const group = this.#groups.get(this.#view.groupKeyOf(waiting));
    if (group?.ranked.some(takes) === true) {
      this.#wakeAt = Math.min(this.#wakeAt, this.#now + LOOK_AGAIN_MS);
    }
  }
}

/** Index of the best offer for the next request of the group; -1 where there is none. */
function bestOf(group: Group, waitedMs: number, request: PlacementRequest): number {
  let best = -1;
  let bestMs = Number.POSITIVE_INFINITY;
  group.ranked.forEach((offer, index) => {
    const avoided = request.avoid.includes(offer.node) ? 1e12 : 0;
    const ms = avoided + rankMs(offer, group.ahead[index] ?? 0, waitedMs);
    if (ms >= bestMs) return;
    best = index;
    bestMs = ms;
  });
  return best;
}

/** Nothing that may pass by itself is in the way. */
function isImpossible({ candidates }: Group): boolean {
  const passing = ['not_ready', 'refused', 'busy', 'unknown_memory'];
  return (
    candidates.nodes.length > 0 &&
    candidates.states().every(state => candidates.absence(state) === null) &&
    !candidates.seen().some(offer => passing.includes(offer.verdict))
  );
}
