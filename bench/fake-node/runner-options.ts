/** What a request's options make of a model's load: those that matter to it, with their defaults. */
import { ApiError } from './api-error.ts';
import type { FakeModel } from './fake-model.ts';
import type { Body, NodeState } from './node-state.ts';
import type { RunnerOptions } from './runner.ts';
import { GIB } from './sizes.ts';

const WHOLE = ['num_ctx', 'num_batch', 'num_gpu', 'main_gpu', 'num_thread', 'num_predict'] as const;
const CONTEXT_MIN = 4;
const CONTEXT_MIN_VISION = 2_048;

export function runnerOptions(state: NodeState, model: FakeModel, body: Body): RunnerOptions {
  const options = (body['options'] ?? {}) as Body;
  for (const key of WHOLE) {
    const value = options[key];
    if (value !== undefined && typeof value !== 'number') {
      throw new ApiError(500, `option "${key}" must be of type integer`);
    }
  }
  const least = model.capabilities.includes('vision') ? CONTEXT_MIN_VISION : CONTEXT_MIN;
  const asked = Number(options['num_ctx'] ?? contextDefault(state));
  const chosen: RunnerOptions = {
    num_ctx: Math.max(least, asked),
    num_batch: options['num_batch'] ?? 512,
    num_gpu: options['num_gpu'] ?? -1,
    main_gpu: options['main_gpu'] ?? 0,
    num_thread: options['num_thread'] ?? 0,
    use_mmap: options['use_mmap'] ?? null,
  };
  if (!isSince030(state.version)) return chosen;
  const draft = options['draft_num_predict'] ?? 0;
  return { ...chosen, draft_num_predict: draft, shift: body['shift'] !== false };
}

/** Since then every model runs in a server whose command line these are part of. */
function isSince030(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > 0 || minor >= 30;
}

function contextDefault({ environment, memory }: NodeState): number {
  if (environment.contextDefault !== null) return environment.contextDefault;
  if (memory.totalBytes >= 47 * GIB) return 262_144;
  return memory.totalBytes >= 23 * GIB ? 32_768 : 4_096;
}
