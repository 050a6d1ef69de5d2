/**
 * What a worker is told about its attempt, from the context of the build. Pure.
 */
import type { BuildRequest } from '../../protocol/build.ts';
import { PROMPT_LENGTH_MAX } from '../../protocol/limits.ts';
import {
  type BuildContext,
  budgetEndsAt,
  type Lease,
  type TaskMessageDraft,
  type TaskRecord,
} from './build-context.ts';

const TEMPERATURE_PLAN = 0.2;
const TEMPERATURE_CODE = 0.1;
/** From the second failure on the model is allowed to wander a little further. */
const TEMPERATURE_STEP = 0.2;
const TEMPERATURE_MAX = 0.8;
const OUTPUT_TOKENS_MAX = 8_192;

export function taskMessage(
  context: BuildContext,
  task: TaskRecord,
  lease: Lease,
): TaskMessageDraft {
  const { plan, request, workspace } = context;
  const planning = task.kind === 'plan';
  const budgetUntil = budgetEndsAt(context);
  return {
    kind: task.kind,
    task: task.id,
    attempt: task.attempt,
    node: lease.node,
    lease: lease.lease,
    gateway: lease.gateway,
    engine: lease.engine,
    model: lease.model,
    context_tokens: lease.context_tokens,
    output_tokens_max: Math.min(OUTPUT_TOKENS_MAX, Math.ceil(lease.context_tokens / 2)),
    temperature: temperatureOf(task),
    ...(budgetUntil === null ? {} : { budget_until: budgetUntil }),
    prompt: request === null ? '' : fullPrompt(request),
    tech_stack: request?.tech_stack ?? {},
    project:
      planning || plan === null
        ? null
        : { name: context.name ?? plan.name, stack: plan.stack, summary: plan.summary },
    card: task.card,
    outline:
      planning || plan === null
        ? []
        : plan.tasks.map(({ id, title, type, owns }) => ({ id, title, type, owns })),
    base_sha: planning || workspace === null ? null : workspace.head,
    previous_error: task.previous_error,
  };
}

function temperatureOf(task: TaskRecord): number {
  const base = task.kind === 'plan' ? TEMPERATURE_PLAN : TEMPERATURE_CODE;
  const wander = Math.max(0, task.model_failures - 1) * TEMPERATURE_STEP;
  return Math.min(TEMPERATURE_MAX, base + wander);
}

/** The prompt and everything else that was asked for, as one text. */
export function fullPrompt(request: BuildRequest): string {
  const { requirements } = request;
  const wishes = typeof requirements === 'string' ? [requirements] : (requirements ?? []);
  const parts = [
    request.prompt,
    list('Requirements', wishes),
    list('Features', request.features ?? []),
    list('Target platforms', request.target_platforms ?? []),
    list('API specifications to follow', request.api_specs ?? []),
  ];
  return parts
    .filter(part => part !== '')
    .join('\n\n')
    .slice(0, PROMPT_LENGTH_MAX);
}

const list = (title: string, items: readonly string[]): string =>
  items.length === 0 ? '' : `${title}:\n${items.map(item => `- ${item}`).join('\n')}`;
