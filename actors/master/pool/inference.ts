/**
 * One inference of a client: gets a place, asks the node there, and passes its bytes on unread.
 *
 * N1: until the first byte of the answer another node is tried: after a refusal, which cost nothing,
 *     when the node has said something new; after a failure never the same again. Both are bounded.
 * N2: after the first byte nothing is tried again: the error is the answer's end.
 * N3: a client that hangs up ends everything at once, in whatever step it is.
 * N4: a node is dead that is silent for three signs of life, whose advert is gone, or whose worker
 *     was started again.
 */
import { CodeGodError, type ErrorCode, toWireError } from '../../../protocol/errors.ts';
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
import type { Clock } from '../../../runtime/clock.ts';
import type { Logger } from '../../../runtime/log.ts';
import { throwIfError } from '../../../runtime/message-body.ts';
import { isTraceparent, newTraceparent } from '../../../runtime/trace.ts';
import type { PlacementRequest } from '../../../scheduling/placement.ts';
import { InferBody, inferHeaders } from './infer-message.ts';
import type { ModelDirectory } from './model-directory.ts';
import type { Grant, Pool } from './pool.ts';
import type { PoolMetrics } from './pool-metrics.ts';
import type { Ticket } from './ticket.ts';

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

/** Who gets the answer. */
export interface Receiver {
  /** Whether it shows what is going on before the first byte. */
  readonly wantsProgress: boolean;
  progress(node: string, progress: InferProgress): void;
  head(node: string, status: number, contentType: string): void;
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
  'model_missing',
  'engine_unavailable',
  'no_responders',
  'bus_unavailable',
  'cancelled',
];
/** Something went wrong there that may go right elsewhere. */
const FAILURES: readonly ErrorCode[] = [
  'timeout',
  'engine_failed',
  'lease_lost',
  'disk_full',
  'internal',
];
const REFUSALS_MAX = 32;
const FAILURES_MAX = 3;
const SILENCE_MS = 3 * INFER_ALIVE_MS;

export class Inference {
  readonly #options: InferenceOptions;
  readonly #input: InferenceInput;
  readonly #receiver: Receiver;
  readonly #ticket: Ticket;
  readonly #body: InferBody;
  readonly #traceparent: string;
  #refusals = 0;
  #failures = 0;
  #begun = false;
  #isCancelled = false;
  /** Ends the try that is under way. */
  #abort: AbortController | null = null;

  constructor(options: InferenceOptions, input: InferenceInput, receiver: Receiver) {
    const { id, share, priority, request, traceparent } = input;
    this.#options = options;
    this.#input = input;
    this.#receiver = receiver;
    this.#ticket = options.pool.enter({ id, share, priority, request, bounded: true });
    this.#body = new InferBody(options, id, input.body);
    const isKnown = traceparent !== undefined && isTraceparent(traceparent);
    this.#traceparent = isKnown ? traceparent : newTraceparent(options.clock);
  }

  /** Whether the first byte is out. */
  get begun(): boolean {
    return this.#begun;
  }

  /** N3 */
  cancel(): void {
    if (this.#isCancelled) return;
    this.#isCancelled = true;
    this.#abort?.abort();
    this.#options.pool.cancel(this.#ticket);
  }

  /** Answers what was used, where the node said so. @throws CodeGodError */
  async run(): Promise<InferUsage | null> {
    const { pool, metrics } = this.#options;
    try {
      for (;;) {
        const grant = await this.#acquire();
        const usage = await this.#try(grant);
        if (usage === 'again') continue;
        metrics.ended('done', usage);
        return usage;
      }
    } catch (error) {
      metrics.ended(this.#isCancelled ? 'cancelled' : 'failed', null);
      pool.gaveUp(this.#ticket, error);
      throw error;
    } finally {
      await this.#body.remove();
    }
  }

  async #acquire(): Promise<Grant> {
    const { pool, clock, waitMaxMs } = this.#options;
    if (this.#isCancelled) throw gone();
    const waitedMs = clock.now() - this.#ticket.arrived_at;
    const grant = await pool.acquire(this.#ticket, Math.max(1, waitMaxMs - waitedMs));
    if (grant !== null) return grant;
    const { reason } = pool.decisions.get(this.#ticket.id).decision ?? { reason: 'nobody knows why' };
    const retryAfterMs = pool.expectedWaitMs;
    throw new CodeGodError('overloaded', `no place was found in ${waitMaxMs / 1_000} s: ${reason}`, {
      details: retryAfterMs === null ? {} : { retry_after_s: pool.retryAfterS(retryAfterMs) },
    });
  }

  /** One node. `again`: nothing has come of it (N1). */
  async #try(grant: Grant): Promise<InferUsage | null | 'again'> {
    const { pool } = this.#options;
    const abort = new AbortController();
    this.#abort = abort;
    let lost: CodeGodError | null = null;
    grant.lost = error => {
      lost ??= error;
      abort.abort();
    };
    try {
      const usage = await this.#ask(grant, abort.signal);
      pool.ended(grant, usage);
      return usage;
    } catch (error) {
      return this.#failed(grant, lost ?? error);
    }
  }

  async #ask(grant: Grant, signal: AbortSignal): Promise<InferUsage | null> {
    const { node, engine, model, context_tokens, need_bytes } = grant.plan;
    const { id, dialect, share, priority } = this.#input;
    const message = await this.#body.message({
      ...{ request: id, dialect, engine, model, context_tokens },
      ...{ bytes: need_bytes, share, priority },
    });
    // What was cancelled meanwhile is not even asked.
    if (signal.aborted) throw gone();
    const stream = this.#options.bus.askStream(nodeSubject(node, 'infer'), message, {
      headers: inferHeaders(this.#traceparent),
      first_ms: SILENCE_MS,
      idle_ms: SILENCE_MS,
      signal,
    });
    let usage: InferUsage | null = null;
    for await (const part of stream) {
      if (part.body.length > 0) {
        throwIfError(part);
        if (!this.#begun) this.#begin(node, part);
        if (!this.#receiver.write(part.body)) await this.#receiver.drained();
      } else if (!this.#begun && this.#receiver.wantsProgress) this.#progress(node, part);
      usage ??= usageOf(part);
    }
    if (this.#begun) return usage;
    throw new CodeGodError('engine_failed', `${node} ended its answer before it began`);
  }

  #begin(node: string, part: BusMessage): void {
    this.#begun = true;
    const status = Number(part.headers[INFER_HEADER.status] ?? 200);
    const type = part.headers[INFER_HEADER.contentType] ?? 'application/json';
    this.#receiver.head(node, status, type);
  }

  #progress(node: string, part: BusMessage): void {
    const progress = InferProgress.safeParse(jsonOf(part.headers[INFER_HEADER.progress]));
    if (progress.success) this.#receiver.progress(node, progress.data);
  }

  /** N1, N2, N3. Throws what ends the inference. */
  #failed(grant: Grant, error: unknown): 'again' {
    const { pool, metrics, log } = this.#options;
    const wire = toWireError(error);
    if (this.#isCancelled) {
      pool.cancelled(grant);
      throw gone();
    }
    const { id } = this.#ticket;
    log.info('inference.failed', { id, node: grant.plan.node, begun: this.#begun, error: wire });
    const isRefusal = REFUSALS.includes(wire.code) && !this.#begun;
    if (isRefusal) pool.refused(grant, wire);
    else pool.failed(grant, wire);
    if (isRefusal) this.#refusals += 1;
    else this.#failures += 1;
    const isTriedAgain = isRefusal
      ? this.#refusals < REFUSALS_MAX
      : FAILURES.includes(wire.code) && this.#failures < FAILURES_MAX && this.#isElsewhere();
    if (this.#begun || !isTriedAgain) throw error;
    metrics.retried(wire.code);
    return 'again';
  }

  /** Whether any node is left on which it has not failed. */
  #isElsewhere(): boolean {
    const failedOn = this.#ticket.failedOn;
    const holders = this.#options.directory.holders(this.#ticket.model);
    return holders.some(({ node }) => !failedOn.includes(node));
  }
}

const gone = (): CodeGodError => new CodeGodError('cancelled', 'the client has gone');

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
