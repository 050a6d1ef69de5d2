/**
 * The steps of an attempt: context and fact in, next context out. Pure; `attempt-machine.ts` says when
 * each is taken.
 *
 * S1: an effect is in `pending` exactly while its result is awaited. Its key names it for good:
 *     whatever is started again under the same key is the same piece of work.
 */
import { callIdOf, stampedAttempt } from '../../protocol/ids.ts';
import type { TaskMessage, TaskReport, ToolCallRecord } from '../../protocol/task.ts';
import type { AnswerCall } from './answer/answer.ts';
import { pathsOf, promptHash, type ReadAnswer, readAnswer } from './attempt-answer.ts';
import type {
  AttemptContext,
  AttemptEffect,
  AttemptEnd,
  FactOf,
  Verdict,
} from './attempt-facts.ts';
import { buildPrompt } from './prompt/build-prompt.ts';
import { failed, isRemote, judge, judgeCall, judgeCommit } from './verdict.ts';

const REPEATED_FAILURE_HEAT = 0.2;
const RECORDED_ERROR_LENGTH_MAX = 512;
/** Whatever the bounds of each kind of repair come to together. */
const TURNS_MAX = 16;
const CALL_TIMEOUT_MS = 60_000;
/** Of all files together; one prompt never holds more. */
const READ_BYTES_MAX = 131_072;

type Step = AttemptContext;

export const generateKey = (turn: number): string => `generate:${turn}`;
export const callKey = (turn: number, index: number): string => `call:${turn}.${index}`;

function awaiting(context: AttemptContext, key: string, effect: AttemptEffect): Step {
  return { ...context, pending: { [key]: effect } };
}

function taskOf(context: AttemptContext): TaskMessage {
  if (context.task === null) throw new Error('an attempt has its task from its first fact on');
  return context.task;
}

export function receive(context: AttemptContext, fact: FactOf<'attempt.received'>): Step {
  return { ...context, task: fact.task, deadlines: { attempt: fact.task.deadline_at } };
}

export const moveDeadline = (context: AttemptContext, fact: FactOf<'deadline.moved'>): Step =>
  fact.key in context.deadlines
    ? { ...context, deadlines: { ...context.deadlines, [fact.key]: fact.until } }
    : context;

export function open(context: AttemptContext): Step {
  const task = taskOf(context);
  const { gateway } = task;
  return awaiting(context, 'open', { kind: 'open', gateway, request: stampedAttempt(task) });
}

/** What the card reads and owns; in a further round, what the model asked for. */
export function read(context: AttemptContext): Step {
  const task = taskOf(context);
  const more = context.verdict?.kind === 'read_more' ? context.verdict.paths : null;
  const card = task.card;
  const paths = more ?? [...new Set([...(card?.reads ?? []), ...(card?.owns ?? [])])];
  const request = { ...stampedAttempt(task), paths: [...paths], bytes_max: READ_BYTES_MAX };
  const key = more === null ? 'read' : `read:${context.turn}`;
  return {
    ...awaiting(context, key, { kind: 'read', gateway: task.gateway, request }),
    contextRounds: context.contextRounds + (more === null ? 0 : 1),
  };
}

export function keepFiles(context: AttemptContext, fact: FactOf<'files.read'>): Step {
  const fresh = new Set(fact.files.map(file => file.path));
  return {
    ...context,
    files: [...context.files.filter(file => !fresh.has(file.path)), ...fact.files],
  };
}

export function list(context: AttemptContext): Step {
  const { card, gateway } = taskOf(context);
  // Files are always written through a tool, whether the plan thought of it or not.
  const tools = card === null ? null : [...new Set([...card.mcp_tools, 'filesystem.write_file'])];
  return awaiting(context, 'tools', { kind: 'tools', gateway, tools });
}

export const keepTools = (context: AttemptContext, fact: FactOf<'tools.listed'>): Step => ({
  ...context,
  tools: fact.tools,
});

/** The next turn: a prompt, with the error of the last turn in it. */
export function ask(context: AttemptContext): Step {
  const task = taskOf(context);
  const turn = context.turn + 1;
  const { files, error } = context;
  if (turn > TURNS_MAX) {
    const message = `${context.turn} turns came to nothing; the last one: ${error ?? 'no error'}`;
    const end = failed({ code: 'answer_invalid', message }, 'model');
    return { ...context, verdict: { kind: 'end', end }, pending: {} };
  }
  const prompt = buildPrompt({ task, files, tools: context.tools ?? [], error });
  if (!prompt.fits) {
    const message = `the prompt needs about ${prompt.tokens} tokens of the context's ${task.context_tokens}`;
    const end = failed({ code: 'answer_truncated', message }, 'model');
    return { ...context, verdict: { kind: 'end', end }, pending: {} };
  }
  const effect: AttemptEffect = {
    kind: 'generate',
    turn,
    engine: task.engine,
    request: {
      model: task.model,
      messages: prompt.messages,
      context_tokens: task.context_tokens,
      output_tokens_max: task.output_tokens_max,
      temperature: Math.min(2, task.temperature + (context.sameError ? REPEATED_FAILURE_HEAT : 0)),
      think: false,
    },
  };
  return { ...awaiting(context, generateKey(turn), effect), turn, verdict: null };
}

/** Takes an answer as it was read, and decides what it calls for. */
export function answer(context: AttemptContext, fact: FactOf<'turn.answered'>): Step {
  const task = taskOf(context);
  const { usage } = context;
  const counted: AttemptContext = {
    ...context,
    pending: {},
    drifted: driftedBy(context, fact),
    usage: {
      ...usage,
      turns: usage.turns + 1,
      prompt_tokens: usage.prompt_tokens + fact.prompt_tokens,
      output_tokens: usage.output_tokens + fact.output_tokens,
      load_ms: usage.load_ms + fact.load_ms,
      generate_ms: usage.generate_ms + Math.max(0, fact.total_ms - fact.load_ms),
      remote_turns: usage.remote_turns + (isRemote(task) ? 1 : 0),
    },
  };
  // Only an older release wrote an answer down unread.
  const read = fact.answer ?? readAnswer(context, fact.text, fact.finish);
  const work = read.kind === 'work' ? read : null;
  const plan = read.kind === 'plan' ? read.plan : null;
  const kept = keptAfter(context.kept ?? [], read);
  const next = {
    ...counted,
    ...{ calls: work === null ? [] : [...kept, ...work.calls], called: 0, plan },
    ...(kept.length > 0 || context.kept !== undefined ? { kept } : {}),
    summary: work?.summary ?? plan?.summary ?? '',
  };
  const verdict = judge(counted, read);
  const repairs = verdict.kind === 'again' ? context.formatRepairs + 1 : context.formatRepairs;
  return { ...follow(next, verdict), formatRepairs: repairs };
}

/** What stands of earlier answers beside this one: all but the files that it writes itself. */
function keptAfter(before: readonly AnswerCall[], read: ReadAnswer): readonly AnswerCall[] {
  const fresh = 'calls' in read ? read.calls : 'kept' in read ? (read.kept ?? []) : [];
  const written = new Set(pathsOf(fresh));
  const left = before.filter(call => pathsOf([call]).every(path => !written.has(path)));
  return read.kind === 'invalid' ? [...left, ...fresh] : left;
}

/** The answer stands, whatever it was asked with; that it was something else is worth knowing. */
function driftedBy(context: AttemptContext, fact: FactOf<'turn.answered'>): readonly number[] {
  const effect = context.pending[generateKey(fact.turn)];
  if (effect?.kind !== 'generate' || fact.prompt_hash === undefined) return context.drifted;
  const isSame = promptHash(effect.request.messages) === fact.prompt_hash;
  return isSame ? context.drifted : [...context.drifted, fact.turn];
}

/** Takes a verdict into the context, with the error that the next turn is to see. */
function follow(context: AttemptContext, verdict: Verdict): Step {
  if (verdict.kind !== 'again') return { ...context, verdict };
  const sameError = context.error === verdict.error;
  return { ...context, verdict, error: verdict.error, sameError };
}

export function call(context: AttemptContext): Step {
  const task = taskOf(context);
  const { turn, called: index } = context;
  const next = context.calls[index];
  if (next === undefined) throw new Error('a call is only made where one is left');
  const { server, tool } = next;
  const request = {
    call_id: callIdOf(task.build, task.task, task.attempt, turn, index),
    server,
    tool,
    arguments: { ...next.arguments },
    scope: stampedAttempt(task),
    timeout_ms: CALL_TIMEOUT_MS,
  };
  const effect: AttemptEffect = {
    ...{ kind: 'call', turn, index, gateway: task.gateway, request },
    ...(turn > 1 && index === 0 ? { tidy: tidyOf(task, turn) } : {}),
  };
  return { ...awaiting(context, callKey(turn, index), effect), verdict: null };
}

/** Before the first call of a further turn: what the turn before it left must not spoil this one. */
const tidyOf = (task: TaskMessage, turn: number) => ({
  ...stampedAttempt(task),
  turn,
  owns: [...(task.card?.owns ?? [])],
});

export function keepCall(context: AttemptContext, fact: FactOf<'call.ended'>): Step {
  const task = taskOf(context);
  const made = context.calls[fact.index];
  const { error } = fact;
  const record: ToolCallRecord = {
    call_id: callIdOf(task.build, task.task, task.attempt, fact.turn, fact.index),
    server: made?.server ?? '',
    tool: made?.tool ?? '',
    ok: error === null,
    ...(error === null ? {} : { error: shortened(error) }),
  };
  const { usage } = context;
  const next = {
    ...context,
    pending: {},
    records: [...context.records, record],
    usage: { ...usage, tool_calls: usage.tool_calls + 1 },
  };
  if (error === null) return { ...next, called: context.called + 1 };
  const verdict = judgeCall(context, error);
  const repairs = verdict.kind === 'again' ? context.toolRepairs + 1 : context.toolRepairs;
  return { ...follow(next, verdict), toolRepairs: repairs };
}

const shortened = ({
  code,
  message,
}: {
  code: NonNullable<ToolCallRecord['error']>['code'];
  message: string;
}) => ({
  code,
  message: message.slice(0, RECORDED_ERROR_LENGTH_MAX),
});

export function commit(context: AttemptContext): Step {
  const task = taskOf(context);
  const card = task.card;
  if (card === null) throw new Error('only a task with a card is committed');
  const request = {
    ...stampedAttempt(task),
    title: card.title,
    model: task.model,
    owns: [...card.owns],
  };
  return awaiting(context, 'commit', { kind: 'commit', gateway: task.gateway, request });
}

/** A refused commit that the model can mend. */
export function keepRefusal(context: AttemptContext, fact: FactOf<'step.failed'>): Step {
  const verdict = judgeCommit(context, fact.error);
  if (verdict === null) return context;
  const next = { ...context, pending: {}, calls: [], called: 0 };
  return { ...follow(next, verdict), formatRepairs: context.formatRepairs + 1 };
}

export const keepCommit = (context: AttemptContext, fact: FactOf<'attempt.committed'>): Step => ({
  ...context,
  commit: fact.commit,
  committed: fact.files,
  summary: `${context.summary.slice(0, 3_000)}${unparsed(fact.unchecked ?? [])}`,
});

const unparsed = (paths: readonly string[]): string =>
  paths.length === 0 ? '' : ` (syntax not checked: ${paths.slice(0, 8).join(', ')})`;

/** The end is decided; what is under way stops, and the report goes out. */
export function finish(context: AttemptContext, end: AttemptEnd): Step {
  const ended = { ...context, end, deadlines: {} };
  return awaiting(ended, 'report', { kind: 'report', report: reportOf(ended, end) });
}

function reportOf(context: AttemptContext, end: AttemptEnd): TaskReport {
  const message = taskOf(context);
  const { lease, node, engine, model } = message;
  const done = end.outcome === 'done';
  return {
    ...{ ...stampedAttempt(message), lease, node, engine, model },
    outcome: end.outcome,
    error: end.error,
    blame: end.blame,
    summary: end.summary,
    plan: done ? context.plan : null,
    commit: done ? context.commit : null,
    files: done ? [...context.committed].slice(0, 256) : [],
    tool_calls: [...context.records],
    usage: context.usage,
  };
}

export const done = (context: AttemptContext): AttemptEnd => ({
  outcome: 'done',
  error: null,
  blame: null,
  summary: (context.summary || 'done').slice(0, 4_000),
});

export const close = (context: AttemptContext): Step => ({ ...context, pending: {} });
