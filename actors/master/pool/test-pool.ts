/**
 * A pool on a bus in memory and a clock that stands still, for tests: nodes are adverts and a
 * stand-in that speaks the protocol of inferences as a test tells it to.
 */
import { encode, JSON_TYPE } from '../../../protocol/codec.ts';
import { NodeId } from '../../../protocol/ids.ts';
import { INFER_HEADER, type InferProgress, type RequestId } from '../../../protocol/inference.ts';
import type { RuntimeAdvert } from '../../../protocol/node.ts';
import { type ModelPolicy, policyKey } from '../../../protocol/policy.ts';
import { BUCKETS } from '../../../protocol/streams.ts';
import { advertKey, nodeSubject } from '../../../protocol/subjects.ts';
import type { ServeStreamContext } from '../../../runtime/bus.ts';
import { SimulatedClock } from '../../../runtime/clock.ts';
import { silentLogger } from '../../../runtime/log.ts';
import { createMemoryBroker, type MemoryBus } from '../../../runtime/memory-bus.ts';
import { createMetrics } from '../../../runtime/metrics.ts';
import { ensureStores } from '../../../runtime/stores.ts';
import { GIB, type NodeInput, nodeView } from '../../../scheduling/test-nodes.ts';
import { NodeTable } from '../adapters/node-table.ts';
import { Inference, type InferenceInput, type Place, type Receiver } from './inference.ts';
import { ModelDirectory } from './model-directory.ts';
import { Policies } from './policies.ts';
import { Pool } from './pool.ts';
import { PoolMetrics } from './pool-metrics.ts';

export const MODEL = 'chat:8b';
export const WAIT_MAX_MS = 60_000;
export const QUEUE_MAX = 3;

export const encoder = new TextEncoder();

/** What a stand-in makes of an inference. */
export type Play = (request: InferCall, context: ServeStreamContext) => Promise<void>;

export interface InferCall {
  readonly request: string;
  readonly model: string;
  readonly evict?: readonly string[];
  readonly body?: Record<string, unknown>;
  readonly artifact?: { readonly name: string };
}

/** Answers in two pieces. */
export const answering: Play = async (_request, { send }) => {
  const head = { [INFER_HEADER.status]: '200', [INFER_HEADER.contentType]: 'text/plain' };
  await send(encoder.encode('hel'), head);
  const usage = { prompt_tokens: 3, output_tokens: 2, load_ms: 0, total_ms: 1 };
  await send(encoder.encode('lo'), { [INFER_HEADER.usage]: JSON.stringify(usage) });
};

export const telling = (progress: InferProgress) => ({
  [INFER_HEADER.progress]: JSON.stringify(progress),
});

/** Keeps what comes. */
export class TestReceiver implements Receiver {
  wantsProgress = true;
  readonly told: string[] = [];
  node: string | null = null;
  text = '';
  /** Told of each piece. */
  onWrite: () => void = () => {};

  progress({ node }: Place, { phase }: InferProgress): void {
    this.told.push(`${phase} on ${node}`);
  }
  head({ node }: Place): void {
    this.node = node;
  }
  write(chunk: Uint8Array): boolean {
    this.text += Buffer.from(chunk).toString('utf8');
    this.onWrite();
    return true;
  }
  async drained(): Promise<void> {}
}

export class TestPool {
  readonly clock = new SimulatedClock();
  readonly broker = createMemoryBroker({ clock: this.clock });
  readonly bus: MemoryBus = this.broker.connect('master');
  readonly nodes: NodeTable;
  readonly policies: Policies;
  readonly pool: Pool;
  readonly directory: ModelDirectory;
  readonly metrics = new PoolMetrics(createMetrics('test'));
  /** Requests by the node that they reached, in order. */
  readonly reached: string[] = [];
  readonly #stop = new AbortController();
  #requests = 0;
  /** As configured now. */
  aliases: Readonly<Record<string, string>> = {};

  private constructor() {
    const { bus, clock } = this;
    const log = silentLogger;
    this.nodes = new NodeTable({ bus, clock, log, ownNode: NodeId.parse('own') });
    this.policies = new Policies({ bus, log });
    const { nodes, policies, metrics } = this;
    this.directory = new ModelDirectory({ nodes, aliases: () => this.aliases, clock });
    this.pool = new Pool({
      ...{ nodes, policies, clock, metrics, aliases: () => this.aliases },
      settings: {
        ...{ queueMax: QUEUE_MAX, waitMaxMs: WAIT_MAX_MS, ageBoundMs: 30_000, residencyMs: 0 },
      },
    });
  }

  static async start(): Promise<TestPool> {
    const test = new TestPool();
    await ensureStores(test.bus);
    await test.nodes.watch(test.#stop.signal);
    await test.policies.watch(test.#stop.signal);
    return test;
  }

  stop(): void {
    this.pool.close();
    this.#stop.abort();
  }

  /** A node with the model loaded, unless told otherwise, that plays along. */
  async node(id: string, play: Play = answering, more: Partial<NodeInput> = {}): Promise<void> {
    await this.show(id, more);
    const node = NodeId.parse(id);
    this.broker.connect(id).serveStream(nodeSubject(node, 'infer'), async ({ body }, context) => {
      const request = JSON.parse(Buffer.from(body).toString('utf8')) as InferCall;
      this.reached.push(id);
      await play(request, context);
    });
  }

  /** What it says of itself. */
  async show(id: string, more: Partial<NodeInput> = {}, runtime: object = {}): Promise<void> {
    const models = [{ name: MODEL, size_bytes: 4 * GIB, loaded: true, context_tokens: 32_768 }];
    const gpu = { free: 20 * GIB, total: 24 * GIB };
    const view = nodeView({ id, gpu, models, ...more });
    const kv = this.bus.kv(BUCKETS.node.name);
    const node = NodeId.parse(id);
    await kv.put(advertKey(node, 'capacity'), encode(view.capacity?.advert));
    const advert: RuntimeAdvert = { ...(view.runtime as { advert: RuntimeAdvert }).advert };
    await kv.put(advertKey(node, 'runtime'), encode({ ...advert, ...runtime }));
    await this.clock.advance(1);
  }

  async hide(id: string): Promise<void> {
    const kv = this.bus.kv(BUCKETS.node.name);
    await kv.delete(advertKey(NodeId.parse(id), 'runtime'));
    await this.clock.advance(1);
  }

  async rule(policy: Partial<ModelPolicy>): Promise<void> {
    const whole = {
      ...{ model: MODEL, nodes: [], replicas_min: 0, priority: 0, context_tokens: null, at: 0 },
      ...policy,
    };
    const kv = this.bus.kv(BUCKETS.policy.name);
    await kv.put(policyKey(whole.model), encode(whole, JSON_TYPE));
    await this.clock.advance(1);
  }

  infer(receiver: Receiver, more: Partial<InferenceInput> = {}): Inference {
    this.#requests += 1;
    const { bus, pool, directory, metrics, clock } = this;
    return new Inference(
      { ...{ bus, pool, directory, metrics, clock }, log: silentLogger, waitMaxMs: WAIT_MAX_MS },
      {
        id: `r-${String(this.#requests).padStart(26, '0')}` as RequestId,
        dialect: 'openai-chat',
        request: {
          ...{ model: MODEL, context_tokens: 1_024, remote: 'deny', avoid: [] },
          kind: 'inference',
        },
        ...{ share: 'local', priority: 0, traceparent: undefined },
        body: Buffer.from('{"model":"x","messages":[]}'),
        ...more,
      },
      receiver,
    );
  }
}
