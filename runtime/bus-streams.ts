/**
 * Streams as the port shows them: appending with ids and expectations, reading, following.
 *
 * T1  One append is stored at most once within the duplicate window, because every try of it
 *     carries the same message id.
 */
import { CodeGodError } from '../protocol/errors.ts';
import type {
  AppendOptions,
  AppendResult,
  FollowOptions,
  ReadOptions,
  StoredMessage,
  Streams,
} from './bus.ts';
import type { TimerWheel } from './bus-wheel.ts';
import { HEADER, type Store, type TailItem } from './bus-wire.ts';

const APPEND_TIMEOUT_MS = 10_000;
/** A server that has just started answers "no stream" for a moment. */
const GRACE_MS = 2_000;
/** A reader that hears nothing for so long has lost the bus. */
const READ_SILENCE_MS = 10_000;

export interface StreamParts {
  readonly store: Store;
  readonly wheel: TimerWheel;
  /** An id that no other process gives. */
  readonly newId: () => string;
}

export function createStreams({ store, wheel, newId }: StreamParts): Streams {
  const append = (
    subject: string,
    body: Uint8Array,
    options: AppendOptions = {},
    graceMs = GRACE_MS,
  ): Promise<AppendResult> => {
    const headers: Record<string, string> = { ...options.headers };
    headers[HEADER.messageId] = options.id ?? newId();
    if (options.expect !== undefined) {
      headers[HEADER.expectedSubjectSequence] = String(options.expect.last_subject_sequence);
      if (options.expect.filter_subject !== undefined) {
        headers[HEADER.expectedSubjectFilter] = options.expect.filter_subject;
      }
    }
    const timeoutMs = options.timeout_ms ?? APPEND_TIMEOUT_MS;
    return store.append(subject, body, { headers, timeoutMs, graceMs });
  };

  return {
    ensure: config => store.ensure(config),
    info: stream => store.info(stream),
    append: (subject, body, options) => append(subject, body, options),
    read: (stream, options) => read(store, wheel, stream, options),
    follow: (stream, options) => follow(store, stream, options),
    last: (stream, subject) => store.last(stream, subject),
    purge: (stream, subject) => store.purge(stream, subject),
    remove: (stream, seq) => store.remove(stream, seq),
  };
}

/** What is stored now. Throws `not_found`, `bus_unavailable`, `cancelled`. */
export async function* read(
  store: Store,
  wheel: TimerWheel,
  stream: string,
  options: ReadOptions,
): AsyncGenerator<StoredMessage> {
  const info = await store.info(stream);
  if (info === null) throw new CodeGodError('not_found', `there is no stream ${stream}`);
  const lastSeq = Math.min(options.to_seq ?? info.last_seq, info.last_seq);
  if (info.messages === 0 || options.from_seq > lastSeq) return;
  const abort = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, abort.signal]) : abort.signal;
  const tail = store.tail(stream, { filter: options.filter, start: options.from_seq, signal });
  const items = tail[Symbol.asyncIterator]();
  try {
    for (;;) {
      const item = await soon(wheel, stream, items.next());
      if (item.done) throw new CodeGodError('cancelled', `reading ${stream} was cancelled`);
      if (item.value.kind === 'caught_up') return;
      if (item.value.kind === 'session') continue;
      const { message } = item.value;
      if (message.seq > lastSeq) return;
      yield message;
      if (message.seq === lastSeq) return;
    }
  } finally {
    // A tail that waits ends by the signal, one that was left at a message by `return`.
    abort.abort();
    await items.return?.();
  }
}

function soon(
  wheel: TimerWheel,
  stream: string,
  next: Promise<IteratorResult<TailItem>>,
): Promise<IteratorResult<TailItem>> {
  return new Promise((resolve, reject) => {
    const deadline = wheel.after(READ_SILENCE_MS, () => {
      reject(new CodeGodError('bus_unavailable', `stream ${stream} cannot be read now`));
    });
    void next.then(resolve, reject).finally(() => deadline.cancel());
  });
}

async function* follow(
  store: Store,
  stream: string,
  options: FollowOptions,
): AsyncGenerator<StoredMessage> {
  const { filter, from_seq: start, signal } = options;
  for await (const item of store.tail(stream, { filter, start, signal })) {
    if (item.kind === 'message') yield item.message;
  }
}
