/**
 * What follows from an answer, a failed call or a failed step: go on, ask again with the exact error,
 * or end, and whose fault it is. Pure.
 *
 * V1: the model pays for what it wrote, never for the machinery: only blame `model` uses up an attempt.
 * V2: repair is bounded: two turns for the form of answers and two for failed tools.
 */
import type { ErrorCode } from '../../protocol/error-codes.ts';
import type { WireError } from '../../protocol/errors.ts';
import { TOOL_CALLS_MAX } from '../../protocol/limits.ts';
import type { TaskMessage } from '../../protocol/task.ts';
import { pathFault } from '../../protocol/text.ts';
import type { ReadAnswer } from './attempt-answer.ts';
import type { AttemptContext, AttemptEffect, AttemptEnd, Verdict } from './attempt-facts.ts';

const FORMAT_REPAIRS_MAX = 2;
const TOOL_REPAIRS_MAX = 2;
const CONTEXT_ROUNDS_MAX = 1;
const SCHEMA_SHOWN_MAX = 2_000;

export function failed(error: WireError, blame: 'model' | 'infrastructure'): AttemptEnd {
  return { outcome: 'failed', error, blame, summary: error.message.slice(0, 1_000) };
}

export const CANCELLED: AttemptEnd = {
  outcome: 'cancelled',
  error: null,
  blame: null,
  summary: 'cancelled',
};

export function late({ task, pending, deadlines }: AttemptContext, key: string): AttemptEnd {
  const { limit_ms, budget_until } = task ?? {};
  const [step] = Object.keys(pending);
  let message = 'the attempt did not end before its deadline';
  if (budget_until !== undefined && (deadlines[key] ?? 0) >= budget_until) {
    message = 'the time that the build has was over';
  } else if (limit_ms !== undefined) {
    const seconds = Math.round(limit_ms / 1_000);
    message = `nothing came of \`${step ?? 'the attempt'}\` for ${seconds} s`;
  }
  return failed({ code: 'timeout', message }, 'infrastructure');
}

/** What an answer to a turn calls for. */
export function judge(context: AttemptContext, answer: ReadAnswer): Verdict {
  switch (answer.kind) {
    case 'work':
      return { kind: 'calls' };
    case 'plan':
      return { kind: 'plan' };
    case 'truncated':
      return {
        kind: 'end',
        end: failed({ code: 'answer_truncated', message: answer.error }, 'model'),
      };
    case 'refusal':
      return refusal(context, answer);
    case 'invalid': {
      if (context.formatRepairs < FORMAT_REPAIRS_MAX) {
        const error = `Your answer could not be used:\n${answer.error}`;
        return { kind: 'again', error };
      }
      const answers = context.usage.turns;
      const message = `none of ${answers} answers could be used; the last one: ${answer.error}`;
      return { kind: 'end', end: failed({ code: 'answer_invalid', message }, 'model') };
    }
  }
}

function refusal(
  context: AttemptContext,
  answer: { readonly reason: string; readonly summary: string; readonly needs?: readonly string[] },
): Verdict {
  const paths = (answer.needs ?? []).filter(path => pathFault(path) === null).slice(0, 32);
  const more = answer.reason === 'need_context' && paths.length > 0;
  if (more && context.contextRounds < CONTEXT_ROUNDS_MAX) return { kind: 'read_more', paths };
  const code = context.task?.engine === 'scaffold' ? 'scaffold_refused' : 'model_refused';
  const message = answer.summary.slice(0, 4_000);
  return {
    kind: 'end',
    end: failed({ code, message, details: { reason: answer.reason } }, 'model'),
  };
}

/** Failures that a better call would not have: the model gets another turn. */
const REPAIRABLE: ReadonlySet<ErrorCode> = new Set([
  'denied',
  'unknown_server',
  'unknown_tool',
  'invalid_arguments',
  'tool_failed',
  'too_large',
  'bad_request',
  'bad_message',
  'not_found',
  'conflict',
  'outside_owned',
  'timeout',
]);

/** What a failed call calls for. */
export function judgeCall(context: AttemptContext, error: WireError): Verdict {
  if (!REPAIRABLE.has(error.code)) return { kind: 'end', end: failed(error, 'infrastructure') };
  const room = context.records.length < TOOL_CALLS_MAX * 3;
  if (context.toolRepairs >= TOOL_REPAIRS_MAX || !room) {
    return { kind: 'end', end: failed(error, 'model') };
  }
  const call = context.calls[context.called];
  const name = `${call?.server ?? ''}.${call?.tool ?? ''}`;
  return { kind: 'again', error: `The tool call ${name} failed:\n${explain(error)}` };
}

/** What a refused commit calls for: files that do not parse are written again, within the bound. */
export function judgeCommit(context: AttemptContext, error: WireError): Verdict | null {
  if (error.code !== 'answer_invalid' || context.formatRepairs >= FORMAT_REPAIRS_MAX) return null;
  const written = [...new Set(context.calls.map(call => call.arguments['path']))]
    .filter(path => typeof path === 'string')
    .slice(0, 64);
  const again = `Answer again with all files of the task, each one whole: ${written.join(', ')}`;
  return { kind: 'again', error: `What you wrote ${error.message}\n${again}` };
}

/** The error with everything that helps to do better. */
function explain(error: WireError): string {
  const lines = [`${error.code}: ${error.message}`];
  if (error.hint !== undefined) lines.push(error.hint);
  const names: unknown = error['did_you_mean'];
  if (Array.isArray(names) && names.length > 0) lines.push(`Did you mean: ${names.join(', ')}`);
  const schema: unknown = error['expected_arguments'];
  if (schema !== undefined && schema !== null) {
    lines.push(`The arguments must fit: ${JSON.stringify(schema).slice(0, SCHEMA_SHOWN_MAX)}`);
  }
  return lines.join('\n');
}

/** Codes of a step's failure that follow from what the model wrote. */
const MODEL_FAULTS: Readonly<Partial<Record<AttemptEffect['kind'], readonly ErrorCode[]>>> = {
  generate: ['answer_truncated', 'answer_invalid', 'model_refused'],
  commit: ['outside_owned', 'nothing_changed', 'denied', 'answer_invalid'],
};

/** The end that a step's failure means. */
export function endOfStep(effect: AttemptEffect, error: WireError): AttemptEnd {
  const model = MODEL_FAULTS[effect.kind]?.includes(error.code) === true;
  return failed(error, model ? 'model' : 'infrastructure');
}

/** Turns of engines outside the house are counted apart. */
export const isRemote = (task: TaskMessage): boolean =>
  task.engine === 'anthropic' || task.engine === 'openai';
