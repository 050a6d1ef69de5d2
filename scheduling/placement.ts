/**
 * One pure function decides where an inference runs: `place(request, nodes, now)`. The node and model
 * with which it is expected to be done first: wait + load + reading + writing + what is lost by
 * evicting others.
 *
 * P1: nothing is placed where it does not fit: a model goes where it is loaded, where its estimated
 *     need is at most the free memory, or where it is after idle models are unloaded.
 * P2: the same input gives the same answer; ties are broken by the node's id.
 * P3: more free memory on a node never makes a placeable request unplaceable.
 * P4: `scaffold` is taken only where no node has a real model, or by name: never in the place of a
 *     model that is away for a while, nor for a build that works with models.
 * P5: models outside the house are taken only where the request allows it, and, unless it says
 *     otherwise, after all others.
 * P6: where no model is named: one that the build uses already, else the largest that some node can
 *     take now, those that run on cards before those that lie in main memory.
 * P7: a loaded copy is left for another node only where that is clearly faster, and waited for only
 *     where waiting is.
 */
import type { NodeId } from '../protocol/ids.ts';
import type { PlacementDecision } from '../protocol/node.ts';
import type { ModelPolicy } from '../protocol/policy.ts';
import type { EngineName } from '../protocol/task.ts';
import type { CardBytes } from './node-resident.ts';
import type { NodeView } from './node-view.ts';
import { Candidates, type Memo } from './placement-candidates.ts';
import { decisionOf } from './placement-decision.ts';
import type { NodeState } from './placement-node.ts';
import type { Offer } from './placement-offer.ts';

export type Capability = 'completion' | 'embedding' | 'vision' | 'tools';

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
  /** `attempt` (the default) takes a slot of the node, `inference` one of the loaded copy. */
  readonly kind?: 'attempt' | 'inference';
  /** Labels that the node must have, with these values. */
  readonly selector?: Readonly<Record<string, string>>;
  /** The only nodes that may be taken; absent or empty: any. */
  readonly nodes?: readonly NodeId[];
  /** Nodes that must not be taken, such as those where this request has failed. */
  readonly exclude?: readonly NodeId[];
  /** What the model must be able to do; absent: write text. */
  readonly capability?: Capability;
  /** What is to be read and written, where somebody knows. */
  readonly prompt_tokens?: number;
  readonly output_tokens?: number;
  /** Load with the largest tier up to this that fits beside the others; absent: as asked. */
  readonly context_max?: number;
  /** Models that this build uses already: taken where none is named, and not evicted lightly. */
  readonly prefers?: readonly string[];
  /** Nothing but a model will do: the build has used one, or waited for one. */
  readonly needs_model?: boolean;
}

/** What holds besides the request and the adverts. */
export interface PlacementContext {
  readonly policies?: readonly ModelPolicy[];
  /** Further names of models: `{"gpt-4o": "qwen2.5-coder:14b"}`. */
  readonly aliases?: Readonly<Record<string, string>>;
  /** The nodes with what was decided since their adverts; absent: as they say themselves. */
  readonly states?: readonly NodeState[];
  readonly memo?: Memo;
  /** A model that was loaded less long ago than this is not evicted. */
  readonly residency_ms?: number;
  /**
   * A model that was used less long ago than this is not evicted for a second copy of another: where
   * several nodes have it, and where only one has.
   */
  readonly replica_idle_ms?: number;
  readonly last_copy_idle_ms?: number;
  /** How long the request has waited already: its estimates of waiting were at least that wrong. */
  readonly waited_ms?: number;
}

/** Where a request goes and what to reserve there. */
export interface PlacementPlan {
  readonly node: NodeId;
  readonly engine: EngineName;
  readonly model: string;
  readonly context_tokens: number;
  /**
   * Of the loaded model on the cards, or in main memory where `gpus` is empty; also where it is
   * loaded already. 0: it needs none.
   */
  readonly need_bytes: number;
  /** Whether the model has to be loaded for it, as far as anybody knows. */
  readonly load: boolean;
  /** Idle models to be unloaded before. The node may choose others by its fresher figures. */
  readonly evict: readonly string[];
  /** Indices of the cards it will lie on; empty: main memory. */
  readonly gpus: readonly number[];
  /** The same with the bytes of each, and what lies in main memory. */
  readonly cards: readonly CardBytes[];
  readonly ram_bytes: number;
  /** Expected time from now to the end of the request. */
  readonly expected_ms: number;
}

export interface Placement {
  readonly decision: PlacementDecision;
  readonly plan: PlacementPlan | null;
}

/**
 * Chooses a node and a model.
 * @param now milliseconds since the epoch, by the clock that stamped `seen_at` of the views
 */
export function place(
  request: PlacementRequest,
  nodes: readonly NodeView[],
  now: number,
  context: PlacementContext = {},
): Placement {
  const candidates = new Candidates(request, nodes, now, context);
  const ranked = candidates.ranked();
  const best = ranked[0] ?? null;
  const taken = best !== null && best.when === 'takes' ? best : null;
  return {
    decision: decisionOf({ request, candidates, ranked, taken, now }),
    plan: taken === null ? null : planOf(taken),
  };
}

export function planOf(offer: Offer): PlacementPlan {
  const { node, engine, model, context_tokens, need_bytes, gpus } = offer;
  return {
    ...{ node, engine, model, context_tokens, need_bytes, gpus },
    load: engine === 'ollama' && offer.effort > 0,
    evict: offer.evict.map(victim => victim.model),
    cards: offer.fit?.cards ?? [],
    ram_bytes: offer.fit?.ram_bytes ?? 0,
    expected_ms: offer.score.total_ms - offer.score.evict_ms,
  };
}
