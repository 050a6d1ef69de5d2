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
  type ShowRequest,
  type UnloadRequest,
} from '../../protocol/inference.ts';
import type { ModelAdvert } from '../../protocol/node.ts';
import type { EngineName } from '../../protocol/task.ts';
import { Cancellation, standard } from '../../runtime/cancellation.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import { sameModel } from '../../scheduling/model-names.ts';
import { spellingsOf } from '../../scheduling/model-spellings.ts';
import { holdsMemory } from '../../scheduling/node-resident.ts';
import { findModel, NO_CHARGE, planLoad, type Situation } from './admission.ts';
import type { Engine } from './engines/engine.ts';
import type { Hold, Measured, ModelLender, OnProgress, UseRequest } from './hold.ts';
import { holderKey, isAttempt, type Lease, type Terms, termsOf } from './lease.ts';
import type { LeaseBook } from './lease-book.ts';
import { ModelCopies } from './model-copies.ts';
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
  /** Has the memory measured now; false where nobody does that when asked. */
  readonly measureNow: (signal: AbortSignal) => Promise<boolean>;
  /** Whether a policy keeps the model loaded. */
  readonly isKept: (model: string) => boolean;
  /** Told when something that the advert shows is not as it was; and when a use is over. */
  readonly changed: () => void;
  readonly used: () => void;
  /** Told when the engine's own list has to be looked at again. */
  readonly moved: () => void;
  /** Seconds that a copy stays after a use, given what its user wishes; -1: for good. */
  readonly keepAliveS: (model: string, wish?: number) => number;
  /** Told what a load took, and how fast an answer was. */
  readonly loaded: (load: LoadRecord) => void;
  readonly spoke: (model: ModelAdvert, measured: Measured) => void;
  readonly waitingMax?: number;
}

/** Requests that wait for one copy; more are refused. */
const WAITING_MAX = 256;
/** Requests at once to an engine that holds no model in memory. */
const LIGHT_SLOTS = 8;
/** How long what an attempt was promised may wait for somebody to measure the memory. */
const FIRST_MEASUREMENT_MS = 15_000;
/** Uses may be given up many times a second. */
const SUSPECT_EVERY_MS = 1_000;
/** Nothing was asked of the copy. */
const NOTHING_SAID: Measured = {
  ...{ prompt_tokens: null, prompt_ms: null, output_tokens: null, output_ms: null },
};
/** A lease of an inference that nobody at work stands behind any more ends after this. */
const LEASE_MS = 60_000;

export class ModelHost implements ModelLender {
  readonly copies: ModelCopies;
  readonly #options: ModelHostOptions;
  readonly #holders = new Set<string>();
  #loads = 0;
  #suspectedMs = Number.NEGATIVE_INFINITY;

  constructor(options: ModelHostOptions) {
    this.#options = options;
    const { isKept } = options;
    this.copies = new ModelCopies(isKept, (engine, model) => this.#newCopy(engine, model));
  }

  /** Those that have or wait for a hold. */
  get inferences(): number {
    return [...this.#holders].filter(holder => holder.startsWith('r-')).length;
  }

  /** Whether this attempt or inference has a hold, or waits for one. */
  isAtWork(holder: string): boolean {
    return this.#holders.has(holder);
  }

  async use(request: UseRequest, onProgress: OnProgress, signal: AbortSignal): Promise<Hold> {
    if (signal.aborted) throw cancelled(signal);
    const { engine, context_tokens, share, priority } = request;
    if (isAttempt(request.holder) && holdsMemory(engine)) await this.#firstMeasurement(signal);
    const situation = this.#options.situation();
    const model = modelOf(request, situation);
    const copy = this.copies.of(engine, model.name);
    const max = this.#options.waitingMax ?? WAITING_MAX;
    if (copy.waiting.length >= max) {
      throw new CodeGodError('overloaded', `${max} requests wait for ${model.name} already`);
    }
    const contextTokens =
      model.context_max > 0 ? Math.min(context_tokens, model.context_max) : context_tokens;
    const wanted = {
      ...termsOf(request),
      ...{ model: model.name, context_tokens: contextTokens },
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
        ...(request.keep_alive === undefined ? {} : { keepAliveS: request.keep_alive }),
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
  async load(request: LoadRequest, signal: AbortSignal): Promise<void> {
    this.#loads += 1;
    const request_id = `r-${this.#loads.toString(36).padStart(26, '0')}`;
    const hold = await this.use(
      {
        ...request,
        ...{ engine: 'ollama', bytes: 0, share: 'local', priority: 0 },
        holder: { request: RequestId.parse(request_id) },
      },
      () => {},
      signal,
    );
    hold.release(NOTHING_SAID);
  }

  /**
   * Unloads a model; one that is not loaded is no error.
   * @throws CodeGodError `conflict` while it is at work or promised, unless forced.
   */
  async unload({ model, force = false }: UnloadRequest): Promise<void> {
    const found = modelOf({ engine: 'ollama', model }, this.#options.situation());
    const copy = this.copies.find('ollama', found.name);
    if (copy === undefined || copy.state === 'absent') return;
    const leases = this.#options.leases.ledger.leases.filter(lease =>
      sameModel(lease.model, copy.model),
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

  /** What the engine says of a model, whole. */
  async show(request: ShowRequest, signal: AbortSignal): Promise<object> {
    const { name } = modelOf({ engine: 'ollama', model: request.model }, this.#options.situation());
    const engine = this.#options.engines.ollama;
    if (engine?.show !== undefined) return await engine.show({ ...request, model: name }, signal);
    throw new CodeGodError('engine_unavailable', 'no engine of this node tells about its models');
  }

  /** Fetches a model; a pull that was cut short goes on where it was. */
  async *pull(model: string, signal: AbortSignal): AsyncIterable<PullProgress> {
    const engine = this.#options.engines.ollama;
    if (engine?.pull === undefined) {
      throw new CodeGodError('engine_unavailable', 'no engine of this node can pull models');
    }
    try {
      // The last spelling is the one that a registry is likeliest to know.
      const name = spellingsOf(model, this.#options.situation().aliases).at(-1) ?? model;
      yield* engine.pull(name, signal);
    } finally {
      this.#options.moved();
    }
  }

  stop(): void {
    const reason = new CodeGodError('cancelled', 'the worker stops');
    for (const copy of this.copies.all()) {
      for (const waiter of copy.waiting.splice(0)) waiter.fail(reason);
      copy.stop();
    }
  }

  #newCopy(engine: EngineName, model: string): ModelCopy {
    const ports = createLoader({
      ...this.#options,
      copy: () => copy,
      sibling: name => this.copies.find(engine, name),
    });
    const copy = new ModelCopy({ engine, model }, ports, this.#options.clock, (moved, before) =>
      this.#onChange(moved, before),
    );
    return copy;
  }

  /** After a start of the machine the promise to an attempt may be known before the memory is. */
  async #firstMeasurement(signal: AbortSignal): Promise<void> {
    const { clock, measured, situation } = this.#options;
    if (situation().capacity !== null) return;
    const late = new AbortController();
    const timer = clock.setTimeout(() => late.abort(), FIRST_MEASUREMENT_MS);
    await measured(AbortSignal.any([standard(signal), late.signal]));
    clock.clearTimeout(timer);
    if (signal.aborted) throw cancelled(signal);
  }

  /** An attempt brings its lease along; an inference gets one now (H1). */
  #lease({ holder }: UseRequest, wanted: Terms, situation: Situation): Lease {
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
    const found = findModel({ engine, model }, this.#options.situation());
    return 'model' in found ? (found.model.slots ?? (engine === 'ollama' ? 1 : LIGHT_SLOTS)) : 1;
  }

  #hold(copy: ModelCopy, waiter: Waiter): Hold {
    const { lease, share } = waiter;
    const revoked = new Cancellation();
    copy.revoked.add(revoked);
    const generation = copy.began(share, waiter.context_tokens);
    let held = true;
    const { clock } = this.#options;
    return {
      ...{ lease: lease.lease, engine: copy.engine, model: copy.model },
      context_tokens: copy.context.askedTokens ?? waiter.context_tokens,
      keep_alive: this.#options.keepAliveS(copy.model, waiter.keepAliveS),
      load_ms: waiter.loaded ? Math.round(clock.monotonic() - waiter.sinceMs) : 0,
      signal: revoked,
      release: measured => {
        if (!held) return;
        held = false;
        copy.revoked.delete(revoked);
        copy.ended(share, generation);
        this.#end(lease);
        if (measured === undefined) this.#suspect();
        else this.#spoke(copy, measured);
        this.#pump(copy);
        this.#options.used();
      },
    };
  }

  /** A use did not end well, or was given up: is the engine's copy still there? */
  #suspect(): void {
    const nowMs = this.#options.clock.monotonic();
    if (nowMs - this.#suspectedMs < SUSPECT_EVERY_MS) return;
    this.#suspectedMs = nowMs;
    this.#options.moved();
  }

  #spoke({ engine, model }: ModelCopy, measured: Measured): void {
    const found = findModel({ engine, model }, this.#options.situation());
    if ('model' in found) this.#options.spoke(found.model, measured);
  }

  /** Starts the load that the waiter needs, or fails all who cannot be served without it. */
  #beginLoad(copy: ModelCopy, waiter: Waiter): boolean {
    const situation = this.#options.situation();
    const { engine, model } = copy;
    try {
      modelOf({ engine, model }, situation);
      const { context_tokens, lease } = waiter;
      const bytes = lease.asked_bytes ?? lease.bytes;
      const wanted = termsOf({ ...lease, model, context_tokens, bytes });
      const admission = planLoad(this.#options.leases.ledger.leases, wanted, situation);
      if (admission.kind === 'refused') {
        throw new CodeGodError('reservation_refused', admission.reason);
      }
      const { charge, evict } = admission;
      copy.charge = charge ?? NO_CHARGE;
      copy.ours = true;
      for (const victim of evict) {
        this.#options.log.info('model.evicted', { model: victim, for: model });
        this.copies.find(engine, victim)?.send({ type: 'copy.unload' });
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

const cancelled = (signal: AbortSignal): CodeGodError =>
  signal.reason instanceof CodeGodError
    ? signal.reason
    : new CodeGodError('cancelled', 'cancelled', { cause: signal.reason });

function modelOf(
  wanted: { readonly engine: EngineName; readonly model: string },
  situation: Situation,
): ModelAdvert {
  const found = findModel(wanted, situation);
  if ('model' in found) return found.model;
  throw new CodeGodError(found.missing ? 'model_missing' : 'engine_unavailable', found.reason);
}
