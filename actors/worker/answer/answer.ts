/**
 * What the text of a model comes to, once it has been read: work to do, a refusal, or an error whose
 * text is exact enough to stand in the next prompt.
 */
import type { ToolDescription } from '../../../protocol/mcp.ts';

export interface AnswerCall {
  readonly server: string;
  readonly tool: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

export const REFUSAL_REASONS = [
  'need_context',
  'contract_conflict',
  'impossible',
  'other',
] as const;
export type RefusalReason = (typeof REFUSAL_REASONS)[number];

export type Answer =
  | {
      readonly kind: 'work';
      readonly summary: string;
      /** In the order in which they are to be made; references to files are resolved. */
      readonly calls: readonly AnswerCall[];
      /** Paths that the calls write. */
      readonly files: readonly string[];
      /** What was mended or left out, for the log. */
      readonly notes: readonly string[];
    }
  | {
      readonly kind: 'refusal';
      readonly reason: RefusalReason;
      readonly summary: string;
      /** Paths asked for, with `need_context`. */
      readonly needs: readonly string[];
    }
  /** Cut off by a limit: more room would help, a correction would not. */
  | { readonly kind: 'truncated'; readonly error: string }
  | {
      readonly kind: 'invalid';
      readonly error: string;
      /** Writes of files that are right, where all that is wrong is that others are missing. */
      readonly kept?: readonly AnswerCall[];
    };

/** What the reading of an answer depends on besides its text. */
export interface AnswerContext {
  readonly finish: 'stop' | 'length' | 'repetition';
  /** Globs that the task may write; everything where empty. */
  readonly owns: readonly string[];
  /** Paths that exist already, as far as the worker has seen. */
  readonly existing: readonly string[];
  /** Tools that the task was told of, with their live schemas. */
  readonly tools: readonly ToolDescription[];
  /** `server.tool`, as the plan names them. */
  readonly mcp_tools: readonly string[];
}

export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Whether an owned glob names exactly one file. */
export const isLiteral = (glob: string): boolean => !/[*?]/.test(glob) && !glob.endsWith('/');
