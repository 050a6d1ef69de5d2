/**
 * The Ollama engine: the models of a running `ollama serve`, over its native API (the
 * OpenAI-compatible one cannot set the context).
 *
 * O1: a model is always asked for with the same options per context tier: any other `num_ctx` or
 *     `shift` would make Ollama load it again.
 * O2: three waits, three bounds: for the load, for the first token, between tokens.
 * O3: cancelling closes the HTTP stream; that is how Ollama learns of it and stops.
 * O4: nothing is cut silently: `truncate` and `shift` are off, and a prompt count far too small for
 *     the prompt is an error, for versions that do not know these options.
 */
import { type ChatRequest, Ollama } from 'ollama';
import { CodeGodError } from '../../../protocol/errors.ts';
import type { Clock } from '../../../runtime/clock.ts';
import { nearestName, sameModel } from '../../../scheduling/model-names.ts';
import type { Engine, EngineInventory, GenerateChunk, GenerateRequest } from './engine.ts';
import { httpFetch } from './http-fetch.ts';
import { OllamaCatalog } from './ollama-catalog.ts';
import { type OllamaPhase, ollamaError } from './ollama-errors.ts';
import { Watchdog } from './watchdog.ts';

export interface OllamaOptions {
  /** `http://127.0.0.1:11434`. */
  readonly host: string;
  readonly clock: Clock;
  readonly timeouts?: Partial<OllamaTimeouts>;
}

export interface OllamaTimeouts {
  /** A cold load from a slow disk; Ollama itself gives up after 5 min without progress. */
  readonly loadMs: number;
  /** Queueing and reading the prompt. */
  readonly firstTokenMs: number;
  readonly betweenTokensMs: number;
  /** An answer to a question about the inventory. */
  readonly askMs: number;
  /** The same while Ollama is thought to be absent. */
  readonly probeMs: number;
}

const TIMEOUTS: OllamaTimeouts = {
  loadMs: 600_000,
  firstTokenMs: 300_000,
  betweenTokensMs: 60_000,
  askMs: 5_000,
  probeMs: 450,
};

/** How long a model stays loaded after use. Ollama evicts the shortest first. */
const KEEP_ALIVE = '15m';
/** Equal chunks in a row after which Ollama ends a stream without a word. */
const REPEATED_CHUNKS = 25;
/** No tokenizer needs fewer tokens than this share of the bytes. */
const BYTES_PER_TOKEN_MAX = 8;

/** Options of the API that the client library does not know yet. */
type NativeChat = ChatRequest & { readonly truncate: boolean; readonly shift: boolean };

export function createOllamaEngine(options: OllamaOptions): Engine {
  return new OllamaEngine(options);
}

class OllamaEngine implements Engine {
  readonly name = 'ollama';
  readonly #host: string;
  readonly #clock: Clock;
  readonly #timeouts: OllamaTimeouts;
  readonly #catalog = new OllamaCatalog();
  #present = false;

  constructor(options: OllamaOptions) {
    this.#host = options.host;
    this.#clock = options.clock;
    this.#timeouts = { ...TIMEOUTS, ...options.timeouts };
  }

  async inventory(signal: AbortSignal): Promise<EngineInventory> {
    const { askMs, probeMs } = this.#timeouts;
    const watchdog = new Watchdog(this.#clock, signal);
    watchdog.expect(this.#present ? askMs : probeMs, `no answer from ${this.#host}`);
    try {
      const found = await this.#catalog.read(this.#client(watchdog.signal));
      this.#present = true;
      return { available: true, reason: null, ...found };
    } catch (error) {
      this.#present = false;
      const { message } = this.#error(watchdog.reason(error), 'asking', '');
      return { available: false, version: null, reason: message, models: [] };
    } finally {
      watchdog.stop();
    }
  }

  async load(
    model: string,
    { context_tokens }: { readonly context_tokens: number },
    signal: AbortSignal,
  ): Promise<void> {
    const watchdog = new Watchdog(this.#clock, signal);
    watchdog.expect(this.#timeouts.loadMs, `${model} was not loaded in time`);
    try {
      await this.#client(watchdog.signal).chat({
        ...canonical(model, context_tokens),
        messages: [],
        stream: false,
      });
    } catch (error) {
      throw await this.#told(watchdog.reason(error), 'loading', model, signal);
    } finally {
      watchdog.stop();
    }
  }

  async unload(model: string, signal: AbortSignal): Promise<void> {
    const watchdog = new Watchdog(this.#clock, signal);
    watchdog.expect(this.#timeouts.loadMs, `${model} was not unloaded in time`);
    try {
      const request = { model, messages: [], stream: false as const, keep_alive: 0 };
      await this.#client(watchdog.signal).chat(request);
    } catch (error) {
      throw await this.#told(watchdog.reason(error), 'loading', model, signal);
    } finally {
      watchdog.stop();
    }
  }

  async *generate(request: GenerateRequest, signal: AbortSignal): AsyncGenerator<GenerateChunk> {
    const { model } = request;
    const startMs = this.#clock.monotonic();
    await this.load(model, request, signal);
    const loadMs = this.#clock.monotonic() - startMs;
    const think = await this.#think(request, signal);
    const watchdog = new Watchdog(this.#clock, signal);
    let phase: OllamaPhase = 'asking';
    let last = '';
    let repeated = 0;
    try {
      watchdog.expect(this.#timeouts.firstTokenMs, `${model} gave no first token in time`);
      const chat: NativeChat & { stream: true } = {
        ...canonical(model, request.context_tokens, request),
        messages: request.messages.map(message => ({ ...message })),
        stream: true,
        ...(request.format === undefined ? {} : { format: request.format }),
        ...(think === null ? {} : { think }),
      };
      const stream = await this.#client(watchdog.signal).chat(chat);
      for await (const part of stream) {
        phase = 'streaming';
        watchdog.expect(this.#timeouts.betweenTokensMs, `${model} stopped in mid-answer`);
        const { content, thinking } = part.message ?? {};
        if (thinking) yield { kind: 'thinking', text: thinking };
        if (content) yield { kind: 'text', text: content };
        repeated = content !== '' && content === last ? repeated + 1 : 0;
        last = content ?? '';
        if (part.done) {
          assertWhole(request, part.prompt_eval_count ?? 0);
          yield {
            kind: 'done',
            reason: reasonOf(part.done_reason),
            prompt_tokens: part.prompt_eval_count ?? 0,
            output_tokens: part.eval_count ?? 0,
            load_ms: Math.round(loadMs),
            total_ms: Math.round(this.#clock.monotonic() - startMs),
          };
        }
      }
    } catch (error) {
      const cause = watchdog.reason(error);
      if (repeated < REPEATED_CHUNKS || !/Did not receive done/.test(messageOf(cause))) {
        throw await this.#told(cause, phase, model, signal);
      }
      const total_ms = Math.round(this.#clock.monotonic() - startMs);
      const counts = { prompt_tokens: 0, output_tokens: 0, load_ms: Math.round(loadMs), total_ms };
      yield { kind: 'done', reason: 'repetition', ...counts };
    } finally {
      watchdog.stop();
    }
  }

  /** `think` only for models that know the word: for the others it is an error or means nothing. */
  async #think(request: GenerateRequest, signal: AbortSignal): Promise<boolean | 'low' | null> {
    const watchdog = new Watchdog(this.#clock, signal);
    watchdog.expect(this.#timeouts.askMs, `no answer about ${request.model}`);
    try {
      const client = this.#client(watchdog.signal);
      const { capabilities, family } = await this.#catalog.describe(client, request.model);
      if (!capabilities.includes('thinking')) return null;
      return /gptoss|gpt-oss/i.test(family) && !request.think ? 'low' : request.think;
    } catch (error) {
      throw this.#error(watchdog.reason(error), 'asking', request.model);
    } finally {
      watchdog.stop();
    }
  }

  #client(signal: AbortSignal): Ollama {
    return new Ollama({ host: this.#host, fetch: httpFetch(signal) });
  }

  #error(cause: unknown, phase: OllamaPhase, model: string): CodeGodError {
    return ollamaError(cause, { phase, host: this.#host, model });
  }

  /** The error; a missing model is told with the name that comes nearest. */
  async #told(
    cause: unknown,
    phase: OllamaPhase,
    model: string,
    signal: AbortSignal,
  ): Promise<CodeGodError> {
    if (signal.aborted) return new CodeGodError('cancelled', 'cancelled', { cause });
    const error = this.#error(cause, phase, model);
    if (error.code !== 'model_missing') return error;
    const { models } = await this.inventory(signal);
    const names = models.map(({ name }) => name).filter(name => !sameModel(name, model));
    const nearest = nearestName(model, names);
    const advice = nearest === null ? '' : `; the nearest installed one is ${nearest}`;
    return new CodeGodError('model_missing', `${error.message}${advice}`, {
      cause,
      hint: `pull it with \`ollama pull ${model}\``,
      details: { nearest, installed: names.slice(0, 32) },
    });
  }
}

/** The one set of options per model and context tier (O1). */
function canonical(
  model: string,
  contextTokens: number,
  sampling?: Pick<GenerateRequest, 'output_tokens_max' | 'temperature'>,
): NativeChat {
  return {
    model,
    keep_alive: KEEP_ALIVE,
    truncate: false,
    shift: false,
    options: {
      num_ctx: contextTokens,
      ...(sampling === undefined
        ? {}
        : { num_predict: sampling.output_tokens_max, temperature: sampling.temperature }),
    },
  };
}

function reasonOf(reason: string | undefined): 'stop' | 'length' {
  if (reason === 'stop' || reason === 'length') return reason;
  throw new CodeGodError('engine_failed', `Ollama ended an answer with ${String(reason)}`);
}

/** O4. A window that was filled to its middle and a count below any tokenizer's: it was cut. */
function assertWhole(request: GenerateRequest, promptTokens: number): void {
  const bytes = request.messages.reduce((sum, { content }) => sum + content.length, 0);
  const least = bytes / BYTES_PER_TOKEN_MAX;
  if (promptTokens === 0 || promptTokens >= least) return;
  if (promptTokens < request.context_tokens * 0.4) return; // A cached beginning is not counted.
  throw new CodeGodError(
    'answer_truncated',
    `of a prompt of ${bytes} characters only ${promptTokens} tokens were read`,
  );
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : '');
