/** What people have laid down for models, as far as it concerns this node: `codegod_policy`. */
import type { NodeId } from '../../protocol/ids.ts';
import { ModelPolicy, POLICIES_MAX } from '../../protocol/policy.ts';
import { BUCKETS } from '../../protocol/streams.ts';
import type { Bus } from '../../runtime/bus.ts';
import type { Logger } from '../../runtime/log.ts';
import { canonicalModelName } from '../../scheduling/model-names.ts';

export interface NodePoliciesOptions {
  readonly bus: Bus;
  readonly node: NodeId;
  readonly log: Logger;
  readonly changed: () => void;
}

export class NodePolicies {
  readonly #options: NodePoliciesOptions;
  readonly #over = new AbortController();
  /** By key of the bucket. */
  readonly #policies = new Map<string, ModelPolicy>();
  /** Canonical names of models that are kept here. */
  #kept: ReadonlySet<string> = new Set();
  #watching: Promise<void> = Promise.resolve();

  constructor(options: NodePoliciesOptions) {
    this.#options = options;
  }

  /** Whether copies of the model that are loaded here are never evicted. */
  keeps(model: string): boolean {
    return this.#kept.has(canonicalModelName(model));
  }

  start(): void {
    this.#watching = this.#watch();
  }

  async stop(): Promise<void> {
    this.#over.abort();
    await this.#watching;
  }

  async #watch(): Promise<void> {
    const { bus, log, changed } = this.#options;
    for await (const change of bus.kv(BUCKETS.policy.name).watch(this.#over.signal)) {
      if (change.op === 'initial_done') continue;
      this.#policies.delete(change.key);
      if (change.op === 'put' && this.#policies.size < POLICIES_MAX) {
        try {
          const text = new TextDecoder().decode(change.value);
          this.#policies.set(change.key, ModelPolicy.parse(JSON.parse(text)));
        } catch (error) {
          log.warn('worker.policy_unreadable', { key: change.key, error });
        }
      }
      this.#kept = new Set(
        [...this.#policies.values()]
          .filter(policy => this.#concerns(policy))
          .map(({ model }) => canonicalModelName(model)),
      );
      changed();
    }
  }

  #concerns({ replicas_min, nodes }: ModelPolicy): boolean {
    return replicas_min > 0 && (nodes.length === 0 || nodes.includes(this.#options.node));
  }
}
