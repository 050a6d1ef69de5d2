/**
 * A whole node for tests of the pool: the real worker with its relay, on a fake Ollama whose cards,
 * models and speeds are made up, or on a real one.
 */

import type { FakeModelOptions } from '../../bench/fake-node/fake-model.ts';
import { type FakeNode, startFakeNode } from '../../bench/fake-node/fake-node.ts';
import { encode } from '../../protocol/codec.ts';
import { NodeId } from '../../protocol/ids.ts';
import { CapacityAdvert } from '../../protocol/node.ts';
import { BUCKETS } from '../../protocol/streams.ts';
import { advertKey } from '../../protocol/subjects.ts';
import type { Bus } from '../../runtime/bus.ts';
import { systemClock } from '../../runtime/clock.ts';
import { type Journal, memoryJournal } from '../../runtime/journal.ts';
import { WORKER_KEYS } from '../../runtime/journal-keys.ts';
import { silentLogger } from '../../runtime/log.ts';
import { createMessenger } from '../../runtime/messages.ts';
import { connectNats } from '../../runtime/nats-bus.ts';
import { createBusGateway } from '../worker/adapters/bus-gateway.ts';
import { createBusReports } from '../worker/adapters/bus-reports.ts';
import { createOllamaEngine } from '../worker/engines/ollama.ts';
import { createOllamaRelay } from '../worker/engines/ollama-relay.ts';
import { Worker } from '../worker/worker.ts';

const GIB = 1024 ** 3;
const ADVERT_MS = 2_000;

export interface TestNodeOptions {
  readonly url: string;
  readonly id: string;
  /** Of a fake Ollama. */
  readonly models?: readonly FakeModelOptions[];
  /** Of a real one, in place of the fake. */
  readonly host?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly vramGib?: number;
  readonly labels?: Readonly<Record<string, string>>;
}

export class TestNode {
  readonly node: NodeId;
  readonly bus: Bus;
  readonly #ollama: FakeNode | null;
  readonly #options: TestNodeOptions;
  readonly #worker: Worker;
  readonly #stopping = new AbortController();
  #adverts: Promise<void> = Promise.resolve();

  private constructor(options: TestNodeOptions, ollama: FakeNode | null, bus: Bus, worker: Worker) {
    this.node = NodeId.parse(options.id);
    this.#options = options;
    this.#ollama = ollama;
    this.bus = bus;
    this.#worker = worker;
  }

  static async start(options: TestNodeOptions): Promise<TestNode> {
    const { url, id, models = [], env = {}, vramGib = 24, labels = {} } = options;
    const cards = [{ totalBytes: vramGib * GIB }];
    const isReal = options.host !== undefined;
    const ollama = isReal ? null : await startFakeNode({ models, registry: models, cards, env });
    const host = options.host ?? ollama?.url ?? '';
    const bus = await connectNats({ servers: [url], name: `worker-${id}`, clock: systemClock });
    await advertise(bus, id, vramGib);
    const worker = await startWorker(bus, id, host, await memoryJournal(WORKER_KEYS), labels);
    const node = new TestNode(options, ollama, bus, worker);
    node.#adverts = node.#keepAdvertising();
    return node;
  }

  /** The fake Ollama of it. */
  get ollama(): FakeNode {
    if (this.#ollama === null) throw new Error('this node has a real Ollama');
    return this.#ollama;
  }

  /** As at the end of its process. */
  drain(deadlineMs: number): Promise<void> {
    return this.#worker.drain(deadlineMs);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#adverts;
    await this.#worker.stop();
    await this.bus.close();
    await this.#ollama?.stop();
  }

  async #keepAdvertising(): Promise<void> {
    const { id, vramGib = 24 } = this.#options;
    while (!this.#stopping.signal.aborted) {
      try {
        await systemClock.sleep(ADVERT_MS, this.#stopping.signal);
        await advertise(this.bus, id, vramGib);
      } catch {
        // The test is over: the loop looks.
      }
    }
  }
}

function startWorker(
  bus: Bus,
  id: string,
  host: string,
  journal: Journal,
  labels: Readonly<Record<string, string>>,
): Promise<Worker> {
  const clock = systemClock;
  const messenger = createMessenger(bus, { source: `/node/${id}/actor/worker`, clock });
  return Worker.start({
    ...{ messenger, clock, log: silentLogger, node: NodeId.parse(id), host: id, epoch: 1, journal },
    engines: [createOllamaEngine({ host, clock })],
    relays: { ollama: createOllamaRelay({ host, keep_alive: 900 }) },
    gateway: createBusGateway(
      messenger,
      { lifeOf: () => '1.1', onChange: () => () => {} },
      NodeId.parse(id),
    ),
    reports: createBusReports(messenger),
    state: () => 'ready',
    ackWaitMs: 5_000,
    settings: { labels },
  });
}

/** What a resource-monitor would say: one card, nothing on it but what the worker knows of. */
async function advertise(bus: Bus, id: string, vramGib: number): Promise<void> {
  const total_bytes = vramGib * GIB;
  const node = NodeId.parse(id);
  const at = systemClock.now();
  const card = {
    ...{ index: 0, uuid: null, name: 'card', vendor: 'nvidia', unified: false, source: 'test' },
    ...{ total_bytes, used_bytes: 0, free_bytes: total_bytes, measured_at: at, integrated: false },
    ...{ utilization: null, temperature_c: null, power_w: null },
  };
  const capacity = CapacityAdvert.parse({
    ...{ node, epoch: 1, host: id, state: 'ready', at, os: 'linux', arch: 'x64' },
    cpu: { model: 'cpu', cores: 2, load: null },
    ram: { total_bytes: 64 * GIB, available_bytes: 32 * GIB },
    disk: { total_bytes: null, free_bytes: null },
    ...{ gpus: [card], reserve_bytes: 0, unknown: [] },
  });
  await bus.kv(BUCKETS.node.name).put(advertKey(node, 'capacity'), encode(capacity));
}
