/**
 * What this master has sent to nodes and their adverts do not show yet, and what is over and still
 * shown: laid over the adverts, so that nothing is given away twice between two of them.
 *
 * X1: an inference that an advert shows as a lease is not counted again.
 * X2: what is over no longer counts, until an advert that came later says so itself.
 */
import { LeaseId, type NodeId } from '../../../protocol/ids.ts';
import { RequestId } from '../../../protocol/inference.ts';
import type { EngineAdvert, LeaseAdvert, RuntimeAdvert } from '../../../protocol/node.ts';
import type { NodeView } from '../../../scheduling/node-view.ts';
import type { PlacementPlan } from '../../../scheduling/placement.ts';

/** What is over is forgotten after this at the latest. */
const ENDED_SHOWN_MS = 30_000;

interface Entry {
  readonly id: string;
  readonly plan: PlacementPlan;
  readonly lease: LeaseAdvert;
  endedAt: number | null;
}

export class Dispatched {
  readonly #nodes = new Map<NodeId, Map<string, Entry>>();

  begun(id: string, plan: PlacementPlan, expiresAt: number): void {
    const entries = this.#nodes.get(plan.node) ?? new Map<string, Entry>();
    entries.set(id, { id, plan, lease: leaseOf(id, plan, expiresAt), endedAt: null });
    this.#nodes.set(plan.node, entries);
  }

  /** It is over, and the node may show it a little longer. */
  ended(id: string, node: NodeId, now: number): void {
    const entry = this.#nodes.get(node)?.get(id);
    if (entry !== undefined) entry.endedAt = now;
  }

  /** The node's own books show it from now on, or it never got there. */
  forget(id: string, node: NodeId): void {
    const entries = this.#nodes.get(node);
    entries?.delete(id);
    if (entries?.size === 0) this.#nodes.delete(node);
  }

  over(views: readonly NodeView[], now: number): readonly NodeView[] {
    if (this.#nodes.size === 0) return views;
    return views.map(view => {
      const entries = this.#nodes.get(view.node);
      if (entries === undefined || view.runtime === null) return view;
      const { seen_at, advert } = view.runtime;
      this.#prune(view.node, entries, seen_at, now);
      if (entries.size === 0) return view;
      return { ...view, runtime: { seen_at, advert: laidOver(advert, [...entries.values()]) } };
    });
  }

  #prune(node: NodeId, entries: Map<string, Entry>, seenAt: number, now: number): void {
    for (const [id, { endedAt }] of entries) {
      if (endedAt === null) continue;
      if (seenAt > endedAt || now - endedAt > ENDED_SHOWN_MS) this.forget(id, node);
    }
  }
}

function laidOver(advert: RuntimeAdvert, entries: readonly Entry[]): RuntimeAdvert {
  const shown = new Set(advert.leases.map(({ request }) => request as string | undefined));
  const changes = new Map<string, number>();
  const gone = new Set<string>();
  const leases: LeaseAdvert[] = [];
  for (const { id, plan, lease, endedAt } of entries) {
    const isShown = shown.has(id);
    if (endedAt === null && isShown) continue; // X1
    if (endedAt !== null && !isShown) continue;
    if (endedAt === null) leases.push(lease);
    else gone.add(id); // X2
    const change = changes.get(plan.model) ?? 0;
    changes.set(plan.model, change + (endedAt === null ? 1 : -1));
  }
  if (leases.length === 0 && gone.size === 0) return advert;
  const kept = advert.leases.filter(({ request }) => request === undefined || !gone.has(request));
  return {
    ...advert,
    leases: [...kept, ...leases],
    engines: advert.engines.map(engine => withChanges(engine, changes)),
  };
}

function withChanges(engine: EngineAdvert, changes: ReadonlyMap<string, number>): EngineAdvert {
  if (!engine.models.some(model => changes.has(model.name))) return engine;
  const models = engine.models.map(model => {
    const change = changes.get(model.name) ?? 0;
    if (change === 0) return model;
    return { ...model, in_flight: Math.max(0, (model.in_flight ?? 0) + change) };
  });
  return { ...engine, models };
}

function leaseOf(id: string, plan: PlacementPlan, expires_at: number): LeaseAdvert {
  const request = RequestId.safeParse(id);
  return {
    lease: LeaseId.parse(id.replaceAll('.', '-').slice(0, 63)),
    ...(request.success ? { request: request.data } : {}),
    model: plan.model,
    bytes: plan.need_bytes,
    expires_at,
  };
}
