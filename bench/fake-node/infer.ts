/** One request for tokens, from its checks to its last byte, in the order in which Ollama checks. */
import { cut, hashOf, schemaValue, words } from './answer.ts';
import { ApiError, cancelled } from './api-error.ts';
import { keepAliveMs } from './environment.ts';
import type { Capability, FakeModel } from './fake-model.ts';
import type { Fault } from './faults.ts';
import { type Exchange, type NodeState, recordOf, textOf } from './node-state.ts';
import { type Ending, type Listener, Player, type Speech, sendJson } from './player.ts';
import { type Message, promptTokens, shortened, textTokens } from './prompt.ts';
import type { Runner } from './runner.ts';
import { runnerOptions } from './runner-options.ts';
import type { ToolCall, Voice } from './voice.ts';

/** How much slower a model is that lies wholly in main memory. */
const RAM_SLOWDOWN = 10;
/** Of the output, in contexts. */
const OUTPUT_CONTEXTS_MAX = 10;
const THOUGHT_SHARE = 0.5;

export interface Inference {
  readonly model: FakeModel;
  /** As it was asked for. */
  readonly asked: string;
  readonly voice: Voice;
  readonly messages: readonly Message[];
  readonly tools: readonly unknown[];
  /** The whole answer where the model is only to be loaded. */
  readonly loadReply: object | null;
  /** Of the prompt, where it is not made of messages. */
  readonly rawTokens: number | null;
}

/** Ends when the answer has begun; throws an ApiError before. */
export async function infer(
  state: NodeState,
  exchange: Exchange,
  inference: Inference,
): Promise<void> {
  const { body, response, caller } = exchange;
  const { model, loadReply } = inference;
  const startedMs = performance.now();
  const fault = state.faults.next(loadReply === null ? exchange.path : 'load', model.name);
  if (failsAtOnce(state, exchange, fault)) return;
  const runner = await state.scheduler.acquire({
    model,
    options: runnerOptions(state, model, body),
    automatic: recordOf(body['options'])['num_ctx'] === undefined,
    keepMs: keepOf(body),
    caller,
  });
  const loadMs = performance.now() - startedMs;
  if (loadReply !== null) {
    state.scheduler.release(runner);
    sendJson(response, 200, loadReply);
    return;
  }
  state.counters.requests += 1;
  try {
    if (caller.gone) throw cancelled();
    const speech = speechOf(state, exchange, inference, { runner, fault, startedMs, loadMs });
    new Turn(state, exchange, runner, speech).wait();
  } catch (error) {
    state.scheduler.release(runner);
    throw error;
  }
}

/** Of one request with a runner: it waits for a slot, speaks, and gives everything back once. */
class Turn implements Listener {
  readonly #state: NodeState;
  readonly #exchange: Exchange;
  readonly #runner: Runner;
  readonly #speech: Speech;
  #player: Player | null = null;
  readonly #begin = (): void => this.#speak();
  readonly #hangUp = (): void => this.#leave();

  constructor(state: NodeState, exchange: Exchange, runner: Runner, speech: Speech) {
    this.#state = state;
    this.#exchange = exchange;
    this.#runner = runner;
    this.#speech = speech;
  }

  wait(): void {
    this.#exchange.caller.onGone(this.#hangUp);
    if (this.#runner.slots.take(this.#begin)) this.#speak();
  }

  ended(ending: Ending, tokens: number): void {
    const { counters, scheduler } = this.#state;
    this.#exchange.caller.offGone(this.#hangUp);
    counters.in_flight -= 1;
    counters.output_tokens += tokens;
    counters[ending] += 1;
    this.#runner.slots.give();
    scheduler.release(this.#runner);
  }

  die(): void {
    this.#state.die();
  }

  #speak(): void {
    const { counters } = this.#state;
    counters.in_flight += 1;
    counters.max_in_flight = Math.max(counters.max_in_flight, counters.in_flight);
    this.#player = new Player(this.#exchange.response, this.#speech, this);
    this.#player.play();
  }

  #leave(): void {
    if (this.#player !== null) this.#player.stop();
    else if (this.#runner.slots.forget(this.#begin)) {
      this.#state.counters.hung_up += 1;
      this.#state.scheduler.release(this.#runner);
    }
  }
}

/** True: nothing more is to be done. */
function failsAtOnce(state: NodeState, { response }: Exchange, fault: Fault | null): boolean {
  if (fault === null) return false;
  if (fault.kind === 'refuse') {
    throw new ApiError(fault.status ?? 503, fault.message ?? 'server busy, please try again');
  }
  if (fault.after_tokens !== undefined) return false;
  if (fault.kind === 'die') state.die();
  if (fault.kind === 'cut') response.destroy();
  return ['die', 'cut', 'hang'].includes(fault.kind);
}

export function checkThinking({ model, asked }: Inference, think: unknown): boolean {
  const able = model.capabilities.includes('thinking');
  const wanted = think === true || (typeof think === 'string' && think !== '');
  if (!able && wanted) throw new ApiError(400, `"${asked}" does not support thinking`);
  return able && think !== false;
}

export function checkCapability(model: FakeModel, capability: Capability): void {
  if (model.capabilities.includes(capability)) return;
  // The real one says the name in full, with the host it was pulled from before it.
  const name = `library/${model.name}`;
  throw new ApiError(400, `${name} does not support ${capability}`);
}

export function keepOf(body: Exchange['body']): number | null {
  const { keep_alive: value } = body;
  if (value === undefined || value === null) return null;
  try {
    return keepAliveMs(value);
  } catch (error) {
    throw new ApiError(400, error instanceof Error ? error.message : String(error));
  }
}

interface Circumstances {
  readonly runner: Runner;
  readonly fault: Fault | null;
  readonly startedMs: number;
  readonly loadMs: number;
}

function speechOf(
  state: NodeState,
  { body }: Exchange,
  inference: Inference,
  circumstances: Circumstances,
): Speech {
  const { model, voice, messages, tools, rawTokens } = inference;
  const { runner, fault, startedMs, loadMs } = circumstances;
  const thinks = checkThinking(inference, body['think']);
  if (typeof body['think'] === 'string' && model.family !== 'gptoss') {
    throw new ApiError(400, `think value "${body['think']}" is not supported for this model`);
  }
  const context = runner.contextTokens;
  const truncate = body['truncate'] !== false;
  const toolTokens = tools.length === 0 ? 0 : textTokens(model, JSON.stringify(tools));
  const prompt = { messages, toolTokens, thinks };
  const read = truncate ? shortened(model, prompt, context) : prompt;
  const whole = rawTokens ?? promptTokens(model, read);
  const hash = hashOf(messages.at(-1)?.content ?? '', state.seed) ^ hashOf(model.name, whole);
  const { pieces, calls, thoughts } = contentOf(body, inference, hash >>> 0, thinks);
  if (whole > context && !truncate) {
    throw new ApiError(400, 'the input length exceeds the context length');
  }
  const prompted = Math.min(whole, context);
  const wanted = Number(recordOf(body['options'])['num_predict'] ?? -1);
  const most = OUTPUT_CONTEXTS_MAX * context;
  const room = body['shift'] === false ? context - prompted + 1 : most;
  const limit = Math.min(room, wanted < 0 ? most : Math.min(wanted, most));
  const short = pieces.length > limit;
  const scale = state.timeScale * slowness(runner, fault);
  return {
    voice,
    thoughts,
    startedMs,
    loadMs,
    fault,
    pieces: short ? pieces.slice(0, limit) : pieces,
    // Half a call is no call.
    calls: short ? [] : calls,
    reason: short || pieces.length === limit ? 'length' : 'stop',
    promptTokens: prompted,
    outputTokens: Math.min(pieces.length, limit),
    prefillMs: (prompted / model.prefill) * 1_000 * scale,
    tokenMs: (1_000 / model.decode) * scale + (fault?.delay_ms ?? 0),
  };
}

interface Content {
  readonly pieces: readonly string[];
  readonly thoughts: number;
  readonly calls: readonly ToolCall[];
}

function contentOf(
  body: Exchange['body'],
  { model, messages, tools }: Inference,
  hash: number,
  thinks: boolean,
): Content {
  const { format } = body;
  const plain = { thoughts: 0, calls: [] };
  const letters = Math.max(1, Math.round(model.bytesPerToken));
  if (format !== undefined && format !== null && format !== '') {
    if (format !== 'json' && typeof format !== 'object') {
      const quoted = JSON.stringify(JSON.stringify(format));
      const words = 'expected "json" or a valid JSON Schema object';
      throw new ApiError(500, `invalid format: ${quoted}; ${words}`);
    }
    const schema = format === 'json' ? { type: 'object' } : format;
    const value = schemaValue(schema, hash);
    const call = callOf(value, tools, hash);
    return {
      ...plain,
      pieces: cut(JSON.stringify(value), letters),
      calls: call === null ? [] : [call],
    };
  }
  if (tools.length > 0 && messages.at(-1)?.role !== 'tool') {
    const { name, parameters } = recordOf(recordOf(tools[hash % tools.length])['function']);
    const given = { name, arguments: schemaValue(parameters, hash) };
    const call = callOf(given, tools, hash);
    return {
      ...plain,
      pieces: cut(JSON.stringify(given), letters),
      calls: call === null ? [] : [call],
    };
  }
  if (model.answer !== null) return { ...plain, pieces: cut(model.answer, letters) };
  const pieces = words(model.tokens, hash);
  return { pieces, calls: [], thoughts: thinks ? Math.ceil(pieces.length * THOUGHT_SHARE) : 0 };
}

/** A value that reads as the call of a tool that there is. */
function callOf(value: unknown, tools: readonly unknown[], hash: number): ToolCall | null {
  const { name, arguments: given, parameters } = recordOf(value);
  const names = tools.map(tool => recordOf(recordOf(tool)['function'])['name']);
  if (typeof name !== 'string' || !names.includes(name)) return null;
  const id = `call_${hash.toString(36).padStart(8, '0').slice(-8)}`;
  return { id, name, arguments: recordOf(given ?? parameters) };
}

function slowness({ allocation, model }: Runner, fault: Fault | null): number {
  const spilled = model.fileBytes === 0 ? 0 : 1 - allocation.share;
  const slow = fault?.kind === 'slow' ? (fault.factor ?? 10) : 1;
  return slow * (spilled * RAM_SLOWDOWN + 1 - spilled);
}

export function messagesOf(value: unknown): Message[] {
  return (Array.isArray(value) ? value : []).map(item => {
    const { role, content, images } = recordOf(item);
    const pictures = Array.isArray(images) ? images : [];
    for (const picture of pictures) checkBase64(picture);
    return { role: textOf(role), content: textOf(content), images: pictures.length };
  });
}

function checkBase64(picture: unknown): void {
  const text = textOf(picture);
  const at = text.search(/[^A-Za-z0-9+/=]/);
  if (at >= 0 || text.length % 4 !== 0) {
    throw new ApiError(400, `illegal base64 data at input byte ${at < 0 ? text.length : at}`);
  }
}
