/**
 * Ollama's scheduler of one node, rule by rule:
 *
 * S1: a request for a model that is loaded with the same options goes to it at once, past the queue;
 *     one for a model that is being loaded waits for that load.
 * S2: all others stand in one queue, and the head blocks it until its model is there. Only this
 *     queue has a limit: requests that wait for a slot of a loaded model are not counted.
 * S3: whoever must go is idle before busy, then by shortest keep_alive, then by file. A busy one is
 *     waited for, and meanwhile goes on taking requests: each may prolong its stay by its keep_alive.
 * S4: after an unload the next load waits until the driver shows three quarters of the memory again,
 *     looking every 250 ms, for at most 5 s.
 * S5: a load out of memory is tried once more: with less context where that was chosen by the node,
 *     otherwise after everything else was unloaded.
 * S6: a load whose asker hangs up is given up.
 */
import { ApiError, cancelled } from './api-error.ts';
import type { Caller } from './caller.ts';
import type { Environment } from './environment.ts';
import { cacheBytes, computeBytes, type FakeModel } from './fake-model.ts';
import { type Allocation, type Memory, type Need, vramBytes } from './memory.ts';
import { Runner, type RunnerOptions } from './runner.ts';
import { MIB } from './sizes.ts';

const BUSY = 'server busy, please try again.  maximum pending requests exceeded';
const MODELS_PER_CARD = 3;
const RECOVERY_POLL_MS = 250;
const RECOVERY_MAX_MS = 5_000;
const RECOVERED_SHARE = 0.75;
/** Contexts that a node chooses by itself, in the order they are lowered. */
const CONTEXT_TIERS = [262_144, 32_768, 4_096];

export interface Ask {
  readonly model: FakeModel;
  readonly options: RunnerOptions;
  /** The context was chosen by the node, not by the request. */
  readonly automatic: boolean;
  /** Null: as it is, or the node's own. */
  readonly keepMs: number | null;
  readonly caller: Caller;
}

export interface SchedulerCounters {
  loads: number;
  unloads: number;
  /** Loads that had to unload something first. */
  swaps: number;
  /** Loads that did not fit after all. */
  out_of_memory: number;
  loads_given_up: number;
  refused: number;
}

interface Pending {
  readonly ask: Ask;
  readonly resolve: (runner: Runner) => void;
  readonly reject: (error: ApiError) => void;
}

export class Scheduler {
  readonly loaded = new Map<string, Runner>();
  readonly counters: SchedulerCounters = {
    loads: 0,
    unloads: 0,
    swaps: 0,
    out_of_memory: 0,
    loads_given_up: 0,
    refused: 0,
  };
  readonly #memory: Memory;
  readonly #environment: Environment;
  readonly #timeScale: number;
  readonly #pending: Pending[] = [];
  #working = false;
  #stopped = false;

  constructor(memory: Memory, environment: Environment, timeScale: number) {
    this.#memory = memory;
    this.#environment = environment;
    this.#timeScale = timeScale;
  }

  get pending(): number {
    return this.#pending.length;
  }

  /** A runner that is loaded and will stay until it is released. Rejects with an ApiError. */
  async acquire(ask: Ask): Promise<Runner> {
    for (;;) {
      const runner = this.loaded.get(ask.model.file);
      if (runner !== undefined && runner.loading !== null) {
        await runner.loading;
        if (ask.caller.gone) throw cancelled();
        continue;
      }
      if (runner !== undefined && isCompatible(runner, ask)) return use(runner, ask);
      break;
    }
    if (this.#pending.length >= this.#environment.queueMax) {
      this.counters.refused += 1;
      throw new ApiError(503, BUSY);
    }
    return new Promise((resolve, reject) => {
      this.#pending.push({ ask, resolve, reject });
      void this.#work();
    });
  }

  release(runner: Runner): void {
    runner.users -= 1;
    if (runner.users > 0 || this.#stopped) return;
    if (runner.keepMs <= 0) return void this.#unload(runner);
    runner.expiresAtMs = Date.now() + runner.keepMs;
    if (runner.timer !== null) clearTimeout(runner.timer);
    // A timer holds 24 days at most; what is kept longer is kept.
    if (runner.keepMs >= 2 ** 31) return;
    runner.timer = setTimeout(() => void this.#unload(runner), runner.keepMs);
  }

  /** Unloads it now, or when its last user has gone. */
  expire(model: FakeModel): void {
    const runner = this.loaded.get(model.file);
    if (runner !== undefined) this.#expire(runner);
  }

  stop(): void {
    this.#stopped = true;
    for (const runner of this.loaded.values()) {
      if (runner.timer !== null) clearTimeout(runner.timer);
    }
  }

  async #work(): Promise<void> {
    if (this.#working) return;
    this.#working = true;
    for (let next = this.#pending.shift(); next !== undefined; next = this.#pending.shift()) {
      const { ask, resolve, reject } = next;
      try {
        resolve(await this.#serve(ask));
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        reject(error);
      }
    }
    this.#working = false;
  }

  async #serve(ask: Ask): Promise<Runner> {
    let retried = false;
    let swapped = false;
    let { options } = ask;
    for (;;) {
      if (ask.caller.gone) throw cancelled();
      const present = this.loaded.get(ask.model.file);
      if (present !== undefined && present.loading !== null) {
        await present.loading;
        continue;
      }
      if (present !== undefined && isCompatible(present, ask)) return use(present, ask);
      const plan = present === undefined ? this.#plan({ ...ask, options }) : null;
      if (plan === null) {
        const victim = present ?? this.#victim();
        swapped ||= present === undefined;
        if (victim !== undefined) await this.#evict(victim);
        continue;
      }
      const runner = await this.#load({ ...ask, options }, plan);
      if (runner !== null) {
        if (swapped) this.counters.swaps += 1;
        return use(runner, ask);
      }
      const lower = CONTEXT_TIERS.find(tier => tier < options.num_ctx);
      if (retried) throw outOfMemory();
      if (ask.automatic && lower !== undefined) options = { ...options, num_ctx: lower };
      else if (this.loaded.size === 0) throw outOfMemory();
      else for (const other of [...this.loaded.values()]) await this.#evict(other);
      retried = true;
    }
  }

  /** Null: something must be unloaded first. */
  #plan(ask: Ask): Allocation | null {
    const { loadedMax } = this.#environment;
    const most = loadedMax ?? MODELS_PER_CARD * Math.max(1, this.#memory.cards.length);
    if (this.loaded.size >= most) return null;
    const first = this.loaded.size === 0;
    if (ask.options['num_gpu'] === 0)
      return this.#checkRam(this.#memory.planCpu(this.#need(ask)), first);
    const batch = Number(ask.options['num_batch']);
    const surcharge = batch >= 2_048 ? 2_048 * MIB : batch >= 1_024 ? 768 * MIB : 0;
    const plan = this.#memory.plan(this.#need(ask), surcharge, first);
    return plan === null ? null : this.#checkRam(plan, first);
  }

  #checkRam(plan: Allocation, first: boolean): Allocation | null {
    if (plan.ramBytes <= this.#memory.ramFreeBytes) return plan;
    if (!first) return null;
    const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
    const { ramFreeBytes } = this.#memory;
    const words = `model requires more system memory (${gib(plan.ramBytes)}) than is available`;
    throw new ApiError(500, `${words} (${gib(ramFreeBytes)})`);
  }

  #need({ model, options }: Ask): Need {
    const batch = Number(options['num_batch']);
    const context = Math.min(options.num_ctx, model.contextMax);
    const { toldBytes, bytes } = this.#environment.cacheElement;
    const slots = this.#slots(model);
    const cache = cacheBytes(model, context, toldBytes) * slots;
    return {
      toldBytes: model.weightBytes + cache + computeBytes(model, batch),
      hiddenBytes: model.hiddenBytes + cacheBytes(model, context, bytes) * slots - cache,
      layers: model.shape.layers + 1,
    };
  }

  #slots(model: FakeModel): number {
    const single = model.singleSlot || !model.capabilities.includes('completion');
    return single ? 1 : this.#environment.parallel;
  }

  /** Null: out of memory. */
  async #load(ask: Ask, plan: Allocation): Promise<Runner | null> {
    const runner = new Runner({
      model: ask.model,
      options: ask.options,
      slots: this.#slots(ask.model),
      allocation: plan,
      keepMs: ask.keepMs ?? this.#environment.keepAliveMs,
    });
    const fits = this.#memory.take(plan);
    let settle: () => void = () => {};
    runner.loading = new Promise(resolve => {
      settle = resolve;
    });
    this.loaded.set(ask.model.file, runner);
    const loadMs = ask.model.loadMs * this.#timeScale;
    // What does not fit is noticed on the way.
    const loaded = await sleep(fits ? loadMs : loadMs / 2, ask.caller);
    runner.loading = null;
    if (fits && loaded) {
      this.counters.loads += 1;
      settle();
      return runner;
    }
    this.loaded.delete(ask.model.file);
    this.#memory.give(plan);
    settle();
    if (!loaded) {
      this.counters.loads_given_up += 1;
      throw cancelled();
    }
    this.counters.out_of_memory += 1;
    return null;
  }

  #victim(): Runner | undefined {
    const runners = [...this.loaded.values()].sort(
      (one, other) => one.keepMs - other.keepMs || (one.model.file < other.model.file ? -1 : 1),
    );
    return runners.find(({ users }) => users === 0) ?? runners[0];
  }

  /** Until it is unloaded and its memory is seen to be back. */
  async #evict(runner: Runner): Promise<void> {
    const gone = new Promise<void>(resolve => runner.whenGone.push(resolve));
    this.#expire(runner);
    await gone;
  }

  #expire(runner: Runner): void {
    runner.keepMs = 0;
    runner.expiresAtMs = Date.now();
    if (runner.users === 0 && runner.loading === null) void this.#unload(runner);
  }

  #unload(runner: Runner): Promise<void> {
    if (runner.timer !== null) clearTimeout(runner.timer);
    runner.unloading ??= this.#doUnload(runner);
    return runner.unloading;
  }

  async #doUnload(runner: Runner): Promise<void> {
    await this.#recover(runner);
    for (const tell of runner.whenGone) tell();
  }

  async #recover({ allocation, model }: Runner): Promise<void> {
    await sleep(model.unloadMs * this.#timeScale);
    const before = this.#memory.driverFreeTotal;
    this.loaded.delete(model.file);
    this.#memory.give(allocation);
    this.counters.unloads += 1;
    if (allocation.cards.length === 0) return;
    const wanted = before + vramBytes(allocation) * RECOVERED_SHARE;
    const poll = RECOVERY_POLL_MS * this.#timeScale;
    for (let waited = 0; waited < RECOVERY_MAX_MS; waited += RECOVERY_POLL_MS) {
      await sleep(poll);
      if (this.#memory.driverFreeTotal > wanted) break;
    }
  }
}

function isCompatible(runner: Runner, { options }: Ask): boolean {
  if (runner.unloading !== null) return false;
  // Whoever leaves the number of layers to the node takes what is there.
  const any = Number(options['num_gpu']) < 0;
  return Object.keys(options).every(
    key => runner.options[key] === options[key] || (any && key === 'num_gpu'),
  );
}

function use(runner: Runner, { keepMs }: Ask): Runner {
  runner.users += 1;
  if (runner.timer !== null) clearTimeout(runner.timer);
  runner.timer = null;
  if (keepMs !== null) runner.keepMs = keepMs;
  return runner;
}

const outOfMemory = (): ApiError =>
  new ApiError(500, 'llama runner process has terminated: cudaMalloc failed: out of memory');

/** False: the caller went away before. */
function sleep(ms: number, caller?: Caller): Promise<boolean> {
  if (ms <= 0 || caller?.gone === true) return Promise.resolve(caller?.gone !== true);
  return new Promise(resolve => {
    const hurry = (): void => {
      clearTimeout(timer);
      resolve(false);
    };
    const timer = setTimeout(() => {
      caller?.offGone(hurry);
      resolve(true);
    }, ms);
    caller?.onGone(hurry);
  });
}
