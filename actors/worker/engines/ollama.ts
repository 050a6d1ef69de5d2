/**
 * The Ollama engine: the models of a running `ollama serve`, over its native API (the
 * OpenAI-compatible one cannot set the context).
 *
 * O1: a copy is always asked for with the options it was loaded with; any other `num_ctx` would make
 *     Ollama load it again. Loads and unloads are asked for by whoever decides on the memory.
 * O2: three waits, three bounds: for the load by its progress, for the first token, between tokens.
 * O3: cancelling closes the HTTP stream; that is how Ollama learns of it and stops.
 * O4: nothing is cut silently: `truncate` and `shift` are off, and a prompt count far too small for
 *     the prompt is an error, for versions that do not know these options.
 */
import { Ollama } from 'ollama';
import { CodeGodError } from '../../../protocol/errors.ts';
import type { PullProgress, ShowRequest } from '../../../protocol/inference.ts';
import type { Clock } from '../../../runtime/clock.ts';
import { nearestName, sameModel } from '../../../scheduling/model-names.ts';
import type {
  Engine,
  EngineInventory,
  GenerateChunk,
  GenerateRequest,
  LoadOptions,
  RunningCopy,
} from './engine.ts';
import { httpFetch } from './http-fetch.ts';
import { watchLoad } from './load-watch.ts';
import { assertWhole, doneOf, ENDED_EARLY, REPEATED_CHUNKS } from './ollama-answer.ts';
import { type DetailsStore, forgiving, OllamaCatalog } from './ollama-catalog.ts';
import { type DeclaredEnvironment, environmentOf } from './ollama-environment.ts';
import { type OllamaPhase, ollamaError } from './ollama-errors.ts';
import { canonicalFields, KEEP_ALIVE_S, type NativeChat } from './ollama-options.ts';
import { ThinkingProbes } from './ollama-probe.ts';
import { findOllamaProcess, loadedBytes, type OllamaProcess } from './ollama-process.ts';
import { progressOf } from './ollama-pull.ts';
import { readingLimitMs, tokensIn } from './reading-time.ts';
import { Watchdog } from './watchdog.ts';

export interface OllamaOptions {
  /** `http://127.0.0.1:11434`. */
  readonly host: string;
  readonly clock: Clock;
  readonly timeouts?: Partial<OllamaTimeouts>;
  /** Settings of it that were declared, since its API hides them. */
  readonly declared?: DeclaredEnvironment;
  /** Where what is known of a digest is kept over restarts. */
  readonly store?: DetailsStore;
  /** Free memory as measured last, to see a load get on by; null where nobody measures. */
  readonly freeBytes?: () => number | null;
}

export interface OllamaTimeouts {
  /** A load that does not get on; a pull likewise. Ollama itself gives up after as long. */
  readonly stallMs: number;
  /** A load of which nothing can be seen. */
  readonly loadMs: number;
  /** Until what is unloaded is gone. */
  readonly unloadMs: number;
  /** Queueing and reading the prompt. */
  readonly firstTokenMs: number;
  readonly betweenTokensMs: number;
  /** An answer to a question about the inventory. */
  readonly askMs: number;
  /** An answer to a question about a model: megabytes, read from a slow disk perhaps. */
  readonly showMs: number;
  /** The same while Ollama is thought to be absent. */
  readonly probeMs: number;
}

const TIMEOUTS: OllamaTimeouts = {
  stallMs: 300_000,
  loadMs: 600_000,
  unloadMs: 5_000,
  firstTokenMs: 300_000,
  betweenTokensMs: 60_000,
  askMs: 5_000,
  showMs: 30_000,
  probeMs: 450,
};

/** There is no event for the end of an unload. */
const UNLOADED_POLL_MS = 100;

export function createOllamaEngine(options: OllamaOptions): Engine {
  return new OllamaEngine(options);
}

class OllamaEngine implements Engine {
  readonly name = 'ollama';
  readonly #options: OllamaOptions;
  readonly #host: string;
  readonly #clock: Clock;
  readonly #timeouts: OllamaTimeouts;
  readonly #catalog: OllamaCatalog;
  readonly #probes: ThinkingProbes;
  #process: OllamaProcess | null = null;
  #present = false;

  constructor(options: OllamaOptions) {
    this.#options = options;
    this.#host = options.host;
    this.#clock = options.clock;
    this.#timeouts = { ...TIMEOUTS, ...options.timeouts };
    const store = options.store === undefined ? null : forgiving(options.store);
    this.#catalog = new OllamaCatalog(store, options.clock);
    this.#probes = new ThinkingProbes(store);
  }

  async inventory(signal: AbortSignal): Promise<EngineInventory> {
    const { askMs, probeMs, showMs } = this.#timeouts;
    const watchdog = new Watchdog(this.#clock, signal);
    watchdog.expect(this.#present ? askMs : probeMs, `Ollama at ${this.#host} does not answer`);
    try {
      const client = this.#client(watchdog.signal);
      const listed = await this.#catalog.list(client);
      watchdog.expect(showMs, `no answer about the models of ${this.#host}`);
      const models = await this.#catalog.describeAll(client, listed, () =>
        watchdog.expect(showMs, `no answer about the models of ${this.#host}`),
      );
      if (!this.#present) this.#process = await findOllamaProcess(this.#host);
      this.#present = true;
      const environment = environmentOf(this.#options.declared ?? {}, this.#process);
      const parallel = environment.num_parallel ?? 1;
      return {
        ...{ available: true, reason: null, version: listed.version, environment },
        models: models.map(model => ({
          ...model,
          slots: model.profile?.single_slot === true ? 1 : parallel,
        })),
      };
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
    options: LoadOptions,
    signal: AbortSignal,
  ): Promise<RunningCopy | null> {
    const { context_tokens, keep_alive = KEEP_ALIVE_S, onFraction = () => {} } = options;
    const { stallMs, loadMs: blindMs, askMs } = this.#timeouts;
    const watchdog = new Watchdog(this.#clock, signal);
    const loaded = new AbortController();
    const server = await findOllamaProcess(this.#host); // It may be another one than at the last look.
    const watching = watchLoad(
      {
        ...{ clock: this.#clock, watchdog, model, stallMs, blindMs, onFraction },
        size_bytes: this.#catalog.sizeOf(model),
        signs: {
          read: async () => (server === null ? null : await loadedBytes(server.pid)),
          free: () => this.#options.freeBytes?.() ?? null,
        },
      },
      AbortSignal.any([loaded.signal, watchdog.signal]),
    );
    try {
      const client = this.#client(watchdog.signal);
      const { capabilities } = await this.#catalog.describe(client, model);
      const fields = canonicalFields({ context_tokens, keep_alive });
      if (capabilities.includes('embedding') && !capabilities.includes('completion')) {
        // A model that only embeds cannot be chatted with: nothing to embed loads it.
        await client.embed({ model, input: [], ...fields });
      } else {
        const chat: NativeChat & { stream: false } = {
          model,
          messages: [],
          stream: false,
          ...fields,
        };
        await client.chat(chat);
      }
      loaded.abort();
      await watching;
      watchdog.expect(askMs, `Ollama at ${this.#host} does not answer`);
      const running = await this.#catalog.running(client);
      return running.find(copy => sameModel(copy.model, model)) ?? null;
    } catch (error) {
      throw await this.#told(watchdog.reason(error), 'loading', model, signal);
    } finally {
      loaded.abort();
      watchdog.stop();
      await watching;
    }
  }

  async unload(model: string, signal: AbortSignal): Promise<void> {
    const { askMs, unloadMs } = this.#timeouts;
    const watchdog = new Watchdog(this.#clock, signal);
    watchdog.expect(askMs + unloadMs, `${model} was not unloaded in time`);
    const untilMs = this.#clock.monotonic() + unloadMs;
    try {
      const client = this.#client(watchdog.signal);
      await client.chat({ model, messages: [], stream: false, keep_alive: 0 });
      for (;;) {
        const running = await this.#catalog.running(client);
        if (!running.some(copy => sameModel(copy.model, model))) return;
        if (this.#clock.monotonic() >= untilMs) break;
        await this.#clock.sleep(UNLOADED_POLL_MS, watchdog.signal);
      }
    } catch (error) {
      throw await this.#told(watchdog.reason(error), 'unloading', model, signal);
    } finally {
      watchdog.stop();
    }
    throw new CodeGodError('engine_failed', `Ollama still has ${model}: somebody else uses it`);
  }

  async *generate(request: GenerateRequest, signal: AbortSignal): AsyncGenerator<GenerateChunk> {
    const { model, context_tokens, keep_alive = KEEP_ALIVE_S } = request;
    const { firstTokenMs, betweenTokensMs } = this.#timeouts;
    const startMs = this.#clock.monotonic();
    const think = await this.#think(request, signal);
    const watchdog = new Watchdog(this.#clock, signal);
    let phase: OllamaPhase = 'asking';
    let last = '';
    let repeated = 0;
    try {
      const promptLength = request.messages.reduce((sum, { content }) => sum + content.length, 0);
      const readingMs = readingLimitMs(firstTokenMs, tokensIn(promptLength), null);
      watchdog.expect(readingMs, `${model} gave no first token in time`);
      const { output_tokens_max: num_predict, temperature } = request;
      const chat: NativeChat & { stream: true } = {
        ...{ model, stream: true },
        ...canonicalFields({ context_tokens, keep_alive }, { num_predict, temperature }),
        messages: request.messages.map(message => ({ ...message })),
        ...(request.format === undefined ? {} : { format: request.format }),
        ...(think === null ? {} : { think }),
      };
      const stream = await this.#client(watchdog.signal).chat(chat);
      for await (const part of stream) {
        phase = 'streaming';
        watchdog.expect(betweenTokensMs, `${model} stopped in mid-answer`);
        const { content, thinking } = part.message ?? {};
        if (thinking) yield { kind: 'thinking', text: thinking };
        if (content) yield { kind: 'text', text: content };
        repeated = content !== '' && content === last ? repeated + 1 : 0;
        last = content ?? '';
        if (part.done) {
          assertWhole(request, part.prompt_eval_count ?? 0);
          yield doneOf(part, this.#clock.monotonic() - startMs);
        }
      }
    } catch (error) {
      const cause = watchdog.reason(error);
      if (repeated < REPEATED_CHUNKS || !ENDED_EARLY.test(messageOf(cause))) {
        throw await this.#told(cause, phase, model, signal);
      }
      const total_ms = Math.round(this.#clock.monotonic() - startMs);
      const counts = { prompt_tokens: 0, output_tokens: 0, load_ms: 0, total_ms };
      yield { kind: 'done', reason: 'repetition', ...counts };
    } finally {
      watchdog.stop();
    }
  }

  async show({ model, verbose = false }: ShowRequest, signal: AbortSignal): Promise<object> {
    const watchdog = new Watchdog(this.#clock, signal);
    watchdog.expect(this.#timeouts.showMs, `no answer about ${model}`);
    try {
      const request: ShowRequest & { verbose: boolean } = { model, verbose };
      return await this.#client(watchdog.signal).show(request);
    } catch (error) {
      throw await this.#told(watchdog.reason(error), 'asking', model, signal);
    } finally {
      watchdog.stop();
    }
  }

  async *pull(model: string, signal: AbortSignal): AsyncGenerator<PullProgress> {
    const watchdog = new Watchdog(this.#clock, signal);
    const expect = (): void =>
      watchdog.expect(this.#timeouts.stallMs, `the pull of ${model} does not get on`);
    try {
      expect();
      const stream = await this.#client(watchdog.signal).pull({ model, stream: true });
      for await (const part of stream) {
        expect();
        yield progressOf(part);
      }
    } catch (error) {
      throw await this.#told(watchdog.reason(error), 'pulling', model, signal);
    } finally {
      watchdog.stop();
    }
  }

  /** Whether the model really thinks; null where that could not be found out. */
  async #thinks(request: GenerateRequest, signal: AbortSignal): Promise<boolean | null> {
    const { model, context_tokens, keep_alive = KEEP_ALIVE_S } = request;
    const digest = this.#catalog.digestOf(model);
    if (digest === null) return null;
    const watchdog = new Watchdog(this.#clock, signal);
    watchdog.expect(this.#timeouts.firstTokenMs, `${model} did not answer a short question`);
    try {
      const client = this.#client(watchdog.signal);
      return await this.#probes.thinks(client, { model, digest, context_tokens, keep_alive });
    } catch (error) {
      throw await this.#told(watchdog.reason(error), 'asking', model, signal);
    } finally {
      watchdog.stop();
    }
  }

  /** `think` only for models that know the word: for the others it is an error or means nothing. */
  async #think(request: GenerateRequest, signal: AbortSignal): Promise<boolean | 'low' | null> {
    const watchdog = new Watchdog(this.#clock, signal);
    watchdog.expect(this.#timeouts.showMs, `no answer about ${request.model}`);
    try {
      const client = this.#client(watchdog.signal);
      const { capabilities, family } = await this.#catalog.describe(client, request.model);
      if (!capabilities.includes('thinking')) return null;
      if (/gptoss|gpt-oss/i.test(family) && !request.think) return 'low';
    } catch (error) {
      throw await this.#told(watchdog.reason(error), 'asking', request.model, signal);
    } finally {
      watchdog.stop();
    }
    // A template that claims it is not yet a model that does it.
    if (request.think && (await this.#thinks(request, signal)) === false) return null;
    return request.think;
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

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : '');
