/**
 * Watches a load that may take minutes: not by the time it takes but by whether it gets on. Each time
 * the runner has read or holds more than ever, or less memory is free than ever, it is given more
 * time. Both only go one way, so that a load that stands still is found out.
 */
import type { Clock } from '../../../runtime/clock.ts';
import type { Watchdog } from './watchdog.ts';

export interface LoadSigns {
  /** Bytes read or held so far; null where nobody can see. */
  readonly read: () => Promise<number | null>;
  /** Free memory as measured last; null where nobody measures. */
  readonly free: () => number | null;
}

export interface LoadWatchOptions {
  readonly clock: Clock;
  readonly watchdog: Watchdog;
  readonly signs: LoadSigns;
  readonly model: string;
  readonly size_bytes: number;
  /** Without any movement; where nothing can be seen at all, `blindMs` for the whole. */
  readonly stallMs: number;
  readonly blindMs: number;
  readonly onFraction: (fraction: number | null) => void;
}

/** There is no event for the progress of a load. */
const LOOK_EVERY_MS = 1_000;
/** Less than this is noise; other programs move the free memory too. */
const READ_BYTES_MIN = 1024 * 1024;
const FREE_BYTES_MIN = 16 * 1024 * 1024;

/** Looks until the signal fires. Never rejects. */
export async function watchLoad(options: LoadWatchOptions, signal: AbortSignal): Promise<void> {
  const { clock, watchdog, signs, model, size_bytes, stallMs, blindMs, onFraction } = options;
  const first = await signs.read();
  let most = first;
  let least = signs.free();
  watchdog.expect(first === null ? blindMs : stallMs, `${model} was not loaded in time`);
  while (!signal.aborted) {
    await clock.sleep(LOOK_EVERY_MS, signal).catch(() => undefined); // Over: looked at next.
    const read = signal.aborted ? null : await signs.read();
    const free = signs.free();
    if (signal.aborted) return;
    const hasRead = read !== null && read >= (most ?? 0) + READ_BYTES_MIN;
    const hasTaken = free !== null && free <= (least ?? free) - FREE_BYTES_MIN;
    if (hasRead) most = read;
    if (hasTaken || least === null) least = free;
    if (hasRead || hasTaken) watchdog.expect(stallMs, `${model} did not get on with loading`);
    if (read !== null && size_bytes > 0) {
      onFraction(Math.min(0.99, Math.max(0, read - (first ?? 0)) / size_bytes));
    }
  }
}
