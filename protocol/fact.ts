/**
 * The facts of a build: the only truth about it. They are appended to CODEGOD_EVENT under
 * `codegod.event.<build>.<type>` and folded, in order, into the state of the build machine.
 *
 * F1: `bseq` counts from 1 without a gap, and `prev` is the SHA-256 of the previous fact's bytes as
 *     stored; the first has `prev` of 64 zeros. A hole or a flipped bit cannot pass unnoticed.
 * F2: `fence` is the revision of the leadership lease under which the fact was written.
 * F3: facts carry the time; the machine has no clock of its own.
 */
import { z } from 'zod';
import { BuildRequest, CheckSummary, ControlRequest } from './build.ts';
import { WireError } from './errors.ts';
import { Attempt, BuildId, BuildStamp, GatewayId, LeaseId, NodeId, TaskId } from './ids.ts';
import { PlacementDecision } from './node.ts';
import { Plan } from './plan.ts';
import { EngineName, TaskReport } from './task.ts';
import { ArtifactReference, EpochMs, Sentence, Sha, Sha256 } from './text.ts';

export const FACT_VERSION = 1;

const head = {
  v: z.int().min(1),
  build: BuildId,
  bseq: z.int().min(1),
  at: EpochMs,
  fence: z.int().min(0),
  prev: Sha256,
};
const attempt = { task: TaskId, attempt: Attempt };

const fact = <T extends string, S extends z.ZodRawShape>(type: T, shape: S) =>
  z.looseObject({ ...head, type: z.literal(type), ...shape });

export const Fact = z.discriminatedUnion('type', [
  fact('build.received', {
    request: BuildRequest,
    name_hint: z.string().nullable(),
    stamp: BuildStamp.optional(),
  }),
  fact('build.rejected', { error: WireError, excerpt: z.string().max(512) }),
  fact('build.admitted', {}),
  fact('build.controlled', { control: ControlRequest }),
  fact('build.recovered', { leader: z.string().max(128) }),
  fact('plan.accepted', { plan: Plan }),
  fact('plan.rejected', { error: WireError }),
  fact('workspace.created', { gateway: GatewayId, path: z.string(), head: Sha }),
  fact('workspace.failed', { error: WireError }),
  fact('task.placed', {
    ...attempt,
    node: NodeId,
    engine: EngineName,
    model: z.string(),
    context_tokens: z.int(),
    gateway: GatewayId,
    lease: LeaseId,
    decision: PlacementDecision,
  }),
  fact('task.unplaced', { ...attempt, tries: z.int(), decision: PlacementDecision }),
  fact('task.dispatched', { ...attempt, deadline_at: EpochMs }),
  /** Its node says that it is at work still. */
  fact('task.extended', { ...attempt, deadline_at: EpochMs }),
  fact('task.reported', { ...attempt, report: TaskReport }),
  fact('task.withdrawn', { ...attempt }),
  fact('task.merged', { ...attempt, commit: Sha }),
  fact('task.conflicted', { ...attempt, conflicts: z.array(z.string()).max(256) }),
  fact('task.failed', { ...attempt, error: WireError }),
  fact('check.ended', { check: CheckSummary }),
  fact('check.failed', { round: z.int(), error: WireError }),
  fact('build.archived', {
    archive: ArtifactReference,
    head: Sha,
    files: z.array(z.string()).max(4_096),
  }),
  fact('archive.failed', { error: WireError }),
  fact('deadline.passed', { key: z.string().max(160) }),
  fact('build.ended', {
    state: z.enum(['succeeded', 'partial', 'failed', 'cancelled']),
    error: WireError.nullable(),
    unmet: z.array(Sentence),
  }),
]);
export type Fact = z.infer<typeof Fact>;

/** A fact before the log has given it its place: what an actor wants to say. */
export type FactBody = Fact extends infer F
  ? F extends Fact
    ? { [K in keyof F as string extends K ? never : Exclude<K, Place>]: F[K] }
    : never
  : never;
type Place = 'v' | 'build' | 'bseq' | 'fence' | 'prev';
