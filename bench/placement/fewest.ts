/**
 * The fewest loads and swaps with which a trace can be done: exact, each by a search through all that
 * could be done instead. A swap is a load for which another model has to go.
 *
 * F1: work takes no time here, so that they are lower bounds for every real schedule. Builds have no
 *     limit on waiting. An independent request begins within the age bound and one load of its model.
 */
import { couldHold, loadMs, type Trace, type TraceModel } from './trace.ts';
import { UNLOAD_MS } from './world.ts';

export interface Fewest {
  readonly loads: number;
  readonly swaps: number;
}

const STATES_MAX = 2_000_000;

/** Null where the search is too large, or nothing is known that could be searched. */
export function fewest(trace: Trace, ageBoundMs: number): Fewest | null {
  const search = trace.builds === undefined ? new Requests(trace, ageBoundMs) : new Builds(trace);
  const loads = search.least(() => 1);
  const swaps = search.least(victims => (victims > 0 ? 1 : 0));
  return loads === null || swaps === null ? null : { loads, swaps };
}

/** Of some models alone, where the trace is made of equal builds. */
export function fewestLoadsOf(trace: Trace, models: ReadonlySet<string>): number | null {
  const { builds } = trace;
  if (builds === undefined) return null;
  const steps = builds.steps.filter(name => models.has(name));
  return new Builds({ ...trace, builds: { ...builds, steps } }).least(() => 1);
}

/** What a load costs, by how many models have to go for it. */
type Cost = (victims: number) => number;

/** Names of the models on each node, in order. */
type Lie = readonly (readonly string[])[];

interface Step {
  readonly lie: Lie;
  readonly gone: readonly string[];
}

/** All ways to load a model with no more victims than it takes: going later is never worse. */
class Loads {
  readonly #trace: Trace;
  readonly #models: ReadonlyMap<string, TraceModel>;

  constructor(trace: Trace) {
    this.#trace = trace;
    this.#models = new Map(trace.models.map(model => [model.name, model]));
  }

  model(name: string): TraceModel {
    const model = this.#models.get(name);
    if (model === undefined) throw new Error(`no model ${name} in the trace`);
    return model;
  }

  of(name: string, lie: Lie, isLost: (node: number) => boolean): Step[] {
    const model = this.model(name);
    return this.#trace.nodes.flatMap((node, index) => {
      const here = lie[index] ?? [];
      if (isLost(index) || here.includes(name) || !couldHold(node, model)) return [];
      const fits = (kept: readonly string[]): boolean => this.#bytes(kept) <= node.bytes;
      return subsets(here)
        .filter(kept => fits([...kept, name]))
        .filter((kept, _, all) => !all.some(more => includesAll(more, kept)))
        .map(kept => ({
          lie: lie.map((names, other) => (other === index ? [...kept, name].sort() : names)),
          gone: here.filter(other => !kept.includes(other)),
        }));
    });
  }

  #bytes(names: readonly string[]): number {
    return names.reduce((sum, name) => sum + this.model(name).need_bytes, 0);
  }
}

const includesAll = (more: readonly string[], names: readonly string[]): boolean =>
  more.length > names.length && names.every(name => more.includes(name));

function subsets(names: readonly string[]): readonly (readonly string[])[] {
  return Array.from({ length: 2 ** names.length }, (_, mask) =>
    names.filter((_name, bit) => (mask & (1 << bit)) !== 0),
  );
}

/** States by what was paid to reach them; of each only the cheapest way is gone on from. */
class Frontier<S> {
  readonly #buckets: S[][] = [];
  readonly #seen = new Map<string, number>();
  paid = 0;

  add(key: string, state: S, cost: number): void {
    const known = this.#seen.get(key);
    if (known !== undefined && known <= cost) return;
    this.#seen.set(key, cost);
    let bucket = this.#buckets[cost];
    if (bucket === undefined) {
      bucket = [];
      this.#buckets[cost] = bucket;
    }
    bucket.push(state);
  }

  /** The cheapest, and of those the one found last. Null where none is left, or too many were. */
  next(): S | null {
    if (this.#seen.size > STATES_MAX) return null;
    for (; this.paid < this.#buckets.length; this.paid += 1) {
      const state = this.#buckets[this.paid]?.pop();
      if (state !== undefined) return state;
    }
    return null;
  }
}

interface Progress {
  /** How many builds stand before each step. */
  readonly at: readonly number[];
  readonly lie: Lie;
}

/** Equal builds, nobody minds waiting: states are how many stand at each step and what lies where. */
class Builds {
  readonly #loads: Loads;
  readonly #trace: Trace;
  readonly #steps: readonly string[];

  constructor(trace: Trace) {
    this.#trace = trace;
    this.#loads = new Loads(trace);
    this.#steps = trace.builds?.steps ?? [];
  }

  least(cost: Cost): number | null {
    const frontier = new Frontier<Progress>();
    const count = this.#trace.builds?.count ?? 0;
    const at = this.#steps.map((_, step) => (step === 0 ? count : 0));
    const start = { at, lie: this.#trace.nodes.map(() => []) };
    frontier.add(JSON.stringify(start), start, 0);
    for (let state = frontier.next(); state !== null; state = frontier.next()) {
      const { at: before, lie } = state;
      if (before.every(amount => amount === 0)) return frontier.paid;
      const wanted = new Set(this.#steps.filter((_, step) => (before[step] ?? 0) > 0));
      for (const model of wanted) {
        for (const next of this.#loads.of(model, lie, () => false)) {
          const moved = { at: this.#advanced(before, new Set(next.lie.flat())), lie: next.lie };
          frontier.add(JSON.stringify(moved), moved, frontier.paid + cost(next.gone.length));
        }
      }
    }
    return null;
  }

  /**
   * Builds whose next model lies somewhere go on: it never costs a load, since the models of later
   * steps are wanted by the last build in any case.
   */
  #advanced(at: readonly number[], lying: ReadonlySet<string>): readonly number[] {
    const moved = [...at];
    for (const [step, model] of this.#steps.entries()) {
      const amount = moved[step] ?? 0;
      if (amount === 0 || !lying.has(model)) continue;
      moved[step] = 0;
      if (step + 1 < this.#steps.length) moved[step + 1] = (moved[step + 1] ?? 0) + amount;
    }
    return moved;
  }
}

interface Loss {
  readonly node: number;
  readonly at: number;
}

interface Moment {
  readonly lie: Lie;
  /** Of each model that lies nowhere, the first request that was not served yet. */
  readonly open: ReadonlyMap<string, number>;
  /** How many nodes were lost. */
  readonly lost: number;
}

/**
 * Requests that come one by one. Something is loaded only when somebody can wait no longer, or a node
 * is about to be lost: until then all stay as they are, and what comes meanwhile is served by the same
 * load. Others that wait may be loaded then too, before it. A second copy is of no use where work
 * takes no time.
 */
class Requests {
  readonly #trace: Trace;
  readonly #loads: Loads;
  readonly #arrivals = new Map<string, readonly number[]>();
  readonly #waitMs = new Map<string, number>();
  /** Nodes by place, in the order in which they are lost. */
  readonly #losses: readonly Loss[];

  constructor(trace: Trace, ageBoundMs: number) {
    this.#trace = trace;
    this.#loads = new Loads(trace);
    this.#losses = trace.nodes
      .flatMap(({ lost_at }, node) => (lost_at === null ? [] : [{ node, at: lost_at }]))
      .sort((left, right) => left.at - right.at);
    for (const model of trace.models) {
      const able = trace.nodes.filter(node => couldHold(node, model));
      const slowest = Math.max(...able.map(node => loadMs(node, model)));
      this.#waitMs.set(model.name, ageBoundMs + UNLOAD_MS + slowest);
      const arrivals = trace.jobs.filter(job => job.model === model.name).map(job => job.at);
      this.#arrivals.set(model.name, arrivals);
    }
  }

  least(cost: Cost): number | null {
    const frontier = new Frontier<Moment>();
    const paid = new WeakMap<Moment, number>();
    const add = (state: Moment, spent: number): void => {
      paid.set(state, spent);
      const key = JSON.stringify([state.lie, [...state.open].sort(), state.lost]);
      // Whatever lies nowhere and is wanted has to be loaded once more.
      frontier.add(key, state, spent + cost(0) * state.open.size);
    };
    const names = this.#trace.models.map(({ name }) => name);
    add({ lie: this.#trace.nodes.map(() => []), open: this.#opened(names, -1), lost: 0 }, 0);
    for (let state = frontier.next(); state !== null; state = frontier.next()) {
      const before = paid.get(state) ?? 0;
      const due = this.#dueAt(state);
      const loss = this.#losses[state.lost];
      const isLoss = loss !== undefined && loss.at <= due;
      if (!isLoss && state.open.size === 0) return frontier.paid;
      if (isLoss) add(this.#without(state, loss), before);
      const now = isLoss ? loss.at : due;
      const lost = new Set(this.#losses.slice(0, state.lost).map(({ node }) => node));
      for (const [model, first] of state.open) {
        if (first > now) continue;
        for (const { lie, gone } of this.#loads.of(model, state.lie, node => lost.has(node))) {
          const open = new Map([...state.open, ...this.#opened(gone, now)]);
          open.delete(model);
          add({ lie, open, lost: state.lost }, before + cost(gone.length));
        }
      }
    }
    return null;
  }

  /** When the first of all can wait no longer; never where all models lie somewhere. */
  #dueAt({ open }: Moment): number {
    let due = Number.POSITIVE_INFINITY;
    for (const [model, first] of open) due = Math.min(due, first + (this.#waitMs.get(model) ?? 0));
    return due;
  }

  /** Their first requests after that moment. */
  #opened(models: readonly string[], after: number): ReadonlyMap<string, number> {
    const open = new Map<string, number>();
    for (const model of models) {
      const first = this.#arrivals.get(model)?.find(at => at > after);
      if (first !== undefined) open.set(model, first);
    }
    return open;
  }

  #without(state: Moment, loss: Loss): Moment {
    const gone = state.lie[loss.node] ?? [];
    return {
      lie: state.lie.map((names, node) => (node === loss.node ? [] : names)),
      open: new Map([...state.open, ...this.#opened(gone, loss.at)]),
      lost: state.lost + 1,
    };
  }
}
