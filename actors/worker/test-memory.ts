/**
 * A node's memory for tests: cards with a driver that measures them, and an engine that loads into
 * them and breaks where more is loaded than there is. It knows nothing of leases: what it counts is
 * what really lies there.
 */
import { CodeGodError } from '../../protocol/errors.ts';
import type { CapacityAdvert } from '../../protocol/node.ts';
import { CapacityAdvert as CapacitySchema } from '../../protocol/node.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Engine, EngineInventory, RunningCopy } from './engines/engine.ts';

export const GIB = 1024 ** 3;

export interface TestModel {
  readonly name: string;
  /** What it really takes. */
  readonly bytes: number;
  readonly context_max?: number;
  readonly slots?: number;
}

interface Loaded {
  readonly bytes: number;
  readonly context_tokens: number;
}

export class TestMemory {
  readonly engine: Engine;
  readonly loads: string[] = [];
  readonly unloads: string[] = [];
  /** Loads that found less memory than they took: double bookings. */
  readonly overrun: string[] = [];
  readonly loaded = new Map<string, Loaded>();
  /** Held by programs that are none of ours. */
  foreign = 0;
  loadMs = 0;
  unloadMs = 0;
  /** Whether the driver says what is in use; otherwise the cards are as declared. */
  isReadable = true;
  /** How much later the driver shows memory as free again. */
  recoveryMs = 0;
  available = true;
  /** The largest context that the engine gives, whatever it is asked for. */
  contextMost = Number.POSITIVE_INFINITY;
  /** The context that it gives where it is asked for one, where that is another. */
  gives: (asked: number) => number = asked => asked;
  /** Whether it says which context a loaded model has. */
  tellsContext = true;
  fail: ((model: string) => CodeGodError | null) | null = null;
  /** As measured last: stale until `measure`. */
  capacity: CapacityAdvert;
  readonly #models: readonly TestModel[];
  readonly #clock: Clock;
  readonly #total: number;
  readonly #recovering: { readonly bytes: number; readonly until: number }[] = [];
  readonly #measured = new Set<() => void>();

  constructor(clock: Clock, total: number, models: readonly TestModel[]) {
    this.#clock = clock;
    this.#total = total;
    this.#models = models;
    this.capacity = this.measure();
    this.engine = {
      name: 'ollama',
      inventory: async () => this.inventory(),
      load: (model, { context_tokens }, signal) => this.#load(model, context_tokens, signal),
      unload: (model, signal) => this.#unload(model, signal),
      // biome-ignore lint/correctness/useYield: nothing is generated here.
      async *generate() {
        throw new CodeGodError('engine_failed', 'this engine only loads');
      },
    };
  }

  get used(): number {
    return [...this.loaded.values()].reduce((sum, { bytes }) => sum + bytes, this.foreign);
  }

  /** What the driver says now, told to those who wait for it. */
  measure(): CapacityAdvert {
    const at = this.#clock.now();
    const late = this.#recovering.filter(({ until }) => until > at);
    const held = late.reduce((sum, { bytes }) => sum + bytes, this.used);
    const free = this.isReadable ? Math.max(0, this.#total - held) : this.#total;
    this.capacity = CapacitySchema.parse({
      ...{ node: 'n1', epoch: 1, host: 'h', state: 'ready', at, os: '', arch: '' },
      cpu: { model: '', cores: 1, load: null },
      ram: { total_bytes: 256 * GIB, available_bytes: 200 * GIB },
      disk: { total_bytes: null, free_bytes: null },
      gpus: [
        {
          ...{ index: 0, uuid: null, name: 'GPU', vendor: 'nvidia', unified: false },
          ...{ total_bytes: this.#total, used_bytes: null, free_bytes: free, source: 'test' },
          ...{ utilization: null, temperature_c: null, power_w: null, measured_at: at },
        },
      ],
      ...{ reserve_bytes: 0, unknown: [] },
    });
    for (const told of [...this.#measured]) told();
    return this.capacity;
  }

  measured(signal: AbortSignal): Promise<void> {
    return new Promise(resolve => {
      const end = (): void => {
        this.#measured.delete(end);
        signal.removeEventListener('abort', end);
        resolve();
      };
      if (signal.aborted) return resolve();
      this.#measured.add(end);
      signal.addEventListener('abort', end, { once: true });
    });
  }

  inventory(): EngineInventory {
    if (!this.available) return { available: false, version: null, reason: 'off', models: [] };
    const models = this.#models.map(({ name, bytes, context_max = 131_072, slots = 2 }) => {
      const copy = this.loaded.get(name);
      return {
        ...{ name, digest: name, size_bytes: Math.round(bytes / 4), family: 'test' },
        ...{ parameter_size: '', quantization: '', context_max, slots },
        ...{ loaded: copy !== undefined, vram_bytes: copy?.bytes ?? null, ram_bytes: null },
        ...{
          context_tokens: (this.tellsContext && copy?.context_tokens) || null,
          capabilities: ['completion'],
        },
      };
    });
    return { available: true, version: '1', reason: null, models };
  }

  async #load(model: string, asked: number, signal: AbortSignal): Promise<RunningCopy> {
    this.loads.push(`${model}@${asked}`);
    const context = Math.min(this.gives(asked), this.contextMost);
    if (this.loadMs > 0) await this.#clock.sleep(this.loadMs, signal);
    const failure = this.fail?.(model) ?? null;
    if (failure !== null) throw failure;
    const bytes = this.#models.find(({ name }) => name === model)?.bytes ?? 0;
    this.loaded.delete(model);
    if (this.used + bytes > this.#total) this.overrun.push(model);
    this.loaded.set(model, { bytes, context_tokens: context });
    return { model, vram_bytes: bytes, ram_bytes: 0, context_tokens: context };
  }

  async #unload(model: string, signal: AbortSignal): Promise<void> {
    this.unloads.push(model);
    if (this.unloadMs > 0) await this.#clock.sleep(this.unloadMs, signal);
    const bytes = this.loaded.get(model)?.bytes ?? 0;
    if (this.recoveryMs > 0) {
      this.#recovering.push({ bytes, until: this.#clock.now() + this.recoveryMs });
    }
    this.loaded.delete(model);
  }
}
