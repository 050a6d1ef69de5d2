/**
 * The nodes as the queue sees them in one pass: their adverts, and on top what was decided since and
 * in this pass.
 *
 * V1: `version` changes with everything that a placement may depend on.
 * V2: what a node says of its requests in flight and what is known here of them is not counted twice.
 */
import { ADVERT_TTL_MS } from '../protocol/streams.ts';
import { canonicalModelName } from './model-names.ts';
import type { Booking, NodeNews } from './node-resident.ts';
import type { NodeView } from './node-view.ts';
import { houseLoads } from './observed-loads.ts';
import type { PlacementContext, PlacementPlan, PlacementRequest } from './placement.ts';
import { Candidates, LAST_COPY_FACTOR } from './placement-candidates.ts';
import { inFlightOf, loadedKeys, meantBy, type NodeState, nodeStateOf } from './placement-node.ts';
import type { Offer } from './placement-offer.ts';
import { compareText } from './placement-rank.ts';
import { UNLOAD_MS } from './placement-score.ts';
import {
  bookingOf,
  type Ended,
  NOBODY,
  type QueueState,
  type Running,
  residentKey,
  type Waiting,
} from './queue-state.ts';
import { memoOf, roundedOf, wantOf } from './queue-wish.ts';
import type { ResidualTable } from './residual.ts';

/** By place in `nodes`; whole where `version` is that of the view. */
interface States {
  list: readonly (NodeState | undefined)[];
  version: number;
}

/** A copy that a request is overdue for, closed to all that come after it. */
interface Claim {
  readonly rank: number;
  readonly id: string;
}

const NOTHING: ReadonlySet<string> = new Set();
const NONE_ENDED: ReadonlyMap<string, number> = new Map();
const bookings = new WeakMap<Running, Booking>();

export class QueueView {
  readonly state: QueueState;
  readonly nodes: readonly NodeView[];
  readonly now: number;
  version = 0;
  /** Grows with what makes room: all else only takes it. */
  freed = 0;
  readonly #running: Map<string, Running>;
  /** What the loads of all nodes teach. */
  readonly #house: ResidualTable;
  readonly #byNode = new Map<string, Running[]>();
  readonly #ended: ReadonlyMap<string, Ended>;
  /** By node: how many requests of which models an advert may still show. */
  readonly #endedOn = new Map<string, Map<string, number>>();
  readonly #loadedAt: Map<string, number>;
  readonly #turnedAt: Map<string, number>;
  /** How many wait for a model, by canonical name. */
  readonly #demand = new Map<string, number>();
  readonly #ahead = new Map<string, number>();
  readonly #freeMs = new Map<string, { readonly running: number; readonly ms: number }>();
  readonly #claims = new Map<string, Claim>();
  readonly #claimed = new Set<string>();
  /** By place in `nodes`; for those that are overdue, the second. */
  readonly #states: States = { list: [], version: -1 };
  readonly #freeStates: States = { list: [], version: -1 };
  readonly #kept: ReadonlySet<string>;
  readonly #views: ReadonlyMap<string, NodeView>;

  constructor(state: QueueState, nodes: readonly NodeView[], now: number) {
    this.state = state;
    this.nodes = inOrder(nodes);
    this.#house = houseLoads(this.nodes);
    this.#views = new Map(nodes.map(view => [view.node, view]));
    this.now = now;
    this.#running = new Map(state.running);
    for (const running of this.#running.values()) this.#note(running);
    this.#ended = this.#stillEnded();
    for (const { node, key, at } of this.#ended.values()) {
      const here = this.#endedOn.get(node);
      if (here === undefined) this.#endedOn.set(node, new Map([[key, at.length]]));
      else here.set(key, at.length);
    }
    const { age_bound_ms, residency_ms } = state.options;
    this.#loadedAt = new Map([...state.loaded_at].filter(([, at]) => now - at < residency_ms));
    this.#turnedAt = new Map([...state.turned_at].filter(([, at]) => now - at < age_bound_ms));
    for (const { job } of state.waiting) {
      const key = this.keyOf(job.request);
      if (key !== null) this.#demand.set(key, (this.#demand.get(key) ?? 0) + 1);
    }
    this.#kept = new Set(
      (state.options.policies ?? [])
        .filter(policy => policy.replicas_min > 0)
        .map(policy => canonicalModelName(policy.model)),
    );
  }

  /** Without those that the adverts of their nodes know to be over. */
  #stillEnded(): ReadonlyMap<string, Ended> {
    const { ended } = this.state;
    const left = new Map<string, Ended>();
    let isSame = true;
    for (const [copy, over] of ended) {
      const seenAt = this.#views.get(over.node)?.runtime?.seen_at ?? 0;
      const first = over.at.findIndex(at => at > seenAt && this.now - at <= ADVERT_TTL_MS);
      if (first === 0) left.set(copy, over);
      else isSame = false;
      if (first > 0) left.set(copy, { ...over, at: over.at.slice(first) });
    }
    return isSame ? ended : left;
  }

  /** Canonical name of what is asked for, aliases followed. */
  keyOf(request: PlacementRequest): string | null {
    return meantBy(request, this.state.options.aliases, this.nodes);
  }

  isOverdue({ job }: Waiting): boolean {
    return this.now - job.arrived_at >= this.state.options.age_bound_ms;
  }

  /** @param group its key, where judgements are to be remembered for the next pass */
  candidatesFor(waiting: Waiting, group: string | null): Candidates {
    const { age_bound_ms, residency_ms, policies, aliases } = this.state.options;
    const context: PlacementContext = {
      ...(policies === undefined ? {} : { policies }),
      ...(aliases === undefined ? {} : { aliases }),
      ...(group === null ? {} : { memo: memoOf(this.state.options, group) }),
      residency_ms,
      replica_idle_ms: age_bound_ms,
      last_copy_idle_ms: this.isOverdue(waiting) ? age_bound_ms : age_bound_ms * LAST_COPY_FACTOR,
      states: this.#statesFor(waiting),
    };
    return new Candidates(this.#requestOf(waiting), this.nodes, this.now, context);
  }

  /** Requests of one group are judged alike. */
  groupKeyOf(waiting: Waiting): string {
    const declined = waiting.declined === NOBODY ? '' : waiting.job.id;
    const claims = this.#claims.size === 0 ? '' : this.#isClosedTo(waiting);
    return `${wantOf(roundedOf(waiting.job.request))}|${this.isOverdue(waiting)}|${declined}|${claims}`;
  }

  aheadOf(offer: Offer): number {
    return this.#ahead.get(offer.copy) ?? 0;
  }

  /** Until the copy takes one more, by what runs on it; undefined where others use it too. */
  freeMsOf(offer: Offer): number | undefined {
    if (offer.effort !== 0) return undefined;
    const known = this.#freeMs.get(offer.copy);
    if (known !== undefined) return known.running === offer.in_flight ? known.ms : undefined;
    const left = (this.#byNode.get(offer.node) ?? [])
      .filter(running => keyOfRunning(running) === offer.key)
      .map(({ plan, started_at }) => Math.max(0, started_at + plan.expected_ms - this.now))
      .sort((one, other) => one - other);
    const loadedAt = this.#loadedAt.get(offer.copy) ?? this.now;
    const slotMs = left[left.length - offer.slots] ?? 0;
    const ms = Math.max(slotMs, loadedAt - this.now, 0);
    this.#freeMs.set(offer.copy, { running: left.length, ms });
    return left.length === offer.in_flight ? ms : undefined;
  }

  queueAhead(offer: Offer): void {
    this.#ahead.set(offer.copy, this.aheadOf(offer) + 1);
  }

  /** D3: closes what is in the way of one that is overdue. One claim for a node, one for a model. */
  claim({ job, rank }: Waiting, offer: Offer): void {
    const want = `${offer.key} ${offer.node}`;
    if (this.#claimed.has(offer.node) || offer.blockers.length === 0) return;
    if (this.#hasTurned(offer.node) || offer.blockers.some(({ key }) => key === offer.key)) return;
    this.#claimed.add(offer.node);
    for (const { key } of offer.blockers) {
      this.#claims.set(residentKey(offer.node, key), { rank, id: job.id });
    }
    this.#claimed.add(want);
    this.#forget(offer.node);
    this.version += 1;
  }

  /** Whether the node changed hands less than an age bound ago: it is not to go to and fro. */
  #hasTurned(node: string): boolean {
    const at = this.#turnedAt.get(node);
    return at !== undefined && this.now - at < this.state.options.age_bound_ms;
  }

  begin(waiting: Waiting, plan: PlacementPlan): void {
    const running = { waiting, plan, started_at: this.now };
    this.#running.set(waiting.job.id, running);
    this.#note(running);
    const key = this.keyOf(waiting.job.request);
    const left = key === null ? 0 : (this.#demand.get(key) ?? 1) - 1;
    if (key !== null && left <= 0) this.#demand.delete(key);
    else if (key !== null) this.#demand.set(key, left);
    if (plan.load) this.#noteLoad(plan);
    this.#freeMs.delete(residentKey(plan.node, canonicalModelName(plan.model)));
    if (plan.evict.some(victim => this.#demand.has(canonicalModelName(victim)))) {
      this.#turnedAt.set(plan.node, this.now);
    }
    // Demand for a model is news for every node that has it loaded.
    if (key !== null && left <= 0) {
      this.#forgetHolders(key);
      this.freed += 1;
    }
    this.#forget(plan.node);
    this.version += 1;
  }

  /** When something that is waited for passes by itself. */
  nextChange(): number {
    let next = Number.POSITIVE_INFINITY;
    if (this.state.waiting.length === 0) return next;
    const { age_bound_ms, residency_ms } = this.state.options;
    for (const at of this.#loadedAt.values()) next = Math.min(next, at + residency_ms);
    for (const at of this.#turnedAt.values()) next = Math.min(next, at + age_bound_ms);
    return next;
  }

  rest(): Pick<QueueState, 'running' | 'ended' | 'loaded_at' | 'turned_at'> {
    return {
      running: this.#running,
      ended: this.#ended,
      loaded_at: this.#loadedAt,
      turned_at: this.#turnedAt,
    };
  }

  demandOf(key: string): number {
    return this.#demand.get(key) ?? 0;
  }

  #forgetHolders(key: string): void {
    for (const view of this.nodes) if (loadedKeys(view).includes(key)) this.#forget(view.node);
    for (const running of this.#running.values()) {
      if (canonicalModelName(running.plan.model) === key) this.#forget(running.plan.node);
    }
  }

  #forget(node: string): void {
    const index = this.nodes.findIndex(view => view.node === node);
    for (const states of [this.#states, this.#freeStates]) {
      if (index in states.list) states.list = states.list.with(index, undefined);
    }
  }

  #note(running: Running): void {
    const { node } = running.plan;
    const here = this.#byNode.get(node);
    if (here === undefined) this.#byNode.set(node, [running]);
    else here.push(running);
  }

  #noteLoad(plan: PlacementPlan): void {
    const unload = plan.evict.length > 0 ? UNLOAD_MS : 0;
    const view = this.#views.get(plan.node);
    const models = view?.runtime?.advert.engines.flatMap(engine => engine.models) ?? [];
    const load = models.find(({ name }) => name === plan.model)?.load_ms ?? 0;
    const key = residentKey(plan.node, canonicalModelName(plan.model));
    this.#loadedAt.set(key, this.now + unload + load);
  }

  #requestOf({ job, declined }: Waiting): PlacementRequest {
    const request = roundedOf(job.request);
    if (declined === NOBODY) return request;
    const refused = Object.entries(declined).filter(([, { until }]) => until > this.now);
    if (refused.length === 0) return request;
    const reasons = Object.fromEntries(refused.map(([node, { reason }]) => [node, reason]));
    return { ...request, refused: { ...request.refused, ...reasons } };
  }

  /** Claims of others that come before it. */
  #isClosedTo({ job, rank }: Waiting): string {
    let closed = '';
    for (const [copy, claim] of this.#claims) {
      if (claim.id !== job.id && claim.rank <= rank) closed += `${copy},`;
    }
    return closed;
  }

  /**
   * D2: to one that is overdue, models that others wait for are not sacred, but in turn. Where copies
   * are closed to it, it has states of its own.
   */
  #statesFor(waiting: Waiting): readonly NodeState[] {
    const isOverdue = this.isOverdue(waiting);
    const common = this.#commonStates(isOverdue);
    if (this.#claimed.size === 0) return common;
    return common.map(state => {
      const closed = this.#closedOn(state.node, waiting);
      return closed === null ? state : this.#stateOf(state.view, closed, isOverdue);
    });
  }

  #commonStates(isOverdue: boolean): readonly NodeState[] {
    const known = isOverdue ? this.#freeStates : this.#states;
    if (known.version === this.version) return known.list as readonly NodeState[];
    const list = this.nodes.map((view, index) => {
      return known.list[index] ?? this.#stateOf(view, NOTHING, isOverdue);
    });
    known.list = list;
    known.version = this.version;
    return list;
  }

  #stateOf(view: NodeView, closed: ReadonlySet<string>, isOverdue: boolean): NodeState {
    const isFree = isOverdue && !this.#hasTurned(view.node);
    const running = this.#byNode.get(view.node) ?? [];
    const here = loadedKeys(view);
    let signature = '';
    for (const { waiting } of running) signature += `${waiting.job.id} `;
    for (const [key, count] of this.#endedOn.get(view.node) ?? []) {
      const over = Math.min(count, inFlightOf(view, key));
      if (over > 0) signature += `-${key} ${over}`;
    }
    const keys = running.length === 0 ? here : [...here, ...running.map(keyOfRunning)];
    for (const key of keys) {
      const at = this.#loadedAt.get(residentKey(view.node, key));
      if (at !== undefined) signature += `@${key}${at}`;
      if (!isFree && this.#demand.has(key)) signature += `+${key}`;
      if (this.#kept.has(key)) signature += `!${key}`;
    }
    for (const key of closed) signature += `/${key}`;
    const news = () => this.#newsOf(view.node, { keys, closed, isFree });
    return nodeStateOf(view, this.#house, signature, news);
  }

  #newsOf(
    node: string,
    about: {
      readonly keys: readonly string[];
      readonly closed: ReadonlySet<string>;
      readonly isFree: boolean;
    },
  ): NodeNews {
    const loaded_at = new Map<string, number>();
    for (const key of about.keys) {
      const at = this.#loadedAt.get(residentKey(node, key));
      if (at !== undefined) loaded_at.set(key, at);
    }
    return {
      bookings: (this.#byNode.get(node) ?? []).map(bookingFor),
      ...{ ended: this.#endedOn.get(node) ?? NONE_ENDED, loaded_at, closed: about.closed },
      demanded: new Set(about.keys.filter(key => !about.isFree && this.#demand.has(key))),
      kept: new Set(about.keys.filter(key => this.#kept.has(key))),
    };
  }

  #closedOn(node: string, { job, rank }: Waiting): ReadonlySet<string> | null {
    if (!this.#claimed.has(node)) return null;
    const closed = new Set<string>();
    for (const [copy, claim] of this.#claims) {
      const [owner, model] = copy.split(' ');
      const isOthers = claim.id !== job.id && claim.rank <= rank;
      if (owner === node && model !== undefined && isOthers) closed.add(model);
    }
    return closed.size === 0 ? null : closed;
  }
}

const keyOfRunning = ({ plan }: Running): string => canonicalModelName(plan.model);

function bookingFor(running: Running): Booking {
  const known = bookings.get(running);
  if (known !== undefined) return known;
  const booking = bookingOf(running);
  bookings.set(running, booking);
  return booking;
}

/** By name, so that the order in which nodes are listed does not matter. */
function inOrder(nodes: readonly NodeView[]): readonly NodeView[] {
  const isSorted = nodes.every(
    (view, index) => index === 0 || (nodes[index - 1]?.node ?? '') <= view.node,
  );
  return isSorted ? nodes : [...nodes].sort((left, right) => compareText(left.node, right.node));
}
