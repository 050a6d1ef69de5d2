/**
 * A world for a worker in tests: a bus in memory with the streams it needs, a gateway that keeps its
 * promises, an engine that follows a script, a master's side to hand out tasks from, and a worker
 * that can die at any write.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { encode } from '../../protocol/codec.ts';
import { CodeGodError } from '../../protocol/errors.ts';
import { NodeId } from '../../protocol/ids.ts';
import {
  Acknowledgement,
  type CapacityAdvert,
  type LifecycleState,
  ReserveReply,
  type ReserveRequest,
  RuntimeAdvert,
} from '../../protocol/node.ts';
import { BUCKETS, STREAMS } from '../../protocol/streams.ts';
import { advertKey, nodeSubject, taskSubject } from '../../protocol/subjects.ts';
import { TaskMessage, TaskReport } from '../../protocol/task.ts';
import { type Clock, systemClock, type TimerHandle } from '../../runtime/clock.ts';
import { type Journal, type JournalOperation, memoryJournal } from '../../runtime/journal.ts';
import { WORKER_KEYS } from '../../runtime/journal-keys.ts';
import type { PeerLives } from '../../runtime/living-peer.ts';
import { type Logger, silentLogger } from '../../runtime/log.ts';
import { createMemoryBroker, type MemoryBroker, type MemoryBus } from '../../runtime/memory-bus.ts';
import { createMessenger, type Messenger } from '../../runtime/messages.ts';
import { ensureStores } from '../../runtime/stores.ts';
import { createBusGateway } from './adapters/bus-gateway.ts';
import { createBusReports } from './adapters/bus-reports.ts';
import type { Engine, EngineInventory, GenerateChunk, GenerateRequest } from './engines/engine.ts';
import { FakeGateway, GATEWAY } from './test-gateway.ts';
import { Worker } from './worker.ts';

export const NODE = NodeId.parse('n1');

export const GOOD_ANSWER =
  'src/a.js\n```js\nlet a;\n```\n\nsrc/b.js\n```js\nlet b;\n```\n{"success":true,"summary":"Done."}';

/** What an engine does in its nth turn, counted over all workers. */
export type Script = (turn: number, signal: AbortSignal) => string | Promise<string>;

export class ScriptedEngine implements Engine {
  readonly name = 'scaffold';
  readonly requests: GenerateRequest[] = [];
  available = true;
  script: Script = () => GOOD_ANSWER;

  async inventory(): Promise<EngineInventory> {
    const { available } = this;
    const model = {
      ...{ name: 'scaffold', digest: 'd', size_bytes: 0, family: '', parameter_size: '' },
      ...{ quantization: '', context_max: 1_000_000, loaded: true, vram_bytes: 0, ram_bytes: 0 },
      ...{ context_tokens: 1_000_000, capabilities: ['completion'] },
    };
    const reason = available ? null : 'switched off';
    return { available, version: '1', reason, models: available ? [model] : [] };
  }
  async load(): Promise<null> {
    return null;
  }
  async unload(): Promise<void> {}
  async *generate(request: GenerateRequest, signal: AbortSignal): AsyncGenerator<GenerateChunk> {
    this.requests.push(request);
    const text = await this.script(this.requests.length, signal);
    if (signal.aborted) throw new CodeGodError('cancelled', 'cancelled');
    yield { kind: 'text', text };
    const counts = { prompt_tokens: 9, output_tokens: 3, load_ms: 1, total_ms: 2 };
    yield { kind: 'done', reason: 'stop', ...counts };
  }
}

const NEVER_RESTARTED: PeerLives = { lifeOf: () => '1.1', onChange: () => () => {} };

/** A clock whose timers all stop when its process dies. */
class MortalClock implements Clock {
  readonly #handles = new Set<TimerHandle>();
  #dead = false;

  now = (): number => systemClock.now();
  monotonic = (): number => systemClock.monotonic();
  random = (): number => systemClock.random();
  setTimeout(fire: () => void, delayMs: number): TimerHandle {
    if (this.#dead) return { id: null };
    const handle: TimerHandle = systemClock.setTimeout(() => {
      this.#handles.delete(handle);
      fire();
    }, delayMs);
    this.#handles.add(handle);
    return handle;
  }
  clearTimeout(handle: TimerHandle): void {
    this.#handles.delete(handle);
    if (handle.id !== null) systemClock.clearTimeout(handle);
  }
  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const cancel = (): void => {
        this.clearTimeout(handle);
        reject(new CodeGodError('cancelled', 'cancelled'));
      };
      const handle = this.setTimeout(() => {
        signal?.removeEventListener('abort', cancel);
        resolve();
      }, delayMs);
      if (signal?.aborted) cancel();
      else signal?.addEventListener('abort', cancel, { once: true });
    });
  }
  die(): void {
    this.#dead = true;
    for (const handle of this.#handles) systemClock.clearTimeout(handle);
    this.#handles.clear();
  }
}

/** Where a process dies: at its nth write of a fact, before the write or right after it. */
export interface Death {
  readonly fact: number;
  readonly when: 'before' | 'after';
}

const never = <T>(): Promise<T> => new Promise(() => {});

export class World {
  readonly engine = new ScriptedEngine();
  readonly gateway = new FakeGateway();
  readonly #brokerClock = new MortalClock();
  readonly broker: MemoryBroker = createMemoryBroker({ clock: this.#brokerClock });
  readonly journal: Journal;
  /** Facts in the order they were written, `type` of each. */
  readonly facts: string[] = [];
  readonly #master: Messenger;
  readonly #buses: MemoryBus[] = [];
  #epoch = 0;

  private constructor(journal: Journal) {
    this.journal = journal;
    this.#master = this.#messenger('master');
  }

  static async create(): Promise<World> {
    const world = new World(await memoryJournal(WORKER_KEYS));
    await ensureStores(world.#master.bus);
    world.gateway.serve(world.#messenger('gateway'));
    return world;
  }

  #messenger(name: string): Messenger {
    const bus = this.broker.connect(name);
    this.#buses.push(bus);
    return createMessenger(bus, { source: `/node/n1/actor/${name}`, clock: systemClock });
  }

  get bus(): MemoryBus {
    return this.#master.bus as MemoryBus;
  }

  async startWorker(options: { death?: Death; engines?: Engine[]; log?: Logger } = {}) {
    this.#epoch += 1;
    const clock = new MortalClock();
    const bus = this.broker.connect(`worker-${this.#epoch}`);
    this.#buses.push(bus);
    const messenger = createMessenger(bus, { source: '/node/n1/actor/worker', clock });
    const life = { dead: false, died: () => {} };
    const death = new Promise<void>(resolve => {
      life.died = resolve;
    });
    const die = (): void => {
      life.dead = true;
      clock.die();
      bus.disconnect();
      life.died();
    };
    const engine = this.engine;
    const mortal: Engine = {
      name: 'scaffold',
      inventory: () => (life.dead ? never() : engine.inventory()),
      load: () => engine.load(),
      unload: () => engine.unload(),
      async *generate(request, signal) {
        if (life.dead) await never();
        yield* engine.generate(request, signal);
      },
    };
    const worker = await Worker.start({
      ...{ messenger, clock, node: NODE, host: 'test', epoch: this.#epoch },
      log: options.log ?? silentLogger,
      journal: this.#mortalJournal(life, die, options.death),
      engines: options.engines ?? [mortal],
      gateway: createBusGateway(messenger, NEVER_RESTARTED, NODE),
      reports: createBusReports(messenger),
      state: (): LifecycleState => 'ready',
      ackWaitMs: 500,
    });
    return {
      worker,
      die,
      death,
      stop: async () => {
        if (!life.dead) await worker.stop();
      },
    };
  }

  #mortalJournal(life: { dead: boolean }, die: () => void, death: Death | undefined): Journal {
    const { journal, facts } = this;
    let written = 0;
    const write = async <T>(key: string, value: unknown, put: () => Promise<T>): Promise<T> => {
      if (life.dead) return never();
      if (!key.startsWith('fact/')) return put();
      written += 1;
      if (death?.fact === written && death.when === 'before') {
        die();
        return never();
      }
      const result = await put();
      facts.push((JSON.parse(String(value)) as { type: string }).type);
      if (death?.fact === written) {
        die();
        return never();
      }
      return result;
    };
    return {
      get: key => (life.dead ? never() : journal.get(key)),
      put: (key, value) => write(key, value, () => journal.put(key, value)),
      batch: (operations: readonly JournalOperation[]) =>
        life.dead ? never() : journal.batch(operations),
      entries: (...range) => journal.entries(...range),
      keys: (...range) => journal.keys(...range),
      close: async () => {},
    };
  }

  async reserve(changes: Partial<ReserveRequest> = {}): Promise<ReserveReply> {
    const request = {
      ...{ build: 'b1', task: 'store', attempt: 1, engine: 'scaffold', model: 'scaffold' },
      ...{ context_tokens: 16_384, bytes: 0, ttl_ms: 60_000 },
      ...changes,
    };
    const subject = nodeSubject(NODE, 'reserve');
    return this.#master.ask(subject, request, ReserveReply, { timeout_ms: 10_000 });
  }

  async tell(verb: 'release' | 'cancel', request: object): Promise<void> {
    await this.#master.ask(nodeSubject(NODE, verb), request, Acknowledgement, {
      timeout_ms: 10_000,
    });
  }

  /** Reserves and hands over a task, as the master does. */
  async dispatch(changes: object = {}): Promise<TaskMessage> {
    const reply = await this.reserve(changes);
    assert.ok(reply.granted, JSON.stringify(reply));
    const task = taskOf({ lease: reply.lease, ...changes });
    await this.append(task);
    return task;
  }

  async append(task: TaskMessage, body: Uint8Array = encode(task)): Promise<void> {
    const subject = taskSubject(NODE, task.build, task.task, task.attempt);
    await this.bus.streams.append(subject, body);
  }

  async reports(): Promise<TaskReport[]> {
    const found: TaskReport[] = [];
    const stream = this.bus.streams.read(STREAMS.report.name, { filter: '>', from_seq: 1 });
    for await (const { body } of stream) {
      found.push(TaskReport.parse(JSON.parse(new TextDecoder().decode(body))));
    }
    return found;
  }

  async report(): Promise<TaskReport> {
    return until(async () => (await this.reports())[0]);
  }

  async dead(): Promise<number> {
    return (await this.bus.streams.info(STREAMS.dead.name))?.messages ?? 0;
  }

  async advert(): Promise<RuntimeAdvert | undefined> {
    const entry = await this.bus.kv(BUCKETS.node.name).get(advertKey(NODE, 'runtime'));
    if (entry === null) return undefined;
    return RuntimeAdvert.parse(JSON.parse(new TextDecoder().decode(entry.value)));
  }

  async measure(changes: Partial<CapacityAdvert>): Promise<void> {
    const capacity = {
      ...{ node: NODE, epoch: 1, host: 'test', state: 'ready', at: 1, os: 'x', arch: 'x' },
      cpu: { model: 'x', cores: 2, load: 0 },
      ram: { total_bytes: 8e9, available_bytes: 4e9 },
      disk: { total_bytes: 1, free_bytes: 1 },
      ...{ gpus: [], reserve_bytes: 0, unknown: [] },
      ...changes,
    };
    await this.bus.kv(BUCKETS.node.name).put(advertKey(NODE, 'capacity'), encode(capacity));
  }

  async close(): Promise<void> {
    await Promise.all(this.#buses.map(bus => bus.close()));
    this.#brokerClock.die();
  }
}

export const taskOf = (changes: object = {}): TaskMessage =>
  TaskMessage.parse({
    ...{ kind: 'code', build: 'b1', task: 'store', attempt: 1, node: NODE, lease: 'none' },
    ...{ gateway: GATEWAY, engine: 'scaffold', model: 'scaffold', context_tokens: 16_384 },
    ...{ output_tokens_max: 4_096, temperature: 0, deadline_at: systemClock.now() + 60_000 },
    prompt: 'a todo list',
    project: { name: 'todo', stack: 'node', summary: '' },
    card: {
      ...{ id: 'store', title: 'The store', type: 'database', goal: 'keep todos' },
      owns: ['src/a.js', 'src/b.js'],
    },
    base_sha: null,
    previous_error: null,
    ...changes,
  });

/** Waits until something is there, at most twenty seconds. */
export async function until<T>(look: () => Promise<T | undefined | false>): Promise<T> {
  for (let tries = 0; tries < 2_000; tries++) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    await sleep(10);
  }
  return assert.fail('it did not come in time');
}
