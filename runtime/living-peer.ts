/**
 * Asking a process that may be killed while it is asked. A request is worth waiting for only as long
 * as the process lives that it was sent to: a dead one never answers, and its successor answers only
 * when it is asked again. The epoch in a node's advert tells one life from the next.
 */
import { z } from 'zod';
import { decode } from '../protocol/codec.ts';
import { CodeGodError } from '../protocol/errors.ts';
import { BUCKETS } from '../protocol/streams.ts';
import type { AdvertKind } from '../protocol/subjects.ts';
import type { Bus } from './bus.ts';

export interface PeerEpochs {
  /** Of the peer's advert as seen last; null while it has none. */
  epochOf(peer: string): number | null;
  /** Calls back when any epoch may have changed; answers the way to stop listening. */
  onChange(listener: () => void): () => void;
}

/**
 * Runs `ask` with a signal that also fires when the peer turns out to live another life.
 * @throws CodeGodError `no_responders` in that case, which is retryable; else what `ask` throws.
 */
export async function whilePeerLives<T>(
  epochs: PeerEpochs,
  peer: string,
  signal: AbortSignal,
  ask: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const over = new AbortController();
  const epoch = epochs.epochOf(peer);
  const forget = epochs.onChange(() => {
    const now = epochs.epochOf(peer);
    if (epoch !== null && now !== null && now !== epoch) over.abort();
  });
  try {
    return await ask(AbortSignal.any([signal, over.signal]));
  } catch (error) {
    if (!over.signal.aborted || signal.aborted) throw error;
    const message = `${peer} was started again while it was asked`;
    throw new CodeGodError('no_responders', message, { cause: error });
  } finally {
    forget();
  }
}

const Advert = z.looseObject({ epoch: z.int() });

/** An advert that cannot be read tells nothing; the next one comes within seconds. */
function epochIn(value: Uint8Array): number | null {
  try {
    return Advert.parse(decode(value, undefined)).epoch;
  } catch {
    return null;
  }
}

/** Follows the adverts of one kind, of all nodes. Resolves when all present ones have been seen. */
export async function watchEpochs(
  bus: Bus,
  kind: AdvertKind,
  signal: AbortSignal,
): Promise<PeerEpochs> {
  const epochs = new Map<string, number>();
  const listeners = new Set<() => void>();
  const suffix = `.${kind}`;
  const follow = async (seen: () => void): Promise<void> => {
    for await (const change of bus.kv(BUCKETS.node.name).watch(signal, `*${suffix}`)) {
      if (change.op === 'initial_done') seen();
      // A peer that fell silent keeps its epoch: it may only have been slow.
      if (change.op !== 'put') continue;
      const epoch = epochIn(change.value);
      if (epoch === null) continue;
      epochs.set(change.key.slice(0, -suffix.length), epoch);
      for (const listener of listeners) listener();
    }
  };
  await new Promise<void>((resolve, reject) => {
    follow(resolve).then(resolve, reject);
  });
  return {
    epochOf: peer => epochs.get(peer) ?? null,
    onChange: listener => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}
