/** The rules that people have laid down for models, as they stand now. */
import { ModelPolicy, POLICIES_MAX } from '../../../protocol/policy.ts';
import { BUCKETS } from '../../../protocol/streams.ts';
import type { Bus } from '../../../runtime/bus.ts';
import { type Entry, followTable } from '../../../runtime/live-table.ts';
import type { Logger } from '../../../runtime/log.ts';
import { sameModel } from '../../../scheduling/model-names.ts';

export class Policies {
  readonly #bus: Bus;
  readonly #log: Logger;
  readonly #policies = new Map<string, ModelPolicy>();
  readonly #listeners = new Set<() => void>();
  #all: readonly ModelPolicy[] = [];

  constructor(options: { readonly bus: Bus; readonly log: Logger }) {
    this.#bus = options.bus;
    this.#log = options.log;
  }

  /** Watches until the signal fires; resolves when everything that was there has been seen. */
  watch(signal: AbortSignal): Promise<void> {
    const table = {
      ...{ bus: this.#bus, log: this.#log, bucket: BUCKETS.policy.name },
      read: (value: unknown) => ModelPolicy.parse(value),
      changed: (key: string, policy: Entry<ModelPolicy>) => this.#take(key, policy),
    };
    return followTable(table, signal).known;
  }

  all(): readonly ModelPolicy[] {
    return this.#all;
  }

  of(model: string): ModelPolicy | null {
    return this.#all.find(policy => sameModel(policy.model, model)) ?? null;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  #take(key: string, policy: Entry<ModelPolicy>): void {
    if (policy.is !== 'there') {
      if (this.#policies.delete(key)) this.#tell();
      return;
    }
    if (this.#policies.size >= POLICIES_MAX && !this.#policies.has(key)) {
      this.#log.warn('policy.too_many', { key, max: POLICIES_MAX });
      return;
    }
    this.#policies.set(key, policy.value);
    this.#tell();
  }

  #tell(): void {
    this.#all = [...this.#policies.values()];
    for (const listener of this.#listeners) listener();
  }
}
