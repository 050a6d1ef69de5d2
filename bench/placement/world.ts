/**
 * A pool in simulated time. A policy says which job goes to which node and what is unloaded for it;
 * the world carries that out: unload, load, run, end, and what a lost node means. It also is the
 * judge: memory that is promised twice, or a model unloaded while at work, is counted.
 *
 * W1: all policies run on the same world; it knows none of them.
 * W2: a node loads one model after another; a load does not slow down what runs.
 */
import {
  couldHold,
  loadMs,
  type Trace,
  type TraceJob,
  type TraceModel,
  type TraceNode,
} from './trace.ts';

export const UNLOAD_MS = 1_000;
/** How long a lost node is believed to be there, and its jobs to run. */
export const LOST_AFTER_MS = 15_000;
const EVENTS_MAX = 5_000_000;

export interface Copy {
  readonly model: TraceModel;
  state: 'loading' | 'loaded';
  ready_at: number;
  loaded_at: number;
  used_at: number;
  /** Jobs at work on it, and those that wait for it at the node. */
  readonly running: Set<string>;
  readonly pending: string[];
}

export interface WorldNode {
  readonly spec: TraceNode;
  readonly copies: Map<string, Copy>;
  disk_free_at: number;
  /** Gone for good, known or not. */
  isLost: boolean;
  isKnownLost: boolean;
  /** Grows with every change that a policy may see. */
  version: number;
}

export interface Assignment {
  readonly job: string;
  readonly node: string;
  readonly evict: readonly string[];
}

/** What the world tells, and what the policy answers. */
export interface Policy {
  readonly name: string;
  arrived(job: TraceJob, world: World): void;
  ended(job: TraceJob, node: string, world: World): void;
  /** The node was lost while the job was there: it is to be placed again. */
  returned(job: TraceJob, node: string, world: World): void;
  /** Called after every event, until it answers nothing. */
  decide(world: World): readonly Assignment[];
  /** When to be asked again though nothing happens. */
  wakeAt(): number | null;
}

interface Event {
  readonly at: number;
  readonly order: number;
  readonly act: () => void;
}

export interface Run {
  readonly makespan_ms: number;
  readonly loads: number;
  /** Loads for which another model had to go. */
  readonly swaps: number;
  readonly waits_ms: readonly number[];
  readonly double_bookings: number;
  readonly unfinished: number;
  readonly decisions_ms: readonly number[];
}

export class World {
  now = 0;
  readonly trace: Trace;
  readonly nodes = new Map<string, WorldNode>();
  readonly models: ReadonlyMap<string, TraceModel>;
  readonly jobs: ReadonlyMap<string, TraceJob>;
  readonly #policy: Policy;
  readonly #events: Event[] = [];
  #order = 0;
  readonly #arrived = new Map<string, number>();
  readonly #started = new Map<string, number>();
  readonly #done = new Set<string>();
  readonly #followers = new Map<string, TraceJob[]>();
  readonly #runOf = new Map<string, number>();
  #loads = 0;
  #swaps = 0;
  #doubleBookings = 0;
  #woken = Number.POSITIVE_INFINITY;
  readonly #decisionsMs: number[] = [];

  constructor(trace: Trace, policy: Policy) {
    this.trace = trace;
    this.#policy = policy;
    this.models = new Map(trace.models.map(model => [model.name, model]));
    this.jobs = new Map(trace.jobs.map(job => [job.id, job]));
    for (const spec of trace.nodes) {
      this.nodes.set(spec.id, {
        ...{ spec, copies: new Map(), disk_free_at: 0, version: 0 },
        ...{ isLost: false, isKnownLost: false },
      });
      if (spec.lost_at !== null) this.#at(spec.lost_at, () => this.#lose(spec.id));
    }
    for (const job of trace.jobs) {
      if (job.after.length === 0) this.#at(job.at, () => this.#arrive(job));
      for (const before of job.after) {
        this.#followers.set(before, [...(this.#followers.get(before) ?? []), job]);
      }
    }
  }

  run(clock: () => number): Run {
    for (let count = 0; count < EVENTS_MAX; count += 1) {
      const event = this.#pop();
      if (event === null || this.#done.size === this.jobs.size) break;
      this.now = event.at;
      event.act();
      this.#ask(clock);
    }
    const waits = [...this.#started].map(([id, at]) => at - (this.#arrived.get(id) ?? at));
    return {
      makespan_ms: this.now,
      loads: this.#loads,
      swaps: this.#swaps,
      waits_ms: waits,
      double_bookings: this.#doubleBookings,
      unfinished: this.jobs.size - this.#done.size,
      decisions_ms: this.#decisionsMs,
    };
  }

  arrivedAt(job: string): number {
    return this.#arrived.get(job) ?? 0;
  }

  node(id: string): WorldNode {
    const node = this.nodes.get(id);
    if (node === undefined) throw new Error(`no node ${id} in the trace`);
    return node;
  }

  model(name: string): TraceModel {
    const model = this.models.get(name);
    if (model === undefined) throw new Error(`no model ${name} in the trace`);
    return model;
  }

  workMs(job: TraceJob, node: TraceNode): number {
    return job.work_ms / node.speed;
  }

  #ask(clock: () => number): void {
    for (;;) {
      const before = clock();
      const assignments = this.#policy.decide(this);
      this.#decisionsMs.push(clock() - before);
      for (const assignment of assignments) this.#assign(assignment);
      if (assignments.length === 0) break;
    }
    const wake = this.#policy.wakeAt();
    if (wake === null || wake <= this.now) return;
    if (this.#woken > this.now && this.#woken <= wake) return;
    this.#woken = wake;
    this.#at(wake, () => undefined);
  }

  #arrive(job: TraceJob): void {
    this.#arrived.set(job.id, this.now);
    this.#policy.arrived(job, this);
  }

  #assign({ job: id, node: nodeId, evict }: Assignment): void {
    const node = this.node(nodeId);
    const job = this.jobs.get(id);
    if (job === undefined) throw new Error(`no job ${id} in the trace`);
    node.version += 1;
    for (const name of evict) {
      const victim = node.copies.get(name);
      if (victim === undefined) continue;
      if (victim.running.size + victim.pending.length > 0) this.#doubleBookings += 1;
      node.copies.delete(name);
    }
    const copy =
      node.copies.get(job.model) ?? this.#load(node, this.model(job.model), evict.length);
    copy.pending.push(id);
    this.#advance(node, copy);
  }

  #load(node: WorldNode, model: TraceModel, victims: number): Copy {
    const start = Math.max(this.now, node.disk_free_at) + (victims > 0 ? UNLOAD_MS : 0);
    const ready_at = start + loadMs(node.spec, model);
    node.disk_free_at = ready_at;
    const copy: Copy = {
      ...{ model, ready_at, loaded_at: ready_at, used_at: this.now, state: 'loading' },
      ...{ running: new Set(), pending: [] },
    };
    node.copies.set(model.name, copy);
    this.#loads += 1;
    if (victims > 0) this.#swaps += 1;
    const held = [...node.copies.values()].reduce((sum, other) => sum + other.model.need_bytes, 0);
    if (held > node.spec.bytes || !couldHold(node.spec, model)) this.#doubleBookings += 1;
    this.#at(ready_at, () => {
      if (node.isLost || node.copies.get(model.name) !== copy) return;
      copy.state = 'loaded';
      node.version += 1;
      this.#advance(node, copy);
    });
    return copy;
  }

  #advance(node: WorldNode, copy: Copy): void {
    while (!node.isLost && copy.state === 'loaded' && copy.running.size < node.spec.slots) {
      const id = copy.pending.shift();
      if (id === undefined) return;
      const job = this.jobs.get(id);
      if (job === undefined) continue;
      copy.running.add(id);
      copy.used_at = this.now;
      this.#started.set(id, this.now);
      const run = (this.#runOf.get(id) ?? 0) + 1;
      this.#runOf.set(id, run);
      this.#at(this.now + this.workMs(job, node.spec), () => this.#end(node, copy, job, run));
    }
  }

  #end(node: WorldNode, copy: Copy, job: TraceJob, run: number): void {
    if (node.isLost || this.#runOf.get(job.id) !== run) return;
    copy.running.delete(job.id);
    copy.used_at = this.now;
    node.version += 1;
    this.#done.add(job.id);
    this.#policy.ended(job, node.spec.id, this);
    for (const next of this.#followers.get(job.id) ?? []) {
      if (!next.after.every(before => this.#done.has(before))) continue;
      this.#at(this.now + next.at, () => this.#arrive(next));
    }
    this.#advance(node, copy);
  }

  #lose(id: string): void {
    const node = this.node(id);
    node.isLost = true;
    this.#at(this.now + LOST_AFTER_MS, () => {
      node.isKnownLost = true;
      node.version += 1;
      for (const copy of node.copies.values()) {
        for (const job of [...copy.running, ...copy.pending]) {
          const spec = this.jobs.get(job);
          this.#runOf.set(job, (this.#runOf.get(job) ?? 0) + 1);
          if (spec !== undefined) this.#policy.returned(spec, id, this);
        }
      }
      node.copies.clear();
    });
  }

  #at(at: number, act: () => void): void {
    this.#order += 1;
    push(this.#events, { at, order: this.#order, act });
  }

  #pop(): Event | null {
    return pop(this.#events);
  }
}

const isBefore = (left: Event, right: Event): boolean =>
  left.at < right.at || (left.at === right.at && left.order < right.order);

function push(heap: Event[], event: Event): void {
  heap.push(event);
  let child = heap.length - 1;
  while (child > 0) {
    const parent = (child - 1) >> 1;
    const above = heap[parent];
    if (above === undefined || !isBefore(event, above)) break;
    heap[child] = above;
    child = parent;
  }
  heap[child] = event;
}

function pop(heap: Event[]): Event | null {
  const first = heap[0];
  const last = heap.pop();
  if (first === undefined || last === undefined) return null;
  if (heap.length === 0) return first;
  let parent = 0;
  for (;;) {
    const left = 2 * parent + 1;
    const right = left + 1;
    let least = left;
    const leftEvent = heap[left];
    const rightEvent = heap[right];
    if (leftEvent === undefined) break;
    if (rightEvent !== undefined && isBefore(rightEvent, leftEvent)) least = right;
    const child = heap[least];
    if (child === undefined || !isBefore(child, last)) break;
    heap[parent] = child;
    parent = least;
  }
  heap[parent] = last;
  return first;
}
