/**
 * Which waiting requests start now, and where: `decide(state, nodes, now)`.
 */
import type { PlacementDecision } from '../protocol/node.ts';
import type { NodeView } from './node-view.ts';
import { type PlacementContext, type PlacementPlan, place } from './placement.ts';
import { bookingOf, type Job, type QueueState } from './queue-state.ts';

export interface Start {
  readonly job: Job;
  readonly plan: PlacementPlan;
  readonly decision: PlacementDecision;
}

/** Why a request waits. */
export interface Wait {
  readonly reason: string;
  /** From 0, over all that wait. */
  readonly position: number;
  /** Expected from now to its start; null where nobody knows. */
  readonly expected_ms: number | null;
  /** No node that is heard of could ever take it, as the nodes are now. */
  readonly impossible: boolean;
}

/** A copy to be loaded though nobody asked for it: a rule wants so many kept. */
export interface WantedLoad {
  readonly model: string;
  readonly plan: PlacementPlan;
  readonly decision: PlacementDecision;
}

export interface QueueDecision {
  /** The next state, in which what starts runs. */
  readonly state: QueueState;
  readonly starts: readonly Start[];
  readonly loads: readonly WantedLoad[];
  readonly waits: ReadonlyMap<string, Wait>;
  /** When to decide again, though nothing happens; null: not before something does. */
  readonly wake_at: number | null;
}

export function decide(state: QueueState, nodes: readonly NodeView[], now: number): QueueDecision {
  const running = new Map(state.running);
  const starts: Start[] = [];
  const waits = new Map<string, Wait>();
  let wake = Number.POSITIVE_INFINITY;
  const left = state.waiting.filter((waiting, position) => {
    const { job } = waiting;
    const context: PlacementContext = {
      ...state.options,
      news: node => ({
        bookings: [...running.values()].filter(({ plan }) => plan.node === node).map(bookingOf),
      }),
    };
    const refused: Record<string, string> = { ...job.request.refused };
    for (const [node, { reason, until }] of Object.entries(waiting.declined)) {
      if (until > now) {
        refused[node] = reason;
        wake = Math.min(wake, until);
      }
    }
    const { plan, decision } = place({ ...job.request, refused }, nodes, now, context);
    if (plan === null) {
      const { reason } = decision;
      waits.set(job.id, { reason, position, expected_ms: null, impossible: !decision.candidates.some(c => c.score !== undefined) });
      return true;
    }
    running.set(job.id, { waiting, plan, started_at: now });
    starts.push({ job, plan, decision });
    return false;
  });
  return { state: { ...state, waiting: left, running }, starts, loads: [], waits, wake_at: Number.isFinite(wake) ? wake : null };
}
