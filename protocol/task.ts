/** What the master hands to a worker, and what the worker hands back. One of each per attempt. */
import { z } from 'zod';
import { Usage } from './build.ts';
import { WireError } from './errors.ts';
import { Attempt, BuildId, BuildStamp, CallId, GatewayId, LeaseId, NodeId, TaskId } from './ids.ts';
import { FILES_PER_ANSWER_MAX, PROMPT_LENGTH_MAX, TOOL_CALLS_MAX } from './limits.ts';
import { Plan, PlanTask, TaskType } from './plan.ts';
import { EpochMs, Sentence, Sha } from './text.ts';

export const TaskKind = z.enum(['plan', 'code', 'repair']);
export type TaskKind = z.infer<typeof TaskKind>;

export const EngineName = z.enum(['ollama', 'anthropic', 'openai', 'scaffold']);
export type EngineName = z.infer<typeof EngineName>;

/** The subject `codegod.task.<node>.<build>.<task>.<attempt>` holds exactly one of these. */
export const TaskMessage = z.looseObject({
  kind: TaskKind,
  build: BuildId,
  stamp: BuildStamp.optional(),
  task: TaskId,
  attempt: Attempt,
  node: NodeId,
  lease: LeaseId,
  gateway: GatewayId,
  engine: EngineName,
  model: z.string().max(128),
  context_tokens: z.int().min(256),
  output_tokens_max: z.int().min(64),
  temperature: z.number().min(0).max(2),
  /** After this moment the attempt is over, or asked whether it gets on. */
  deadline_at: EpochMs,
  /** How long it may go without getting on; absent: `deadline_at` is the end whatever it does. */
  limit_ms: z.int().min(1).optional(),
  /** The end of the time that the build has, however well the attempt gets on. */
  budget_until: EpochMs.optional(),
  prompt: z.string().max(PROMPT_LENGTH_MAX),
  tech_stack: z.record(z.string(), z.string()).default({}),
  /** The project so far; null while planning. */
  project: z.looseObject({ name: z.string(), stack: z.string(), summary: z.string() }).nullable(),
  /** The task card; null for kind `plan`. */
  card: PlanTask.nullable(),
  /** All tasks of the plan, for orientation; empty while planning. */
  outline: z
    .array(
      z.looseObject({
        id: TaskId,
        title: z.string(),
        type: TaskType,
        owns: z.array(z.string()),
      }),
    )
    .default([]),
  /** Commit the attempt starts from; null while planning. */
  base_sha: Sha.nullable(),
  /** Why the attempt before this one failed. */
  previous_error: z.string().max(16_384).nullable(),
});
export type TaskMessage = z.infer<typeof TaskMessage>;

export const ToolCallRecord = z.looseObject({
  call_id: CallId,
  server: z.string().max(128),
  tool: z.string().max(128),
  ok: z.boolean(),
  error: WireError.optional(),
});
export type ToolCallRecord = z.infer<typeof ToolCallRecord>;

export const TaskReport = z.looseObject({
  build: BuildId,
  stamp: BuildStamp.optional(),
  task: TaskId,
  attempt: Attempt,
  lease: LeaseId,
  node: NodeId,
  engine: EngineName,
  model: z.string().max(128),
  outcome: z.enum(['done', 'failed', 'cancelled']),
  /** Present where the outcome is `failed`. */
  error: WireError.nullable(),
  /** Whether the failure is the model's (an attempt is used up) or the machinery's (it is not). */
  blame: z.enum(['model', 'infrastructure']).nullable(),
  summary: Sentence,
  /** The answer of kind `plan`. */
  plan: Plan.nullable(),
  /** Commit of the attempt's branch. */
  commit: Sha.nullable(),
  files: z.array(z.string().max(512)).max(FILES_PER_ANSWER_MAX * 2),
  tool_calls: z.array(ToolCallRecord).max(TOOL_CALLS_MAX * 4),
  usage: Usage,
});
export type TaskReport = z.infer<typeof TaskReport>;
