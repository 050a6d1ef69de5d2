/**
 * What no policy can beat: a lower bound of the makespan, and the fewest loads.
 *
 * B1: every term of the makespan's bound holds for every schedule; the largest of them is the bound.
 * B2: the fewest loads are exact for builds of equal steps when nobody minds waiting; with an age
 *     bound they are a lower bound.
 */
import { couldHold, loadMs, type Trace, type TraceJob, type TraceNode } from './trace.ts';

export function makespanBound(trace: Trace): number {
  const able = ableNodes(trace);
  return Math.max(workBound(trace, able), chainBound(trace, able), modelBound(trace, able));
}

/** Nodes that could hold each model. */
function ableNodes(trace: Trace): ReadonlyMap<string, readonly TraceNode[]> {
  return new Map(
    trace.models.map(model => [model.name, trace.nodes.filter(node => couldHold(node, model))]),
  );
}

type Able = ReadonlyMap<string, readonly TraceNode[]>;

const speedOf = (nodes: readonly TraceNode[]): number =>
  nodes.reduce((sum, node) => sum + node.speed * node.slots * copiesMax(node), 0);

/** Copies that may work on one node at the same time: bounded by its memory, in `workBound` only. */
const copiesMax = (_node: TraceNode): number => 1;

const fastest = (nodes: readonly TraceNode[]): number => Math.max(...nodes.map(node => node.speed));

/** Earliest arrival of every job: what comes before it done on the best nodes, nothing waited for. */
function arrivals(trace: Trace, able: Able): ReadonlyMap<string, number> {
  const jobs = new Map(trace.jobs.map(job => [job.id, job]));
  const known = new Map<string, number>();
  const arrival = (job: TraceJob): number => {
    const seen = known.get(job.id);
    if (seen !== undefined) return seen;
    const before = job.after.map(id => {
      const previous = jobs.get(id);
      if (previous === undefined) throw new Error(`job ${job.id} comes after ${id}, which is none`);
      return arrival(previous) + previous.work_ms / fastest(able.get(previous.model) ?? []);
    });
    const at = before.length === 0 ? job.at : Math.max(...before) + job.at;
    known.set(job.id, at);
    return at;
  };
  for (const job of trace.jobs) arrival(job);
  return known;
}

/** What arrives after some moment can't be begun before it, whoever works on it. */
function workBound(trace: Trace, able: Able): number {
  const at = arrivals(trace, able);
  let bound = 0;
  for (const models of nested(trace, able)) {
    const nodes = new Set([...models].flatMap(model => able.get(model) ?? []));
    const speed = concurrency(trace, [...nodes], models);
    const jobs = trace.jobs
      .filter(job => models.has(job.model))
      .sort((left, right) => (at.get(right.id) ?? 0) - (at.get(left.id) ?? 0));
    let work = 0;
    for (const job of jobs) {
      work += job.work_ms;
      bound = Math.max(bound, (at.get(job.id) ?? 0) + work / speed);
    }
  }
  return bound;
}

/** All models; and for each size those that need at least as much, which fewer nodes can hold. */
function nested(trace: Trace, able: Able): ReadonlySet<string>[] {
  const counts = [...new Set(trace.models.map(model => able.get(model.name)?.length ?? 0))];
  return counts.map(
    count =>
      new Set(
        trace.models
          .filter(model => (able.get(model.name)?.length ?? 0) <= count)
          .map(model => model.name),
      ),
  );
}

/** Work per ms that these nodes do at most on these models: as many copies as their memory holds. */
function concurrency(
  trace: Trace,
  nodes: readonly TraceNode[],
  models: ReadonlySet<string>,
): number {
  const needs = trace.models
    .filter(model => models.has(model.name))
    .map(model => model.need_bytes)
    .sort((left, right) => left - right);
  return nodes.reduce((sum, node) => {
    let bytes = 0;
    let copies = 0;
    for (const need of needs) {
      bytes += need;
      if (bytes > node.bytes) break;
      copies += 1;
    }
    return sum + node.speed * node.slots * Math.max(1, copies);
  }, 0);
}

/** The longest way through what comes after what, with the first load that it can't do without. */
function chainBound(trace: Trace, able: Able): number {
  const at = arrivals(trace, able);
  return (
    Math.max(
      ...trace.jobs.map(
        job => (at.get(job.id) ?? 0) + job.work_ms / fastest(able.get(job.model) ?? []),
      ),
    ) + firstLoad(trace, able)
  );
}

/** Nothing runs before the cheapest load of whatever is asked for first is done. */
function firstLoad(trace: Trace, able: Able): number {
  const roots = new Set(trace.jobs.filter(job => job.after.length === 0).map(job => job.model));
  const builds = trace.builds !== undefined;
  if (!builds) return 0;
  return Math.min(
    ...trace.models
      .filter(model => roots.has(model.name))
      .flatMap(model => (able.get(model.name) ?? []).map(node => loadMs(node, model))),
  );
}

/** Each model on all nodes that can hold it, after one load. */
function modelBound(trace: Trace, able: Able): number {
  const at = arrivals(trace, able);
  return Math.max(
    ...trace.models.map(model => {
      const nodes = able.get(model.name) ?? [];
      const jobs = trace.jobs.filter(job => job.model === model.name);
      if (jobs.length === 0 || nodes.length === 0) return 0;
      const load = Math.min(...nodes.map(node => loadMs(node, model)));
      const first = Math.min(...jobs.map(job => at.get(job.id) ?? 0));
      const work = jobs.reduce((sum, job) => sum + job.work_ms, 0);
      return first + load + work / speedOf(nodes);
    }),
  );
}

const STATES_MAX = 2_000_000;

/**
 * The fewest loads with which all builds can be taken to their end, or null where the trace is not
 * made of equal builds or the search is too large. Breadth first over how many builds stand at each
 * step, and which models lie on which node.
 */
export function fewestLoads(trace: Trace): number | null {
  const { builds } = trace;
  if (builds === undefined) return null;
  const { count, steps } = builds;
  const needs = new Map(trace.models.map(model => [model.name, model.need_bytes]));
  const start = {
    at: advance(
      Array.from(steps, (_, step) => (step === 0 ? count : 0)),
      steps,
      new Set(),
    ),
    lie: trace.nodes.map(() => [] as string[]),
  };
  const seen = new Set<string>();
  let frontier = [start];
  for (let loads = 0; frontier.length > 0 && seen.size < STATES_MAX; loads += 1) {
    const next: (typeof start)[] = [];
    for (const { at, lie } of frontier) {
      if (at.every(amount => amount === 0)) return loads;
      for (const model of new Set(steps.filter((_, step) => (at[step] ?? 0) > 0))) {
        for (const [index, node] of trace.nodes.entries()) {
          for (const kept of subsets(lie[index] ?? [])) {
            const held = [...kept, model].sort();
            const bytes = held.reduce((sum, name) => sum + (needs.get(name) ?? 0), 0);
            if (bytes > node.bytes || kept.includes(model)) continue;
            const lying = lie.map((names, other) => (other === index ? held : names));
            const moved = advance(at, steps, new Set(lying.flat()));
            const key = JSON.stringify([moved, lying]);
            if (seen.has(key)) continue;
            seen.add(key);
            next.push({ at: moved, lie: lying });
          }
        }
      }
    }
    frontier = next;
  }
  return null;
}

/**
 * Builds whose next model lies somewhere may go on or stay: going on never costs a load, since the
 * models of later steps are wanted by the last build in any case.
 */
function advance(
  at: readonly number[],
  steps: readonly string[],
  lying: ReadonlySet<string>,
): readonly number[] {
  const moved = [...at];
  for (const [step, model] of steps.entries()) {
    const amount = moved[step] ?? 0;
    if (amount === 0 || !lying.has(model)) continue;
    moved[step] = 0;
    if (step + 1 < steps.length) moved[step + 1] = (moved[step + 1] ?? 0) + amount;
  }
  return moved;
}

function subsets(names: readonly string[]): readonly (readonly string[])[] {
  return Array.from({ length: 2 ** names.length }, (_, mask) =>
    names.filter((_name, bit) => (mask & (1 << bit)) !== 0),
  );
}
