/**
 * Who may begin: at most `builds_max` builds are at work at once, the rest wait in the order in
 * which they came.
 *
 * A1: a build that waits for people or for memory takes nobody's place; when it goes on it does so
 *     at once, above the limit if need be. Of those that wait for memory at most as many as the
 *     limit: what was let in because others waited would wait with them, and all go on at once.
 * A2: nobody is admitted before the builds that were at work before a restart are counted.
 */
import type { BuildState } from '../../protocol/build.ts';
import { CodeGodError } from '../../protocol/errors.ts';
import type { BuildId } from '../../protocol/ids.ts';
import type { AdmissionPort } from './ports.ts';

const IDLE: readonly BuildState[] = [
  'awaiting_approval',
  'paused',
  'succeeded',
  'partial',
  'failed',
  'cancelled',
];

interface Waiting {
  readonly build: BuildId;
  readonly admit: () => void;
}

export class Admission implements AdmissionPort {
  readonly #buildsMax: number;
  readonly #working = new Set<BuildId>();
  /** Begun, and waiting for memory. */
  readonly #held = new Set<BuildId>();
  #waiting: Waiting[] = [];
  #isOpen = false;

  constructor(buildsMax: number) {
    this.#buildsMax = buildsMax;
  }

  /** From now on builds are admitted (A2). */
  open(): void {
    this.#isOpen = true;
    this.#admitNext();
  }

  /** A build is in this state now (A1). */
  note(build: BuildId, state: BuildState): void {
    // Of one that has its place and has not said so yet this is no news.
    if (state === 'received') return;
    this.#working.delete(build);
    this.#held.delete(build);
    if (state === 'waiting_capacity') this.#held.add(build);
    else if (!IDLE.includes(state)) this.#working.add(build);
    this.#admitNext();
  }

  admit(build: BuildId, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#waiting = this.#waiting.filter(waiting => waiting !== entry);
        reject(new CodeGodError('cancelled', `${build} does not wait any more`));
      };
      const admit = (): void => {
        signal.removeEventListener('abort', leave);
        resolve();
      };
      const entry: Waiting = { build, admit };
      if (signal.aborted) return leave();
      signal.addEventListener('abort', leave, { once: true });
      this.#waiting.push(entry);
      this.#waiting.sort((left, right) => numberOf(left.build) - numberOf(right.build));
      this.#admitNext();
    });
  }

  #admitNext(): void {
    while (this.#isOpen && this.#hasRoom()) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      this.#working.add(next.build);
      next.admit();
    }
  }

  /** A1 */
  #hasRoom(): boolean {
    const begun = this.#working.size + this.#held.size;
    return this.#working.size < this.#buildsMax && begun < this.#buildsMax * 2;
  }
}

const numberOf = (build: BuildId): number => Number(build.slice(1));
