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
import { type PlacementPlan, planOf } from './placement.ts';
import type { Candidates } from './placement-candidates.ts';
import { decisionOf, type Outcome } from './placement-decision.ts';
import type { Offer } from './placement-offer.ts';
import { compareOffers, rankMs, takes, waitMs } from './placement-rank.ts';
import { waitingReason } from './placement-reason.ts';
import { wantedLoads } from './queue-policies.ts';
import { type Job, NOBODY, type QueueState, type Waiting } from './queue-state.ts';
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
  const candidates = new QueueView(state, nodes, now).candidatesFor(waiting, null);
  const ranked = candidates.ranked();
  return decisionOf({ request: candidates.request, candidates, ranked, taken: null, now });
}

/** Requests that want the same: what is found for one holds for the next. */
interface Group {
  readonly candidates: Candidates;
  readonly version: number;
  /** Copies, and nodes that could load one now. */
  readonly live: readonly Offer[];
  /** Where it could go once others are done, the best of those. */
  readonly blocked: Offer | null;
  /** Some node could load it now; or has it loaded, with a free slot. */
  readonly isLoadable: boolean;
  readonly isTakeable: boolean;
  readonly freed: number;
  /** The first of it that waits: for what and how long. Those behind it wait for the same. */
  first: { readonly best: Offer | null; readonly expected_ms: number | null } | null;
  behind: number;
  reason: string | null;
  impossible: boolean | null;
}

/** In figures and words only where somebody reads them. */
class LazyWait implements Wait {
  readonly position: number;
  readonly #group: Group;
  readonly #now: number;
  /** Requests of the group before this one. */
  readonly #behind: number;

  constructor(group: Group, now: number, position: number) {
    this.#group = group;
    this.#now = now;
    this.#behind = group.behind;
    this.position = position;
  }

  get expected_ms(): number | null {
    const { first, live } = this.#group;
    if (first === null || first.best === null || first.expected_ms === null) return null;
    const { score, slots } = first.best;
    const serviceMs = score.prefill_ms + score.decode_ms;
    return first.expected_ms + (this.#behind * serviceMs) / (slots * Math.max(1, live.length));
  }

  get reason(): string {
    this.#group.reason ??= waitingReason(outcomeOf(this.#group, this.#now));
    return this.#group.reason;
  }

  get impossible(): boolean {
    this.#group.impossible ??= this.#group.first?.best === null && isImpossible(this.#group);
    return this.#group.impossible;
  }
}

function outcomeOf({ candidates }: Group, now: number): Outcome {
  const { request } = candidates;
  return { request, candidates, ranked: candidates.ranked(), taken: null, now };
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
    const loads = wantedLoads(this.#view);
    const state = {
      ...this.#state,
      ...this.#view.rest(),
      waiting: this.#starts.length === 0 ? this.#state.waiting : left,
      virtual_ms: this.#virtualMs,
    };
    const wake = Math.min(this.#wakeAt, this.#view.nextChange());
    return {
      ...{ state, loads, starts: this.#starts, waits: this.#waits },
      wake_at: Number.isFinite(wake) ? Math.max(this.#now + 1, wake) : null,
    };
  }

  /** Starts it, or says why it waits. */
  #start(waiting: Waiting): boolean {
    const group = this.#groupOf(waiting);
    // Where nothing can start, what holds for the first of a group holds for those behind it.
    if (group.isTakeable || group.first === null) {
      const waited_ms = this.#now - waiting.job.arrived_at;
      const best = this.#bestOf(group, waiting, waited_ms);
      if (best !== null && takes(best)) {
        this.#begin(waiting, group, best);
        return true;
      }
      const expected_ms = best === null ? null : this.#waitMs(best, waited_ms);
      group.first ??= { best, expected_ms };
      if (best !== null) this.#view.queueAhead(best);
      if (best !== null && this.#view.isOverdue(waiting)) this.#view.claim(waiting, best);
    }
    this.#waits.set(waiting.job.id, new LazyWait(group, this.#now, this.#waits.size));
    group.behind += 1;
    this.#wakeFor(waiting, group);
    return false;
  }

  #bestOf(group: Group, { job }: Waiting, waited_ms: number): Offer | null {
    let best = group.blocked;
    let bestMs = best === null ? Number.POSITIVE_INFINITY : this.#rankMs(best, job, waited_ms);
    for (const offer of group.live) {
      const ms = this.#rankMs(offer, job, waited_ms);
      if (ms > bestMs || (ms === bestMs && best !== null && compareOffers(best, offer) <= 0)) {
        continue;
      }
      best = offer;
      bestMs = ms;
    }
    return best;
  }

  #waitMs(offer: Offer, waited_ms: number): number {
    return waitMs(offer, this.#view.aheadOf(offer), waited_ms, this.#view.freeMsOf(offer));
  }

  #rankMs(offer: Offer, { request }: Job, waited_ms: number): number {
    const view = this.#view;
    return rankMs(offer, request, view.aheadOf(offer), waited_ms, view.freeMsOf(offer));
  }

  #begin(waiting: Waiting, group: Group, best: Offer): void {
    const plan = planOf(best);
    const { candidates } = group;
    const ranked = [best, ...candidates.ranked().filter(offer => offer !== best)];
    const outcome = { ...outcomeOf(group, this.#now), ranked, taken: best };
    this.#starts.push({ job: waiting.job, plan, decision: decisionOf(outcome) });
    this.#view.begin(waiting, plan);
    this.#virtualMs = Math.max(this.#virtualMs, waiting.turn);
  }

  #groupOf(waiting: Waiting): Group {
    const key = this.#view.groupKeyOf(waiting);
    const known = this.#groups.get(key);
    const { version, freed } = this.#view;
    if (known !== undefined && known.version === version) return known;
    // What starts takes room: who found none before finds none now.
    if (known !== undefined && !known.isTakeable && known.freed === freed) return known;
    const candidates = this.#view.candidatesFor(waiting, key);
    const live: Offer[] = [];
    let blocked: Offer | null = null;
    for (const offer of candidates.able()) {
      if (offer.effort === 0 || takes(offer)) live.push(offer);
      else if (blocked === null || isSooner(offer, blocked)) blocked = offer;
    }
    const isLoadable = live.some(offer => offer.effort > 0);
    const isTakeable = live.some(takes);
    const group = {
      ...{ candidates, live, blocked, isLoadable, isTakeable, version, freed },
      ...{ first: null, behind: 0, reason: null, impossible: null },
    };
    this.#groups.set(key, group);
    return group;
  }

  /** When the answer for one that waits may be another by itself. */
  #wakeFor({ job, declined }: Waiting, group: Group): void {
    const overdueAt = job.arrived_at + this.#state.options.age_bound_ms;
    if (overdueAt > this.#now && overdueAt < this.#wakeAt) this.#wakeAt = overdueAt;
    if (group.isLoadable) this.#wakeAt = Math.min(this.#wakeAt, this.#now + LOOK_AGAIN_MS);
    if (declined === NOBODY) return;
    for (const { until } of Object.values(declined)) {
      if (until > this.#now) this.#wakeAt = Math.min(this.#wakeAt, until);
    }
  }
}

const isSooner = (left: Offer, right: Offer): boolean =>
  left.score.total_ms < right.score.total_ms ||
  (left.score.total_ms === right.score.total_ms && compareOffers(left, right) < 0);

/** Nothing that may pass by itself is in the way. */
function isImpossible({ candidates }: Group): boolean {
  const passing = ['not_ready', 'refused', 'busy', 'unknown_memory'];
  return (
    candidates.nodes.length > 0 &&
    candidates.states().every(state => candidates.absence(state) === null) &&
    !candidates.seen().some(offer => passing.includes(offer.verdict))
  );
}
