/**
 * One node and model, judged: whether it could take a request, what would have to go for it, and how
 * long it would take.
 */
import type { NodeId } from '../protocol/ids.ts';
import type { PlacementDecision } from '../protocol/node.ts';
import type { EngineName } from '../protocol/task.ts';
import type { Fit } from './fit.ts';
import type { Resident } from './node-resident.ts';
import type { PlacementRequest } from './placement.ts';
import type { Entry, NodeState } from './placement-node.ts';
import { type Score, scoreOf } from './placement-score.ts';

export type Verdict = PlacementDecision['candidates'][number]['verdict'];

export interface Offer {
  readonly node: NodeId;
  readonly engine: EngineName;
  /** Empty where the engine is not there at all. */
  readonly model: string;
  readonly key: string;
  /** Node and canonical name in one: the same for all offers of one copy. */
  readonly copy: string;
  readonly verdict: Verdict;
  /** Why not, where the verdict alone does not say. */
  readonly refusal: string | null;
  /** `takes`: now. `waits`: once others are done. `never`: not as things are. */
  readonly when: 'takes' | 'waits' | 'never';
  /** 0 loaded, 1 fits, 2 after evicting, 3 partly in main memory, 4 wholly; less is preferred. */
  readonly effort: number;
  readonly size_bytes: number;
  readonly context_tokens: number;
  /** What loading it takes; null where nothing has to be. */
  readonly fit: Fit | null;
  readonly need_bytes: number;
  readonly gpus: readonly number[];
  readonly evict: readonly Resident[];
  /** At work or kept, and in the way. */
  readonly blockers: readonly Resident[];
  readonly slots: number;
  readonly in_flight: number;
  readonly score: Score;
  readonly state: NodeState;
  /** Whether it depends on how long models have been idle. */
  readonly timed: boolean;
}

/** Who may be evicted, and when. */
export interface Terms {
  readonly now: number;
  /** A model stays for so long after it was loaded. */
  readonly residency_ms: number;
  /** A model that was used less long ago than this stays; one that no other node has, the second. */
  readonly spare_used_ms: number;
  readonly spare_last_ms: number;
  /** Models of which several nodes have a copy, by canonical name. */
  readonly doubled: ReadonlySet<string>;
}

/** Of an offer that takes no time, as far as is known. */
export const ZERO: Score = scoreOf({
  wait_ms: 0,
  load_ms: 0,
  prefill_ms: 0,
  decode_ms: 0,
  evict_ms: 0,
});
export const EFFORT_NONE = 5;

export const OLLAMA_ONLY = 'ollama';
const NONE: readonly never[] = [];
const NO_DETAILS: Details = {};

/** Whether all slots for attempts are taken. */
export const isFull = (request: PlacementRequest, state: NodeState): boolean =>
  request.kind !== 'inference' && state.attempts_used >= state.attempts;

export function slotsTaken(state: NodeState): Pick<Offer, 'verdict' | 'refusal' | 'when'> {
  // Who has none will never have a free one: waiting for it would be for ever.
  if (state.attempts === 0) {
    const refusal = state.outdated ? 'it runs an older release: update it' : 'it takes no attempts';
    return { verdict: 'not_ready', refusal, when: 'never' };
  }
  const refusal = `all of its ${state.attempts} slots are taken`;
  return { verdict: 'busy', refusal, when: 'waits' };
}

/** What an offer says beyond who, what and whether. */
type Details = Partial<
  Pick<
    Offer,
    | 'effort'
    | 'context_tokens'
    | 'fit'
    | 'need_bytes'
    | 'gpus'
    | 'evict'
    | 'blockers'
    | 'slots'
    | 'in_flight'
    | 'score'
    | 'timed'
  >
>;

/** Of one shape, whatever it says: thousands are made for one decision. */
export function offerOf(
  state: NodeState,
  entry: Entry | null,
  { verdict, refusal, when }: Pick<Offer, 'verdict' | 'refusal' | 'when'>,
  more: Details = NO_DETAILS,
): Offer {
  const key = entry?.key ?? '';
  return {
    node: state.node,
    engine: entry?.engine.name ?? OLLAMA_ONLY,
    model: entry?.model.name ?? '',
    key,
    copy: `${state.node} ${key}`,
    verdict,
    refusal,
    when,
    effort: more.effort ?? EFFORT_NONE,
    size_bytes: entry?.model.size_bytes ?? 0,
    context_tokens: more.context_tokens ?? 0,
    fit: more.fit ?? null,
    need_bytes: more.need_bytes ?? 0,
    gpus: more.gpus ?? NONE,
    evict: more.evict ?? NONE,
    blockers: more.blockers ?? NONE,
    slots: more.slots ?? 1,
    in_flight: more.in_flight ?? 0,
    score: more.score ?? ZERO,
    state,
    timed: more.timed ?? false,
  };
}
