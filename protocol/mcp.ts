/** Requests to a gateway about tools: `codegod.mcp.<gateway>.*`. */
import { z } from 'zod';
import { WireError } from './errors.ts';
import { Attempt, BuildId, BuildStamp, CallId, TaskId } from './ids.ts';
import { ToolServerState } from './node.ts';

export const BuildScope = z.looseObject({ build: BuildId, stamp: BuildStamp.optional() });
export type BuildScope = z.infer<typeof BuildScope>;

/** The attempt whose worktree a call may touch. */
export const AttemptScope = BuildScope.extend({ task: TaskId, attempt: Attempt });
export type AttemptScope = z.infer<typeof AttemptScope>;

/** Repeating a `call_id` gives the journalled result: nothing is fired twice. */
export const CallRequest = z.looseObject({
  call_id: CallId,
  /** `filesystem`; or empty where `tool` holds both (`filesystem.write_file`). */
  server: z.string().max(128),
  tool: z.string().max(256),
  arguments: z.record(z.string(), z.unknown()),
  /** Absent: a call outside any build, read-only tools without paths only. */
  scope: AttemptScope.optional(),
  timeout_ms: z.int().min(100).max(600_000).default(60_000),
});
export type CallRequest = z.infer<typeof CallRequest>;

export const ToolError = WireError.extend({
  server: z.string().max(128),
  tool: z.string().max(256),
  did_you_mean: z.array(z.string().max(256)).max(16),
  /** JSON Schema of the tool's arguments, where they were wrong. */
  expected_arguments: z.unknown().optional(),
  received: z.unknown().optional(),
});
export type ToolError = z.infer<typeof ToolError>;

export const CallReply = z.discriminatedUnion('ok', [
  z.looseObject({
    ok: z.literal(true),
    server: z.string(),
    tool: z.string(),
    /** The result as the server gave it: content items, `structuredContent`, `_meta`. */
    result: z.looseObject({}),
    /** True where the journal answered and nothing was fired. */
    replayed: z.boolean(),
  }),
  z.looseObject({ ok: z.literal(false), error: ToolError, replayed: z.boolean() }),
]);
export type CallReply = z.infer<typeof CallReply>;

export const ToolDescription = z.looseObject({
  server: z.string().max(64),
  name: z.string().max(128),
  description: z.string(),
  input_schema: z.looseObject({}),
});
export type ToolDescription = z.infer<typeof ToolDescription>;

/** With `tools`, only those (`server.tool`); otherwise everything. */
export const ListRequest = z.looseObject({
  tools: z.array(z.string().max(256)).max(256).optional(),
});
export type ListRequest = z.infer<typeof ListRequest>;

export const ListReply = z.looseObject({
  tools: z.array(ToolDescription),
  /** Names asked for that no server has. */
  unknown: z.array(z.string()),
});
export type ListReply = z.infer<typeof ListReply>;

export const ToolServerStatus = z.looseObject({
  name: z.string().max(64),
  description: z.string().max(1_024),
  state: ToolServerState,
  package: z.string().max(256),
  version: z.string().max(64).nullable(),
  pid: z.int().nullable(),
  tools: z.array(z.string().max(128)),
  restarts: z.int().min(0),
  /** Why it is not ready, with the last lines of its error output; and how to mend it. */
  reason: z.string().nullable(),
  fix: z.string().nullable(),
  /** What of its tools is not offered, and why; a sentence each. */
  remarks: z.array(z.string()).default([]),
});
export type ToolServerStatus = z.infer<typeof ToolServerStatus>;

export const McpStatusReply = z.looseObject({ servers: z.array(ToolServerStatus) });
export type McpStatusReply = z.infer<typeof McpStatusReply>;
