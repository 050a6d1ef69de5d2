/**
 * What the master knows of one build: the context of the build machine, as plain data.
 *
 * It is a function of the facts alone. `pending` (effects wanted) and `deadlines` are derived from
 * the rest after every step (`build-wishes.ts`), never kept by hand.
 */
import type {
  BuildRequest,
  BuildState,
  CheckSummary,
  TaskState,
  Usage,
} from '../../protocol/build.ts';
import { NO_USAGE } from '../../protocol/build.ts';
import type { WireError } from '../../protocol/errors.ts';
import type { FactBody } from '../../protocol/fact.ts';
import type {
  Attempt,
  BuildStamp,
  GatewayId,
  LeaseId,
  NodeId,
  TaskId,
} from '../../protocol/ids.ts';
import type { Plan, PlanTask } from '../../protocol/plan.ts';
import type { EngineName, TaskKind, TaskMessage } from '../../protocol/task.ts';
import type { ArtifactReference } from '../../protocol/text.ts';
import type { CheckRequest } from '../../protocol/workspace.ts';
import type { PlacementRequest } from '../../scheduling/placement.ts';

/** States of the machine in which wishes differ. Waiting and pausing keep the phase they hold up. */
export type Phase = Exclude<BuildState, 'waiting_capacity' | 'paused' | 'recovering' | 'admitted'>;

export type BuildEnd = Extract<FactBody, { type: 'build.ended' }>['state'];

/** What the machine wants done. Each ends in exactly one fact. */
export type BuildEffect =
  | { readonly kind: 'admit' }
  | { readonly kind: 'validate-plan'; readonly plan: Plan; readonly gateway: GatewayId }
  | { readonly kind: 'create-workspace'; readonly name: string; readonly gateway: GatewayId | null }
  | {
      readonly kind: 'place';
      readonly task: TaskId;
      readonly attempt: Attempt;
      readonly task_kind: TaskKind;
      /** Times it could not be placed. */
      readonly tries: number;
      readonly request: Omit<PlacementRequest, 'refused'>;
      /** The gateway that holds the workspace; null: any. */
      readonly gateway: GatewayId | null;
    }
  | { readonly kind: 'dispatch'; readonly message: TaskMessageDraft }
  | { readonly kind: 'withdraw'; readonly withdrawal: Withdrawal }
  | {
      readonly kind: 'merge';
      readonly task: TaskId;
      readonly attempt: Attempt;
      readonly gateway: GatewayId;
    }
  | {
      readonly kind: 'check';
      readonly gateway: GatewayId;
      readonly request: Without<CheckRequest, 'build'>;
    }
  | { readonly kind: 'archive'; readonly gateway: GatewayId }
  | {
      readonly kind: 'end';
      readonly state: BuildEnd;
      readonly error: WireError | null;
      readonly unmet: readonly string[];
    };

/** A message without some of its fields, and without the room for unknown ones. */
type Without<T, Left extends PropertyKey> = {
  readonly [K in keyof T as string extends K ? never : Exclude<K, Left>]: T[K];
};
export type TaskMessageDraft = Without<TaskMessage, 'build' | 'deadline_at'>;

export interface Lease {
  readonly node: NodeId;
  readonly engine: EngineName;
  readonly model: string;
  readonly context_tokens: number;
  readonly gateway: GatewayId;
  readonly lease: LeaseId;
}

export interface Withdrawal {
  readonly task: TaskId;
  readonly attempt: Attempt;
  readonly node: NodeId;
  readonly lease: LeaseId;
}

export interface TaskRecord {
  readonly id: TaskId;
  readonly kind: TaskKind;
  /** Null for the plan task. */
  readonly card: PlanTask | null;
  readonly state: TaskState;
  /** The attempt that is current; 0 before the first. */
  readonly attempt: number;
  readonly model_failures: number;
  readonly infrastructure_failures: number;
  /** How often what it stands on was away. */
  readonly absences?: number;
  readonly conflicts: number;
  /** Where the current attempt is, from `leased` on. */
  readonly lease: Lease | null;
  readonly deadline_at: number | null;
  readonly retry_at: number | null;
  /** Times the current attempt could not be placed, and why. */
  readonly unplaced: { readonly tries: number; readonly reason: string } | null;
  readonly avoid: readonly NodeId[];
  readonly context_tokens: number;
  /** Text for the next prompt. */
  readonly previous_error: string | null;
  /** What a repair is to repair: the output of the check, as long as its prompts take it. */
  readonly check_output?: string;
  /** The latest failure. */
  readonly error: WireError | null;
  /** Commit of the attempt, then of the merge. */
  readonly commit: string | null;
  /** When the current attempt reported: the order of the merge queue. */
  readonly reported_at: number | null;
  /** The model that did it. */
  readonly model: string | null;
  readonly engine: EngineName | null;
}

/** One run of the project's checks. Runs of one series saw the same tree. */
export interface CheckRun {
  readonly summary: CheckSummary;
  readonly series: number;
}

export interface BuildContext {
  readonly pending: Readonly<Record<string, BuildEffect>>;
  readonly deadlines: Readonly<Record<string, number>>;
  readonly phase: Phase;
  readonly phase_at: number;
  readonly paused: boolean;
  readonly approved: boolean;
  /** Absent in builds that were received before there were stamps. */
  readonly stamp?: BuildStamp | undefined;
  readonly request: BuildRequest | null;
  readonly name: string | null;
  readonly created_at: number;
  readonly updated_at: number;
  /** From here the time limit counts: admission, or the latest retry. */
  readonly started_at: number | null;
  readonly ended_at: number | null;
  readonly plan: Plan | null;
  /** The plan as reported, until it is accepted or rejected. */
  readonly draft: Plan | null;
  readonly plans_rejected: number;
  readonly workspace: {
    readonly gateway: GatewayId;
    readonly path: string;
    readonly head: string;
  } | null;
  /** Tries to create a workspace that failed. */
  readonly workspace_failures: number;
  /** A model was used, or there to be waited for: from then on nothing else will do. */
  readonly needs_model?: boolean;
  readonly tasks: readonly TaskRecord[];
  readonly withdrawals: readonly Withdrawal[];
  readonly checks: readonly CheckRun[];
  readonly check_series: number;
  readonly check_error: WireError | null;
  /** Repair tasks ever made: their numbers. */
  readonly repairs: number;
  /** How many of them came before the latest retry. */
  readonly repairs_before: number;
  readonly usage: Usage;
  readonly models: readonly string[];
  readonly archive: ArtifactReference | null;
  readonly files: readonly string[];
  /** Whether there is nothing (more) to archive. */
  readonly archived: boolean;
  readonly error: WireError | null;
  readonly unmet: readonly string[];
  readonly leader: string | null;
}

export const NEW_BUILD: BuildContext = {
  pending: {},
  deadlines: {},
  phase: 'received',
  phase_at: 0,
  paused: false,
  approved: false,
  request: null,
  name: null,
  created_at: 0,
  updated_at: 0,
  started_at: null,
  ended_at: null,
  plan: null,
  draft: null,
  plans_rejected: 0,
  workspace: null,
  workspace_failures: 0,
  tasks: [],
  withdrawals: [],
  checks: [],
  check_series: 0,
  check_error: null,
  repairs: 0,
  repairs_before: 0,
  usage: NO_USAGE,
  models: [],
  archive: null,
  files: [],
  archived: false,
  error: null,
  unmet: [],
  leader: null,
};

const DAY_MS = 86_400_000;

/** The end of the time that the build has; null before it has begun. */
export function budgetEndsAt({
  request,
  started_at,
}: Pick<BuildContext, 'request' | 'started_at'>): number | null {
  if (started_at === null) return null;
  const limitS = request?.constraints?.max_execution_time;
  return started_at + (limitS === undefined ? DAY_MS : limitS * 1_000);
}

/** Context asked for at first; doubled when an answer did not fit. */
export const CONTEXT_TOKENS_DEFAULT = 16_384;

export function newTask(
  id: TaskId,
  kind: TaskKind,
  card: PlanTask | null,
  previousError: string | null = null,
): TaskRecord {
  return {
    id,
    kind,
    card,
    state: 'pending',
    attempt: 0,
    model_failures: 0,
    infrastructure_failures: 0,
    conflicts: 0,
    lease: null,
    deadline_at: null,
    retry_at: null,
    unplaced: null,
    avoid: [],
    context_tokens: CONTEXT_TOKENS_DEFAULT,
    previous_error: previousError,
    error: null,
    commit: null,
    reported_at: null,
    model: null,
    engine: null,
  };
}
