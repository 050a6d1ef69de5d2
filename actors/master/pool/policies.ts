/** The rules that people have laid down for models, as they stand now. */
import { decode } from '../../../protocol/codec.ts';
import { toWireError } from '../../../protocol/errors.ts';
import { ModelPolicy, POLICIES_MAX } from '../../../protocol/policy.ts';
import { BUCKETS } from '../../../protocol/streams.ts';
import type { Bus } from '../../../runtime/bus.ts';
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
    return new Promise((resolve, reject) => {
      const read = async (): Promise<void> => {
        for await (const change of this.#bus.kv(BUCKETS.policy.name).watch(signal)) {
          if (change.op === 'initial_done') resolve();
          else if (change.op === 'put') this.#take(change.key, change.value);
          else if (this.#policies.delete(change.key)) this.#tell();
        }
      };
      read().then(resolve, reject);
    });
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

  #take(key: string, value: Uint8Array): void {
    try {
      const policy = ModelPolicy.parse(decode(value, undefined));
      if (this.#policies.size >= POLICIES_MAX && !this.#policies.has(key)) {
        this.#log.warn('policy.too_many', { key, max: POLICIES_MAX });
        return;
      }
      this.#policies.set(key, policy);
      this.#tell();
    } catch (error) {
      this.#log.warn('policy.invalid', { key, error: toWireError(error) });
      if (this.#policies.delete(key)) this.#tell();
    }
  }

  #tell(): void {
    this.#all = [...this.#policies.values()];
    for (const listener of this.#listeners) listener();
  }
}
