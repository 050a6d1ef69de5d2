/**
 * A build, from the outside: what comes in on `codegod.build`, what control asks for, and the
 * summary every window shows.
 */
import { z } from 'zod';
import { WireError } from './errors.ts';
import { BuildId, GatewayId, TaskId } from './ids.ts';
import { PROMPT_LENGTH_MAX } from './limits.ts';
import { ArtifactReference, EpochMs, Sentence, Sha } from './text.ts';

/**
 * A request to build. `prompt` is all that is needed. The fields `api_specs`, `target_platforms`,
 * `requirements`, `features` and `constraints` are part of the prompt for the planner.
 */
export const BuildRequest = z.looseObject({
  prompt: z
    .string()
    .max(PROMPT_LENGTH_MAX)
    .refine(text => text.trim().length > 0, 'the prompt is empty'),
  /** For example `{"backend":"FastAPI","database":"SQLite"}`. */
  tech_stack: z.record(z.string().max(64), z.string().max(256)).optional(),
  /** Name of the project; made from the prompt where absent. */
  name: z
    .string()
    .regex(/^[a-z0-9][a-z0-9-]{0,49}$/, 'lower-case letters, digits and dashes, at most 50')
    .optional(),
  /** A model that every task of this build must use. */
  model: z.string().max(128).optional(),
  api_specs: z.array(z.string().max(2_048)).max(16).optional(),
  target_platforms: z.array(z.string().max(64)).max(16).optional(),
  requirements: z.union([z.string().max(8_192), z.array(z.string().max(1_024)).max(64)]).optional(),
  features: z.array(z.string().max(1_024)).max(64).optional(),
  constraints: z
    .looseObject({ max_execution_time: z.number().min(1).max(604_800).optional() })
    .optional(),
  /** `approve`: stop after planning until somebody approves. */
  plan_mode: z.enum(['auto', 'approve']).optional(),
  /** Whether models outside the house may be used. */
  fallback: z.enum(['deny', 'allow']).optional(),
  max_parallel_tasks: z.int().min(1).max(64).optional(),
});
export type BuildRequest = z.infer<typeof BuildRequest>;

/** Where a build is. The four last ones are ends. */
export const BuildState = z.enum([
  'received',
  'admitted',
  'planning',
  'validating_plan',
  'awaiting_approval',
  'contracting',
  'executing',
  'integrating',
  'verifying',
  'repairing',
  'finalizing',
  'waiting_capacity',
  'paused',
  'recovering',
  'cancelling',
  'succeeded',
  'partial',
  'failed',
  'cancelled',
]);
export type BuildState = z.infer<typeof BuildState>;

export const BUILD_ENDS: readonly BuildState[] = ['succeeded', 'partial', 'failed', 'cancelled'];

export const TaskState = z.enum([
  'pending',
  'ready',
  'placing',
  'leased',
  'running',
  'reported',
  'merging',
  'merged',
  'retry_wait',
  'blocked',
  'failed',
  'cancelled',
]);
export type TaskState = z.infer<typeof TaskState>;

export const ControlRequest = z.discriminatedUnion('action', [
  z.looseObject({ action: z.literal('cancel'), reason: Sentence.optional() }),
  z.looseObject({ action: z.literal('approve') }),
  z.looseObject({ action: z.literal('retry') }),
  z.looseObject({ action: z.literal('pause') }),
  z.looseObject({ action: z.literal('resume') }),
]);
export type ControlRequest = z.infer<typeof ControlRequest>;

export const TaskSummary = z.looseObject({
  id: TaskId,
  title: z.string().max(256),
  type: z.string().max(32),
  state: TaskState,
  attempt: z.int().min(0),
  depends_on: z.array(TaskId),
  owns: z.array(z.string()),
  node: z.string().nullable(),
  model: z.string().nullable(),
  commit: Sha.nullable(),
  error: WireError.nullable(),
});
export type TaskSummary = z.infer<typeof TaskSummary>;

export const Usage = z.looseObject({
  turns: z.int().min(0),
  prompt_tokens: z.int().min(0),
  output_tokens: z.int().min(0),
  generate_ms: z.number().min(0),
  load_ms: z.number().min(0),
  tool_calls: z.int().min(0),
  /** Turns answered by a model outside the house. */
  remote_turns: z.int().min(0),
});
export type Usage = z.infer<typeof Usage>;

export const NO_USAGE: Usage = {
  turns: 0,
  prompt_tokens: 0,
  output_tokens: 0,
  generate_ms: 0,
  load_ms: 0,
  tool_calls: 0,
  remote_turns: 0,
};

export const CheckSummary = z.looseObject({
  round: z.int().min(0),
  command: z.array(z.string()),
  passed: z.boolean(),
  tests_passed: z.int().min(0),
  tests_failed: z.int().min(0),
  exit_code: z.int().nullable(),
  sandbox: z.string().max(32),
  duration_ms: z.number().min(0),
  /** The last 16 KiB. */
  output: z.string(),
});
export type CheckSummary = z.infer<typeof CheckSummary>;

/** `GET /builds/{id}`, `codegod show --json`. */
export const BuildSummary = z.looseObject({
  id: BuildId,
  state: BuildState,
  prompt: z.string(),
  name: z.string().nullable(),
  /** The project's folder on the gateway's machine. */
  path: z.string().nullable(),
  gateway: GatewayId.nullable(),
  stack: z.string().nullable(),
  head: Sha.nullable(),
  created_at: EpochMs,
  updated_at: EpochMs,
  ended_at: EpochMs.nullable(),
  tasks: z.array(TaskSummary),
  checks: z.array(CheckSummary),
  usage: Usage,
  /** The engines and models that wrote it, `scaffold` included. */
  models: z.array(z.string()),
  archive: ArtifactReference.nullable(),
  files: z.array(z.string()),
  /** What was asked for and is not there. */
  unmet: z.array(z.string()),
  error: WireError.nullable(),
  /** Why it waits, where it waits. */
  waiting: z.string().nullable(),
});
export type BuildSummary = z.infer<typeof BuildSummary>;
