/**
 * What no policy can beat: a lower bound of the makespan, and the fewest loads.
 *
 * B1: every term of the makespan's bound holds for every schedule; the largest of them is the bound.
 *     It is at least the usual one: all work over all speed, the longest job, and each model with
 *     one load.
 * B2: the fewest loads are exact for builds of equal steps when nobody minds waiting; with an age
 *     bound they are a lower bound.
 */
import { couldHold, loadMs, type Trace, type TraceJob, type TraceNode } from './trace.ts';

/** Of so few models all groups are looked at. */
const GROUPED_MODELS_MAX = 10;

export function makespanBound(trace: Trace): number {
  const able = new Map(
    trace.models.map(model => [model.name, trace.nodes.filter(node => couldHold(node, model))]),
  );
  const at = arrivals(trace, able);
  const times = { at, after: tails(trace, able) };
  const bounds = groupsOf(trace, able).map(models => workBound(trace, able, times, models));
  return Math.max(chainBound(trace, able, at), ...bounds);
}

/** Nodes that could hold each model. */
type Able = ReadonlyMap<string, readonly TraceNode[]>;
/** The earliest that each job can arrive. */
type Arrivals = ReadonlyMap<string, number>;

interface Times {
  readonly at: Arrivals;
  readonly after: ReadonlyMap<string, number>;
}

const fastest = (nodes: readonly TraceNode[]): number => Math.max(...nodes.map(node => node.speed));

/** What comes before a job done on the best nodes, nothing waited for. */
function arrivals(trace: Trace, able: Able): Arrivals {
  const jobs = new Map(trace.jobs.map(job => [job.id, job]));
  const known = new Map<string, number>();
  const arrival = (job: TraceJob): number => {
    const seen = known.get(job.id);
    if (seen !== undefined) return seen;
    const before = job.after.map(id => {
      const previous = jobs.get(id);
      if (previous === undefined) throw new Error(`job ${job.id} comes after ${id}, which is none`);
      const start = Math.max(arrival(previous), loadOf(trace, able, previous));
      return start + workOf(previous, able);
    });
    const at = before.length === 0 ? job.at : Math.max(...before) + job.at;
    known.set(job.id, at);
    return at;
  };
  for (const job of trace.jobs) arrival(job);
  return known;
}

/** Nothing begins before its model was loaded for the first time. */
function loadOf(trace: Trace, able: Able, { model: name }: TraceJob): number {
  const model = trace.models.find(candidate => candidate.name === name);
  if (model === undefined) throw new Error(`no model ${name} in the trace`);
  return Math.min(...(able.get(name) ?? []).map(node => loadMs(node, model)));
}

/** What has to follow a job at least: the longest way through all that comes after it. */
function tails(trace: Trace, able: Able): ReadonlyMap<string, number> {
  const known = new Map<string, number>();
  const followers = new Map<string, TraceJob[]>();
  for (const job of trace.jobs) {
    for (const before of job.after) followers.set(before, [...(followers.get(before) ?? []), job]);
  }
  const tail = (id: string): number => {
    const seen = known.get(id);
    if (seen !== undefined) return seen;
    const after = (followers.get(id) ?? []).map(
      next => next.at + workOf(next, able) + tail(next.id),
    );
    const longest = Math.max(0, ...after);
    known.set(id, longest);
    return longest;
  };
  for (const job of trace.jobs) tail(job.id);
  return known;
}

const workOf = (job: TraceJob, able: Able): number =>
  job.work_ms / fastest(able.get(job.model) ?? []);

/** With few models every group of them; with many, each alone, all, and the large ones together. */
function groupsOf(trace: Trace, able: Able): readonly ReadonlySet<string>[] {
  const names = trace.models.map(model => model.name);
  if (names.length <= GROUPED_MODELS_MAX) {
    return Array.from({ length: 2 ** names.length - 1 }, (_, index) => {
      return new Set(names.filter((_name, bit) => ((index + 1) & (1 << bit)) !== 0));
    });
  }
  const counts = [...new Set(names.map(name => able.get(name)?.length ?? 0))];
  return [
    ...names.map(name => new Set([name])),
    ...counts.map(count => new Set(names.filter(name => (able.get(name)?.length ?? 0) <= count))),
  ];
}

/**
 * The work of some models over the most that all nodes together can do of it. From the start on, the
 * first load of each is work too: it takes the memory in which others could have run. What arrives
 * after some moment can't be begun before it.
 */
function workBound(
  trace: Trace,
  able: Able,
  { at, after }: Times,
  group: ReadonlySet<string>,
): number {
  const speed = concurrency(trace, able, group);
  const jobs = trace.jobs
    .filter(job => group.has(job.model))
    .sort((left, right) => (at.get(right.id) ?? 0) - (at.get(left.id) ?? 0));
  if (jobs.length === 0) return 0;
  const used = new Set(jobs.map(job => job.model));
  const loads = trace.models
    .filter(model => used.has(model.name))
    .map(model =>
      Math.min(
        ...(able.get(model.name) ?? []).map(node => loadMs(node, model) * node.speed * node.slots),
      ),
    );
  let work = 0;
  let bound = 0;
  let tail = Number.POSITIVE_INFINITY;
  for (const job of jobs) {
    work += job.work_ms;
    tail = Math.min(tail, after.get(job.id) ?? 0);
    bound = Math.max(bound, (at.get(job.id) ?? 0) + work / speed + tail);
  }
  return Math.max(bound, (work + loads.reduce((sum, load) => sum + load, 0)) / speed);
}

/** Work per ms that all nodes do at most on these models: as many copies as their memory holds. */
function concurrency(trace: Trace, able: Able, group: ReadonlySet<string>): number {
  const models = trace.models
    .filter(model => group.has(model.name))
    .sort((left, right) => left.need_bytes - right.need_bytes);
  return trace.nodes.reduce((sum, node) => {
    let bytes = 0;
    let copies = 0;
    for (const model of models) {
      if (able.get(model.name)?.includes(node) !== true) continue;
      bytes += model.need_bytes;
      if (bytes > node.bytes) break;
      copies += 1;
    }
    return sum + node.speed * node.slots * copies;
  }, 0);
}

/** The longest way through what comes after what; before its first step, whose model was loaded. */
function chainBound(trace: Trace, able: Able, at: Arrivals): number {
  return Math.max(
    ...trace.jobs.map(job => {
      const load = loadOf(trace, able, job);
      return Math.max(at.get(job.id) ?? 0, load) + workOf(job, able);
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
