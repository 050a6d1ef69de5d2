/** Embeddings: directions that follow from the text alone, so equal texts are equal. */
import { hashOf } from './answer.ts';
import { ApiError, cancelled } from './api-error.ts';
import type { Caller } from './caller.ts';
import { type FakeModel, tagged } from './fake-model.ts';
import { keepOf } from './infer.ts';
import { type Exchange, type NodeState, textOf } from './node-state.ts';
import { sendJson } from './player.ts';
import { textTokens } from './prompt.ts';
import type { Runner } from './runner.ts';
import { runnerOptions } from './runner-options.ts';

/** Tokens that the end and the beginning of a text need where it is cut. */
const CUT_MARGIN = 2;

export interface Embedded {
  readonly vectors: readonly (readonly number[])[];
  readonly tokens: number;
  readonly loadMs: number;
  readonly totalMs: number;
}

export async function sendEmbed(state: NodeState, exchange: Exchange): Promise<void> {
  const { vectors, tokens, loadMs, totalMs } = await embed(state, exchange);
  const durations = { total_duration: totalMs * 1e6, load_duration: loadMs * 1e6 };
  sendJson(exchange.response, 200, {
    ...{ model: textOf(exchange.body['model']), embeddings: vectors },
    ...(vectors.length === 0 ? {} : { ...durations, prompt_eval_count: tokens }),
  });
}

/** The older one: a single text, and the vector as the model made it. */
export async function sendEmbeddings(state: NodeState, exchange: Exchange): Promise<void> {
  const input = textOf(exchange.body['prompt']);
  const body = { ...exchange.body, input, truncate: false };
  const { vectors } = await embed(state, { ...exchange, body });
  const embedding = (vectors[0] ?? []).map(value => value * 8);
  sendJson(exchange.response, 200, { embedding });
}

export async function embed(state: NodeState, { body, caller }: Exchange): Promise<Embedded> {
  const startedMs = performance.now();
  const input = inputOf(body['input']);
  const asked = textOf(body['model']);
  const model = state.models.get(tagged(asked).toLowerCase());
  if (model === undefined) {
    throw new ApiError(404, `model "${asked}" not found, try pulling it first`);
  }
  const runner = await state.scheduler.acquire({
    ...{ model, caller, keepMs: keepOf(body), automatic: true },
    options: runnerOptions(state, model, body),
  });
  const loadMs = performance.now() - startedMs;
  try {
    if (input.length > 0) state.counters.requests += 1;
    const limit = Math.min(runner.contextTokens, model.contextMax);
    const counts = input.map(text => tokensOf(model, text, limit, body['truncate'] !== false));
    const tokens = counts.reduce((sum, count) => sum + count, 0);
    await inSlot(runner, (tokens / model.prefill) * 1_000 * state.timeScale, caller);
    const size = Number(body['dimensions'] ?? 0) || model.shape.width;
    const vectors = input.map(text =>
      vectorOf(text, Math.min(size, model.shape.width), state.seed),
    );
    if (input.length > 0) state.counters.answered += 1;
    return { vectors, tokens, loadMs, totalMs: performance.now() - startedMs };
  } finally {
    state.scheduler.release(runner);
  }
}

function inputOf(input: unknown): string[] {
  if (input === undefined || input === null || input === '') return [];
  const list: readonly unknown[] = Array.isArray(input) ? input : [input];
  if (list.some(item => typeof item !== 'string')) throw new ApiError(400, 'invalid input type');
  return list.map(textOf);
}

function tokensOf(model: FakeModel, text: string, limit: number, truncate: boolean): number {
  const tokens = textTokens(model, text);
  if (tokens <= limit) return tokens;
  if (!truncate) throw new ApiError(400, 'the input length exceeds the context length');
  return limit - CUT_MARGIN;
}

/** Takes a slot for so long. */
async function inSlot(runner: Runner, ms: number, caller: Caller): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    if (runner.slots.take(resolve)) return resolve();
    const hangUp = (): void => {
      if (runner.slots.forget(resolve)) reject(cancelled());
    };
    caller.onGone(hangUp);
  });
  if (ms > 0) await new Promise(resolve => setTimeout(resolve, ms));
  runner.slots.give();
}

function vectorOf(text: string, size: number, seed: number): number[] {
  let hash = hashOf(text, seed);
  const values = Array.from({ length: size }, () => {
    hash = (Math.imul(hash, 1_664_525) + 1_013_904_223) >>> 0;
    return hash / 2 ** 31 - 1;
  });
  const length = Math.hypot(...values) || 1;
  return values.map(value => value / length);
}
