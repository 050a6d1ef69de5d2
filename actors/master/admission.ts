/**
 * Who may begin: at most `builds_max` builds are at work at once, the rest wait in the order in
 * which they came.
 *
 * A1: a build that waits for people or for memory takes nobody's place; when it goes on it does so
 *     at once, above the limit if need be.
 * A2: nobody is admitted before the builds that were at work before a restart are counted.
 */
import type { BuildState } from '../../protocol/build.ts';
import { CodeGodError } from '../../protocol/errors.ts';
import type { BuildId } from '../../protocol/ids.ts';
import type { AdmissionPort } from './ports.ts';

const IDLE: readonly BuildState[] = [
  'received',
  'awaiting_approval',
  'waiting_capacity',
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
    if (IDLE.includes(state)) this.#working.delete(build);
    else this.#working.add(build);
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
    while (this.#isOpen && this.#working.size < this.#buildsMax) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      this.#working.add(next.build);
      next.admit();
    }
  }
}

const numberOf = (build: BuildId): number => Number(build.slice(1));
