/**
 * One inference from admission to its last byte.
 *
 * I1: until a byte of the answer is on its way, what fails is thrown, and the caller may go
 *     elsewhere. After that the client is told in its own dialect, and the stream ends in order.
 * I2: an answer that is not streamed is whole before any of it is sent, so it is whole or an error.
 * I3: when the caller goes, or the model is taken away, the engine's stream is closed at once.
 * I4: the slot is given back when the engine is done, not when the caller has taken everything.
 * I5: nobody waits in silence: signs of life go out while the engine thinks, and an engine that says
 *     nothing for too long is given up: too long for this prompt, until its first byte.
 * I6: reading that took longer than expected is learnt from, also where nobody waited for its end.
 */
import { CodeGodError } from '../../../protocol/errors.ts';
import {
  INFER_HEADER,
  type InferProgress,
  type InferRequest,
  type InferUsage,
} from '../../../protocol/inference.ts';
import type { MessageHeaders, ServeStreamContext } from '../../../runtime/bus.ts';
import type { Clock } from '../../../runtime/clock.ts';
import { readingLimitMs, tokensIn } from '../engines/reading-time.ts';
import type { Hold, ModelLender, ReadingRates } from '../hold.ts';
import { termsOf } from '../lease.ts';
import { ANSWER_BYTES_MAX, answerTooLarge } from './answer-lines.ts';
import type { Translation } from './dialect.ts';
import type { Figures } from './native.ts';
import { nativeBody } from './node-options.ts';
import { Outflow, type Source, type Turn } from './outflow.ts';
import { BEAT_MS, type Beating, type Pulse } from './pulse.ts';
import type { Exchange, Relay, RelaySink } from './relay.ts';

export interface InferenceParts {
  readonly clock: Clock;
  readonly lender: ModelLender;
  readonly pulse: Pulse;
  readonly turn: Turn;
  readonly rates: ReadingRates;
}

/** Beats without a message after which a sign of life is sent: at most three beats after the last. */
const QUIET_BEATS = 2;
/** Silence of an engine: queueing and reading a short prompt, or writing a call before telling it. */
const SILENCE_MS = 300_000;
/** The same for an answer that is not streamed, and so is silent until it is complete. */
const WHOLE_MS = 3_600_000;
/** Less says more about the engine's queue than about its reading. */
const LEARNT_MS_MIN = 30_000;
const READING: InferProgress = { phase: 'reading', fraction: null };

/** A prompt that the engine has, as long as nothing came back. */
interface Reading {
  readonly model: string;
  readonly tokens: number;
  readonly expectedMs: number | null;
  readonly sinceMs: number;
}

export interface Outcome {
  readonly usage: InferUsage | null;
  /** What broke the answer after its first byte. */
  readonly failure: CodeGodError | null;
}

export class Inference implements RelaySink, Source, Beating {
  readonly #parts: InferenceParts;
  readonly #request: InferRequest;
  readonly #translation: Translation;
  readonly #relay: Relay;
  readonly #signal: AbortSignal;
  readonly #outflow: Outflow;
  readonly #whole: Buffer[] = [];
  #stillBeatsMax: number;
  #reading: Reading | null = null;
  #wholeBytes = 0;
  #exchange: Exchange | null = null;
  #progress = READING;
  #sentSeen = 0;
  #quietBeats = 0;
  #stillBeats = 0;
  #paused = false;
  #over = false;
  #failure: CodeGodError | null = null;
  #resolve: () => void = () => {};
  #reject: (error: unknown) => void = () => {};

  constructor(
    parts: InferenceParts,
    request: InferRequest,
    translation: Translation,
    relay: Relay,
    { signal, send }: ServeStreamContext,
  ) {
    this.#parts = parts;
    this.#request = request;
    this.#translation = translation;
    this.#relay = relay;
    this.#signal = signal;
    this.#outflow = new Outflow(send, parts.turn, this);
    this.#stillBeatsMax = this.#patienceMs / BEAT_MS;
  }

  async run(): Promise<Outcome> {
    const { clock, lender, pulse } = this.#parts;
    const { request, share, priority } = this.#request;
    const { keep_alive: wish } = this.#translation;
    const startMs = clock.monotonic();
    pulse.add(this);
    try {
      const hold = await lender.use(
        {
          ...{ ...termsOf(this.#request), share, priority, holder: { request } },
          ...(wish === undefined ? {} : { keep_alive: wish }),
        },
        progress => this.#tell(progress),
        this.#signal,
      );
      try {
        await this.#answer(hold);
      } finally {
        hold.release(this.#translation.answer.figures ?? undefined); // I4
      }
      const { figures } = this.#translation.answer;
      const totalMs = clock.monotonic() - startMs;
      const usage = figures === null ? null : usageOf(figures, hold.load_ms, totalMs);
      await this.#outflow.end(lastHeaders(usage, this.#failure));
      return { usage, failure: this.#failure };
    } finally {
      pulse.delete(this);
    }
  }

  #answer(hold: Hold): Promise<void> {
    this.#progress = READING;
    return new Promise<void>((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
      if (this.#signal.aborted || hold.signal.aborted) {
        this.handleEvent();
        return;
      }
      this.#signal.addEventListener('abort', this);
      hold.signal.addEventListener('abort', this);
      const { keep_alive = this.#relay.keep_alive } = hold;
      const { context_tokens, model } = hold;
      const { path } = this.#translation;
      const body = nativeBody(this.#translation, { context_tokens, keep_alive });
      this.#reads(model, body);
      this.#exchange = this.#relay.ask({ path, model, body }, this);
    }).finally(() => {
      this.#over = true;
      this.#learn();
      this.#signal.removeEventListener('abort', this);
      hold.signal.removeEventListener('abort', this);
    });
  }

  get #patienceMs(): number {
    return this.#translation.stream ? SILENCE_MS : WHOLE_MS;
  }

  /** I5: from now on it reads. */
  #reads(model: string, body: string): void {
    const { clock, rates } = this.#parts;
    const tokens = tokensIn(body.length);
    const rate = rates.of(model);
    const expectedMs = rate === null || rate <= 0 ? null : (tokens / rate) * 1_000;
    this.#reading = { model, tokens, expectedMs, sinceMs: clock.monotonic() };
    this.#stillBeatsMax = readingLimitMs(this.#patienceMs, tokens, expectedMs) / BEAT_MS;
  }

  /** I6: it never came to its first byte. Of an answer that is not streamed nobody knows how far it was. */
  #learn(): void {
    if (this.#reading === null || !this.#translation.stream) return;
    const { clock, rates } = this.#parts;
    const { model, tokens, expectedMs, sinceMs } = this.#reading;
    const prompt_ms = clock.monotonic() - sinceMs;
    if (prompt_ms < Math.max(LEARNT_MS_MIN, expectedMs ?? 0)) return;
    rates.learn(model, { prompt_tokens: tokens, prompt_ms, output_tokens: null, output_ms: null });
  }

  /** I3. One of the two signals has fired. */
  handleEvent(): void {
    if (this.#signal.aborted) this.#stop(this.#signal.reason);
    else this.#fail(new CodeGodError('engine_unavailable', 'the model was unloaded by force'));
  }

  answers(contentType: string): void {
    this.#outflow.head({
      [INFER_HEADER.status]: '200',
      [INFER_HEADER.contentType]: this.#translation.answer.contentType ?? contentType,
    });
  }

  take(bytes: Buffer): void {
    this.#stillBeats = 0;
    if (this.#reading !== null) {
      this.#reading = null;
      this.#stillBeatsMax = this.#patienceMs / BEAT_MS;
    }
    if (this.#over) return;
    try {
      if (this.#translation.stream) this.#outflow.push(this.#translation.answer.take(bytes));
      else this.#keep(bytes);
    } catch (error) {
      this.#fail(error);
    }
  }

  end(): void {
    if (this.#over) return;
    const { answer, stream } = this.#translation;
    try {
      if (!stream) this.#outflow.push(answer.take(Buffer.concat(this.#whole)));
      this.#outflow.push(answer.end());
      this.#over = true;
      this.#resolve();
    } catch (error) {
      this.#fail(error);
    }
  }

  fail(error: CodeGodError): void {
    this.#fail(error);
  }

  pause(): void {
    this.#paused = true;
    this.#exchange?.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#exchange?.resume();
  }

  stuck(error: unknown): void {
    this.#stop(error);
  }

  beat(): void {
    if (this.#exchange !== null && !this.#over && !this.#paused) {
      this.#stillBeats += 1;
      if (this.#stillBeats > this.#stillBeatsMax) {
        const silentMs = this.#stillBeatsMax * BEAT_MS;
        this.#fail(new CodeGodError('timeout', `the engine was silent for ${silentMs} ms`));
        return;
      }
    }
    this.#quietBeats = this.#outflow.sent === this.#sentSeen ? this.#quietBeats + 1 : 0;
    this.#sentSeen = this.#outflow.sent;
    if (this.#quietBeats >= QUIET_BEATS) this.#tell(this.#progress);
  }

  #tell(progress: InferProgress): void {
    this.#progress = progress;
    this.#outflow.note({ [INFER_HEADER.progress]: JSON.stringify(progress) });
  }

  /** I2. */
  #keep(bytes: Buffer): void {
    this.#wholeBytes += bytes.length;
    if (this.#wholeBytes > ANSWER_BYTES_MAX) throw answerTooLarge();
    this.#whole.push(bytes);
  }

  /** I1. */
  #fail(cause: unknown): void {
    if (this.#over) return;
    if (!this.#outflow.begun) {
      this.#outflow.discard();
      this.#stop(cause);
      return;
    }
    this.#over = true;
    this.#exchange?.close();
    this.#failure = asFailure(cause);
    this.#outflow.push(this.#translation.answer.failure(this.#failure));
    this.#resolve();
  }

  #stop(cause: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.#exchange?.close();
    this.#reject(cause);
  }
}

const asFailure = (cause: unknown): CodeGodError =>
  cause instanceof CodeGodError ? cause : new CodeGodError('internal', String(cause), { cause });

/** The engine leaves counts of 0 out. */
const usageOf = (figures: Figures, loadMs: number, totalMs: number): InferUsage => ({
  prompt_tokens: figures.prompt_tokens ?? 0,
  output_tokens: figures.output_tokens ?? 0,
  load_ms: Math.round(loadMs),
  total_ms: Math.round(totalMs),
});

function lastHeaders(
  usage: InferUsage | null,
  failure: CodeGodError | null,
): MessageHeaders | null {
  if (usage === null && failure === null) return null;
  return {
    ...(usage === null ? {} : { [INFER_HEADER.usage]: JSON.stringify(usage) }),
    ...(failure === null ? {} : { [INFER_HEADER.failure]: failure.code }),
  };
}
