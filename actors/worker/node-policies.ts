/** What people have laid down for models, as far as it concerns this node: `codegod_policy`. */
import type { NodeId } from '../../protocol/ids.ts';
import { ModelPolicy, POLICIES_MAX } from '../../protocol/policy.ts';
import { BUCKETS } from '../../protocol/streams.ts';
import type { Bus } from '../../runtime/bus.ts';
import { type Entry, followTable } from '../../runtime/live-table.ts';
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
    const { bus, log } = this.#options;
    const table = {
      ...{ bus, log, bucket: BUCKETS.policy.name },
      read: (value: unknown) => ModelPolicy.parse(value),
      changed: (key: string, policy: Entry<ModelPolicy>) => this.#take(key, policy),
    };
    this.#watching = followTable(table, this.#over.signal).over;
  }

  async stop(): Promise<void> {
    this.#over.abort();
    await this.#watching;
  }

  #take(key: string, policy: Entry<ModelPolicy>): void {
    this.#policies.delete(key);
    if (policy.is === 'there' && this.#policies.size < POLICIES_MAX) {
      this.#policies.set(key, policy.value);
    }
    this.#kept = new Set(
      [...this.#policies.values()]
        .filter(kept => this.#concerns(kept))
        .map(({ model }) => canonicalModelName(model)),
    );
    this.#options.changed();
  }

  #concerns({ replicas_min, nodes }: ModelPolicy): boolean {
    return replicas_min > 0 && (nodes.length === 0 || nodes.includes(this.#options.node));
  }
}
