/**
 * What a node says of itself (adverts in the KV bucket `codegod_node`), how memory is reserved on
 * it, and how a placement is explained. Every figure that may be unknown is nullable: null is not 0.
 */
import { z } from 'zod';
import { Attempt, BuildId, GatewayId, LeaseId, NodeId, TaskId } from './ids.ts';
import { NODES_MAX } from './limits.ts';
import { EngineName } from './task.ts';
import { Bytes, BytesOrUnknown, EpochMs, Sentence } from './text.ts';

/** The life of every actor: the same four words everywhere. */
export const LifecycleState = z.enum(['starting', 'ready', 'draining', 'stopped']);
export type LifecycleState = z.infer<typeof LifecycleState>;

const advert = {
  node: NodeId,
  /** Grows by one at each start of the process, never falls: older adverts are ghosts. */
  epoch: z.int().min(1),
  host: z.string().max(255),
  state: LifecycleState,
  at: EpochMs,
};

export const GpuAdvert = z.looseObject({
  index: z.int().min(0),
  uuid: z.string().max(128).nullable(),
  name: z.string().max(256),
  vendor: z.enum(['nvidia', 'amd', 'apple', 'intel', 'other']),
  total_bytes: BytesOrUnknown,
  used_bytes: BytesOrUnknown,
  free_bytes: BytesOrUnknown,
  /** Memory shared with the CPU. */
  unified: z.boolean(),
  utilization: z.number().min(0).max(1).nullable(),
  temperature_c: z.number().nullable(),
  power_w: z.number().nullable(),
  /** The tool or file the figures come from: `nvidia-smi`, `sysfs`, `declared`. */
  source: z.string().max(64),
  measured_at: EpochMs,
});
export type GpuAdvert = z.infer<typeof GpuAdvert>;

/** Key `<node>.capacity`, written by the resource-monitor. */
export const CapacityAdvert = z.looseObject({
  ...advert,
  os: z.string().max(128),
  arch: z.string().max(32),
  cpu: z.looseObject({
    model: z.string().max(256),
    cores: z.int().min(1),
    load: z.number().min(0).nullable(),
  }),
  ram: z.looseObject({ total_bytes: Bytes, available_bytes: Bytes }),
  disk: z.looseObject({ total_bytes: BytesOrUnknown, free_bytes: BytesOrUnknown }),
  gpus: z.array(GpuAdvert).max(64),
  /** Memory that is never given to models. */
  reserve_bytes: Bytes,
  /** Probes that could not answer, each with its reason. */
  unknown: z.array(z.looseObject({ probe: z.string().max(64), reason: Sentence })).max(32),
});
export type CapacityAdvert = z.infer<typeof CapacityAdvert>;

export const ModelAdvert = z.looseObject({
  name: z.string().max(128),
  digest: z.string().max(128),
  size_bytes: Bytes,
  family: z.string().max(64),
  parameter_size: z.string().max(32),
  quantization: z.string().max(32),
  context_max: z.int().min(0),
  capabilities: z.array(z.string().max(64)).max(32),
  loaded: z.boolean(),
  /** Of the loaded instance; null where it is not loaded or nobody knows. */
  vram_bytes: BytesOrUnknown,
  ram_bytes: BytesOrUnknown,
  context_tokens: z.int().min(0).nullable(),
});
export type ModelAdvert = z.infer<typeof ModelAdvert>;

export const EngineAdvert = z.looseObject({
  name: EngineName,
  available: z.boolean(),
  version: z.string().max(64).nullable(),
  /** Why it is not available. */
  reason: Sentence.nullable(),
  models: z.array(ModelAdvert).max(512),
});
export type EngineAdvert = z.infer<typeof EngineAdvert>;

export const LeaseAdvert = z.looseObject({
  lease: LeaseId,
  build: BuildId,
  task: TaskId,
  attempt: Attempt,
  model: z.string().max(128),
  bytes: Bytes,
  expires_at: EpochMs,
});
export type LeaseAdvert = z.infer<typeof LeaseAdvert>;

/** Key `<node>.runtime`, written by the worker. */
export const RuntimeAdvert = z.looseObject({
  ...advert,
  engines: z.array(EngineAdvert).max(8),
  leases: z.array(LeaseAdvert).max(256),
  /** Attempts this worker takes at once, and how many it has. */
  slots: z.int().min(0),
  slots_used: z.int().min(0),
});
export type RuntimeAdvert = z.infer<typeof RuntimeAdvert>;

export const ToolServerState = z.enum([
  'cold',
  'starting',
  'ready',
  'idle',
  'stopping',
  'backoff',
  'crash_loop',
  'missing',
]);
export type ToolServerState = z.infer<typeof ToolServerState>;

/** Key `<node>.gateway`, written by the mcp-gateway. */
export const GatewayAdvert = z.looseObject({
  ...advert,
  gateway: GatewayId,
  /** The rung of the sandbox ladder that this machine reaches. */
  sandbox: z.enum(['bwrap', 'unshare', 'none']),
  servers: z
    .array(
      z.looseObject({ name: z.string().max(64), state: ToolServerState, tools: z.int().min(0) }),
    )
    .max(128),
});
export type GatewayAdvert = z.infer<typeof GatewayAdvert>;

/** `codegod.node.<node>.reserve`. Asking twice for the same attempt gives the same lease. */
export const ReserveRequest = z.looseObject({
  build: BuildId,
  task: TaskId,
  attempt: Attempt,
  engine: EngineName,
  model: z.string().max(128),
  context_tokens: z.int().min(256),
  bytes: Bytes,
  ttl_ms: z.int().min(1_000).max(86_400_000),
});
export type ReserveRequest = z.infer<typeof ReserveRequest>;

export const ReserveReply = z.discriminatedUnion('granted', [
  z.looseObject({
    granted: z.literal(true),
    lease: LeaseId,
    epoch: z.int().min(1),
    expires_at: EpochMs,
  }),
  z.looseObject({ granted: z.literal(false), reason: Sentence }),
]);
export type ReserveReply = z.infer<typeof ReserveReply>;

export const ReleaseRequest = z.looseObject({ lease: LeaseId });
export type ReleaseRequest = z.infer<typeof ReleaseRequest>;

/** `codegod.node.<node>.cancel`: stop an attempt. Cancelling what is over is not an error. */
export const CancelRequest = z.looseObject({ build: BuildId, task: TaskId, attempt: Attempt });
export type CancelRequest = z.infer<typeof CancelRequest>;

export const Acknowledgement = z.looseObject({ ok: z.literal(true) });
export type Acknowledgement = z.infer<typeof Acknowledgement>;

/** One node and model looked at by a placement. */
export const PlacementCandidate = z.looseObject({
  node: NodeId,
  engine: EngineName,
  model: z.string().max(128),
  verdict: z.enum([
    'loaded',
    'fits',
    'does_not_fit',
    'unknown_memory',
    'not_ready',
    'busy',
    'refused',
  ]),
  need_bytes: Bytes,
  free_bytes: BytesOrUnknown,
  reason: Sentence,
});
export type PlacementCandidate = z.infer<typeof PlacementCandidate>;

/** Why a task went where it went: kept with the build, shown by `codegod show`. */
export const PlacementDecision = z.looseObject({
  at: EpochMs,
  chosen: z
    .looseObject({ node: NodeId, engine: EngineName, model: z.string().max(128) })
    .nullable(),
  reason: Sentence,
  candidates: z.array(PlacementCandidate).max(NODES_MAX),
});
export type PlacementDecision = z.infer<typeof PlacementDecision>;

/** `codegod.telemetry.<node>`, once a second, not stored. */
export const Telemetry = z.looseObject({
  node: NodeId,
  at: EpochMs,
  cpu_load: z.number().min(0).max(1).nullable(),
  ram_available_bytes: BytesOrUnknown,
  gpus: z
    .array(
      z.looseObject({
        index: z.int().min(0),
        free_bytes: BytesOrUnknown,
        utilization: z.number().nullable(),
        temperature_c: z.number().nullable(),
        power_w: z.number().nullable(),
      }),
    )
    .max(64),
});
export type Telemetry = z.infer<typeof Telemetry>;
