/** A loaded model: where it lies, with which options, who uses it and until when it stays. */
import type { FakeModel } from './fake-model.ts';
import type { Allocation } from './memory.ts';

/** What a model is loaded with. Another value of any of them loads it again. */
export type RunnerOptions = Readonly<Record<string, unknown>> & { readonly num_ctx: number };

export class Runner {
  readonly model: FakeModel;
  readonly options: RunnerOptions;
  /** Allocated: never more than the model was made for. */
  readonly contextTokens: number;
  readonly slots: Slots;
  readonly allocation: Allocation;
  /** While it is being loaded. */
  loading: Promise<void> | null = null;
  /** While it is being unloaded. */
  unloading: Promise<void> | null = null;
  /** Called when it is unloaded and its memory was seen to be back. */
  readonly whenGone: (() => void)[] = [];
  users = 0;
  keepMs: number;
  /** Null before its first use has ended. */
  expiresAtMs: number | null = null;
  timer: NodeJS.Timeout | null = null;

  constructor(start: {
    readonly model: FakeModel;
    readonly options: RunnerOptions;
    readonly slots: number;
    readonly allocation: Allocation;
    readonly keepMs: number;
  }) {
    this.model = start.model;
    this.options = start.options;
    this.contextTokens = Math.min(start.options.num_ctx, start.model.contextMax);
    this.slots = new Slots(start.slots);
    this.allocation = start.allocation;
    this.keepMs = start.keepMs;
  }
}

/** So many at once; the others wait in the order they came. */
export class Slots {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(count: number) {
    this.#free = count;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** True: taken at once. Otherwise `begin` is called later, unless it is forgotten before. */
  take(begin: () => void): boolean {
    if (this.#free > 0) {
      this.#free -= 1;
      return true;
    }
    this.#waiting.add(begin);
    return false;
  }

  forget(begin: () => void): boolean {
    return this.#waiting.delete(begin);
  }

  give(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#free += 1;
      return;
    }
    this.#waiting.delete(next);
    next();
  }
}
