/**
 * What became of the last requests: where each one went and why, for whoever asks afterwards.
 *
 * R1: bounded: the oldest is forgotten, and of a decision the candidates that came nearest are kept.
 */
import { CodeGodError, type WireError } from '../../../protocol/errors.ts';
import type { InferUsage } from '../../../protocol/inference.ts';
import type { PlacementDecision } from '../../../protocol/node.ts';
import type { RequestRecord, RequestTry } from '../../../protocol/pool.ts';
import type { PlacementPlan } from '../../../scheduling/placement.ts';
import type { Job } from '../../../scheduling/queue-state.ts';

const RECORDS_MAX = 2_000;
const CANDIDATES_KEPT = 16;
const TRIES_KEPT = 16;

type Outcome = RequestTry['outcome'];
type State = RequestRecord['state'];

export class Decisions {
  readonly #records = new Map<string, RequestRecord>();

  entered({ id, share, request, arrived_at: at }: Job): void {
    const { model } = request;
    const known = this.#records.get(id);
    this.#records.delete(id);
    const tries = known?.tries ?? [];
    const waited_ms = known?.waited_ms ?? null;
    const fresh = { decision: known?.decision ?? null, usage: null, error: null };
    this.#records.set(id, { id, at, share, model, state: 'waiting', waited_ms, tries, ...fresh });
    if (this.#records.size <= RECORDS_MAX) return;
    const oldest = this.#records.keys().next();
    if (oldest.done !== true) this.#records.delete(oldest.value);
  }

  decided(id: string, decision: PlacementDecision): void {
    const record = this.#records.get(id);
    if (record !== undefined) record.decision = trimmed(decision);
  }

  placed(job: Job, plan: PlacementPlan, decision: PlacementDecision, now: number): void {
    const record = this.#records.get(job.id);
    if (record === undefined) return;
    const { node, engine, model } = plan;
    record.state = 'running';
    record.waited_ms ??= now - job.arrived_at;
    record.decision = trimmed(decision);
    if (record.tries.length >= TRIES_KEPT) record.tries.shift();
    record.tries.push({ at: now, node, engine, model, outcome: 'running', error: null });
  }

  /** The latest try came to an end. */
  tried(id: string, outcome: Outcome, error: WireError | null): void {
    const record = this.#records.get(id);
    const last = record?.tries.at(-1);
    if (record === undefined || last === undefined) return;
    last.outcome = outcome;
    last.error = error;
    record.state = 'waiting';
  }

  ended(id: string, state: State, error: WireError | null, usage: InferUsage | null): void {
    const record = this.#records.get(id);
    if (record === undefined) return;
    record.state = state;
    record.error = error;
    record.usage = usage;
  }

  find(id: string): RequestRecord | undefined {
    return this.#records.get(id);
  }

  /** @throws CodeGodError `not_found` */
  get(id: string): RequestRecord {
    const record = this.find(id);
    if (record !== undefined) return record;
    throw new CodeGodError('not_found', `nothing is known of ${id.slice(0, 160)}`, {
      hint: `the last ${RECORDS_MAX} requests are kept while the master runs`,
    });
  }

  /** The newest first. */
  recent(limit: number): readonly RequestRecord[] {
    return [...this.#records.values()].slice(-limit).reverse();
  }
}

/** R1 */
function trimmed(decision: PlacementDecision): PlacementDecision {
  if (decision.candidates.length <= CANDIDATES_KEPT) return decision;
  return { ...decision, candidates: decision.candidates.slice(0, CANDIDATES_KEPT) };
}
