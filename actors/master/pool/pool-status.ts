/** The pool as windows show it: what waits and why, what runs and where. */
import type { NodeId } from '../../../protocol/ids.ts';
import type { PoolStatus } from '../../../protocol/pool.ts';
import { canonicalModelName } from '../../../scheduling/model-names.ts';
import type { ModelDirectory } from './model-directory.ts';
import type { Pool } from './pool.ts';

interface Counts {
  model: string;
  waiting: number;
  running: number;
  readonly loaded_on: NodeId[];
}

export function poolStatus(
  pool: Pool,
  directory: ModelDirectory,
  limits: { readonly now: number; readonly queueMax: number },
): PoolStatus {
  const { now, queueMax } = limits;
  const models = new Map<string, Counts>();
  const countsOf = (model: string): Counts => {
    const key = canonicalModelName(model);
    const counts = models.get(key) ?? { model, waiting: 0, running: 0, loaded_on: [] };
    models.set(key, counts);
    return counts;
  };
  for (const [, holders] of directory.models()) {
    for (const { node, model } of holders) {
      if (model.loaded) countsOf(model.name).loaded_on.push(node);
    }
  }
  const waiting = pool.waiting().map(({ job, wait }, index) => {
    const { id, share, priority, arrived_at, request } = job;
    if (request.model !== null) countsOf(request.model).waiting += 1;
    return {
      ...{ id, share, model: request.model, priority, position: index + 1 },
      waiting_ms: Math.max(0, now - arrived_at),
      reason: wait?.reason ?? 'it has just arrived',
    };
  });
  const running = pool.running().map(({ job, plan, granted_at }) => {
    const { id, share, priority, request } = job;
    countsOf(plan.model).running += 1;
    return {
      ...{ id, share, model: request.model, priority },
      ...{ node: plan.node, engine: plan.engine, placed_model: plan.model },
      running_ms: Math.max(0, now - granted_at),
    };
  });
  return {
    at: now,
    queue_max: queueMax,
    expected_wait_ms: pool.expectedWaitMs,
    waiting,
    running,
    models: [...models.values()].map(counts => ({ ...counts })),
  };
}
