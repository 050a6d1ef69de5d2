/**
 * Streams as a guest on another machine's bus sees them: it may neither define them nor create
 * consumers on them, so it finds them as they are and follows them by asking for the next message.
 *
 * G1  Asking costs one request every POLL_MS while nothing happens. What is followed this way is
 *     small and slow: adverts and rules.
 * G2  A stream that is not there is waited for: its owner is about to create it.
 * G3  Messages are yielded in stream order, each once, within one session. A lost connection, a
 *     failed question or a stream that was created anew begins another session.
 */
import { z } from 'zod';
import { toWireError } from '../protocol/errors.ts';
import type { StreamConfig } from './bus.ts';
import { growingPauseMs } from './bus-append.ts';
import { asError } from './bus-serve.ts';
import type { TailItem, TailOptions } from './bus-wire.ts';
import type { Clock } from './clock.ts';
import { explained, isPassing } from './nats-api.ts';
import type { NatsParts } from './nats-parts.ts';
import { NatsStore } from './nats-store.ts';

const POLL_MS = 500;
/** So many quiet questions, and it is looked whether the stream is still the same one. */
const QUIET_MAX = 4;
const PAUSE_MIN_MS = 250;
const PAUSE_MAX_MS = 2_000;

export class GuestStore extends NatsStore {
  readonly #parts: NatsParts;

  constructor(parts: NatsParts) {
    super(parts);
    this.#parts = parts;
  }

  /** The owner defines its streams (G2). */
  override async ensure(_config: StreamConfig): Promise<void> {}

  override async *tail(stream: string, options: TailOptions): AsyncGenerator<TailItem> {
    const { clock, emit } = this.#parts;
    const position: Position = { created: null, lastSeq: 0 };
    let failures = 0;
    while (!options.signal.aborted) {
      try {
        for await (const item of this.#session(stream, options, position)) {
          if (item.kind !== 'session') failures = 0;
          yield item;
        }
      } catch (error) {
        const isAwaited = isPassing(error) || toWireError(error).code === 'not_found'; // G2
        if (!isAwaited) emit({ type: 'error', where: `follow ${stream}`, error: asError(error) });
        failures += 1;
        const pauseMs = growingPauseMs(clock, failures, PAUSE_MIN_MS, PAUSE_MAX_MS);
        await rest(clock, pauseMs, options.signal);
      }
    }
  }

  /** Ends with the signal or a change of the connection. Throws what kept a question unanswered. */
  async *#session(
    stream: string,
    { filter, start, signal }: TailOptions,
    position: Position,
  ): AsyncGenerator<TailItem> {
    const { clock, listen } = this.#parts;
    const changed = new AbortController();
    const stopListening = listen(event => {
      if (event.type === 'disconnected' || event.type === 'reconnected') changed.abort();
    });
    const over = AbortSignal.any([signal, changed.signal]);
    try {
      const created = await this.#created(stream);
      const reset = position.created !== null && created !== position.created;
      position.created = created;
      // Every session of a watcher shows the whole picture; a reader goes on where it was.
      if (reset || start === 'last_per_subject') position.lastSeq = 0;
      yield { kind: 'session', reset };
      const first = start === 'last_per_subject' || reset ? 1 : start;
      let quiet = 0;
      for (let caughtUp = false; !over.aborted; ) {
        const seq = Math.max(position.lastSeq + 1, first);
        const message = await this.find(stream, { seq, next_by_subj: filter });
        if (message !== null) {
          position.lastSeq = message.seq;
          quiet = 0;
          yield { kind: 'message', message };
          continue;
        }
        if (!caughtUp) yield { kind: 'caught_up' };
        caughtUp = true;
        await rest(clock, POLL_MS, over);
        quiet += 1;
        if (quiet % QUIET_MAX === 0 && (await this.#created(stream)) !== created) return;
      }
    } finally {
      stopListening();
    }
  }

  async #created(stream: string): Promise<string> {
    try {
      return Info.parse(await this.#parts.api.call(`STREAM.INFO.${stream}`)).created;
    } catch (error) {
      throw explained(error, `stream ${stream}`);
    }
  }
}

interface Position {
  /** When the stream of the last session was made. */
  created: string | null;
  lastSeq: number;
}

const Info = z.object({ created: z.string() });

/** Woken early means that the caller looks at its signal next. */
const rest = (clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> =>
  clock.sleep(delayMs, signal).catch(() => undefined);
