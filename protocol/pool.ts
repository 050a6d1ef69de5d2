/**
 * The pool as it shows itself at the HTTP door: what waits and runs (`GET /pool`), what became of one
 * request (`GET /decisions/{id}`), and where a request would go (`POST /place`).
 */
import { z } from 'zod';
import { WireError } from './errors.ts';
import { NodeId } from './ids.ts';
import { InferUsage } from './inference.ts';
import { PlacementDecision } from './node.ts';
import { EngineName } from './task.ts';
import { EpochMs, Sentence } from './text.ts';

/** An attempt of a build or an inference: `b7.store.1`, `r-01jd…`. */
const job = {
  id: z.string().max(160),
  /** Whose share it counts against: a build, `key-…`, `local`. */
  share: z.string().max(128),
  /** As asked for; null: the best there is. */
  model: z.string().max(128).nullable(),
  priority: z.int(),
};

export const WaitingJob = z.looseObject({
  ...job,
  /** 1 for the one that has waited longest. */
  position: z.int().min(1),
  waiting_ms: z.number().min(0),
  reason: Sentence,
});
export type WaitingJob = z.infer<typeof WaitingJob>;

export const RunningJob = z.looseObject({
  ...job,
  node: NodeId,
  engine: EngineName,
  /** As the node's inventory spells it. */
  placed_model: z.string().max(128),
  running_ms: z.number().min(0),
});
export type RunningJob = z.infer<typeof RunningJob>;

export const PoolStatus = z.looseObject({
  at: EpochMs,
  queue_max: z.int().min(1),
  /** What somebody who comes now can expect to wait; null where nothing has ended yet. */
  expected_wait_ms: z.number().min(0).nullable(),
  waiting: z.array(WaitingJob),
  running: z.array(RunningJob),
  models: z.array(
    z.looseObject({
      model: z.string().max(128),
      waiting: z.int().min(0),
      running: z.int().min(0),
      /** Nodes that have it in memory. */
      loaded_on: z.array(NodeId),
    }),
  ),
});
export type PoolStatus = z.infer<typeof PoolStatus>;

/** One node that a request was sent to. */
export const RequestTry = z.looseObject({
  at: EpochMs,
  node: NodeId,
  engine: EngineName,
  model: z.string().max(128),
  outcome: z.enum(['running', 'done', 'refused', 'failed', 'cancelled']),
  error: WireError.nullable(),
});
export type RequestTry = z.infer<typeof RequestTry>;

/** What is kept of a request: every decision about it ends in the last one. */
export const RequestRecord = z.looseObject({
  id: z.string().max(160),
  at: EpochMs,
  share: z.string().max(128),
  model: z.string().max(128).nullable(),
  state: z.enum(['waiting', 'running', 'done', 'failed', 'cancelled']),
  /** Until it was placed for the first time; null while it waits. */
  waited_ms: z.number().min(0).nullable(),
  decision: PlacementDecision.nullable(),
  tries: z.array(RequestTry),
  usage: InferUsage.nullable(),
  error: WireError.nullable(),
});
export type RequestRecord = z.infer<typeof RequestRecord>;

/** `POST /place`: nothing is reserved, nothing is loaded. */
export const PlaceQuery = z.looseObject({
  /** Absent or `auto`: the best there is. */
  model: z.string().min(1).max(128).optional(),
  context_tokens: z.int().min(1).max(16_777_216).default(4_096),
  prompt_tokens: z.int().min(0).optional(),
  output_tokens: z.int().min(0).optional(),
  capability: z.enum(['completion', 'embedding', 'vision', 'tools']).optional(),
  selector: z.record(z.string().max(63), z.string().max(63)).optional(),
  nodes: z.array(NodeId).max(64).optional(),
});
export type PlaceQuery = z.infer<typeof PlaceQuery>;
