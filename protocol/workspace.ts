/**
 * Requests to a gateway about a build's project: `codegod.workspace.<gateway>.*`. Every request may
 * be repeated; the answer is the same and the effect happens once.
 */
import { z } from 'zod';
import { CheckSummary } from './build.ts';
import type { WireError } from './errors.ts';
import { FILE_BYTES_MAX, OWNS_MAX, PATH_LENGTH_MAX } from './limits.ts';
import { AttemptScope, BuildScope } from './mcp.ts';
import { ArtifactReference, Bytes, ProjectPath, Sha } from './text.ts';

export const CreateWorkspaceRequest = BuildScope.extend({
  name: z.string().regex(/^[a-z0-9][a-z0-9-]{0,49}$/),
});
export type CreateWorkspaceRequest = z.infer<typeof CreateWorkspaceRequest>;
export const CreateWorkspaceReply = z.looseObject({ path: z.string().max(4_096), head: Sha });
export type CreateWorkspaceReply = z.infer<typeof CreateWorkspaceReply>;

/**
 * A worktree for one attempt, on its own branch, from the present head of main. Before a further turn
 * of the attempt: the same worktree without what the turn before it spoiled, once per turn.
 */
export const OpenAttemptRequest = AttemptScope.extend({
  turn: z.int().min(1).max(999).optional(),
  /** What the task owns, with `turn`. */
  owns: z.array(ProjectPath).max(OWNS_MAX).optional(),
});
export type OpenAttemptRequest = z.infer<typeof OpenAttemptRequest>;
export const OpenAttemptReply = z.looseObject({ path: z.string().max(4_096), base: Sha });
export type OpenAttemptReply = z.infer<typeof OpenAttemptReply>;

/** Text of files in the attempt's worktree: globs allowed, binary and missing ones left out. */
export const ReadFilesRequest = AttemptScope.extend({
  paths: z.array(ProjectPath).max(OWNS_MAX * 2),
  bytes_max: z.int().min(1).max(FILE_BYTES_MAX).default(131_072),
});
export type ReadFilesRequest = z.infer<typeof ReadFilesRequest>;
export const ReadFilesReply = z.looseObject({
  files: z.array(z.looseObject({ path: ProjectPath, text: z.string(), truncated: z.boolean() })),
});
export type ReadFilesReply = z.infer<typeof ReadFilesReply>;

/** One commit on the attempt's branch; refuses paths outside `owns`, an unchanged tree, broken files. */
export const CommitRequest = AttemptScope.extend({
  title: z.string().min(1).max(256),
  model: z.string().max(128),
  owns: z.array(ProjectPath).min(1).max(OWNS_MAX),
});
export type CommitRequest = z.infer<typeof CommitRequest>;
export const CommitReply = z.looseObject({
  commit: Sha,
  files: z.array(z.string()),
  /** Files that nobody could parse; absent where there are none, and from older gateways. */
  unchecked: z.array(z.string().max(PATH_LENGTH_MAX)).max(64).optional(),
});
export type CommitReply = z.infer<typeof CommitReply>;

/** Brings the attempt's commit onto main. Linear history; a conflict leaves main as it was. */
export const MergeRequest = AttemptScope;
export type MergeRequest = z.infer<typeof MergeRequest>;
export const MergeReply = z.discriminatedUnion('merged', [
  z.looseObject({ merged: z.literal(true), commit: Sha }),
  z.looseObject({ merged: z.literal(false), conflicts: z.array(z.string()).max(256) }),
]);
export type MergeReply = z.infer<typeof MergeReply>;

/**
 * Whether a merge failed at what a person has not committed in the project's folder: the gateway names
 * it in `details.in_the_way` and keeps the attempt's commit, so that the same merge can be asked again.
 */
export const isHeldUp = ({ code, details }: WireError): boolean =>
  code === 'conflict' && Array.isArray(details?.['in_the_way']);

/** Runs the project's own checks on a clean checkout of main, in the sandbox. */
export const CheckRequest = BuildScope.extend({
  /** Together with the build the idempotency key: a repeated round gives the journalled result. */
  round: z.int().min(0).max(99),
  command: z.array(z.string()).min(1).max(32),
  stack: z.string().max(32),
  timeout_s: z.int().min(1).max(3_600),
});
export type CheckRequest = z.infer<typeof CheckRequest>;
export const CheckReply = CheckSummary;
export type CheckReply = z.infer<typeof CheckReply>;

export const ArchiveRequest = BuildScope;
export type ArchiveRequest = z.infer<typeof ArchiveRequest>;
export const ArchiveReply = z.looseObject({
  archive: ArtifactReference,
  head: Sha,
  files: z.array(z.looseObject({ path: z.string(), size: Bytes })),
});
export type ArchiveReply = z.infer<typeof ArchiveReply>;

/** Removes the worktrees and branches of all attempts; the project stays. */
export const FinishRequest = BuildScope;
export type FinishRequest = z.infer<typeof FinishRequest>;
