/**
 * How attempts get on, in memory: what their deadline depends on when it comes.
 *
 * G1: an attempt that waits for its turn is not at fault for the time that it waits.
 * G2: one that gets on (a fact, a part of an answer, a step of a load) has its time anew; one that
 *     does not, for as long as its limit, is over.
 * G3: all ends with the time that the build has.
 */
import type { TaskMessage } from '../../protocol/task.ts';
import type { Clock } from '../../runtime/clock.ts';

/** Between two looks at one deadline, as a share of the limit: each look is a fact. */
const LOOK_AGAIN_SHARE = 0.25;

interface Seen {
  readonly atMs: number;
  readonly waits: boolean;
}

export class AttemptProgress {
  readonly #clock: Clock;
  readonly #seen = new Map<string, Seen>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** It waits for a slot (G1). */
  waits(attempt: string): void {
    this.#seen.set(attempt, { atMs: this.#clock.monotonic(), waits: true });
  }

  /** It gets on (G2). */
  moved(attempt: string): void {
    this.#seen.set(attempt, { atMs: this.#clock.monotonic(), waits: false });
  }

  forget(attempt: string): void {
    this.#seen.delete(attempt);
  }

  /** Until when an attempt whose deadline has come may go on; null where it is over. */
  extended(attempt: string, task: TaskMessage, deadline: number, now: number): number | null {
    const { limit_ms, budget_until } = task;
    if (limit_ms === undefined || budget_until === undefined) return null;
    if (deadline >= budget_until) return null; // G3
    const nowMs = this.#clock.monotonic();
    // Nothing is known of what it did before this process began.
    const { atMs, waits } = this.#seen.get(attempt) ?? { atMs: nowMs, waits: false };
    const idleMs = waits ? 0 : nowMs - atMs;
    if (idleMs >= limit_ms) return null;
    const leftMs = Math.max(limit_ms - idleMs, limit_ms * LOOK_AGAIN_SHARE);
    const until = Math.min(Math.ceil(now + leftMs), budget_until);
    return until === deadline ? null : until;
  }
}
