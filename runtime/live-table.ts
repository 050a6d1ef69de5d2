/**
 * What a bucket holds, as it is now: the one way in which actors follow adverts, rules and keys.
 *
 * T1  A record that cannot be read counts as none, never as the one before it, and stops nothing but
 *     itself. It is told in the log once, until its key can be read again.
 * T2  Changes are told in order. After a gap, as when the bus was away, what changed and what vanished
 *     is told (bus-kv.ts, K2).
 * T3  Whoever waits for what was there and cannot have it is told so: a table that could not be read is
 *     not an empty one. Without API keys every door would be open.
 */
import { decode } from '../protocol/codec.ts';
import { CodeGodError, toWireError } from '../protocol/errors.ts';
import type { Bus } from './bus.ts';
import type { Logger } from './log.ts';

export type Entry<T> =
  | { readonly is: 'there'; readonly value: T }
  | { readonly is: 'unreadable' | 'gone' };

export interface TableOptions<T> {
  readonly bus: Bus;
  readonly bucket: string;
  /** Of its keys; default all. */
  readonly filter?: string;
  readonly log: Logger;
  /** What a record says. Throws where it cannot be read. */
  readonly read: (value: unknown, key: string) => T;
  /** What throws here cannot be read either. */
  readonly changed: (key: string, entry: Entry<T>) => void;
}

export interface LiveTable {
  /** Resolves when all that was there has been told, or the signal has fired. Rejects where it cannot (T3). */
  readonly known: Promise<void>;
  /** Resolves when nothing more is told. Never rejects. */
  readonly over: Promise<void>;
}

/** Follows a bucket until the signal fires. */
export function followTable<T>(options: TableOptions<T>, signal: AbortSignal): LiveTable {
  let tellKnown = (): void => {};
  let tellLost = (_: unknown): void => {};
  const known = new Promise<void>((resolve, reject) => {
    tellKnown = resolve;
    tellLost = reject;
  });
  known.catch(() => {}); // Nobody has to wait for it, and the log tells.
  const over = follow(options, signal, tellKnown).then(tellKnown, error => {
    options.log.error('table.lost', { bucket: options.bucket, error: toWireError(error) });
    tellLost(error);
  });
  return { known, over };
}

async function follow<T>(
  { bus, bucket, filter, log, read, changed }: TableOptions<T>,
  signal: AbortSignal,
  tellKnown: () => void,
): Promise<void> {
  const unreadable = new Set<string>();
  for await (const change of bus.kv(bucket).watch(signal, filter)) {
    if (change.op === 'initial_done') {
      tellKnown();
      continue;
    }
    const { key } = change;
    if (change.op !== 'put') {
      unreadable.delete(key);
      changed(key, { is: 'gone' });
      continue;
    }
    try {
      changed(key, { is: 'there', value: read(recordIn(change.value), key) });
      unreadable.delete(key);
    } catch (error) {
      if (!unreadable.has(key)) {
        log.warn('record.unreadable', { bucket, key, error: toWireError(error) });
      }
      unreadable.add(key);
      changed(key, { is: 'unreadable' }); // T1
    }
  }
}

function recordIn(record: Uint8Array): unknown {
  try {
    return decode(record, undefined);
  } catch {
    // Without the words of the parser: they quote the record, which may hold what is not for the log.
    throw new CodeGodError('bad_message', 'it is not JSON');
  }
}
