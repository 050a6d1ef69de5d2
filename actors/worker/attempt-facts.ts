/**
 * What an attempt is made of: the facts that were journalled, the context that follows from them,
 * and the effects that are still to be had.
 *
 * T1: facts are data that were true when they were written. A model's text is kept as it came, and
 *     beside it what it was read as.
 */
import { NO_USAGE, type Usage } from '../../protocol/build.ts';
import type { WireError } from '../../protocol/errors.ts';
import type { AttemptScope, CallRequest, ToolDescription } from '../../protocol/mcp.ts';
import type { Plan } from '../../protocol/plan.ts';
import type { TaskMessage, TaskReport, ToolCallRecord } from '../../protocol/task.ts';
import type {
  CommitRequest,
  OpenAttemptRequest,
  ReadFilesRequest,
} from '../../protocol/workspace.ts';
import type { FrozenState } from '../../runtime/durable-fold.ts';
import type { Migrations } from '../../runtime/durable-snapshots.ts';
import type { AnswerCall } from './answer/answer.ts';
import type { ReadAnswer } from './attempt-answer.ts';
import type { GenerateRequest } from './engines/engine.ts';
import type { PromptFile } from './prompt/sections.ts';

export type AttemptFact =
  | { readonly type: 'attempt.received'; readonly at: number; readonly task: TaskMessage }
  | { readonly type: 'workspace.opened'; readonly at: number }
  | { readonly type: 'files.read'; readonly at: number; readonly files: readonly PromptFile[] }
  | {
      readonly type: 'tools.listed';
      readonly at: number;
      readonly tools: readonly ToolDescription[];
    }
  | {
      readonly type: 'turn.answered';
      readonly at: number;
      readonly turn: number;
      readonly text: string;
      readonly finish: 'stop' | 'length' | 'repetition';
      /** As it was read when it came; absent in facts of older releases. */
      readonly answer?: ReadAnswer;
      /** Of the prompt that it answers; absent in facts of older releases. */
      readonly prompt_hash?: string;
      readonly prompt_tokens: number;
      readonly output_tokens: number;
      readonly load_ms: number;
      readonly total_ms: number;
    }
  | {
      readonly type: 'call.ended';
      readonly at: number;
      readonly turn: number;
      readonly index: number;
      readonly error: WireError | null;
    }
  | {
      readonly type: 'attempt.committed';
      readonly at: number;
      readonly commit: string;
      readonly files: readonly string[];
      /** Files that nobody could parse; absent in facts of older releases. */
      readonly unchecked?: readonly string[];
    }
  | {
      readonly type: 'step.failed';
      readonly at: number;
      /** Of the effect that failed. */
      readonly key: string;
      readonly error: WireError;
    }
  | { readonly type: 'attempt.cancelled'; readonly at: number }
  | { readonly type: 'deadline.passed'; readonly at: number; readonly key: string }
  /** When it came, the attempt waited for its turn or got on. */
  | {
      readonly type: 'deadline.moved';
      readonly at: number;
      readonly key: string;
      readonly until: number;
    }
  | { readonly type: 'attempt.reported'; readonly at: number };

export type FactOf<T extends AttemptFact['type']> = Extract<AttemptFact, { readonly type: T }>;

/** Each may be started again after a crash; its port makes it happen once. */
export type AttemptEffect =
  | { readonly kind: 'open'; readonly gateway: string; readonly request: AttemptScope }
  | { readonly kind: 'read'; readonly gateway: string; readonly request: ReadFilesRequest }
  | {
      readonly kind: 'tools';
      readonly gateway: string;
      /** All of them where null. */
      readonly tools: readonly string[] | null;
    }
  | {
      readonly kind: 'generate';
      readonly turn: number;
      readonly engine: TaskMessage['engine'];
      readonly request: GenerateRequest;
    }
  | {
      readonly kind: 'call';
      readonly turn: number;
      readonly index: number;
      readonly gateway: string;
      readonly request: CallRequest;
      /** Asked of the workspace before the call, on the first one of a further turn. */
      readonly tidy?: OpenAttemptRequest;
    }
  | { readonly kind: 'commit'; readonly gateway: string; readonly request: CommitRequest }
  | { readonly kind: 'report'; readonly report: TaskReport };

export interface AttemptEnd {
  readonly outcome: TaskReport['outcome'];
  readonly error: WireError | null;
  readonly blame: TaskReport['blame'];
  readonly summary: string;
}

/** What the last answer calls for. */
export type Verdict =
  | { readonly kind: 'calls' }
  | { readonly kind: 'plan' }
  | { readonly kind: 'read_more'; readonly paths: readonly string[] }
  | { readonly kind: 'again'; readonly error: string }
  | { readonly kind: 'end'; readonly end: AttemptEnd };

export interface AttemptContext {
  /** Effects under way, by idempotency key (`DurableContext`). */
  readonly pending: Readonly<Record<string, AttemptEffect>>;
  readonly deadlines: Readonly<Record<string, number>>;
  readonly task: TaskMessage | null;
  readonly files: readonly PromptFile[];
  readonly tools: readonly ToolDescription[] | null;
  /** Turns asked for so far. */
  readonly turn: number;
  readonly formatRepairs: number;
  readonly toolRepairs: number;
  readonly contextRounds: number;
  readonly verdict: Verdict | null;
  /** Of the last answer, in order; `called` of them have ended. */
  readonly calls: readonly AnswerCall[];
  readonly called: number;
  readonly records: readonly ToolCallRecord[];
  /** Why the last turn failed, and whether the one before it failed in the same words. */
  readonly error: string | null;
  readonly sameError: boolean;
  readonly summary: string;
  readonly plan: Plan | null;
  readonly commit: string | null;
  readonly committed: readonly string[];
  readonly usage: Usage;
  readonly end: AttemptEnd | null;
  /** Turns that were answered to another prompt than this release makes of the same facts. */
  readonly drifted: readonly number[];
  /** Writes of earlier answers that were right and only not all: made with those of the next. */
  readonly kept?: readonly AnswerCall[];
}

export const NEW_ATTEMPT: AttemptContext = {
  pending: {},
  deadlines: {},
  task: null,
  files: [],
  tools: null,
  turn: 0,
  formatRepairs: 0,
  toolRepairs: 0,
  contextRounds: 0,
  verdict: null,
  calls: [],
  called: 0,
  records: [],
  error: null,
  sameError: false,
  summary: '',
  plan: null,
  commit: null,
  committed: [],
  usage: NO_USAGE,
  end: null,
  drifted: [],
};

/** Of the states and the context. */
export const SCHEMA_VERSION = 2;

/** Snapshots of older releases, brought up to the present step by step. */
export const MIGRATIONS: Migrations = {
  1: state => ({ ...state, context: { ...NEW_ATTEMPT, ...contextIn(state) } }),
};

const contextIn = ({ context }: FrozenState): object =>
  typeof context === 'object' && context !== null ? context : {};
