/**
 * One pure function decides where an inference runs: `place(request, nodes, now)`.
 *
 * P1: nothing is placed where it does not fit: a model goes where it is loaded, where its estimated
 *     need is at most the free memory, or where it is after idle models are unloaded.
 * P2: the same input gives the same answer; ties are broken by the node's id.
 * P3: more free memory on a node never makes a placeable request unplaceable.
 * P4: `scaffold` is taken only where no real model is available on any ready node, or by name.
 * P5: models outside the house are taken only where the request allows it, and, unless it says
 *     otherwise, after all others.
 * P6: the largest model that some node can take now is the choice.
 */
import type { NodeId } from '../protocol/ids.ts';
import type { EngineAdvert, ModelAdvert, PlacementDecision } from '../protocol/node.ts';
import { ADVERT_TTL_MS } from '../protocol/streams.ts';
import type { EngineName } from '../protocol/task.ts';
import { gib, type MemoryOptions, memoryNeed, profileOfSize } from './memory.ts';
import { sameModel } from './model-names.ts';
import { type NodeRoom, roomOf } from './node-room.ts';
import type { NodeView } from './node-view.ts';
import { chosenReason, waitingReason } from './placement-reason.ts';

/** Contexts are taken in these sizes, so that requests share one loaded copy of a model. */
const CONTEXT_TOKENS_MIN = 4_096;
/** Candidates kept in a decision; the best come first. */
const CANDIDATES_MAX = 128;

export interface PlacementRequest {
  /** The model that must be used, or null for the best there is. */
  readonly model: string | null;
  readonly context_tokens: number;
  /** Whether models outside the house may be used: not at all, after all others, or first. */
  readonly remote: 'deny' | 'last' | 'first';
  /** Nodes on which an earlier attempt was lost; taken only where there is no other. */
  readonly avoid: readonly NodeId[];
  /** Nodes that have just declined, with their reasons. */
  readonly refused: Readonly<Record<string, string>>;
}

/** Where a request goes and what to reserve there. */
export interface PlacementPlan {
  readonly node: NodeId;
  readonly engine: EngineName;
  readonly model: string;
  readonly context_tokens: number;
  readonly need_bytes: number;
}

export interface Placement {
  readonly decision: PlacementDecision;
  readonly plan: PlacementPlan | null;
}

type Verdict = PlacementDecision['candidates'][number]['verdict'];

/** One node and model, judged. */
export interface Offer {
  readonly node: NodeId;
  readonly engine: EngineName;
  readonly model: string;
  readonly verdict: Verdict;
  readonly reason: string;
  readonly size_bytes: number;
  readonly context_tokens: number;
  readonly need_bytes: number;
  readonly free_bytes: number | null;
  /** Whether the node could take it if it had a slot: the verdict is loaded, fits or busy. */
  readonly holds: boolean;
  /** 0 loaded, 1 fits, 2 fits after unloading idle models. */
  readonly effort: number;
  readonly evictable: readonly string[];
}

/**
 * Chooses a node and a model.
 * @param now milliseconds since the epoch, by the clock that stamped `seen_at` of the views
 */
export function place(
  request: PlacementRequest,
  nodes: readonly NodeView[],
  now: number,
): Placement {
  const offers = [...nodes]
    .sort((left, right) => compareText(left.node, right.node))
    .flatMap(view => offersOf(request, view, now));
  const wanted = offers.filter(offer => isWanted(request, offer));
  const tier = tierOf(request, wanted);
  const model = largestTakeable(tier);
  const ranked = tier
    .filter(offer => offer.model === model && takes(offer))
    .sort((left, right) => compareOffers(request, left, right));
  const best = ranked[0] ?? null;
  const decision: PlacementDecision = {
    at: now,
    chosen: best === null ? null : { node: best.node, engine: best.engine, model: best.model },
    reason:
      best === null
        ? waitingReason(request, nodes.length, offers, tier)
        : chosenReason(best, ranked),
    candidates: [...new Set([...ranked, ...[...wanted, ...offers].sort(compareShown)])]
      .slice(0, CANDIDATES_MAX)
      .map(({ node, engine, model, verdict, need_bytes, free_bytes, reason }) => ({
        node,
        engine,
        model,
        verdict,
        need_bytes,
        free_bytes,
        reason,
      })),
  };
  if (best === null) return { decision, plan: null };
  const { node, engine, context_tokens, need_bytes } = best;
  return { decision, plan: { node, engine, model: best.model, context_tokens, need_bytes } };
}

/** Whether the node can take it now: it has the memory and a free slot. */
const takes = (offer: Offer): boolean => offer.holds && offer.verdict !== 'busy';
const isReal = (offer: Offer): boolean => offer.engine !== 'scaffold';
const isRemote = (offer: Offer): boolean =>
  offer.engine === 'anthropic' || offer.engine === 'openai';

function isWanted(request: PlacementRequest, offer: Offer): boolean {
  if (isRemote(offer) && request.remote === 'deny') return false;
  return request.model === null || sameModel(request.model, offer.model);
}

/** Models of the house, else models outside it, else the scaffold (P4, P5). */
function tierOf(request: PlacementRequest, wanted: readonly Offer[]): readonly Offer[] {
  if (request.model !== null) return wanted;
  const available = wanted.filter(offer => offer.verdict !== 'not_ready');
  const local = available.filter(offer => isReal(offer) && !isRemote(offer));
  const remote = available.filter(isRemote);
  if (request.remote === 'first' && remote.some(takes)) return remote;
  if (local.some(takes)) return local;
  if (remote.length > 0) return remote;
  return local.length > 0 ? local : available.filter(offer => !isReal(offer));
}

/** P6; of two models of one size the first by name. */
function largestTakeable(tier: readonly Offer[]): string | null {
  const held = tier.filter(takes);
  held.sort(
    (left, right) => right.size_bytes - left.size_bytes || compareText(left.model, right.model),
  );
  return held[0]?.model ?? null;
}

function compareOffers(request: PlacementRequest, left: Offer, right: Offer): number {
  const avoided = (offer: Offer): number => (request.avoid.includes(offer.node) ? 1 : 0);
  return (
    avoided(left) - avoided(right) ||
    left.effort - right.effort ||
    (right.free_bytes ?? 0) - (left.free_bytes ?? 0) ||
    compareText(left.node, right.node)
  );
}

function compareShown(left: Offer, right: Offer): number {
  const rank = (offer: Offer): number => (offer.holds ? offer.effort : 3);
  return (
    rank(left) - rank(right) ||
    right.size_bytes - left.size_bytes ||
    compareText(left.node, right.node) ||
    compareText(left.model, right.model)
  );
}

const compareText = (left: string, right: string): number =>
  left < right ? -1 : left > right ? 1 : 0;

function offersOf(request: PlacementRequest, view: NodeView, now: number): Offer[] {
  const runtime = view.runtime;
  if (runtime === null) return [];
  const absent = absence(view, now);
  const room = roomOf(view);
  return runtime.advert.engines.flatMap(engine => {
    const reason =
      absent ?? (engine.available ? null : (engine.reason ?? `${engine.name} does not answer`));
    if (engine.models.length === 0 && !engine.available) {
      return [offer(view, engine, null, 'not_ready', reason ?? '', {})];
    }
    return engine.models
      .filter(generatesText)
      .map(model =>
        reason === null
          ? judge(request, view, engine, model, room)
          : offer(view, engine, model, 'not_ready', reason, {}),
      );
  });
}

/** Why the node takes no work at all, or null where it does. */
function absence(view: NodeView, now: number): string | null {
  if (view.runtime === null) return 'no worker runs there';
  const silentMs = now - view.runtime.seen_at;
  if (silentMs > ADVERT_TTL_MS) return `silent for ${Math.round(silentMs / 1000)} s`;
  const state = view.runtime.advert.state;
  return state === 'ready' ? null : `its worker is ${state}`;
}

/** Models that only embed or rank declare their capabilities without `completion`. */
function generatesText(model: ModelAdvert): boolean {
  return model.capabilities.length === 0 || model.capabilities.includes('completion');
}

function judge(
  request: PlacementRequest,
  view: NodeView,
  engine: EngineAdvert,
  model: ModelAdvert,
  room: NodeRoom,
): Offer {
  const refusal = request.refused[view.node];
  if (refusal !== undefined) return offer(view, engine, model, 'refused', refusal, {});
  const held = holding(request, view, engine, model, room);
  if (!held.holds) return held;
  const runtime = view.runtime?.advert;
  const used = Math.max(runtime?.slots_used ?? 0, runtime?.leases.length ?? 0);
  const slots = runtime?.slots ?? 0;
  if (used < slots) return held;
  return { ...held, verdict: 'busy', reason: `all of its ${slots} slots are taken` };
}

/** Whether the node's memory can take the model, slots aside. */
function holding(
  request: PlacementRequest,
  view: NodeView,
  engine: EngineAdvert,
  model: ModelAdvert,
  room: NodeRoom,
): Offer {
  if (engine.name !== 'ollama') {
    const context = request.context_tokens;
    const reason = engine.name === 'scaffold' ? 'needs no model' : 'runs outside the house';
    return offer(view, engine, model, 'fits', reason, { context, holds: true, effort: 1 });
  }
  const wanted = contextOf(request, model);
  const loadedContext = model.context_tokens ?? wanted;
  if (model.loaded && loadedContext >= wanted) {
    const more = { context: loadedContext, holds: true, effort: 0, free: room.free_bytes };
    return offer(view, engine, model, 'loaded', 'the model is loaded', more);
  }
  const leased = view.runtime?.advert.leases.find(lease => lease.model === model.name);
  const need = needOf(model, wanted);
  const more = { context: wanted, need, free: room.free_bytes, evictable: room.evictable };
  if (leased !== undefined && leased.bytes >= need) {
    const held = { ...more, holds: true, effort: 0 };
    return offer(view, engine, model, 'loaded', 'the model is being loaded', held);
  }
  return judgeRoom(view, engine, model, room, more);
}

function judgeRoom(
  view: NodeView,
  engine: EngineAdvert,
  model: ModelAdvert,
  room: NodeRoom,
  more: { readonly context: number; readonly need: number; readonly free: number | null },
): Offer {
  const memory = room.kind === 'gpu' ? 'GPU memory' : 'memory';
  if (room.free_bytes === null || room.free_after_evicting_bytes === null) {
    const reason = `nobody knows how much ${memory} is free; declare it in the configuration`;
    return offer(view, engine, model, 'unknown_memory', reason, more);
  }
  const free = gib(Math.max(0, room.free_bytes));
  if (more.need <= room.free_bytes) {
    const reason = `needs ${gib(more.need)} of ${free} free ${memory}`;
    return offer(view, engine, model, 'fits', reason, { ...more, holds: true, effort: 1 });
  }
  if (more.need <= room.free_after_evicting_bytes) {
    const reason = `fits after unloading ${room.evictable.join(', ')}`;
    return offer(view, engine, model, 'fits', reason, { ...more, holds: true, effort: 2 });
  }
  const reason = `needs ${gib(more.need)}, ${free} of ${memory} free`;
  return offer(view, engine, model, 'does_not_fit', reason, more);
}

const COMMON: Omit<MemoryOptions, 'context_tokens'> = {
  slots: 1,
  kv_type: 'f16',
  flash_attention: true,
  backend: 'cuda',
};

/** Bytes that loading the model with this context takes. */
export function needOf(
  model: Pick<ModelAdvert, 'profile' | 'size_bytes' | 'context_max' | 'family'>,
  contextTokens: number,
): number {
  const profile = model.profile ?? profileOfSize(model);
  return memoryNeed(profile, { ...COMMON, context_tokens: contextTokens }).total_bytes;
}

/** The context asked for, in a common size and within what the model can do. */
function contextOf(request: PlacementRequest, model: ModelAdvert): number {
  let bucket = CONTEXT_TOKENS_MIN;
  while (bucket < request.context_tokens) bucket *= 2;
  return model.context_max > 0 ? Math.min(bucket, model.context_max) : bucket;
}

interface OfferMore {
  readonly context?: number;
  readonly need?: number;
  readonly free?: number | null;
  readonly holds?: boolean;
  readonly effort?: number;
  readonly evictable?: readonly string[];
}

function offer(
  view: NodeView,
  engine: EngineAdvert,
  model: ModelAdvert | null,
  verdict: Verdict,
  reason: string,
  more: OfferMore,
): Offer {
  return {
    node: view.node,
    engine: engine.name,
    model: model?.name ?? '',
    verdict,
    reason,
    size_bytes: model?.size_bytes ?? 0,
    context_tokens: more.context ?? 0,
    need_bytes: more.need ?? 0,
    free_bytes: more.free ?? null,
    holds: more.holds ?? false,
    effort: more.effort ?? 3,
    evictable: more.evictable ?? [],
  };
}
