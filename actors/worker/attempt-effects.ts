/**
 * Does what attempts want done, through the ports, and answers with the facts that follow.
 *
 * P1: a failure of the machinery that may pass is left to the host, which tries again; after a
 *     minute of nothing else it ends the attempt, so that the master can place it elsewhere.
 * P2: an engine that cannot be reached is waited for like the rest of the machinery: it may be one
 *     that is only restarted. One that failed is asked once more.
 * P3: an answer is bounded: what is longer than any answer may be is cut off and says so.
 */
import type { ErrorCode } from '../../protocol/error-codes.ts';
import { CodeGodError, fromWireError, toWireError, type WireError } from '../../protocol/errors.ts';
import { ANSWER_LENGTH_MAX } from '../../protocol/limits.ts';
import { AttemptScope } from '../../protocol/mcp.ts';
import type { EngineName } from '../../protocol/task.ts';
import { standard } from '../../runtime/cancellation.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import { promptHash, readAnswer } from './attempt-answer.ts';
import type { AttemptContext, AttemptEffect, AttemptFact, FactOf } from './attempt-facts.ts';
import type { AttemptProgress } from './attempt-progress.ts';
import type { Engine, GenerateRequest } from './engines/engine.ts';
import type { Hold, Measured, ModelLender } from './hold.ts';
import type { GatewayPort, ReportPort } from './ports.ts';

export interface AttemptPorts {
  readonly gateway: GatewayPort;
  readonly reports: ReportPort;
  readonly engines: Readonly<Partial<Record<EngineName, Engine>>>;
  /** Lends loaded models, turn by turn. */
  readonly models: ModelLender;
  readonly progress: Pick<AttemptProgress, 'waits' | 'moved'>;
  readonly clock: Clock;
  readonly log: Logger;
}

/** How long the same step may fail before its attempt is given up. */
const PATIENCE_MS = 60_000;
/** Figures of the memory are seconds old: of a runner that has just died it is free with the next. */
const MEMORY_PATIENCE_MS = 10_000;
/** May pass by itself: the host asks again under the same key. */
const PASSING: ReadonlySet<ErrorCode> = new Set([
  'bus_unavailable',
  'no_responders',
  'timeout',
  'overloaded',
  'server_down',
  'disk_full',
  'internal',
]);
/** The same of a turn: its other failures are told at once, after minutes that it may have taken. */
const PASSING_IN_TURN: ReadonlySet<ErrorCode> = new Set([
  'engine_unavailable',
  'bus_unavailable',
  'reservation_refused',
]);

/** `context` as it is while the key is pending. */
export type PerformAttempt = (
  entity: string,
  key: string,
  effect: AttemptEffect,
  signal: AbortSignal,
  context: AttemptContext,
) => Promise<readonly AttemptFact[]>;

export function performAttempts(ports: AttemptPorts): PerformAttempt {
  // A signal lives as long as its key is pending, over all tries.
  const waits = new WeakMap<AbortSignal, Wait>();
  return async (entity, key, effect, signal, context) => {
    const beganMs = ports.clock.monotonic();
    try {
      return [await perform(ports, { entity, context }, effect, signal)];
    } catch (error) {
      if (signal.aborted) throw error;
      const wire = toWireError(error);
      const wait = waits.get(signal) ?? { waitedMs: 0, failedAtMs: beganMs };
      const failedAtMs = ports.clock.monotonic();
      // A turn may have waited for its slot and written for minutes: only pauses count for it.
      const untilMs = effect.kind === 'generate' ? beganMs : failedAtMs;
      const waitedMs = wait.waitedMs + Math.max(0, untilMs - wait.failedAtMs);
      const patienceMs = wire.code === 'reservation_refused' ? MEMORY_PATIENCE_MS : PATIENCE_MS;
      const patient = effect.kind === 'report' || waitedMs < patienceMs;
      const passing = effect.kind === 'generate' ? PASSING_IN_TURN : PASSING;
      if (passing.has(wire.code) && patient) {
        waits.set(signal, { waitedMs, failedAtMs });
        throw error; // P1
      }
      ports.log.warn('attempt.step_failed', { attempt: entity, key, error });
      return [stepFailed(key, wire, ports.clock.now())];
    }
  };
}

/** How long a step has been waited for. */
interface Wait {
  readonly waitedMs: number;
  readonly failedAtMs: number;
}

export const stepFailed = (key: string, error: WireError, at: number): FactOf<'step.failed'> => ({
  type: 'step.failed',
  at,
  key,
  error,
});

interface Attempt {
  readonly entity: string;
  readonly context: AttemptContext;
}

async function perform(
  ports: AttemptPorts,
  attempt: Attempt,
  effect: AttemptEffect,
  signal: AbortSignal,
): Promise<AttemptFact> {
  const { gateway, clock } = ports;
  switch (effect.kind) {
    case 'open':
      await gateway.open(effect.gateway, effect.request, signal);
      return { type: 'workspace.opened', at: clock.now() };
    case 'read': {
      const { files } = await gateway.read(effect.gateway, effect.request, signal);
      const read = files.map(({ path, text, truncated }) => ({
        path,
        text: truncated ? `${text}\n(the rest of ${path} is not shown)\n` : text,
      }));
      return { type: 'files.read', at: clock.now(), files: read };
    }
    case 'tools': {
      const tools = await gateway.tools(effect.gateway, effect.tools, signal);
      return { type: 'tools.listed', at: clock.now(), tools };
    }
    case 'generate':
      return generate(ports, attempt, effect, signal);
    case 'call':
      return callTool(ports, effect, signal);
    case 'commit': {
      const reply = await gateway.commit(effect.gateway, effect.request, signal);
      const { commit, files, unchecked = [] } = reply;
      return { type: 'attempt.committed', at: clock.now(), commit, files, unchecked };
    }
    case 'report':
      await ports.reports.send(effect.report);
      return { type: 'attempt.reported', at: clock.now() };
  }
}

async function callTool(
  { gateway, clock }: AttemptPorts,
  effect: Extract<AttemptEffect, { kind: 'call' }>,
  signal: AbortSignal,
): Promise<AttemptFact> {
  const { turn, index } = effect;
  if (effect.tidy !== undefined) await gateway.open(effect.gateway, effect.tidy, signal);
  const reply = await gateway.call(effect.gateway, effect.request, signal);
  const error = reply.ok ? null : reply.error;
  // Nothing has been fired: the same call may still succeed.
  if (error?.code === 'server_down' || error?.code === 'overloaded') throw fromWireError(error);
  return { type: 'call.ended', at: clock.now(), turn, index, error };
}

async function generate(
  ports: AttemptPorts,
  { entity, context }: Attempt,
  effect: Extract<AttemptEffect, { kind: 'generate' }>,
  signal: AbortSignal,
): Promise<AttemptFact> {
  const engine = ports.engines[effect.engine];
  if (engine === undefined) {
    throw new CodeGodError('model_missing', `this worker has no engine ${effect.engine}`);
  }
  const { clock, progress } = ports;
  const { model, context_tokens } = effect.request;
  const holder = scopeOfKey(entity);
  const hold = await ports.models.use(
    {
      ...{ engine: effect.engine, model, context_tokens, bytes: 0 },
      ...{ holder, share: holder.build, priority: 0 },
    },
    ({ phase }) => (phase === 'queued' ? progress.waits(entity) : progress.moved(entity)),
    signal,
  );
  progress.moved(entity);
  let measured: Measured | undefined;
  try {
    const ends = AbortSignal.any([signal, standard(hold.signal)]);
    const moved = (): void => progress.moved(entity);
    const once = () => generateOnce({ clock, moved }, engine, hold, effect, ends);
    const fact = await once().catch(error => {
      if (ends.aborted || toWireError(error).code !== 'engine_failed') throw error;
      ports.log.warn('attempt.generate_again', { model, error });
      return once(); // P2
    });
    measured = fact.measured;
    const { text, finish } = fact.fact;
    return {
      ...fact.fact,
      prompt_hash: promptHash(effect.request.messages),
      answer: readAnswer(context, text, finish),
    };
  } finally {
    hold.release(measured);
  }
}

interface Generated {
  readonly fact: FactOf<'turn.answered'>;
  readonly measured?: Measured;
}

async function generateOnce(
  { clock, moved }: { readonly clock: Clock; readonly moved: () => void },
  engine: Engine,
  hold: Hold,
  { turn, request }: { readonly turn: number; readonly request: GenerateRequest },
  signal: AbortSignal,
): Promise<Generated> {
  const startMs = clock.monotonic();
  const { model, context_tokens, keep_alive } = hold;
  const copy = { model, context_tokens, ...(keep_alive === undefined ? {} : { keep_alive }) };
  const parts: string[] = [];
  let length = 0;
  const answered = (
    finish: FactOf<'turn.answered'>['finish'],
    counts: Pick<
      FactOf<'turn.answered'>,
      'prompt_tokens' | 'output_tokens' | 'load_ms' | 'total_ms'
    >,
  ): FactOf<'turn.answered'> => ({
    ...{ type: 'turn.answered', at: clock.now(), turn, finish },
    text: parts.join('').slice(0, ANSWER_LENGTH_MAX),
    ...counts,
  });
  // The copy that is held is asked for as it is loaded.
  for await (const chunk of engine.generate({ ...request, ...copy }, signal)) {
    moved();
    if (chunk.kind === 'thinking') continue;
    if (chunk.kind === 'done') {
      const { prompt_tokens, output_tokens, total_ms } = chunk;
      const { prompt_ms = null, output_ms = null } = chunk;
      const load_ms = chunk.load_ms + hold.load_ms;
      const fact = answered(chunk.reason, { prompt_tokens, output_tokens, load_ms, total_ms });
      return { fact, measured: { prompt_tokens, prompt_ms, output_tokens, output_ms } };
    }
    parts.push(chunk.text);
    length += chunk.text.length;
    if (length > ANSWER_LENGTH_MAX) {
      // Leaving the loop ends the stream. The counts are unknown (P3).
      const total_ms = Math.round(clock.monotonic() - startMs);
      const counts = { prompt_tokens: 0, output_tokens: 0, load_ms: hold.load_ms, total_ms };
      return { fact: answered('length', counts) };
    }
  }
  throw new CodeGodError('engine_failed', 'the engine ended its stream without saying so');
}

/** The attempt that an entity of the durable host stands for: `b1-k3x9a2bc.store.1`. */
function scopeOfKey(entity: string): AttemptScope {
  const [key = '', task, attempt] = entity.split('.');
  const [build, stamp] = key.split('-');
  return AttemptScope.parse({ build, stamp, task, attempt: Number(attempt) });
}
