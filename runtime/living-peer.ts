/**
 * Asking a process that may be killed, or cut off from the bus, while it is asked. A request is worth
 * waiting for only as long as the process lives and is connected as it was when it was sent: a dead
 * one never answers, what is sent to or by one that is cut off is lost, and where anybody else listens
 * on its subject the server does not say so. The advert tells one life, and one connection, from the
 * next.
 */
import { z } from 'zod';
import { CodeGodError } from '../protocol/errors.ts';
import { BUCKETS } from '../protocol/streams.ts';
import type { AdvertKind } from '../protocol/subjects.ts';
import type { Bus } from './bus.ts';
import { type Entry, followTable } from './live-table.ts';
import type { Logger } from './log.ts';

export interface PeerLives {
  /** By the peer's advert as seen last; null while it has none. */
  lifeOf(peer: string): string | null;
  /** Calls back when any life may have changed; answers the way to stop listening. */
  onChange(listener: () => void): () => void;
}

/** Changes when the process is started again, and when it connects to the bus again. */
export const lifeIn = (advert: {
  readonly epoch: number;
  readonly connections?: number | undefined;
}): string => `${advert.epoch}.${advert.connections ?? 1}`;

/**
 * Runs `ask`, which must be safe to repeat, with a signal that also fires when the peer turns out to
 * live another life.
 * @throws CodeGodError `no_responders` in that case, which is retryable; else what `ask` throws.
 */
export async function whilePeerLives<T>(
  lives: PeerLives,
  peer: string,
  signal: AbortSignal,
  ask: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const over = new AbortController();
  const life = lives.lifeOf(peer);
  const forget = lives.onChange(() => {
    const now = lives.lifeOf(peer);
    if (now !== null && now !== life) over.abort();
  });
  try {
    return await ask(AbortSignal.any([signal, over.signal]));
  } catch (error) {
    if (!over.signal.aborted || signal.aborted) throw error;
    const message = `${peer} was started or connected again while it was asked`;
    throw new CodeGodError('no_responders', message, { cause: error });
  } finally {
    forget();
  }
}

const Advert = z.looseObject({ epoch: z.int(), connections: z.int().optional() });

/** Follows the adverts of one kind, of all nodes. Resolves when all present ones have been seen. */
export async function watchLives(
  { bus, log }: { readonly bus: Bus; readonly log: Logger },
  kind: AdvertKind,
  signal: AbortSignal,
): Promise<PeerLives> {
  const lives = new Map<string, string>();
  const listeners = new Set<() => void>();
  const suffix = `.${kind}`;
  const table = {
    ...{ bus, log, bucket: BUCKETS.node.name },
    filter: `*${suffix}`,
    read: (value: unknown) => lifeIn(Advert.parse(value)),
    changed: (key: string, life: Entry<string>) => {
      // A peer that fell silent, or cannot be understood, keeps its life: it may only have been slow.
      if (life.is !== 'there') return;
      lives.set(key.slice(0, -suffix.length), life.value);
      for (const listener of listeners) listener();
    },
  };
  await followTable(table, signal).known;
  return {
    lifeOf: peer => lives.get(peer) ?? null,
    onChange: listener => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}
