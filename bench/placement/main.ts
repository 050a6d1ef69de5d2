/**
 * The simulator's table: every trace under every policy, beside the bounds.
 * `node --import tsx bench/placement/main.ts [--json] [--trace NAME]`
 */
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { makespanBound } from './bounds.ts';
import { GpuStackPolicy, LocalAiPolicy } from './central.ts';
import { type Fewest, fewest } from './fewest.ts';
import { percentile } from './percentile.ts';
import { ProductPolicy } from './product.ts';
import { leastConnections, RouterPolicy, roundRobin } from './routers.ts';
import { TRACES, type Trace } from './trace.ts';
import { type Policy, type Run, World } from './world.ts';

/** The defaults of the product's configuration. */
const AGE_BOUND_MS = 30_000;
const RESIDENCY_MS = 10_000;
/** With more, the fewest loads are not searched for. */
const SEARCHED_NODES_MAX = 10;

const POLICIES: readonly (() => Policy)[] = [
  () => new ProductPolicy({ age_bound_ms: AGE_BOUND_MS, residency_ms: RESIDENCY_MS }),
  () => new RouterPolicy('round robin + ollama', roundRobin(), 'ollama'),
  () => new RouterPolicy('least conn + ollama', leastConnections(), 'ollama'),
  () => new GpuStackPolicy(),
  () => new LocalAiPolicy(),
  () => new RouterPolicy('least conn + llama-swap', leastConnections(), 'swap'),
];

interface Row {
  readonly trace: string;
  readonly policy: string;
  readonly makespan_s: number;
  /** Over the lower bound. */
  readonly makespan_ratio: number;
  readonly loads: number;
  readonly loads_least: number | null;
  readonly swaps: number;
  readonly swaps_least: number | null;
  readonly wait_p95_s: number;
  readonly wait_max_s: number;
  readonly unfinished: number;
  readonly double_bookings: number;
  readonly decision_p50_ms: number;
  readonly decision_p99_ms: number;
}

function rowsOf(trace: Trace): Row[] {
  const bound = makespanBound(trace);
  const least = trace.nodes.length > SEARCHED_NODES_MAX ? null : fewest(trace, AGE_BOUND_MS);
  return POLICIES.map(make => {
    const policy = make();
    const run = new World(trace, policy).run(() => performance.now());
    return rowOf(trace, policy, run, bound, least);
  });
}

function rowOf(trace: Trace, policy: Policy, run: Run, bound: number, least: Fewest | null): Row {
  return {
    ...{
      trace: trace.name,
      policy: policy.name,
      loads: run.loads,
      loads_least: least?.loads ?? null,
    },
    ...{ swaps: run.swaps, swaps_least: least?.swaps ?? null },
    makespan_s: run.makespan_ms / 1_000,
    makespan_ratio: run.makespan_ms / bound,
    wait_p95_s: percentile(run.waits_ms, 0.95) / 1_000,
    wait_max_s: percentile(run.waits_ms, 1) / 1_000,
    ...{ unfinished: run.unfinished, double_bookings: run.double_bookings },
    decision_p50_ms: percentile(run.decisions_ms, 0.5),
    decision_p99_ms: percentile(run.decisions_ms, 0.99),
  };
}

function print(rows: readonly Row[]): void {
  const line = (cells: readonly (string | number)[]): string =>
    cells
      .map((cell, index) =>
        index < 2 ? String(cell).padEnd([14, 25][index] ?? 0) : String(cell).padStart(10),
      )
      .join(' ');
  const out = process.stdout;
  out.write(
    `${line(['trace', 'policy', 'makespan', '/ bound', 'loads', 'least', 'swaps', 'least', 'wait p95', 'wait max', 'not done', 'doubled', 'decide p50', 'p99 ms'])}\n`,
  );
  for (const row of rows) {
    out.write(
      `${line([
        row.trace,
        row.policy,
        `${row.makespan_s.toFixed(1)} s`,
        row.makespan_ratio.toFixed(2),
        row.loads,
        row.loads_least ?? '-',
        row.swaps,
        row.swaps_least ?? '-',
        `${row.wait_p95_s.toFixed(1)} s`,
        `${row.wait_max_s.toFixed(1)} s`,
        row.unfinished,
        row.double_bookings,
        row.decision_p50_ms.toFixed(3),
        row.decision_p99_ms.toFixed(3),
      ])}\n`,
    );
  }
}

function main(): void {
  const { values } = parseArgs({
    options: { json: { type: 'boolean', default: false }, trace: { type: 'string' } },
  });
  const names = values.trace === undefined ? Object.keys(TRACES) : [values.trace];
  const rows = names.flatMap(name => {
    const make = TRACES[name];
    if (make === undefined) {
      throw new Error(`no trace ${name}; there are ${Object.keys(TRACES).join(', ')}`);
    }
    return rowsOf(make());
  });
  if (values.json) process.stdout.write(`${JSON.stringify(rows, null, 2)}\n`);
  else print(rows);
}

if (import.meta.url === `file://${process.argv[1]}`) main();
