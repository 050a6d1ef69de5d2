/**
 * Does what attempts want done, through the ports, and answers with the facts that follow.
 *
 * P1: a failure of the machinery that may pass is left to the host, which tries again; after a
 *     minute of nothing else it ends the attempt, so that the master can place it elsewhere.
 * P2: an engine that is not there ends the attempt at once; one that failed is asked once more.
 * P3: an answer is bounded: what is longer than any answer may be is cut off and says so.
 */
import {
  CodeGodError,
  type ErrorCode,
  fromWireError,
  toWireError,
  type WireError,
} from '../../protocol/errors.ts';
import { ANSWER_LENGTH_MAX } from '../../protocol/limits.ts';
import type { EngineName } from '../../protocol/task.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import type { AttemptEffect, AttemptFact, FactOf } from './attempt-facts.ts';
import type { Engine, GenerateRequest } from './engines/engine.ts';
import type { GatewayPort, ReportPort } from './ports.ts';

export interface AttemptPorts {
  readonly gateway: GatewayPort;
  readonly reports: ReportPort;
  readonly engines: Readonly<Partial<Record<EngineName, Engine>>>;
  readonly clock: Clock;
  readonly log: Logger;
  /** Told when a model has been or may have been loaded. */
  readonly used: () => void;
}

/** How long the same step may fail before its attempt is given up. */
const PATIENCE_MS = 60_000;
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

export type PerformAttempt = (
  entity: string,
  key: string,
  effect: AttemptEffect,
  signal: AbortSignal,
) => Promise<readonly AttemptFact[]>;

export function performAttempts(ports: AttemptPorts): PerformAttempt {
  // A signal lives as long as its key is pending, over all tries.
  const failingSince = new WeakMap<AbortSignal, number>();
  return async (entity, key, effect, signal) => {
    try {
      const fact = await perform(ports, effect, signal);
      failingSince.delete(signal);
      return [fact];
    } catch (error) {
      if (signal.aborted) throw error;
      const wire = toWireError(error);
      const nowMs = ports.clock.monotonic();
      const sinceMs = failingSince.get(signal) ?? nowMs;
      const patient = effect.kind === 'report' || nowMs - sinceMs < PATIENCE_MS;
      if (effect.kind !== 'generate' && PASSING.has(wire.code) && patient) {
        failingSince.set(signal, sinceMs);
        throw error; // P1
      }
      ports.log.warn('attempt.step_failed', { attempt: entity, key, error });
      return [stepFailed(key, wire, ports.clock.now())];
    }
  };
}

export const stepFailed = (key: string, error: WireError, at: number): FactOf<'step.failed'> => ({
  type: 'step.failed',
  at,
  key,
  error,
});

async function perform(
  ports: AttemptPorts,
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
      return generate(ports, effect, signal);
    case 'call':
      return callTool(ports, effect, signal);
    case 'commit': {
      const { commit, files } = await gateway.commit(effect.gateway, effect.request, signal);
      return { type: 'attempt.committed', at: clock.now(), commit, files };
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
  const reply = await gateway.call(effect.gateway, effect.request, signal);
  const error = reply.ok ? null : reply.error;
  // Nothing has been fired: the same call may still succeed.
  if (error?.code === 'server_down' || error?.code === 'overloaded') throw fromWireError(error);
  return { type: 'call.ended', at: clock.now(), turn, index, error };
}

async function generate(
  ports: AttemptPorts,
  effect: Extract<AttemptEffect, { kind: 'generate' }>,
  signal: AbortSignal,
): Promise<AttemptFact> {
  const engine = ports.engines[effect.engine];
  if (engine === undefined) {
    throw new CodeGodError('engine_unavailable', `this worker has no engine ${effect.engine}`);
  }
  try {
    return await generateOnce(ports, engine, effect, signal);
  } catch (error) {
    if (signal.aborted || toWireError(error).code !== 'engine_failed') throw error;
    ports.log.warn('attempt.generate_again', { model: effect.request.model, error });
    return await generateOnce(ports, engine, effect, signal); // P2
  } finally {
    ports.used();
  }
}

async function generateOnce(
  { clock }: AttemptPorts,
  engine: Engine,
  { turn, request }: { readonly turn: number; readonly request: GenerateRequest },
  signal: AbortSignal,
): Promise<AttemptFact> {
  const startMs = clock.monotonic();
  const parts: string[] = [];
  let length = 0;
  for await (const chunk of engine.generate(request, signal)) {
    if (chunk.kind === 'thinking') continue;
    if (chunk.kind === 'done') {
      const { prompt_tokens, output_tokens, load_ms, total_ms } = chunk;
      const counts = { prompt_tokens, output_tokens, load_ms, total_ms };
      const text = parts.join('');
      return {
        type: 'turn.answered',
        at: clock.now(),
        turn,
        text,
        finish: chunk.reason,
        ...counts,
      };
    }
    parts.push(chunk.text);
    length += chunk.text.length;
    if (length > ANSWER_LENGTH_MAX) {
      // Leaving the loop ends the stream. The counts are unknown (P3).
      const counts = { prompt_tokens: 0, output_tokens: 0, load_ms: 0 };
      const total_ms = Math.round(clock.monotonic() - startMs);
      const text = parts.join('').slice(0, ANSWER_LENGTH_MAX);
      return {
        type: 'turn.answered',
        at: clock.now(),
        turn,
        text,
        finish: 'length',
        ...counts,
        total_ms,
      };
    }
  }
  throw new CodeGodError('engine_failed', 'the engine ended its stream without saying so');
}
