/**
 * One inference of a client: gets a place, asks the node there, and passes its bytes on unread.
 *
 * N1: until the first byte of the answer another node is tried: after a refusal, which cost nothing,
 *     for a while; after a failure never the same again. Both are bounded.
 * N2: after the first byte nothing is tried again: the error is the answer's end.
 * N3: a client that hangs up ends everything at once, in whatever step it is.
 * N4: a node is dead that is silent for three signs of life, whose advert is gone, or whose worker
 *     was started again.
 */
import { ErrorCode } from '../../../protocol/error-codes.ts';
import { CodeGodError, toWireError, type WireError } from '../../../protocol/errors.ts';
import {
  type Dialect,
  INFER_ALIVE_MS,
  INFER_HEADER,
  InferProgress,
  InferUsage,
  type RequestId,
} from '../../../protocol/inference.ts';
import { nodeSubject } from '../../../protocol/subjects.ts';
import type { Bus, BusMessage } from '../../../runtime/bus.ts';
import { Cancellation } from '../../../runtime/cancellation.ts';
import type { Clock } from '../../../runtime/clock.ts';
import type { Logger } from '../../../runtime/log.ts';
import { throwIfError } from '../../../runtime/message-body.ts';
import { isTraceparent, newTraceparent } from '../../../runtime/trace.ts';
import type { PlacementRequest } from '../../../scheduling/placement.ts';
import { type Asking, type Grant, termsOf } from './grant.ts';
import { InferBody, inferHeaders } from './infer-message.ts';
import type { ModelDirectory } from './model-directory.ts';
import type { Pool } from './pool.ts';
import type { PoolMetrics } from './pool-metrics.ts';

export interface InferenceInput {
  readonly id: RequestId;
  readonly dialect: Dialect;
  readonly request: Omit<PlacementRequest, 'refused'>;
  readonly share: string;
  readonly priority: number;
  /** The client's request, as it came. */
  readonly body: Buffer;
  readonly traceparent: string | undefined;
}

/** Who answers. */
export interface Place {
  readonly node: string;
  readonly model: string;
}

/** Who gets the answer. */
export interface Receiver {
  /** Whether it shows what is going on before the first byte. */
  readonly wantsProgress: boolean;
  progress(place: Place, progress: InferProgress): void;
  head(place: Place, status: number, contentType: string): void;
  /** False: no more, please, until `drained`. */
  write(chunk: Uint8Array): boolean;
  /** Resolves also when the client has gone. */
  drained(): Promise<void>;
}

export interface InferenceOptions {
  readonly bus: Bus;
  readonly pool: Pool;
  readonly directory: ModelDirectory;
  readonly metrics: PoolMetrics;
  readonly clock: Clock;
  readonly log: Logger;
  readonly waitMaxMs: number;
}

/** Nothing has been done: the node was not the one its advert promised. */
const REFUSALS: readonly ErrorCode[] = [
  'reservation_refused',
  'overloaded',
  'engine_unavailable',
  'no_responders',
  'bus_unavailable',
  'cancelled',
];
/** Something went wrong there that may go right elsewhere; asking the same node again changes nothing. */
const FAILURES: readonly ErrorCode[] = [
  'timeout',
  'model_missing',
  'engine_failed',
  'lease_lost',
  'disk_full',
  'internal',
];
const REFUSALS_MAX = 32;
const FAILURES_MAX = 3;
const SILENCE_MS = 3 * INFER_ALIVE_MS;
/** A node that declined is asked again after this; by then it has said how things are. */
const DECLINED_MS = 2_000;

interface Answered {
  readonly usage: InferUsage | null;
  /** What broke it off after its first byte; the client has been told by the node. */
  readonly failure: WireError | null;
}

type Outcome = Answered | { readonly again: Promise<Grant | null> };

export class Inference {
  readonly #options: InferenceOptions;
  readonly #input: InferenceInput;
  readonly #receiver: Receiver;
  readonly #asking: Asking;
  readonly #arrivedMs: number;
  readonly #body: InferBody;
  readonly #traceparent: string;
  readonly #failedOn = new Set<string>();
  #refusals = 0;
  #begun = false;
  #isCancelled = false;
  /** Ends the try that is under way. */
  #abort: Cancellation | null = null;

  constructor(options: InferenceOptions, input: InferenceInput, receiver: Receiver) {
    const { id, share, priority, request, traceparent } = input;
    this.#options = options;
    this.#input = input;
    this.#receiver = receiver;
    this.#asking = { id, share, priority, request };
    this.#arrivedMs = options.clock.monotonic();
    this.#body = new InferBody(options, id, input.body);
    const isKnown = traceparent !== undefined && isTraceparent(traceparent);
    this.#traceparent = isKnown ? traceparent : newTraceparent(options.clock);
  }

  /** N3 */
  cancel(): void {
    if (this.#isCancelled) return;
    this.#isCancelled = true;
    this.#abort?.abort();
    this.#options.pool.cancel(this.#asking.id);
  }

  /** Answers what was used, where the node said so. @throws CodeGodError */
  async run(): Promise<InferUsage | null> {
    const { pool, metrics } = this.#options;
    try {
      if (this.#isCancelled) throw gone();
      let place = pool.acquire(this.#asking, this.#patienceMs());
      for (;;) {
        const grant = (await place) ?? this.#waitedInVain();
        const outcome = await this.#try(grant);
        if ('again' in outcome) place = outcome.again;
        else {
          metrics.ended(outcome.failure === null ? 'done' : 'failed', outcome.usage);
          return outcome.usage;
        }
      }
    } catch (error) {
      metrics.ended(this.#isCancelled ? 'cancelled' : 'failed', null);
      pool.gaveUp(this.#asking.id, error);
      throw error;
    } finally {
      await this.#body.remove();
    }
  }

  #patienceMs(): number {
    const { clock, waitMaxMs } = this.#options;
    return Math.max(1, this.#arrivedMs + waitMaxMs - clock.monotonic());
  }

  #waitedInVain(): never {
    const { pool, waitMaxMs } = this.#options;
    const reason = pool.decisions.find(this.#asking.id)?.decision?.reason ?? 'nobody knows why';
    throw pool.overloaded(`no place was found in ${waitMaxMs / 1_000} s: ${reason}`);
  }

  /** One node. `again`: nothing has come of it, and another place is waited for (N1). */
  async #try(grant: Grant): Promise<Outcome> {
    const { pool } = this.#options;
    const abort = new Cancellation();
    this.#abort = abort;
    let lost: CodeGodError | null = null;
    grant.lost = error => {
      lost ??= error;
      abort.abort();
    };
    try {
      const { usage, failure } = await this.#ask(grant, abort);
      if (failure === null) pool.ended(grant, usage);
      else pool.failed(grant, failure);
      return { usage, failure };
    } catch (error) {
      return this.#failed(grant, lost ?? error);
    }
  }

  async #ask(grant: Grant, signal: AbortSignal): Promise<Answered> {
    const { node } = grant.plan;
    const { id, dialect, share, priority } = this.#input;
    const message = await this.#body.message({
      request: id,
      dialect,
      ...termsOf(grant.plan),
      share,
      priority,
    });
    // What was cancelled meanwhile is not even asked.
    if (this.#isCancelled) throw gone();
    const stream = this.#options.bus.askStream(nodeSubject(node, 'infer'), message, {
      headers: inferHeaders(this.#traceparent),
      first_ms: SILENCE_MS,
      idle_ms: SILENCE_MS,
      signal,
    });
    let usage: InferUsage | null = null;
    let failure: WireError | null = null;
    for await (const part of stream) {
      if (part.body.length > 0) {
        throwIfError(part);
        if (!this.#begun) this.#begin(grant.plan, part);
        if (!this.#receiver.write(part.body)) await this.#receiver.drained();
      } else if (!this.#begun && this.#receiver.wantsProgress) this.#progress(grant.plan, part);
      usage ??= usageOf(part);
      failure ??= failureOf(part);
    }
    if (this.#begun) return { usage, failure };
    throw new CodeGodError('engine_failed', `${node} ended its answer before it began`);
  }

  #begin(place: Place, part: BusMessage): void {
    this.#begun = true;
    const status = Number(part.headers[INFER_HEADER.status] ?? 200);
    const type = part.headers[INFER_HEADER.contentType] ?? 'application/json';
    this.#receiver.head(place, status, type);
  }

  #progress(place: Place, part: BusMessage): void {
    const progress = InferProgress.safeParse(jsonOf(part.headers[INFER_HEADER.progress]));
    if (progress.success) this.#receiver.progress(place, progress.data);
  }

  /** N1, N2, N3. Throws what ends the inference. */
  #failed(grant: Grant, error: unknown): Outcome {
    const { pool, metrics, log, waitMaxMs } = this.#options;
    const wire = toWireError(this.#isCancelled ? gone() : error);
    const { node } = grant.plan;
    log.info('inference.failed', {
      ...{ request: this.#input.id, node, begun: this.#begun, error: wire },
    });
    const isRefusal = REFUSALS.includes(wire.code);
    if (isRefusal) this.#refusals += 1;
    else this.#failedOn.add(node);
    const mayTry = isRefusal
      ? this.#refusals < REFUSALS_MAX
      : FAILURES.includes(wire.code) && this.#failedOn.size < FAILURES_MAX && this.#isElsewhere();
    if (this.#begun || this.#isCancelled || !mayTry) {
      pool.failed(grant, wire);
      throw error;
    }
    metrics.retried(wire.code);
    const pauseMs = isRefusal ? DECLINED_MS : waitMaxMs;
    return { again: pool.again(grant, wire, { pauseMs, patienceMs: this.#patienceMs() }) };
  }

  /** Whether any node is left on which it has not failed. */
  #isElsewhere(): boolean {
    const holders = this.#options.directory.holders(this.#input.request.model);
    return holders.some(({ node }) => !this.#failedOn.has(node));
  }
}

const gone = (): CodeGodError => new CodeGodError('cancelled', 'the client has gone');

function failureOf(part: BusMessage): WireError | null {
  const code = part.headers[INFER_HEADER.failure];
  if (code === undefined) return null;
  return {
    code: ErrorCode.catch('internal').parse(code),
    message: 'the answer broke off after its first byte',
  };
}

function usageOf(part: BusMessage): InferUsage | null {
  const header = part.headers[INFER_HEADER.usage];
  if (header === undefined) return null;
  const usage = InferUsage.safeParse(jsonOf(header));
  return usage.success ? usage.data : null;
}

function jsonOf(text: string | undefined): unknown {
  if (text === undefined) return null;
  try {
    return JSON.parse(text);
  } catch {
    // A figure that cannot be read is one that was not told.
    return null;
  }
}
