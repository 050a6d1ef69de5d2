/**
 * Reads a model's plan: the last JSON object with tasks in it, brought into the shape of `Plan`
 * where that takes no guessing (`plan-coercions.ts`), and judged by the schema.
 *
 * Q1: total, and linear in the text like the reading of any answer.
 * Q2: the graph is not judged here: unknown dependencies and shared files are for the master.
 */
import type { z } from 'zod';
import { ANSWER_LENGTH_MAX } from '../../../protocol/limits.ts';
import { Plan } from '../../../protocol/plan.ts';
import { isRecord, type RefusalReason } from './answer.ts';
import { asEnvelope } from './envelope.ts';
import { splitFences } from './fences.ts';
import { coercePlan, type PlanHints } from './plan-coercions.ts';
import { refusalIn } from './refusal.ts';
import { stripThinking } from './thinking.ts';
import {
  type JsonCandidate,
  jsonCandidates,
  parseCandidate,
  REPAIR_LENGTH_MAX,
} from './tolerant-json.ts';

export type PlanAnswer =
  | { readonly kind: 'plan'; readonly plan: Plan }
  | { readonly kind: 'refusal'; readonly reason: RefusalReason; readonly summary: string }
  | { readonly kind: 'truncated'; readonly error: string }
  | { readonly kind: 'invalid'; readonly error: string };

export interface PlanContext extends PlanHints {
  readonly finish: 'stop' | 'length' | 'repetition';
}

const ISSUES_SHOWN_MAX = 12;

export function parsePlan(raw: string, context: PlanContext): PlanAnswer {
  if (raw.length > ANSWER_LENGTH_MAX) return { kind: 'invalid', error: 'the plan is too long' };
  const text = stripThinking(raw).text.replace(/^\uFEFF/, '');
  const found = lastPlan(text);
  if (found.plan === null) {
    if (context.finish === 'length') return { kind: 'truncated', error: 'the plan was cut off' };
    if (found.refusal !== null) return found.refusal;
    return { kind: 'invalid', error: found.error };
  }
  const judged = Plan.safeParse(coercePlan(found.plan, context));
  if (judged.success) return { kind: 'plan', plan: judged.data };
  return { kind: 'invalid', error: describe(judged.error) };
}

/** One line per fault: where it is and what is wrong. */
function describe(error: z.ZodError): string {
  const lines = error.issues.slice(0, ISSUES_SHOWN_MAX).map(issue => {
    const path = issue.path.map(part =>
      typeof part === 'number' ? `[${part}]` : `.${String(part)}`,
    );
    return `- ${path.join('').replace(/^\./, '') || 'the plan'}: ${issue.message}`;
  });
  const more = error.issues.length - lines.length;
  return [...lines, ...(more > 0 ? [`- and ${more} more`] : [])].join('\n').slice(0, 8_000);
}

interface Found {
  readonly plan: Record<string, unknown> | null;
  readonly refusal: Extract<PlanAnswer, { kind: 'refusal' }> | null;
  readonly error: string;
}

function lastPlan(text: string): Found {
  const split = splitFences(text);
  const candidates: JsonCandidate[] = split.prose.flatMap(part =>
    jsonCandidates(part.text, part.at),
  );
  for (const block of split.blocks) {
    if (!/^\s*[{[]/.test(block.text)) continue;
    candidates.push({ text: block.text, at: block.at, complete: block.closed, fenced: true });
  }
  const torn = candidates.filter(candidate => !candidate.complete).map(candidate => candidate.at);
  const tornFrom = torn.length === 0 ? Number.POSITIVE_INFINITY : Math.min(...torn);
  candidates.sort((one, other) => other.at - one.at);
  const error = 'there is no JSON object with `tasks`';
  let repairable = REPAIR_LENGTH_MAX;
  let refusal: Found['refusal'] = null;
  for (const candidate of candidates) {
    // What stands complete inside a torn plan is a part of it, a single task perhaps.
    if (candidate.at > tornFrom) continue;
    const repair = candidate.complete && candidate.text.length <= repairable;
    const parsed = parseCandidate(candidate, repair);
    if (repair && !(parsed.ok && parsed.exact)) repairable -= candidate.text.length;
    if (parsed.ok) {
      const plan = planIn(parsed.value, 0);
      if (plan !== null) return { plan, refusal: null, error };
      refusal ??= refusalOf(parsed.value);
    } else if (/["']?tasks["']?\s*:/.test(candidate.text)) {
      return { plan: null, refusal: null, error: `the plan is not valid JSON: ${parsed.error}` };
    }
  }
  const words = refusalIn(text);
  if (refusal === null && words !== null) {
    refusal = { kind: 'refusal', reason: 'other', summary: words };
  }
  return { plan: null, refusal, error: text.trim() === '' ? 'the answer is empty' : error };
}

/** The object that holds the tasks, also one or two levels down: `{"plan": {…}}`. */
function planIn(value: unknown, depth: number): Record<string, unknown> | null {
  if (Array.isArray(value)) {
    const tasks = value.length > 0 && value.every(item => isRecord(item) && looksLikeTask(item));
    return tasks ? { tasks: value } : null;
  }
  if (!isRecord(value)) return null;
  if (Array.isArray(value['tasks']) || isRecord(value['tasks'])) return value;
  if (depth >= 2) return null;
  for (const key of ['plan', 'project', 'result', 'response', 'answer']) {
    const inner = planIn(value[key], depth + 1);
    if (inner === null) continue;
    const { [key]: _, success: __, ...outer } = value;
    return { ...outer, ...inner };
  }
  return null;
}

const looksLikeTask = (item: Record<string, unknown>): boolean =>
  'id' in item && ('owns' in item || 'depends_on' in item || 'goal' in item);

function refusalOf(value: unknown): Found['refusal'] {
  const envelope = asEnvelope(value);
  if (envelope === null || envelope.success) return null;
  const summary = envelope.summary || 'no reason given';
  return { kind: 'refusal', reason: envelope.reason, summary };
}
