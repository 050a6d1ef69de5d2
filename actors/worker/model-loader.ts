/**
 * Loads and unloads one copy: makes room, waits for the memory that was measured to come back, and
 * asks the engine.
 *
 * V1: what was unloaded counts as free when a measurement made afterwards shows it. Where none comes
 *     in RECOVERY_MS, the last one and the arithmetic of the promises decide.
 */
import { CodeGodError } from '../../protocol/errors.ts';
import type { InferProgress } from '../../protocol/inference.ts';
import type { ModelAdvert } from '../../protocol/node.ts';
import type { EngineName } from '../../protocol/task.ts';
import type { Clock } from '../../runtime/clock.ts';
import { findModel, planLoad, type Situation } from './admission.ts';
import type { Engine } from './engines/engine.ts';
import type { LeaseBook } from './lease-book.ts';
import type { CopyPorts, ModelCopy } from './model-copy.ts';
import type { CopyInput, LoadPlan } from './model-machine.ts';

export interface LoadRecord {
  readonly model: ModelAdvert;
  readonly context_tokens: number;
  readonly load_ms: number;
  readonly estimated_bytes: number;
  /** What the engine says it has allocated; null where it does not say. */
  readonly measured_bytes: number | null;
}

export interface LoaderOptions {
  readonly copy: () => ModelCopy;
  /** Another copy of the same engine. */
  readonly sibling: (model: string) => ModelCopy | undefined;
  readonly engines: Readonly<Partial<Record<EngineName, Engine>>>;
  readonly leases: LeaseBook;
  readonly clock: Clock;
  readonly situation: () => Situation;
  readonly measured: (signal: AbortSignal) => Promise<void>;
  readonly loaded: (load: LoadRecord) => void;
  readonly keepAliveS: (model: string) => number;
}

/** How long the memory of what was unloaded may take to come back. */
const RECOVERY_MS = 5_000;

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
  const { clock, leases, measured, situation, sibling } = options;
  const copy = options.copy();
  tell(copy, { phase: 'unloading', fraction: null });
  await Promise.all(evict.map(name => sibling(name)?.cleared()));
  const unloadedAt = clock.now();
  const wanted = { engine: copy.engine, model, context_tokens, bytes };
  const late = new AbortController();
  const timer = clock.setTimeout(() => late.abort(), RECOVERY_MS);
  try {
    for (;;) {
      if (signal.aborted) throw new CodeGodError('cancelled', 'cancelled');
      const plan = planLoad(leases.ledger.leases, wanted, situation());
      if (plan.kind === 'admitted' && plan.evict.length === 0) return;
      if (late.signal.aborted) {
        const { capacity } = situation();
        if (capacity === null || capacity.at <= unloadedAt) return; // V1
        const why = plan.kind === 'refused' ? plan.reason : 'others have taken it';
        throw new CodeGodError('reservation_refused', `the memory did not come back: ${why}`);
      }
      await measured(AbortSignal.any([signal, late.signal]));
    }
  } finally {
    clock.clearTimeout(timer);
  }
}

async function load(
  options: LoaderOptions,
  { model, context_tokens }: LoadPlan & CopyInput,
  signal: AbortSignal,
): Promise<number> {
  const { clock, loaded, keepAliveS, situation } = options;
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
  const found = findModel({ engine: copy.engine, model }, situation());
  const { bytes } = copy.charge;
  if ('model' in found) {
    const vram = running?.vram_bytes ?? null;
    const ram = running?.ram_bytes ?? null;
    const measured_bytes = vram === null && ram === null ? null : (vram ?? 0) + (ram ?? 0);
    const record = { model: found.model, context_tokens, load_ms };
    loaded({ ...record, estimated_bytes: bytes, measured_bytes });
  }
  return running?.context_tokens ?? context_tokens;
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
