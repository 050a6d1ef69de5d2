/**
 * One inference for whoever asks the pool: `codegod.node.<node>.infer`, answered by a stream.
 *
 * The request is JSON; `body` is the client's own request, as it came. The stream's messages are
 * bytes of the HTTP answer in the client's dialect, ready to be passed on unread: the first message
 * with a body carries {@link INFER_HEADER.status} and a content type, the last one
 * {@link INFER_HEADER.usage}. Messages without a body tell progress and that somebody lives.
 *
 * R1: reserving, running and giving back are one request: the node admits it or refuses with
 *     `reservation_refused`, `overloaded`, `model_missing` or `engine_unavailable`, and then nothing
 *     has been done.
 * R2: while nothing else is sent, a sign of life is sent at least every INFER_ALIVE_MS.
 */
import { z } from 'zod';
import { EngineName } from './task.ts';
import { ArtifactReference, Bytes } from './text.ts';

/** What a client speaks, and so what the bytes of the answer are. One per path of the HTTP door. */
export const Dialect = z.enum([
  'openai-chat',
  'openai-completion',
  'openai-embedding',
  'ollama-chat',
  'ollama-generate',
  'ollama-embed',
  'anthropic-messages',
]);
export type Dialect = z.infer<typeof Dialect>;

/** `r-` and a ULID in lower case: names one inference in logs, leases and decisions. */
export const RequestId = z
  .string()
  .regex(/^r-[0-9a-z]{26}$/, 'a request id looks like r-01jd…')
  .brand<'RequestId'>();
export type RequestId = z.infer<typeof RequestId>;

/**
 * Models of the node that the asker, who sees all nodes, would unload for what it asks. The node
 * takes them where they are idle and enough, and otherwise chooses itself.
 */
export const VICTIMS_MAX = 64;
export const Victims = z.array(z.string().max(128)).max(VICTIMS_MAX);

export const InferRequest = z.looseObject({
  request: RequestId,
  dialect: Dialect,
  engine: EngineName,
  /** As the node's inventory spells it; goes before the name in `body`. */
  model: z.string().max(128),
  /** The tier to load with; a model that is loaded with more keeps it. 0 for what needs none. */
  context_tokens: z.int().min(0),
  /** Estimated need of loading it, in bytes of the memory it is placed in. */
  bytes: Bytes,
  evict: Victims.optional(),
  /** Whose share it counts against: a build, a key, `local`. */
  share: z.string().max(128),
  priority: z.int().min(-100).max(100),
  /** The client's request; absent where it is large and stands in `artifact`. */
  body: z.record(z.string(), z.unknown()).optional(),
  artifact: ArtifactReference.optional(),
});
export type InferRequest = z.infer<typeof InferRequest>;

export const INFER_HEADER = {
  /** HTTP status of the answer, on the first message with a body. */
  status: 'cg-status',
  contentType: 'content-type',
  /** JSON of {@link InferProgress}. */
  progress: 'cg-progress',
  /** JSON of {@link InferUsage}, on the last message; absent where the engine did not say. */
  usage: 'cg-usage',
  /** Code of what broke an answer after its first byte, on the last message. */
  failure: 'cg-failure',
} as const;

export const InferProgress = z.looseObject({
  phase: z.enum(['queued', 'unloading', 'loading', 'reading']),
  /** 0…1 where somebody knows. */
  fraction: z.number().min(0).max(1).nullable(),
});
export type InferProgress = z.infer<typeof InferProgress>;

export const InferUsage = z.looseObject({
  prompt_tokens: z.int().min(0),
  output_tokens: z.int().min(0),
  load_ms: z.number().min(0),
  total_ms: z.number().min(0),
});
export type InferUsage = z.infer<typeof InferUsage>;

/** A stream that is silent for longer than three of these is dead. */
export const INFER_ALIVE_MS = 2_000;
/** Bytes of one message of an answer; longer ones are cut up. */
export const INFER_CHUNK_BYTES_MAX = 256 * 1024;
/** A client's request; images are why it is large. */
export const INFER_BODY_BYTES_MAX = 64 * 1024 * 1024;

/** `codegod.node.<node>.pull`, answered by a stream of {@link PullProgress}. */
export const PullRequest = z.looseObject({ model: z.string().min(1).max(128) });
export type PullRequest = z.infer<typeof PullRequest>;

export const PullProgress = z.looseObject({
  /** The engine's word for what it does: `pulling manifest`, `success`. */
  status: z.string().max(256),
  digest: z.string().max(128).optional(),
  total_bytes: Bytes.optional(),
  completed_bytes: Bytes.optional(),
});
export type PullProgress = z.infer<typeof PullProgress>;

/**
 * `codegod.node.<node>.show`: what the node's engine says of a model, whole, as one JSON text in pieces
 * of {@link ShownPart}: with everything it is megabytes.
 */
export const ShowRequest = z.looseObject({
  model: z.string().min(1).max(128),
  /** Long lists too, such as a tokenizer's. */
  verbose: z.boolean().optional(),
});
export type ShowRequest = z.infer<typeof ShowRequest>;

/** So short that a piece is within a message however its characters are escaped. */
export const SHOWN_PART_LENGTH_MAX = 32_768;
export const SHOWN_LENGTH_MAX = 64 * 1024 * 1024;
export const ShownPart = z.looseObject({ text: z.string().max(SHOWN_PART_LENGTH_MAX) });
export type ShownPart = z.infer<typeof ShownPart>;

/** `codegod.node.<node>.load`: brings a model in without asking it anything; idempotent. */
export const LoadRequest = z.looseObject({
  model: z.string().min(1).max(128),
  context_tokens: z.int().min(256),
});
export type LoadRequest = z.infer<typeof LoadRequest>;

/** `codegod.node.<node>.unload`. @throws `conflict` while it is at work, unless `force`. */
export const UnloadRequest = z.looseObject({
  model: z.string().min(1).max(128),
  force: z.boolean().optional(),
});
export type UnloadRequest = z.infer<typeof UnloadRequest>;

/** `codegod.node.<node>.drain`: finish what runs, take nothing new; `false` takes it back. */
export const DrainRequest = z.looseObject({ drain: z.boolean() });
export type DrainRequest = z.infer<typeof DrainRequest>;

export const DrainReply = z.looseObject({
  draining: z.boolean(),
  /** Attempts and inferences still at work. */
  at_work: z.int().min(0),
});
export type DrainReply = z.infer<typeof DrainReply>;
