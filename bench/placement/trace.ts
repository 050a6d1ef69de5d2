/**
 * What a simulated pool is asked to do: machines, models, and jobs with the time they arrive or the
 * jobs they come after. Generated from seeds; nothing here knows of any policy.
 */
import { memoryNeed, profileOfSize } from '../../scheduling/memory.ts';
import { Random } from './random.ts';

export const GIB = 1024 ** 3;
export const CONTEXT_TOKENS = 8_192;

export interface TraceNode {
  readonly id: string;
  readonly bytes: number;
  /** Times as fast as the reference machine. */
  readonly speed: number;
  readonly disk_bytes_per_s: number;
  /** Requests that one loaded copy answers at once, none slower for the others. */
  readonly slots: number;
  /** When it is lost; null: never. */
  readonly lost_at: number | null;
}

export interface TraceModel {
  readonly name: string;
  readonly size_bytes: number;
  /** What a loaded copy takes, by the product's own formula. */
  readonly need_bytes: number;
}

export interface TraceJob {
  readonly id: string;
  readonly model: string;
  readonly share: string;
  /** Arrival where it comes after nothing, else the pause after the last of `after`. */
  readonly at: number;
  readonly after: readonly string[];
  /** On a machine of speed 1, without any load. */
  readonly work_ms: number;
}

export interface Trace {
  readonly name: string;
  readonly nodes: readonly TraceNode[];
  readonly models: readonly TraceModel[];
  readonly jobs: readonly TraceJob[];
  /** Equal builds of a ping-pong trace, as the models of their steps in order. */
  readonly builds?: { readonly count: number; readonly steps: readonly string[] };
}

/** What the formula keeps free beside a model, in every policy alike. */
export function modelOf(name: string, gibs: number): TraceModel {
  const size_bytes = Math.round(gibs * GIB);
  const profile = profileOfSize({ size_bytes, context_max: 32_768, family: 'sim' });
  const need = memoryNeed(profile, {
    ...{ context_tokens: CONTEXT_TOKENS, slots: 1, kv_type: 'f16' as const },
    ...{ flash_attention: true, backend: 'cuda' as const },
  });
  return { name, size_bytes, need_bytes: need.total_bytes };
}

interface NodeOptions {
  readonly speed?: number;
  readonly disk?: number;
  readonly slots?: number;
  readonly lost_at?: number;
}

export const nodeOf = (id: string, gibs: number, options: NodeOptions = {}): TraceNode => ({
  id,
  bytes: gibs * GIB,
  speed: options.speed ?? 1,
  disk_bytes_per_s: options.disk ?? 1.5e9,
  slots: options.slots ?? 1,
  lost_at: options.lost_at ?? null,
});

/** Time until a copy answers, its file read from the node's own disk. */
export const loadMs = (node: TraceNode, model: TraceModel): number =>
  1_000 + (model.size_bytes / node.disk_bytes_per_s) * 1_000;

/** Whether the node could hold the model if nothing else were there. */
export const couldHold = (node: TraceNode, model: TraceModel): boolean =>
  model.need_bytes * 1.03 <= node.bytes && model.need_bytes + 0.25 * GIB <= node.bytes;

/** Builds of one kind that all start early: plan, write three files, review, small fixes. */
function pingPong(name: string, nodes: readonly TraceNode[], builds: number, seed: number): Trace {
  const random = new Random(seed);
  const models = [modelOf('plan:32b', 18), modelOf('code:7b', 5), modelOf('small:3b', 2)];
  const jobs: TraceJob[] = [];
  for (let build = 0; build < builds; build += 1) {
    const share = `b${build}`;
    const add = (step: string, model: string, ms: number, after: readonly string[]): string => {
      const id = `${share}-${step}`;
      const at = after.length === 0 ? build * 1_000 + random.between(0, 500) : 50;
      jobs.push({ id, model, share, at, after, work_ms: ms * random.between(0.7, 1.3) });
      return id;
    };
    const plan = add('plan', 'plan:32b', 12_000, []);
    const codes = [1, 2, 3].map(file => add(`code${file}`, 'code:7b', 6_000, [plan]));
    const review = add('review', 'plan:32b', 8_000, codes);
    add('small', 'small:3b', 3_000, [review]);
  }
  const steps = ['plan:32b', 'code:7b', 'plan:32b', 'small:3b'];
  return { name, nodes, models, jobs, builds: { count: builds, steps } };
}

interface ZipfOptions {
  readonly nodes: readonly TraceNode[];
  readonly models: readonly TraceModel[];
  readonly jobs: number;
  readonly seed: number;
  /** Of what all nodes together can do, the part that is asked for. */
  readonly load: number;
}

/** Independent requests for models of very unlike popularity. */
function zipf(name: string, { nodes, models, jobs, seed, load }: ZipfOptions): Trace {
  const random = new Random(seed);
  const weights = models.map((_, rank) => 1 / (rank + 1));
  const capacity = nodes.reduce((sum, node) => sum + node.speed * node.slots, 0);
  const meanMs = 8_000;
  let at = 0;
  const list = Array.from({ length: jobs }, (_, index) => {
    at += random.exponential(meanMs / (capacity * load));
    const model = models[random.weighted(weights)] ?? models[0];
    return {
      id: `j${index}`,
      model: model?.name ?? '',
      share: `s${random.whole(0, 3)}`,
      ...{ at, after: [] },
      work_ms: meanMs * random.between(0.4, 1.6),
    };
  });
  return { name, nodes, models, jobs: list };
}

const SIZES = [5, 9, 2, 18, 4, 8, 13, 3, 7, 20];
const family = (count: number): TraceModel[] =>
  SIZES.slice(0, count).map((size, index) => modelOf(`m${index}:${size}b`, size));

/** 2 to 6 nodes of 8 to 48 GiB, every one of which may hold some of the models only. */
function household(count: number, seed: number, options: NodeOptions = {}): TraceNode[] {
  const random = new Random(seed);
  const sizes = [24, 12, 48, 8, 16, 24];
  return sizes.slice(0, count).map((gibs, index) =>
    nodeOf(`n${index}`, gibs, {
      speed: Number(random.between(0.6, 1.6).toFixed(2)),
      disk: Math.round(random.between(0.8e9, 3e9)),
      ...options,
    }),
  );
}

/** A datacentre's worth of machines, 40 models. */
function thousand(): Trace {
  const random = new Random(99);
  const sizes = [8, 12, 16, 24, 48];
  const nodes = Array.from({ length: 1_000 }, (_, index) =>
    nodeOf(`n${String(index).padStart(4, '0')}`, sizes[random.whole(0, 4)] ?? 24),
  );
  const models = Array.from({ length: 40 }, (_, index) =>
    modelOf(`m${index}:7b`, SIZES[index % SIZES.length] ?? 5),
  );
  return zipf('thousand', { nodes, models, jobs: 300, seed: 7, load: 0.5 });
}

/** All published traces, by name. */
export const TRACES: Readonly<Record<string, () => Trace>> = {
  'ping-pong-1': () => pingPong('ping-pong-1', [nodeOf('a', 24)], 6, 1),
  'ping-pong-2': () => pingPong('ping-pong-2', [nodeOf('a', 24), nodeOf('b', 12)], 6, 2),
  'ping-pong-4': () =>
    pingPong(
      'ping-pong-4',
      [nodeOf('a', 24), nodeOf('b', 24, { speed: 1.3 }), nodeOf('c', 8), nodeOf('d', 12)],
      16,
      3,
    ),
  'ping-pong-30': () => pingPong('ping-pong-30', [nodeOf('a', 24), nodeOf('b', 12)], 30, 4),
  'zipf-2': () =>
    zipf('zipf-2', { nodes: household(2, 5), models: family(3), jobs: 200, seed: 6, load: 0.7 }),
  'zipf-4': () =>
    zipf('zipf-4', { nodes: household(4, 7), models: family(6), jobs: 400, seed: 8, load: 0.7 }),
  'zipf-6': () =>
    zipf('zipf-6', { nodes: household(6, 9), models: family(10), jobs: 600, seed: 10, load: 0.7 }),
  'zipf-6-slots': () =>
    zipf('zipf-6-slots', {
      nodes: household(6, 11, { slots: 4 }),
      models: family(10),
      ...{ jobs: 1_200, seed: 12, load: 0.6 },
    }),
  'node-loss': () => {
    const nodes = household(4, 13).map((node, index) =>
      index === 2 ? { ...node, lost_at: 150_000 } : node,
    );
    return zipf('node-loss', { nodes, models: family(6), jobs: 300, seed: 14, load: 0.5 });
  },
  thousand,
};
