/**
 * Trying an append again until it is stored, refused, or its time is up.
 *
 * Safe because every try carries the same message id: a try whose answer was lost is stored once.
 */
import { CodeGodError } from '../protocol/errors.ts';
import type { AppendHeaders, StoreAck } from './bus-wire.ts';
import type { Clock } from './clock.ts';

/** One try; a lost answer is noticed after so long. */
const TRY_MS = 2_000;
const PAUSE_MIN_MS = 50;
const PAUSE_MAX_MS = 1_000;

/**
 * Calls `attempt` with its time limit until it answers. `no_responders` is tried again for
 * `graceMs`, what `isPassing` for `timeoutMs`; the last error is thrown.
 */
export async function appendPatiently(
  clock: Clock,
  { timeoutMs, graceMs }: AppendHeaders,
  isPassing: (error: unknown) => boolean,
  attempt: (timeoutMs: number) => Promise<StoreAck>,
): Promise<StoreAck> {
  const startMs = clock.monotonic();
  for (let tries = 1; ; tries += 1) {
    const leftMs = startMs + timeoutMs - clock.monotonic();
    try {
      return await attempt(Math.min(leftMs, TRY_MS));
    } catch (error) {
      const missing = error instanceof CodeGodError && error.code === 'no_responders';
      if (!missing && !isPassing(error)) throw error;
      const pauseMs = growingPauseMs(clock, tries, PAUSE_MIN_MS, PAUSE_MAX_MS);
      const elapsedMs = clock.monotonic() - startMs;
      if (elapsedMs + pauseMs >= (missing ? Math.min(graceMs, timeoutMs) : timeoutMs)) throw error;
      await clock.sleep(pauseMs);
    }
  }
}

/** Doubling with each try up to a bound, and jittered down to half of that. */
export function growingPauseMs(clock: Clock, tries: number, minMs: number, maxMs: number): number {
  const longestMs = Math.min(maxMs, minMs * 2 ** Math.min(tries - 1, 20));
  return longestMs * (0.5 + clock.random() / 2);
}
