/**
 * One copy of a model under its machine, with those who use it and those who wait for it.
 *
 * Q1: who waits is served by priority, then by the share that has least at work here, then in the
 *     order of arrival; but whoever has waited for longer than AGE_BOUND_MS comes first.
 */
import { type Actor, createActor, fromPromise, waitFor } from 'xstate';
import type { WireError } from '../../protocol/errors.ts';
import type { ModelAdvert } from '../../protocol/node.ts';
import type { EngineName } from '../../protocol/task.ts';
import type { Cancellation } from '../../runtime/cancellation.ts';
import { type Clock, WallMoments } from '../../runtime/clock.ts';
import { type Charge, NO_CHARGE } from './admission.ts';
import type { Hold, OnProgress } from './hold.ts';
import type { Lease } from './lease.ts';
import { type CopyEvent, type CopyInput, copyMachine, type LoadPlan } from './model-machine.ts';

export interface Waiter {
  readonly lease: Lease;
  readonly context_tokens: number;
  readonly share: string;
  readonly priority: number;
  readonly sinceMs: number;
  /** How long its user wishes the copy to stay. */
  readonly keepAliveS?: number;
  /** Whether it has seen the copy being loaded. */
  loaded: boolean;
  readonly onProgress: OnProgress;
  readonly serve: (hold: Hold) => void;
  readonly fail: (error: unknown) => void;
}

export interface CopyPorts {
  makeRoom(plan: LoadPlan & CopyInput, signal: AbortSignal): Promise<void>;
  load(plan: LoadPlan & CopyInput, signal: AbortSignal): Promise<number>;
  unload(copy: CopyInput, signal: AbortSignal): Promise<void>;
}

export type CopyState = 'absent' | 'making_room' | 'loading' | 'loaded' | 'unloading';

const AGE_BOUND_MS = 30_000;
/** A copy that was made smaller by others is made larger again so often in so long a time. */
const SHRUNK_MAX = 3;
const SHRUNK_WITHIN_MS = 600_000;

export class ModelCopy {
  readonly engine: EngineName;
  readonly model: string;
  readonly waiting: Waiter[] = [];
  /** Ends the holds of a copy that is taken away. */
  readonly revoked = new Set<Cancellation>();
  /** What it is charged with, and whether that is known because it was loaded by us. */
  charge: Charge = NO_CHARGE;
  ours = false;
  /** When its memory last changed, by the monotonic clock. */
  sinceMs = 0;
  /** The most that the engine gave when it was asked for more; null where it gave what it was asked. */
  contextMost: number | null = null;
  #loadedMs: number | null = null;
  #usedMs: number | null = null;
  /** Whether the engine has been seen with what we loaded. */
  #isSeen = false;
  #shrunkMs: readonly number[] = [];
  readonly #actor: Actor<typeof copyMachine>;
  readonly #clock: Clock;
  readonly #moments: WallMoments;
  readonly #shares = new Map<string, number>();
  #generation = 0;

  constructor(
    named: { readonly engine: EngineName; readonly model: string },
    ports: CopyPorts,
    clock: Clock,
    changed: (copy: ModelCopy, before: CopyState) => void,
  ) {
    this.engine = named.engine;
    this.model = named.model;
    this.#clock = clock;
    this.#moments = new WallMoments(clock);
    const machine = copyMachine.provide({
      actors: {
        makeRoom: fromPromise(({ input, signal }) => ports.makeRoom(input, signal)),
        load: fromPromise(({ input, signal }) => ports.load(input, signal)),
        unload: fromPromise(({ input, signal }) => ports.unload(input, signal)),
      },
    });
    this.#actor = createActor(machine, { input: { model: named.model } });
    let before: CopyState = 'absent';
    this.#actor.subscribe(() => {
      const { state } = this;
      if (state === before) return;
      const previous = before;
      before = state;
      this.sinceMs = clock.monotonic();
      if (previous === 'loaded') {
        this.#generation += 1;
        this.#shares.clear();
      }
      if (state === 'loaded') {
        this.#loadedMs = this.sinceMs;
        this.#isSeen = false;
      }
      changed(this, previous);
    });
    this.#actor.start();
  }

  get state(): CopyState {
    const { value } = this.#actor.getSnapshot();
    return typeof value === 'string' ? (value as CopyState) : 'loaded';
  }

  get context() {
    return this.#actor.getSnapshot().context;
  }

  /** Moments of it, as the wall clock goes now. */
  get since(): number {
    return this.#moments.at(this.sinceMs);
  }

  get loadedAt(): number | null {
    return this.#loadedMs === null ? null : this.#moments.at(this.#loadedMs);
  }

  get usedAt(): number | null {
    return this.#usedMs === null ? null : this.#moments.at(this.#usedMs);
  }

  /** Loaded with enough, or with all that the engine gives; or on the way there. */
  serves(contextTokens: number): boolean {
    const { contextTokens: loaded, plan } = this.context;
    const most = this.contextMost ?? contextTokens;
    if (this.state === 'loaded') return loaded === null || loaded >= Math.min(contextTokens, most);
    return plan !== null && plan.context_tokens >= contextTokens;
  }

  send(event: CopyEvent): void {
    this.#actor.send(event);
  }

  /** Nothing of it is in memory, and nobody waits. */
  get isIdle(): boolean {
    return this.state === 'absent' && this.waiting.length === 0;
  }

  /** The engine has it in memory, whoever loaded it. */
  found({ vram_bytes, ram_bytes, context_tokens }: ModelAdvert): void {
    if (this.state === 'absent') {
      const bytes = (vram_bytes ?? 0) + (ram_bytes ?? 0);
      this.charge = { cards: [], ram_bytes: ram_bytes ?? 0, bytes };
      this.ours = false;
    }
    const isKnown = this.state === 'loaded' && this.#isKnown(context_tokens);
    if (isKnown) this.#isSeen = true;
    this.send({ type: 'copy.found', contextTokens: context_tokens, isKnown });
  }

  /**
   * Whether what the engine says is of the loading that we know. What it gives at the first look is
   * all it gives; so is what it comes back to again and again.
   */
  #isKnown(given: number | null): boolean {
    const { contextTokens: known, askedTokens: asked } = this.context;
    if (given === null || given === known) return true;
    if (given > (this.contextMost ?? given)) this.contextMost = null;
    if (this.ours && !this.#isSeen) {
      if (asked !== null && given < asked) this.contextMost = given;
      return true;
    }
    if (known !== null && given < known) {
      const nowMs = this.#clock.monotonic();
      const recent = this.#shrunkMs.filter(atMs => nowMs - atMs < SHRUNK_WITHIN_MS);
      this.#shrunkMs = [...recent, nowMs].slice(-SHRUNK_MAX);
      if (this.#shrunkMs.length >= SHRUNK_MAX) this.contextMost = given;
    }
    return false;
  }

  /** A hold begins; answers which loading of the copy it is of. */
  began(share: string, contextTokens: number): number {
    this.#shares.set(share, (this.#shares.get(share) ?? 0) + 1);
    this.send({ type: 'hold.began', contextTokens });
    return this.#generation;
  }

  /** A hold of a copy that has been taken away in the meantime counts no more. */
  ended(share: string, generation: number): void {
    this.#usedMs = this.#clock.monotonic();
    if (generation !== this.#generation) return;
    const left = (this.#shares.get(share) ?? 1) - 1;
    if (left > 0) this.#shares.set(share, left);
    else this.#shares.delete(share);
    this.send({ type: 'hold.ended' });
  }

  /** Who is served next (Q1); undefined where nobody waits. */
  next(): Waiter | undefined {
    const agedAtMs = this.#clock.monotonic() - AGE_BOUND_MS;
    const atWork = ({ share }: Waiter): number => this.#shares.get(share) ?? 0;
    const rank = (waiter: Waiter): readonly number[] =>
      waiter.sinceMs <= agedAtMs ? [0, 0, 0] : [1, -waiter.priority, atWork(waiter)];
    let best: Waiter | undefined;
    for (const waiter of this.waiting) {
      if (best === undefined || before(rank(waiter), rank(best))) best = waiter;
    }
    return best;
  }

  /** Takes a waiter out of the queue; false where it had left. */
  take(waiter: Waiter): boolean {
    const index = this.waiting.indexOf(waiter);
    if (index >= 0) this.waiting.splice(index, 1);
    return index >= 0;
  }

  /** Resolves when an unload is over, with what went wrong with it. */
  async cleared(): Promise<WireError | null> {
    if (this.state !== 'unloading') return null;
    const { context } = await waitFor(this.#actor, snapshot => snapshot.value !== 'unloading');
    return context.error;
  }

  stop(): void {
    this.#actor.stop();
  }
}

function before(left: readonly number[], right: readonly number[]): boolean {
  for (const [index, value] of left.entries()) {
    const other = right[index] ?? 0;
    if (value !== other) return value < other;
  }
  return false;
}
