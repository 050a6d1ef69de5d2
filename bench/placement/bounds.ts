/**
 * What no policy can beat: a lower bound of the makespan.
 *
 * B1: every term holds for every schedule; the largest of them is the bound. It is at least the usual
 *     one: all work over all speed, the longest job, and each model with one load.
 */
import { fewestLoadsOf } from './fewest.ts';
import {
  couldHold,
  loadMs,
  type Trace,
  type TraceJob,
  type TraceModel,
  type TraceNode,
} from './trace.ts';

/** Of so few models all groups are looked at. */
const GROUPED_MODELS_MAX = 10;

export function makespanBound(trace: Trace): number {
  const able = new Map(
    trace.models.map(model => [model.name, trace.nodes.filter(node => couldHold(node, model))]),
  );
  const at = arrivals(trace, able);
  const times = { at, after: tails(trace, able) };
  const bounds = groupsOf(trace, able).map(models =>
    Math.max(workBound(trace, able, times, models), windowBound(trace, able, times, models)),
  );
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

/**
 * The same work over the most that each node can do between the first moment at which it can have
 * any of it and the last from which what follows can still be done. A node that has no room for two
 * of the models runs one before it loads another: then all loads but the first of each node fall
 * into its window, and no other of the models runs there meanwhile.
 */
function windowBound(
  trace: Trace,
  able: Able,
  { at, after }: Times,
  group: ReadonlySet<string>,
): number {
  const jobs = trace.jobs.filter(job => group.has(job.model));
  const models = trace.models.filter(model => group.has(model.name));
  const windows = trace.nodes.flatMap(node => {
    const here = models.filter(({ name }) => able.get(name)?.includes(node) === true);
    const loads = new Map(here.map(model => [model.name, loadMs(node, model)]));
    const own = jobs.filter(job => loads.has(job.model));
    if (own.length === 0) return [];
    const starts = own.map(job => Math.max(at.get(job.id) ?? 0, loads.get(job.model) ?? 0));
    const from = least(starts);
    const tail = least(own.map(job => after.get(job.id) ?? 0));
    const copies = copiesAtMost(node, here);
    const rate = node.speed * node.slots;
    return [{ from, tail, copies, rate, load: Math.min(...loads.values()) * rate }];
  });
  if (windows.length === 0) return 0;
  const isOneByOne = windows.every(({ copies }) => copies === 1);
  const loads = isOneByOne ? (fewestLoadsOf(trace, group) ?? 0) - windows.length : 0;
  const reloading = Math.max(0, loads) * Math.min(...windows.map(({ load }) => load));
  const work = jobs.reduce((sum, job) => sum + job.work_ms, 0) + reloading;
  const done = (end: number): number =>
    windows.reduce(
      (sum, { from, tail, copies, rate }) => sum + Math.max(0, end - from - tail) * copies * rate,
      0,
    );
  // What can be done by some moment grows with it, on straight lines between the windows' ends.
  const ends = windows.map(({ from, tail }) => from + tail).sort((left, right) => left - right);
  let end = ends[0] ?? 0;
  for (const next of [...ends.slice(1), Number.POSITIVE_INFINITY]) {
    const speed = windows
      .filter(({ from, tail }) => from + tail <= end)
      .reduce((sum, { copies, rate }) => sum + copies * rate, 0);
    const needed = end + (work - done(end)) / speed;
    if (needed <= next) return needed;
    end = next;
  }
  return end;
}

const least = (numbers: readonly number[]): number =>
  numbers.reduce((low, number) => Math.min(low, number), Number.POSITIVE_INFINITY);

/** Work per ms that all nodes do at most on these models: as many copies as their memory holds. */
function concurrency(trace: Trace, able: Able, group: ReadonlySet<string>): number {
  const models = trace.models.filter(model => group.has(model.name));
  return trace.nodes.reduce((sum, node) => {
    const here = models.filter(({ name }) => able.get(name)?.includes(node) === true);
    return sum + node.speed * node.slots * copiesAtMost(node, here);
  }, 0);
}

/** How many of these models the node holds at once. */
function copiesAtMost(node: TraceNode, models: readonly TraceModel[]): number {
  const sizes = models.map(({ need_bytes }) => need_bytes).sort((left, right) => left - right);
  let bytes = 0;
  let copies = 0;
  for (const size of sizes) {
    bytes += size;
    if (bytes > node.bytes) break;
    copies += 1;
  }
  return copies;
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
