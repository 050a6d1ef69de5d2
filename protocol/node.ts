/**
 * What a node says of itself (adverts in the KV bucket `codegod_node`), how memory is reserved on
 * it, and how a placement is explained. Every figure that may be unknown is nullable: null is not 0.
 * What is optional was not said by the release before this one.
 */
import { z } from 'zod';
import { Attempt, BuildId, BuildStamp, GatewayId, LeaseId, NodeId, TaskId } from './ids.ts';
import { RequestId, Victims } from './inference.ts';
import { NODES_MAX } from './limits.ts';
import { KvType, ModelProfile } from './model-profile.ts';
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

/** Where a figure comes from, and when. */
const measured = { source: z.string().max(64).optional(), measured_at: EpochMs.optional() };

/** A process that holds memory of a GPU. */
export const GpuProcess = z.looseObject({
  pid: z.int().min(0),
  name: z.string().max(256),
  /** Null where the driver does not tell (containers, Windows). */
  bytes: BytesOrUnknown,
  /** A model runtime of this node (Ollama and its runners), as opposed to a foreign program. */
  runtime: z.boolean(),
});
export type GpuProcess = z.infer<typeof GpuProcess>;

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
  /** Null where nobody knows. Discrete cards are taken first. */
  integrated: z.boolean().nullable().optional(),
  /** Memory bandwidth of this kind of card, from its data sheet; null where unknown. */
  bandwidth_bytes_per_s: z.number().min(0).nullable().optional(),
  /** Held by programs other than the model runtimes; null where processes cannot be told apart. */
  foreign_bytes: BytesOrUnknown.optional(),
  processes: z.array(GpuProcess).max(64).optional(),
  /** Name of the MIG profile, where this is a slice of a card. */
  mig_profile: z.string().max(64).nullable().optional(),
  driver_version: z.string().max(64).nullable().optional(),
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
    ...measured,
  }),
  ram: z.looseObject({ total_bytes: Bytes, available_bytes: Bytes, ...measured }),
  disk: z.looseObject({ total_bytes: BytesOrUnknown, free_bytes: BytesOrUnknown, ...measured }),
  gpus: z.array(GpuAdvert).max(64),
  /** Memory that is never given to models, of each card or, without one, of the host. */
  reserve_bytes: Bytes,
  /** Probes that could not answer, each with its reason. */
  unknown: z.array(z.looseObject({ probe: z.string().max(64), reason: Sentence })).max(32),
});
export type CapacityAdvert = z.infer<typeof CapacityAdvert>;

/**
 * `codegod.node.<node>.measure`: measure now. Answered by the resource-monitor with the
 * `CapacityAdvert` of a measurement that began after it was asked.
 */
export const MeasureRequest = z.looseObject({});

/**
 * What the engine said it had allocated for a load, and what had been estimated of the same parts.
 * Both without what it does not tell: projector, and what driver and libraries take.
 */
export const ObservedLoad = z.looseObject({
  measured_bytes: Bytes,
  estimated_bytes: Bytes,
  context_tokens: z.int().min(0),
  /** How it was loaded; absent: as the node would load it now. */
  engine_version: z.string().max(64).nullable().optional(),
  backend: z.enum(['cuda', 'rocm', 'metal', 'vulkan', 'cpu']).optional(),
  kv_type: KvType.optional(),
});
export type ObservedLoad = z.infer<typeof ObservedLoad>;

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
  profile: ModelProfile.optional(),
  /** When its file came, and when the engine would unload the copy that is loaded. */
  modified_at: EpochMs.optional(),
  expires_at: EpochMs.optional(),
  /** Where they are not `gguf`, and not the family alone. */
  format: z.string().max(32).optional(),
  families: z.array(z.string().max(64)).max(16).optional(),
  state: z.enum(['absent', 'loading', 'loaded', 'unloading']).optional(),
  /** Requests that a loaded copy answers at once, and how many are at work on it now. */
  slots: z.int().min(1).optional(),
  in_flight: z.int().min(0).optional(),
  /** End of the last use; null for never since the worker started. */
  used_at: EpochMs.nullable().optional(),
  /** Kept by a policy: never evicted. */
  kept: z.boolean().optional(),
  /** Of the loads of it here, the one that took most beside its estimate. */
  observed: ObservedLoad.optional(),
  /** Measured here: time of a load, tokens read and written per second. */
  load_ms: z.number().min(0).nullable().optional(),
  prompt_tokens_per_s: z.number().min(0).nullable().optional(),
  output_tokens_per_s: z.number().min(0).nullable().optional(),
});
export type ModelAdvert = z.infer<typeof ModelAdvert>;

const DeviceList = z.string().max(1_024).optional();

/** The variables of an engine's process that hide cards from it, those that are set. */
export const VisibleDevices = z.looseObject({
  CUDA_VISIBLE_DEVICES: DeviceList,
  ROCR_VISIBLE_DEVICES: DeviceList,
  HIP_VISIBLE_DEVICES: DeviceList,
  GPU_DEVICE_ORDINAL: DeviceList,
  GGML_VK_VISIBLE_DEVICES: DeviceList,
});
export type VisibleDevices = z.infer<typeof VisibleDevices>;

/** Settings of an engine that its API does not show; null where nobody knows. */
export const EngineEnvironment = z.looseObject({
  /** Sequences per loaded model; the memory of its cache grows by it. */
  num_parallel: z.int().min(1).max(1_024).nullable(),
  kv_type: KvType.nullable(),
  flash_attention: z.boolean().nullable(),
  max_loaded_models: z.int().min(0).nullable(),
  max_queue: z.int().min(0).nullable(),
  /** Absent where it sees all cards. */
  visible_devices: VisibleDevices.optional(),
  /** `declared` in our configuration, read from its `process`, or the engine's own `default`. */
  source: z.enum(['declared', 'process', 'default']),
});
export type EngineEnvironment = z.infer<typeof EngineEnvironment>;

export const EngineAdvert = z.looseObject({
  name: EngineName,
  available: z.boolean(),
  version: z.string().max(64).nullable(),
  /** Why it is not available. */
  reason: Sentence.nullable(),
  /** Of an engine that is away: those it had, none of them loaded. */
  models: z.array(ModelAdvert).max(512),
  /** When an engine that is away answered last; absent where it answers, or was never seen here. */
  away_since: EpochMs.optional(),
  environment: EngineEnvironment.optional(),
});
export type EngineAdvert = z.infer<typeof EngineAdvert>;

/** Of an attempt (build, task, attempt) or of an inference (request). Everybody reads adverts. */
export const LeaseAdvert = z.looseObject({
  /** Its name, not its id: `leaseNameOf`. */
  lease: LeaseId,
  build: BuildId.optional(),
  stamp: BuildStamp.optional(),
  task: TaskId.optional(),
  attempt: Attempt.optional(),
  request: RequestId.optional(),
  model: z.string().max(128),
  bytes: Bytes,
  expires_at: EpochMs,
  /** Of an attempt: whether it is at work, or waits here for its turn. */
  at_work: z.boolean().optional(),
});
export type LeaseAdvert = z.infer<typeof LeaseAdvert>;

/**
 * How a worker works on attempts: what it asks and reports carries its node's name. The bus lets no
 * joined node of the release before that, which does not say so, ask or report.
 */
export const ATTEMPT_PROTOCOL = 1;

/** Key `<node>.runtime`, written by the worker. */
export const RuntimeAdvert = z.looseObject({
  ...advert,
  engines: z.array(EngineAdvert).max(8),
  leases: z.array(LeaseAdvert).max(256),
  attempt_protocol: z.int().min(1).optional(),
  /** Attempts this worker takes at once, and how many it has. */
  slots: z.int().min(0),
  slots_used: z.int().min(0),
  /** As configured: `{"room":"attic","gpu":"3090"}`. */
  labels: z.record(z.string().max(63), z.string().max(63)).optional(),
  /** Whether a model may lie partly or wholly in main memory beside a GPU. */
  offload: z.boolean().optional(),
});
export type RuntimeAdvert = z.infer<typeof RuntimeAdvert>;

/** Whether its worker is of a release whose attempts would come to nothing here. */
export const isOutdated = ({ attempt_protocol }: RuntimeAdvert): boolean =>
  attempt_protocol === undefined;

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
  /** How often this process has connected to the bus: what was sent to it in between may be lost. */
  connections: z.int().min(1).optional(),
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
  stamp: BuildStamp.optional(),
  task: TaskId,
  attempt: Attempt,
  engine: EngineName,
  model: z.string().max(128),
  context_tokens: z.int().min(256),
  bytes: Bytes,
  evict: Victims.optional(),
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

/** By its id, or by its name where nothing else is known of it. */
export const ReleaseRequest = z.looseObject({ lease: LeaseId });
export type ReleaseRequest = z.infer<typeof ReleaseRequest>;

/** `codegod.node.<node>.cancel`: stop an attempt. Cancelling what is over is not an error. */
export const CancelRequest = z.looseObject({
  build: BuildId,
  stamp: BuildStamp.optional(),
  task: TaskId,
  attempt: Attempt,
});
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
    // Since placement by expected time: it is being loaded; idle models have to go; part of it lies
    // in main memory; all of it does; a selector, pin or policy rules the node out.
    'loading',
    'evicts',
    'partial',
    'cpu',
    'excluded',
  ]),
  need_bytes: Bytes,
  free_bytes: BytesOrUnknown,
  reason: Sentence,
  context_tokens: z.int().min(0).optional(),
  /** Indices of the cards it would lie on; empty: main memory. */
  gpus: z.array(z.int().min(0)).max(64).optional(),
  evict: Victims.optional(),
  reserved_bytes: Bytes.optional(),
  foreign_bytes: BytesOrUnknown.optional(),
  /** Expected time in ms, by term; `evict_ms` is what the models to be evicted cost to load again. */
  score: z
    .looseObject({
      wait_ms: z.number(),
      load_ms: z.number(),
      prefill_ms: z.number(),
      decode_ms: z.number(),
      evict_ms: z.number(),
      total_ms: z.number(),
    })
    .optional(),
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
  /** Of the chosen candidate, or of the one that came nearest: the parts of `need_bytes`. */
  need: z
    .looseObject({
      weights_bytes: Bytes,
      kv_bytes: Bytes,
      compute_bytes: Bytes,
      projector_bytes: Bytes,
      overhead_bytes: Bytes,
      /** `measured`: corrected by loads that were observed. */
      source: z.enum(['estimate', 'measured']),
      /** That correction; part of `need_bytes` beside the others, and negative where loads took less. */
      residual_bytes: z.int().optional(),
    })
    .optional(),
  runner_up: z
    .looseObject({ node: NodeId, engine: EngineName, model: z.string().max(128) })
    .nullable()
    .optional(),
  /** What would make the decision come out otherwise. */
  would_change: Sentence.optional(),
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
