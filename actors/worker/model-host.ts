/**
 * The models in this node's memory: who may use which, what is loaded for whom, and what goes for it.
 * Everything that generates takes a hold first: attempts of builds, inferences of the pool.
 *
 * H1: deciding is one synchronous step. Between looking at the memory and charging it nothing else
 *     is decided, so nothing is booked twice, however many ask at once.
 * H2: what is at work, loading, leased or kept is never evicted.
 * H3: a hold on a loaded copy never waits for the load of another; it waits for a slot of its copy.
 * H4: loads of the same model are one load, and all who wait for it share what becomes of it.
 * H5: who gives up gives everything back: place in the queue, lease, slot, and a load for nobody.
 */
import { CodeGodError, fromWireError } from '../../protocol/errors.ts';
import {
  type LoadRequest,
  type PullProgress,
  RequestId,
  type UnloadRequest,
} from '../../protocol/inference.ts';
import type { EngineAdvert, ModelAdvert } from '../../protocol/node.ts';
import type { EngineName } from '../../protocol/task.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import { sameModel } from '../../scheduling/model-names.ts';
import { findModel, planLoad, type Resident, type Situation } from './admission.ts';
import type { Engine } from './engines/engine.ts';
import type { Hold, Measured, ModelLender, OnProgress, UseRequest } from './hold.ts';
import { holderKey, isAttempt, type Lease } from './lease.ts';
import type { LeaseBook } from './lease-book.ts';
import { type CopyState, ModelCopy, type Waiter } from './model-copy.ts';
import { createLoader, type LoadRecord } from './model-loader.ts';

export interface ModelHostOptions {
  readonly engines: Readonly<Partial<Record<EngineName, Engine>>>;
  readonly leases: LeaseBook;
  readonly clock: Clock;
  readonly log: Logger;
  /** What the node knows of itself now. */
  readonly situation: () => Situation;
  /** Resolves at the next measurement of the memory, or when the signal fires. */
  readonly measured: (signal: AbortSignal) => Promise<void>;
  /** Whether a policy keeps the model loaded. */
  readonly isKept: (model: string) => boolean;
  /** Told when something that the advert shows is not as it was. */
  readonly changed: () => void;
  /** Told when the engine's own list has to be looked at again. */
  readonly moved: () => void;
  /** Told what a load took, and how fast an answer was. */
  readonly loaded: (load: LoadRecord) => void;
  readonly spoke: (model: ModelAdvert, measured: Measured) => void;
  readonly waitingMax?: number;
}

/** Requests that wait for one copy; more are refused. */
const WAITING_MAX = 256;
/** Requests at once to an engine that holds no model in memory. */
const LIGHT_SLOTS = 8;
/** A lease of an inference that nobody at work stands behind any more ends after this. */
const LEASE_MS = 60_000;

export class ModelHost implements ModelLender {
  readonly #options: ModelHostOptions;
  readonly #copies = new Map<string, ModelCopy>();
  readonly #holders = new Set<string>();
  #loads = 0;

  constructor(options: ModelHostOptions) {
    this.#options = options;
  }

  /** Attempts' turns and inferences that have or wait for a hold. */
  get atWork(): number {
    return this.#holders.size;
  }

  isAtWork(holder: string): boolean {
    return this.#holders.has(holder);
  }

  async use(request: UseRequest, onProgress: OnProgress, signal: AbortSignal): Promise<Hold> {
    if (signal.aborted) throw cancelled(signal);
    const { engine, context_tokens, share, priority } = request;
    const situation = this.#options.situation();
    const model = modelOf(request, situation.engines);
    const copy = this.#copy(engine, model.name);
    const max = this.#options.waitingMax ?? WAITING_MAX;
    if (copy.waiting.length >= max) {
      throw new CodeGodError('overloaded', `${max} requests wait for ${model.name} already`);
    }
    const contextTokens =
      model.context_max > 0 ? Math.min(context_tokens, model.context_max) : context_tokens;
    const wanted = {
      ...{ engine, model: model.name, context_tokens: contextTokens, bytes: request.bytes },
    };
    const lease = this.#lease(request, wanted, situation);
    this.#holders.add(holderKey(lease));
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        if (!copy.take(waiter)) return;
        this.#end(lease);
        this.#abandon(copy);
        reject(cancelled(signal));
        this.#pump(copy);
      };
      const waiter: Waiter = {
        ...{
          lease,
          context_tokens: contextTokens,
          bytes: lease.bytes,
          share,
          priority,
          onProgress,
        },
        sinceMs: this.#options.clock.monotonic(),
        loaded: false,
        serve: hold => {
          signal.removeEventListener('abort', leave);
          resolve(hold);
        },
        fail: error => {
          signal.removeEventListener('abort', leave);
          this.#end(lease);
          reject(error);
        },
      };
      signal.addEventListener('abort', leave, { once: true });
      copy.waiting.push(waiter);
      this.#pump(copy);
      if (copy.waiting.includes(waiter)) onProgress({ phase: 'queued', fraction: null });
    });
  }

  /** Brings a model in without asking it anything. What is loaded with enough stays as it is. */
  async load(request: LoadRequest, bytes: number, signal: AbortSignal): Promise<void> {
    this.#loads += 1;
    const request_id = `r-${this.#loads.toString(36).padStart(26, '0')}`;
    const hold = await this.use(
      {
        ...request,
        ...{ engine: 'ollama', bytes, share: 'local', priority: 0 },
        holder: { request: RequestId.parse(request_id) },
      },
      () => {},
      signal,
    );
    hold.release();
  }

  /**
   * Unloads a model; one that is not loaded is no error.
   * @throws CodeGodError `conflict` while it is at work or promised, unless forced.
   */
  async unload({ model, force = false }: UnloadRequest): Promise<void> {
    const copy = [...this.#copies.values()].find(found => sameModel(found.model, model));
    if (copy === undefined || copy.state === 'absent') return;
    const leases = this.#options.leases.ledger.leases.filter(lease =>
      sameModel(lease.model, model),
    );
    const busy = copy.context.holds > 0 || copy.waiting.length > 0 || leases.length > 0;
    if (busy && !force) {
      throw new CodeGodError('conflict', `${copy.model} is at work or promised`, {
        hint: 'wait, or force it',
      });
    }
    const reason = new CodeGodError('cancelled', `${copy.model} is unloaded by force`);
    for (const waiter of copy.waiting.splice(0)) waiter.fail(reason);
    for (const revoked of copy.revoked) revoked.abort(reason);
    copy.send({ type: 'copy.cancel' });
    copy.send({ type: 'copy.revoke' });
    const error = await copy.cleared();
    if (error !== null) throw fromWireError(error);
  }

  /** Fetches a model; a pull that was cut short goes on where it was. */
  async *pull(model: string, signal: AbortSignal): AsyncIterable<PullProgress> {
    const engine = this.#options.engines.ollama;
    if (engine?.pull === undefined) {
      throw new CodeGodError('engine_unavailable', 'no engine of this node can pull models');
    }
    try {
      yield* engine.pull(model, signal);
    } finally {
      this.#options.moved();
    }
  }

  /** Copies in memory, or on their way in or out. */
  residents(): Resident[] {
    const residents: Resident[] = [];
    for (const copy of this.#copies.values()) {
      const { state, engine, model, bytes, usedAt, since } = copy;
      if (state === 'absent') continue;
      residents.push({
        ...{ engine, model, bytes, since, used_at: usedAt },
        state: state === 'making_room' ? 'loading' : state,
        context_tokens: copy.context.contextTokens ?? copy.context.plan?.context_tokens ?? null,
        at_work: copy.context.holds > 0 || copy.waiting.length > 0,
        kept: this.#options.isKept(model),
      });
    }
    return residents;
  }

  /** A model as it is to be advertised. */
  described(engine: EngineName, model: ModelAdvert): ModelAdvert {
    const copy = this.#copies.get(keyOf(engine, model.name));
    const state = copy?.state ?? (model.loaded ? 'loaded' : 'absent');
    return {
      ...model,
      state: state === 'making_room' ? 'loading' : state,
      in_flight: copy?.context.holds ?? 0,
      used_at: copy?.usedAt ?? null,
      kept: this.#options.isKept(model.name),
    };
  }

  /** Takes over what the engines say, as looked at from `lookedAtMs` on. */
  observe(engines: readonly EngineAdvert[], lookedAt: number): void {
    for (const engine of engines) {
      const listed = new Set<string>();
      for (const model of engine.models) {
        if (!model.loaded) continue;
        const copy = this.#copy(engine.name, model.name);
        listed.add(model.name);
        if (copy.since >= lookedAt) continue;
        if (copy.state === 'absent') copy.bytes = (model.vram_bytes ?? 0) + (model.ram_bytes ?? 0);
        copy.send({ type: 'copy.found', contextTokens: model.context_tokens });
      }
      for (const copy of this.#copies.values()) {
        if (copy.engine !== engine.name || copy.since >= lookedAt) continue;
        if (!listed.has(copy.model)) copy.send({ type: 'copy.gone' });
      }
    }
  }

  stop(): void {
    const reason = new CodeGodError('cancelled', 'the worker stops');
    for (const copy of this.#copies.values()) {
      for (const waiter of copy.waiting.splice(0)) waiter.fail(reason);
      copy.stop();
    }
  }

  #copy(engine: EngineName, model: string): ModelCopy {
    const key = keyOf(engine, model);
    const known = this.#copies.get(key);
    if (known !== undefined) return known;
    const { clock } = this.#options;
    const ports = createLoader({
      ...this.#options,
      copy: () => copy,
      sibling: name => this.#copies.get(keyOf(engine, name)),
      situation: () => this.#options.situation(),
    });
    const copy = new ModelCopy({ engine, model }, ports, clock, (moved, before) =>
      this.#onChange(moved, before),
    );
    this.#copies.set(key, copy);
    return copy;
  }

  /** An attempt brings its lease along; an inference gets one now (H1). */
  #lease(
    { holder }: UseRequest,
    wanted: Pick<Lease, 'engine' | 'model' | 'context_tokens' | 'bytes'>,
    situation: Situation,
  ): Lease {
    const { leases } = this.#options;
    if (!isAttempt(holder)) {
      return leases.lend({ ...holder, ...wanted, ttl_ms: LEASE_MS }, situation);
    }
    const lease = leases.of(holder);
    if (lease !== null) return lease;
    throw new CodeGodError('lease_lost', `${holderKey(holder)} has no lease here`);
  }

  /** The use is over, however it ended. */
  #end(lease: Lease): void {
    this.#holders.delete(holderKey(lease));
    if (!isAttempt(lease)) this.#options.leases.giveBack(lease.lease);
  }

  /** Serves who waits, as far as slots and memory go. */
  #pump(copy: ModelCopy): void {
    for (let waiter = copy.next(); waiter !== undefined; waiter = copy.next()) {
      if (copy.state === 'loaded' && copy.serves(waiter.context_tokens)) {
        if (copy.context.holds >= this.#slots(copy)) return;
        copy.take(waiter);
        waiter.serve(this.#hold(copy, waiter));
      } else if (copy.state === 'absent' || (copy.state === 'loaded' && copy.context.holds === 0)) {
        if (this.#beginLoad(copy, waiter)) return;
      } else {
        return;
      }
    }
  }

  #slots({ engine, model }: ModelCopy): number {
    const found = findModel({ engine, model }, this.#options.situation().engines);
    return 'model' in found ? (found.model.slots ?? (engine === 'ollama' ? 1 : LIGHT_SLOTS)) : 1;
  }

  #hold(copy: ModelCopy, waiter: Waiter): Hold {
    const { lease, share } = waiter;
    const revoked = new AbortController();
    copy.revoked.add(revoked);
    copy.began(share);
    let held = true;
    const { monotonic } = this.#options.clock;
    return {
      ...{ lease: lease.lease, engine: copy.engine, model: copy.model },
      context_tokens: copy.context.contextTokens ?? waiter.context_tokens,
      load_ms: waiter.loaded ? Math.round(monotonic() - waiter.sinceMs) : 0,
      signal: revoked.signal,
      release: measured => {
        if (!held) return;
        held = false;
        copy.revoked.delete(revoked);
        copy.ended(share);
        this.#end(lease);
        this.#spoke(copy, measured);
        this.#pump(copy);
        this.#options.changed();
      },
    };
  }

  #spoke({ engine, model }: ModelCopy, measured: Measured | undefined): void {
    if (measured === undefined) return;
    const found = findModel({ engine, model }, this.#options.situation().engines);
    if ('model' in found) this.#options.spoke(found.model, measured);
  }

  /** Starts the load that the waiter needs, or fails all who cannot be served without it. */
  #beginLoad(copy: ModelCopy, waiter: Waiter): boolean {
    const situation = this.#options.situation();
    const { engine, model } = copy;
    try {
      modelOf({ engine, model }, situation.engines);
      const { context_tokens, bytes } = waiter;
      const wanted = { engine, model, context_tokens, bytes };
      const admission = planLoad(this.#options.leases.ledger.leases, wanted, situation);
      if (admission.kind === 'refused') {
        throw new CodeGodError('reservation_refused', admission.reason);
      }
      const evict = admission.kind === 'loads' ? admission.evict : [];
      copy.bytes = bytes;
      for (const victim of evict) {
        this.#options.log.info('model.evicted', { model: victim, for: model });
        this.#copies.get(keyOf(engine, victim))?.send({ type: 'copy.unload' });
      }
      copy.send({ type: 'copy.load', plan: { context_tokens, bytes, evict } });
      return true;
    } catch (error) {
      this.#fail(copy, error);
      return false;
    }
  }

  /** Who needs a load that is not to be had is told so. */
  #fail(copy: ModelCopy, error: unknown): void {
    for (const waiter of [...copy.waiting]) {
      if (copy.state === 'loaded' && copy.serves(waiter.context_tokens)) continue;
      copy.take(waiter);
      waiter.fail(error);
    }
  }

  /** A load that nobody waits for any more is not gone on with (H5). */
  #abandon(copy: ModelCopy): void {
    if (copy.waiting.length === 0) copy.send({ type: 'copy.cancel' });
  }

  #onChange(copy: ModelCopy, before: CopyState): void {
    const { state, context } = copy;
    this.#options.log.info('model.state', { model: copy.model, state, before });
    if (context.error !== null && (state === 'absent' || state === 'unloading')) {
      this.#fail(copy, fromWireError(context.error));
    }
    if (state === 'absent' || before === 'loading') this.#options.moved();
    this.#options.changed();
    // Not within the transition that is being told.
    queueMicrotask(() => this.#pump(copy));
  }
}

const keyOf = (engine: EngineName, model: string): string => `${engine}/${model}`;

const cancelled = (signal: AbortSignal): CodeGodError =>
  signal.reason instanceof CodeGodError
    ? signal.reason
    : new CodeGodError('cancelled', 'cancelled', { cause: signal.reason });

function modelOf(
  wanted: { readonly engine: EngineName; readonly model: string },
  engines: readonly EngineAdvert[],
): ModelAdvert {
  const found = findModel(wanted, engines);
  if ('model' in found) return found.model;
  throw new CodeGodError(found.missing ? 'model_missing' : 'engine_unavailable', found.reason);
}
