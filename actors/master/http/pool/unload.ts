/**
 * What clients of Ollama say with no message and no time, as `ollama stop` does: the memory of the
 * model is wanted back, now.
 *
 * U1: copies that somebody is at work on stay; where there are no others, the client is told.
 */
import { secondsOf } from '../../../../protocol/duration.ts';
import type { Dialect, UnloadRequest } from '../../../../protocol/inference.ts';
import { Acknowledgement } from '../../../../protocol/node.ts';
import { nodeSubject } from '../../../../protocol/subjects.ts';
import type { Clock } from '../../../../runtime/clock.ts';
import type { Messenger } from '../../../../runtime/messages.ts';
import type { Holder, ModelDirectory } from '../../pool/model-directory.ts';
import type { Body } from './body.ts';

const UNLOAD_MS = 60_000;

export interface UnloadOptions {
  readonly messenger: Messenger;
  readonly directory: ModelDirectory;
  readonly clock: Clock;
}

export function asksToUnload(dialect: Dialect, { value }: Body): boolean {
  if (secondsOf(value['keep_alive']) !== 0) return false;
  const { messages, prompt } = value;
  if (dialect === 'ollama-chat') return !Array.isArray(messages) || messages.length === 0;
  return dialect === 'ollama-generate' && (prompt === undefined || prompt === '');
}

/** Answers as Ollama does. @throws CodeGodError `model_missing`, `conflict` (U1) */
export async function unload(
  options: UnloadOptions,
  dialect: Dialect,
  model: string,
): Promise<object> {
  const { directory, clock } = options;
  const name = directory.resolve(model);
  const loaded = directory.holders(name).filter(({ model: { loaded } }) => loaded);
  const outcomes = await Promise.allSettled(loaded.map(holder => unloadOne(options, holder)));
  const failures = outcomes.flatMap(outcome =>
    outcome.status === 'rejected' ? [outcome.reason as unknown] : [],
  );
  if (failures.length > 0 && failures.length === loaded.length) throw failures[0];
  return {
    model,
    created_at: new Date(clock.now()).toISOString(),
    ...(dialect === 'ollama-chat'
      ? { message: { role: 'assistant', content: '' } }
      : { response: '' }),
    done: true,
    done_reason: 'unload',
  };
}

async function unloadOne({ messenger }: UnloadOptions, { node, model }: Holder): Promise<void> {
  const request: UnloadRequest = { model: model.name };
  await messenger.ask(nodeSubject(node, 'unload'), request, Acknowledgement, {
    timeout_ms: UNLOAD_MS,
  });
}
