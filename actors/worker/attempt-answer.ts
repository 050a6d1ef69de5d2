/**
 * What an answer means to its attempt: read once, when it comes, and kept beside its text. Pure.
 *
 * A1: a fold interprets no text. Another release reads answers in another way, and must come to the
 *     same calls under the same ids; only facts that an older release wrote without what it had read
 *     are read again.
 * A2: what is kept is bounded, however often one text is referred to.
 */
import { ANSWER_LENGTH_MAX } from '../../protocol/limits.ts';
import type { Answer, AnswerCall } from './answer/answer.ts';
import { isWrite } from './answer/assemble.ts';
import { parseAnswer } from './answer/parse-answer.ts';
import { type PlanAnswer, parsePlan } from './answer/parse-plan.ts';
import type { AttemptContext } from './attempt-facts.ts';
import type { GenerateMessage } from './engines/engine.ts';

export type ReadAnswer = Answer | PlanAnswer;

/** Of all strings and fields of an answer together (A2). */
const READ_LENGTH_MAX = 2 * ANSWER_LENGTH_MAX;
/** Anything deeper could not be written down. */
const DEPTH_MAX = 64;

export function readAnswer(
  { task, files, tools, kept }: Pick<AttemptContext, 'task' | 'files' | 'tools' | 'kept'>,
  text: string,
  finish: 'stop' | 'length' | 'repetition',
): ReadAnswer {
  if (task === null) throw new Error('an attempt has its task from its first fact on');
  if (task.kind === 'plan') {
    const { prompt, tech_stack } = task;
    return bounded(parsePlan(text, { finish, prompt, tech_stack, tools: tools ?? [] }));
  }
  const owns = task.card?.owns ?? [];
  const read = [...files.map(file => file.path), ...pathsOf(kept ?? [])];
  const answer = parseAnswer(text, {
    finish,
    owns,
    // A repair owns what there is already, also what was too long to be read.
    existing: task.kind === 'repair' ? [...read, ...owns] : read,
    tools: tools ?? [],
    mcp_tools: task.card?.mcp_tools ?? [],
  });
  return bounded(answer);
}

/** The paths that calls write. */
export const pathsOf = (calls: readonly AnswerCall[]): string[] =>
  calls.flatMap(({ tool, arguments: { path } }) =>
    isWrite({ tool }) && typeof path === 'string' ? [path] : [],
  );

function bounded(answer: ReadAnswer): ReadAnswer {
  if (lengthLeft(answer, READ_LENGTH_MAX, 0) >= 0) return answer;
  return {
    kind: 'invalid',
    error: 'the answer holds too much: write each file once, and in fewer calls',
  };
}

/** What is left of a length after a value; below 0 where it is too long or too deep. */
function lengthLeft(value: unknown, left: number, depth: number): number {
  if (typeof value === 'string') return left - value.length;
  if (typeof value !== 'object' || value === null) return left - 8;
  if (depth >= DEPTH_MAX) return -1;
  let rest = left;
  for (const [key, item] of Object.entries(value)) {
    rest = lengthLeft(item, rest - key.length, depth + 1);
    if (rest < 0) return rest;
  }
  return rest;
}

/** Tells one prompt from another, not from one that was made to be taken for it. */
export function promptHash(messages: readonly GenerateMessage[]): string {
  let high = 0xdeadbeef;
  let low = 0x41c6ce57;
  for (const { role, content } of messages) {
    for (const text of [role, content]) {
      for (let index = 0; index < text.length; index += 1) {
        const unit = text.charCodeAt(index);
        high = Math.imul(high ^ unit, 2_654_435_761);
        low = Math.imul(low ^ unit, 1_597_334_677);
      }
      high = Math.imul(high ^ 0x10000, 2_654_435_761);
      low = Math.imul(low ^ 0x10000, 1_597_334_677);
    }
  }
  const mixed = (one: number, other: number): number =>
    Math.imul(one ^ (one >>> 16), 2_246_822_507) ^ Math.imul(other ^ (other >>> 13), 3_266_489_909);
  return [mixed(high, low), mixed(low, high)]
    .map(part => (part >>> 0).toString(16).padStart(8, '0'))
    .join('');
}
