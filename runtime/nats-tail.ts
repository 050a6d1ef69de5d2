/**
 * Following a stream in order and without gaps, whatever happens to the connection or the server.
 *
 * A session is an ephemeral consumer and a pull on it. It ends when the consumer's numbering shows
 * a gap, heartbeats stop, or the connection was renewed; the next one goes on after the last
 * message seen. A stream that was created anew (its `created` time differs) starts over.
 *
 * L1  Messages are yielded in stream order, each once, within one life of the stream.
 * L2  At most WINDOW messages wait here.
 */
import { CodeGodError } from '../protocol/errors.ts';
import { growingPauseMs } from './bus-append.ts';
import type { TailItem, TailOptions } from './bus-wire.ts';
import { API_ERROR, ApiError, explained } from './nats-api.ts';
import type { NatsParts } from './nats-parts.ts';
import { Pull, type Pulled } from './nats-pull.ts';

/** With 128 KiB chunks of objects this is 8 MiB. */
const WINDOW = 64;
const PAUSE_MIN_MS = 100;
const PAUSE_MAX_MS = 2_000;
/** An abandoned consumer is removed by the server after so long. */
const INACTIVE_MS = 60_000;
const NANOS_PER_MS = 1_000_000;

interface Opened {
  readonly consumer: string;
  readonly created: string;
  readonly reset: boolean;
  readonly pending: number;
}

export async function* tail(
  parts: NatsParts,
  stream: string,
  options: TailOptions,
): AsyncGenerator<TailItem> {
  const { signal } = options;
  let created: string | null = null;
  let lastSeq = 0;
  let failures = 0;
  while (!signal.aborted) {
    let opened: Opened;
    try {
      opened = await open(parts, stream, options, created, lastSeq);
    } catch (error) {
      failures += 1;
      await recover(parts, stream, options, error);
      await pause(parts, failures, signal);
      continue;
    }
    created = opened.created;
    if (opened.reset) lastSeq = 0;
    yield { kind: 'session', reset: opened.reset };
    if (opened.pending === 0) yield { kind: 'caught_up' };
    const session = new Session(parts, stream, opened.consumer, signal);
    try {
      let caughtUp = opened.pending === 0;
      failures += 1;
      for (let next = await session.next(); next !== null; next = await session.next()) {
        failures = 0;
        if (next !== 'idle') {
          lastSeq = next.message.seq;
          yield { kind: 'message', message: next.message };
        }
        if (!caughtUp && (next === 'idle' || next.pending === 0)) {
          caughtUp = true;
          yield { kind: 'caught_up' };
        }
      }
    } finally {
      session.stop();
      forget(parts, stream, opened.consumer);
    }
    // A session that brought nothing is not tried again at once.
    if (failures > 0) await pause(parts, failures, signal);
  }
}

async function open(
  { api }: NatsParts,
  stream: string,
  options: TailOptions,
  createdBefore: string | null,
  lastSeq: number,
): Promise<Opened> {
  const { created } = await api.call(`STREAM.INFO.${stream}`);
  const reset = createdBefore !== null && created !== createdBefore;
  const { start } = options;
  const config = {
    ...(start === 'last_per_subject'
      ? { deliver_policy: start }
      : {
          deliver_policy: 'by_start_sequence',
          opt_start_seq: reset ? 1 : Math.max(start, lastSeq + 1),
        }),
    filter_subject: options.filter,
    ack_policy: 'none',
    max_deliver: 1,
    mem_storage: true,
    num_replicas: 1,
    inactive_threshold: INACTIVE_MS * NANOS_PER_MS,
  };
  const request = { stream_name: stream, config };
  const { name, num_pending } = await api.call(`CONSUMER.CREATE.${stream}`, request);
  return {
    consumer: String(name),
    created: String(created),
    reset,
    pending: Number(num_pending ?? 0),
  };
}

/** What can be done about a session that did not open; the rest is waiting. */
async function recover(
  { emit }: NatsParts,
  stream: string,
  options: TailOptions,
  error: unknown,
): Promise<void> {
  const missing = error instanceof ApiError && error.number === API_ERROR.streamNotFound;
  try {
    if (missing && options.onMissing !== undefined) await options.onMissing();
    else if (!(error instanceof CodeGodError)) throw explained(error, `stream ${stream}`);
  } catch (failure) {
    const reason = failure instanceof Error ? failure : new Error(String(failure));
    emit({ type: 'error', where: `follow ${stream}`, error: reason });
  }
}

/** Waits a growing while, but not longer than until the connection is back. */
async function pause(parts: NatsParts, failures: number, signal: AbortSignal): Promise<void> {
  const { clock, listen } = parts;
  const back = new AbortController();
  const stopListening = listen(event => {
    if (event.type === 'reconnected') back.abort();
  });
  const either = AbortSignal.any([signal, back.signal]);
  try {
    await clock.sleep(growingPauseMs(clock, failures, PAUSE_MIN_MS, PAUSE_MAX_MS), either);
  } catch (error) {
    if (!either.aborted) throw error;
  } finally {
    stopListening();
  }
}

/** The server removes it by itself, later; telling it is only polite. */
function forget({ api, wire }: NatsParts, stream: string, consumer: string): void {
  if (!wire.connected) return;
  void api.call(`CONSUMER.DELETE.${stream}.${consumer}`).catch(() => null);
}

/** One consumer's messages as a queue; ends at the first sign that something may be missing. */
class Session {
  readonly #pull: Pull;
  readonly #queue: Pulled[] = [];
  readonly #signal: AbortSignal;
  readonly #stopListening: () => void;
  readonly #end = (): void => {
    this.#ended = true;
    this.#wake?.();
  };
  #taken = 0;
  #consumerSeq = 0;
  #idle = false;
  #ended = false;
  #wake: (() => void) | null = null;

  constructor(parts: NatsParts, stream: string, consumer: string, signal: AbortSignal) {
    this.#signal = signal;
    signal.addEventListener('abort', this.#end, { once: true });
    this.#stopListening = parts.listen(event => {
      if (event.type === 'disconnected' || event.type === 'reconnected') this.#end();
    });
    this.#pull = new Pull(
      parts.wire,
      parts.wheel,
      { stream, consumer },
      {
        deliver: pulled => this.#deliver(pulled),
        idle: () => {
          this.#idle = true;
          this.#wake?.();
        },
        lost: reason => {
          if (reason === 'heartbeats_missed') parts.emit({ type: reason, stream, consumer });
          this.#end();
        },
      },
    );
    this.#pull.want(WINDOW);
  }

  /**
   * The next message; `idle` when the server says that there is none now, which matters when the
   * last one expected was removed meanwhile; null when the session has ended.
   */
  async next(): Promise<Pulled | 'idle' | null> {
    while (!this.#signal.aborted) {
      const pulled = this.#queue.shift();
      if (pulled !== undefined) {
        this.#taken += 1;
        if (this.#taken % (WINDOW / 2) === 0) this.#pull.want(WINDOW / 2);
        return pulled;
      }
      if (this.#ended) return null;
      if (this.#idle) {
        this.#idle = false;
        return 'idle';
      }
      await new Promise<void>(resolve => {
        this.#wake = resolve;
      });
      this.#wake = null;
    }
    return null;
  }

  stop(): void {
    this.#ended = true;
    this.#pull.stop();
    this.#stopListening();
    this.#signal.removeEventListener('abort', this.#end);
  }

  #deliver(pulled: Pulled): void {
    if (pulled.consumerSeq !== this.#consumerSeq + 1) this.#end();
    if (this.#ended) return;
    this.#consumerSeq = pulled.consumerSeq;
    this.#queue.push(pulled);
    this.#wake?.();
  }
}
