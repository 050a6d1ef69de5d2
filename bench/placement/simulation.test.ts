/**
 * Goal: whatever arrives in whatever order, the product's queue promises no memory twice, evicts
 * nothing at work, lets nobody wait for ever, and decides alike each time. Method: its own `decide()`
 * in the simulated pool, on random small pools and on the published traces; loads held against an
 * exhaustive search.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { makespanBound } from './bounds.ts';
import { LocalAiPolicy } from './central.ts';
import { fewest } from './fewest.ts';
import { ProductPolicy } from './product.ts';
import {
  couldHold,
  loadMs,
  modelOf,
  nodeOf,
  TRACES,
  type Trace,
  type TraceJob,
  type TraceNode,
} from './trace.ts';
import { LOST_AFTER_MS, type Run, UNLOAD_MS, World } from './world.ts';

const OPTIONS = { age_bound_ms: 30_000, residency_ms: 10_000 };
const run = (trace: Trace, options = OPTIONS): Run =>
  new World(trace, new ProductPolicy(options)).run(() => 0);
const traceOf = (name: string): Trace => {
  const make = TRACES[name];
  assert.ok(make, name);
  return make();
};

const MODELS = [modelOf('a:18b', 18), modelOf('b:7b', 5), modelOf('c:3b', 2), modelOf('d:13b', 9)];

const smallPools: fc.Arbitrary<Trace> = fc
  .record({
    sizes: fc.array(fc.constantFrom(8, 12, 24, 48), { minLength: 1, maxLength: 3 }),
    slots: fc.constantFrom(1, 2, 4),
    lost_at: fc.option(fc.integer({ min: 5_000, max: 80_000 })),
    jobs: fc.array(
      fc.record({
        model: fc.nat({ max: MODELS.length - 1 }),
        share: fc.constantFrom('x', 'y'),
        at: fc.integer({ min: 0, max: 120_000 }),
        work_ms: fc.integer({ min: 500, max: 15_000 }),
      }),
      { minLength: 1, maxLength: 30 },
    ),
  })
  .map(({ sizes, slots, lost_at, jobs }) => {
    // The first node is never lost, and holds everything.
    const nodes: TraceNode[] = [nodeOf('n0', 24, { slots })];
    for (const [index, gibs] of sizes.entries()) {
      const isLost = index === 0 && lost_at !== null;
      nodes.push(nodeOf(`n${index + 1}`, gibs, isLost ? { slots, lost_at } : { slots }));
    }
    const list: TraceJob[] = jobs.map(({ model, share, at, work_ms }, index) => ({
      ...{ id: `j${index}`, share, at, work_ms, after: [] },
      model: MODELS[model]?.name ?? '',
    }));
    return { name: 'random', nodes, models: MODELS, jobs: list };
  });

describe('the queue in a simulated pool', () => {
  it('promises nothing twice, evicts nothing at work, and ends everything', () => {
    fc.assert(
      fc.property(smallPools, trace => {
        const { double_bookings, unfinished } = run(trace);
        assert.deepEqual([double_bookings, unfinished], [0, 0]);
      }),
      { numRuns: 100 },
    );
  });

  it('lets nobody wait longer than the turns of all models and the work before it', () => {
    fc.assert(
      fc.property(smallPools, trace => {
        const { waits_ms } = run(trace);
        const work = trace.jobs.reduce((sum, job) => sum + job.work_ms, 0);
        const node = trace.nodes[0];
        assert.ok(node);
        const swap = Math.max(...MODELS.map(model => loadMs(node, model))) + UNLOAD_MS;
        // Turns are as long as the age bound; in each, at least one request is served.
        const turns = MODELS.length * (OPTIONS.age_bound_ms + swap);
        const bound = turns * Math.ceil(1 + work / OPTIONS.age_bound_ms) + work + LOST_AFTER_MS;
        assert.ok(Math.max(...waits_ms) <= bound, `${Math.max(...waits_ms)} > ${bound}`);
      }),
      { numRuns: 60 },
    );
  });

  it('decides alike each time', () => {
    fc.assert(
      fc.property(smallPools, trace => {
        assert.deepEqual(run(trace), run(trace));
      }),
      { numRuns: 30 },
    );
  });

  it('never takes less time than the bound says is possible', () => {
    fc.assert(
      fc.property(smallPools, trace => {
        assert.ok(run(trace).makespan_ms >= makespanBound(trace) - 1);
      }),
      { numRuns: 60 },
    );
    const pools = fc.record({
      gibs: fc.array(fc.constantFrom(8, 12, 24, 32), { maxLength: 3 }),
      builds: fc.integer({ min: 1, max: 8 }),
    });
    fc.assert(
      fc.property(pools, ({ gibs, builds }) => {
        const trace = pingPong([24, ...gibs], builds);
        const other = new World(trace, new LocalAiPolicy()).run(() => 0);
        const least = Math.min(run(trace).makespan_ms, other.makespan_ms);
        assert.ok(least >= makespanBound(trace) - 1);
      }),
      { numRuns: 60 },
    );
  });

  it('never loads or swaps less often than the search says is possible within the age bound', () => {
    let within = 0;
    fc.assert(
      fc.property(smallPools, trace => {
        const { loads, swaps, waits_ms } = run(trace);
        if (Math.max(...waits_ms) > OPTIONS.age_bound_ms) return;
        within += 1;
        const least = fewest(trace, OPTIONS.age_bound_ms);
        assert.ok(least !== null && loads >= least.loads && swaps >= least.swaps);
      }),
      { numRuns: 100 },
    );
    assert.ok(within > 30, `only ${within} pools waited for so little`);
  });

  it('finds the fewest loads of requests that come one by one', () => {
    const least = (gibs: readonly number[], jobs: readonly [number, string][], lost?: number) =>
      fewest(
        {
          ...{ name: 'few', models: MODELS },
          nodes: gibs.map((size, index) =>
            nodeOf(`n${index}`, size, index === 0 && lost !== undefined ? { lost_at: lost } : {}),
          ),
          jobs: jobs.map(([at, model], index) => ({
            ...{ id: `j${index}`, share: 'x', at: at * 1_000, after: [], work_ms: 1_000, model },
          })),
        },
        OPTIONS.age_bound_ms,
      );
    const [a, d] = ['a:18b', 'd:13b'] as const;
    const apart: [number, string][] = [0, 100, 200, 300].map((at, nth) => [at, nth % 2 ? d : a]);
    assert.deepEqual(least([24], apart), { loads: 4, swaps: 3 });
    assert.deepEqual(least([24, 24], apart), { loads: 2, swaps: 0 });
    const longer: [number, string][] = [...apart, [400, a]];
    assert.deepEqual(least([24, 24], longer), { loads: 2, swaps: 0 });
    assert.deepEqual(least([24, 24], longer, 250_000), { loads: 3, swaps: 1 });
    assert.deepEqual(
      least(
        [24, 24],
        [
          [0, a],
          [1, d],
        ],
        2_000,
      ),
      { loads: 2, swaps: 0 },
    );
    // Who comes within the age bound is served by one load.
    // Who waits is served before another takes the memory for which nobody had to go till then.
    const before: [number, string][] = [
      [0, a],
      [9.306, 'b:7b'],
      [5.001, 'c:3b'],
    ];
    assert.deepEqual(least([24], before), { loads: 3, swaps: 1 });
    const near: [number, string][] = [0, 5, 10, 15].map((at, nth) => [at, nth % 2 ? d : a]);
    assert.deepEqual(least([24], near), { loads: 2, swaps: 1 });
  });

  it('loads as seldom as an exhaustive search, on small pools with builds that alternate', () => {
    for (const [gibs, builds] of [
      [[24], 2],
      [[24], 4],
      [[24, 12], 3],
      [[24, 12], 6],
    ] as const) {
      const trace = pingPong(gibs, builds);
      const least = fewest(trace, OPTIONS.age_bound_ms)?.loads;
      assert.ok(least !== undefined);
      const { loads } = run(trace);
      assert.ok(loads <= least * 1.1, `${gibs} GiB, ${builds} builds: ${loads} loads of ${least}`);
    }
  });
});

/** Builds that start at once: plan, code, review, small. */
function pingPong(gibs: readonly number[], builds: number): Trace {
  const steps = ['a:18b', 'b:7b', 'a:18b', 'c:3b'];
  const jobs = Array.from({ length: builds }, (_, build) =>
    steps.map((model, step) => ({
      ...{ id: `b${build}-${step}`, model, share: `b${build}`, at: 50 + build, work_ms: 4_000 },
      after: step === 0 ? [] : [`b${build}-${step - 1}`],
    })),
  ).flat();
  const nodes = gibs.map((size, index) => nodeOf(`n${index}`, size));
  assert.ok(nodes.some(node => MODELS.slice(0, 1).every(model => couldHold(node, model))));
  return { name: 'small', nodes, models: MODELS, jobs, builds: { count: builds, steps } };
}

describe('on the published traces', () => {
  it('ping-pong: as few loads as possible, little more time than the bound', () => {
    const trace = traceOf('ping-pong-2');
    const result = run(trace);
    assert.equal(result.loads, fewest(trace, OPTIONS.age_bound_ms)?.loads);
    assert.ok(result.makespan_ms <= makespanBound(trace) * 1.15);
  });

  it('independent requests: nine of ten wait no longer than the age bound and one load', () => {
    for (const name of ['zipf-2', 'zipf-4', 'zipf-6']) {
      const trace = traceOf(name);
      const { waits_ms, double_bookings, makespan_ms } = run(trace);
      const sorted = [...waits_ms].sort((left, right) => left - right);
      const p95 = sorted[Math.floor(sorted.length * 0.95)] ?? 0;
      const node = trace.nodes[0];
      const load = Math.max(...trace.models.map(model => (node ? loadMs(node, model) : 0)));
      assert.ok(p95 <= OPTIONS.age_bound_ms + load, `${name}: ${p95}`);
      assert.equal(double_bookings, 0);
      assert.ok(makespan_ms <= makespanBound(trace) * 1.15, name);
    }
  });
});
