/**
 * Loads and unloads one copy: makes room, waits for the memory that was measured to come back, and
 * asks the engine.
 *
 * V1: what was unloaded counts as free when a measurement made afterwards shows it: the monitor is
 *     asked for one until it does. Where nobody measures, or none comes in RECOVERY_MS, the last one
 *     and the arithmetic of the promises decide.
 * V2: a model that is to lie on the cards is not loaded half into main memory because theirs comes
 *     back late: only after RECOVERY_MS it takes what there is.
 * V3: an engine that gives a smaller context than it was asked for is not asked again: what it gives
 *     is all there is, and whoever wanted more works with that.
 */
import { CodeGodError } from '../../protocol/errors.ts';
import type { InferProgress } from '../../protocol/inference.ts';
import type { ModelAdvert, ObservedLoad } from '../../protocol/node.ts';
import type { EngineName } from '../../protocol/task.ts';
import { type Clock, WallMoments } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import { backendOf } from '../../scheduling/node-cards.ts';
import { observedLoad } from '../../scheduling/observed-loads.ts';
import { findModel, planLoad, type Situation } from './admission.ts';
import type { Engine } from './engines/engine.ts';
import type { Terms } from './lease.ts';
import type { LeaseBook } from './lease-book.ts';
import type { CopyPorts, ModelCopy } from './model-copy.ts';
import type { CopyInput, LoadPlan } from './model-machine.ts';
import { showsSince } from './residents.ts';

export interface LoadRecord {
  readonly model: ModelAdvert;
  readonly load_ms: number;
  /** What was allocated beside what had been estimated; null where the two cannot be compared. */
  readonly observed: ObservedLoad | null;
}

export interface LoaderOptions {
  readonly copy: () => ModelCopy;
  /** Another copy of the same engine. */
  readonly sibling: (model: string) => ModelCopy | undefined;
  readonly engines: Readonly<Partial<Record<EngineName, Engine>>>;
  readonly leases: LeaseBook;
  readonly clock: Clock;
  readonly situation: () => Situation;
  readonly log: Logger;
  readonly measured: (signal: AbortSignal) => Promise<void>;
  readonly measureNow: (signal: AbortSignal) => Promise<boolean>;
  readonly loaded: (load: LoadRecord) => void;
  readonly keepAliveS: (model: string) => number;
}

/** How long the memory of what was unloaded may take to come back. */
const RECOVERY_MS = 5_000;
/** Between two measurements; the monitor has a pause of its own. */
const ASK_PAUSE_MS = 50;

export function createLoader(options: LoaderOptions): CopyPorts {
  return {
    makeRoom: (plan, signal) => makeRoom(options, plan, signal),
    load: (plan, signal) => load(options, plan, signal),
    unload: ({ model }, signal) => engineOf(options).unload(model, signal),
  };
}

async function makeRoom(
  options: LoaderOptions,
  { model, bytes, context_tokens, evict }: LoadPlan & CopyInput,
  signal: AbortSignal,
): Promise<void> {
  if (evict.length === 0) return;
  const { clock, sibling } = options;
  const copy = options.copy();
  tell(copy, { phase: 'unloading', fraction: null });
  await Promise.all(evict.map(name => sibling(name)?.cleared()));
  const wanted = { engine: copy.engine, model, context_tokens, bytes };
  const late = new AbortController();
  const timer = clock.setTimeout(() => late.abort(), RECOVERY_MS);
  try {
    await recovered(options, copy, wanted, { cancelled: signal, late: late.signal });
  } finally {
    clock.clearTimeout(timer);
  }
}

interface Waiting {
  readonly cancelled: AbortSignal;
  readonly late: AbortSignal;
}

/** Resolves when what is wanted fits (V1). */
async function recovered(
  { clock, leases, log, measured, measureNow, situation }: LoaderOptions,
  copy: ModelCopy,
  wanted: Terms,
  { cancelled, late }: Waiting,
): Promise<void> {
  const unloadedMs = clock.monotonic();
  const moments = new WallMoments(clock);
  const either = AbortSignal.any([cancelled, late]);
  for (let asked = 0; ; asked += 1) {
    if (cancelled.aborted) throw new CodeGodError('cancelled', 'cancelled');
    const plan = planLoad(leases.ledger.leases, wanted, situation());
    const charge = plan.kind === 'admitted' && plan.evict.length === 0 ? plan.charge : null;
    if (charge !== null && charge.ram_bytes <= copy.charge.ram_bytes) return; // V2
    const { capacity } = situation();
    const isUnseen =
      capacity === null || !showsSince(capacity, moments.at(unloadedMs), clock.now());
    if (late.aborted) {
      if (isUnseen) return;
      if (charge !== null) {
        copy.charge = charge;
        return;
      }
      const why = plan.kind === 'refused' ? plan.reason : 'others have taken it';
      throw new CodeGodError('reservation_refused', `the memory did not come back: ${why}`);
    }
    // Woken early means that it is over, which the measurement ends by at once.
    if (asked > 0) await clock.sleep(ASK_PAUSE_MS, either).catch(() => undefined);
    if (!(await measureNow(either))) {
      if (isUnseen) {
        log.info('model.memory_not_measured', { model: wanted.model });
        return;
      }
      await measured(either);
    }
  }
}

async function load(
  options: LoaderOptions,
  { model, context_tokens }: LoadPlan & CopyInput,
  signal: AbortSignal,
): Promise<number> {
  const { clock, loaded, keepAliveS, log, situation } = options;
  const copy = options.copy();
  tell(copy, { phase: 'loading', fraction: null });
  const startMs = clock.monotonic();
  const running = await engineOf(options).load(
    model,
    {
      ...{ context_tokens, keep_alive: keepAliveS(model) },
      onFraction: fraction => tell(copy, { phase: 'loading', fraction }),
    },
    signal,
  );
  const load_ms = Math.round(clock.monotonic() - startMs);
  const now = situation();
  const found = findModel({ engine: copy.engine, model }, now);
  const engine = now.engines.find(({ name }) => name === copy.engine);
  if ('model' in found && engine !== undefined) {
    const said = {
      vram_bytes: running?.vram_bytes ?? null,
      ram_bytes: running?.ram_bytes ?? null,
      context_tokens: running?.context_tokens ?? context_tokens,
      cards: copy.charge.cards.length,
    };
    const backend = backendOf(now.capacity);
    const observed = observedLoad({ engine, model: found.model, backend }, said);
    loaded({ model: found.model, load_ms, observed });
  }
  const given = running?.context_tokens ?? context_tokens;
  copy.contextMost = given < context_tokens ? given : null; // V3
  if (given < context_tokens) {
    const least = { asked_tokens: context_tokens, given_tokens: given };
    log.warn('model.context_smaller', { model, ...least });
  }
  return given;
}

function engineOf({ copy, engines }: LoaderOptions): Engine {
  const { engine } = copy();
  const found = engines[engine];
  if (found !== undefined) return found;
  throw new CodeGodError('engine_unavailable', `this worker has no engine ${engine}`);
}

function tell(copy: ModelCopy, progress: InferProgress): void {
  for (const waiter of copy.waiting) {
    waiter.loaded = true;
    waiter.onProgress(progress);
  }
}
