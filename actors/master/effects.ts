/**
 * The wishes of the build machine, carried out: each effect becomes requests through ports and ends
 * in exactly one fact.
 *
 * E1: every effect may run twice, after a crash or a lost answer; ports are idempotent by key.
 * E2: what may succeed later is thrown as a retryable error and tried again by the durable host;
 *     everything else becomes a fact in `failed`.
 * E3: memory is reserved before a task is handed over; a node that declines is passed over.
 */
import { CodeGodError, toWireError, type WireError } from '../../protocol/errors.ts';
import type { FactBody } from '../../protocol/fact.ts';
import {
  BuildId,
  type BuildStamp,
  type GatewayId,
  type StampedBuild,
  stampedBuild,
} from '../../protocol/ids.ts';
import type { PlacementDecision, ReserveReply } from '../../protocol/node.ts';
import type { EngineName } from '../../protocol/task.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import type { PlacementPlan } from '../../scheduling/placement.ts';
import type { BuildEffect, Withdrawal } from './build-context.ts';
import { planFaults } from './plan-validation.ts';
import { type Asking, type Grant, termsOf } from './pool/grant.ts';
import type { AdmissionPort, GatewayPort, NodePort, NodesPort, PoolPort } from './ports.ts';

/** Cold loads of large models from slow disks; on top of the task's own time. The others load nothing. */
const LOAD_MS: Readonly<Partial<Record<EngineName, number>>> = {
  ollama: 120_000,
  openai: 120_000,
};
/** A reservation outlives its attempt by this much, for the report and its merge. */
const LEASE_MARGIN_MS = 60_000;
const LEASE_MS_MAX = 86_400_000;
/** A node that declined is asked again after this; by then it has said how things are. */
const DECLINED_MS = 2_000;
const UNPLACED_PAUSE_MS = 2_000;
const UNPLACED_PAUSE_MAX_MS = 600_000;
const FILES_MAX = 4_096;

export interface EffectOptions {
  readonly gateways: GatewayPort;
  readonly workers: NodePort;
  readonly nodes: NodesPort;
  readonly pool: PoolPort;
  readonly admission: AdmissionPort;
  /** Of a build that is open; undefined where it has none. */
  readonly stampOf: (build: BuildId) => BuildStamp | undefined;
  readonly clock: Clock;
  readonly log: Logger;
  readonly taskTimeoutMs: number;
  /** Model that plans and model that writes; `auto`: the best there is. */
  readonly masterModel: string;
  readonly workerModel: string;
}

type EffectOf<K extends BuildEffect['kind']> = Extract<BuildEffect, { kind: K }>;
type Granted = Extract<ReserveReply, { granted: true }>;
type Perform = (
  entity: string,
  key: string,
  effect: BuildEffect,
  signal: AbortSignal,
) => Promise<readonly FactBody[]>;

/** Carries effects out. The facts it answers are what happened. */
export function createPerformer(options: EffectOptions): Perform {
  return async (entity, _key, effect, signal) => {
    const build = BuildId.parse(entity);
    const stamped = stampedBuild({ build, stamp: options.stampOf(build) });
    return [await performOne(options, stamped, effect, signal)];
  };
}

async function performOne(
  options: EffectOptions,
  build: StampedBuild,
  effect: BuildEffect,
  signal: AbortSignal,
): Promise<FactBody> {
  const { gateways, admission, clock } = options;
  switch (effect.kind) {
    case 'admit':
      await admission.admit(build.build, signal);
      return { type: 'build.admitted', at: clock.now() };
    case 'validate-plan':
      return await validatePlan(options, effect, signal);
    case 'create-workspace':
      return await createWorkspace(options, build, effect, signal);
    case 'place':
      return await new Placing(options, build, effect, signal).run();
    case 'dispatch':
      return await dispatch(options, build, effect);
    case 'withdraw': {
      const { task, attempt } = effect.withdrawal;
      await withdraw(options, build, effect.withdrawal, signal);
      return { type: 'task.withdrawn', at: clock.now(), task, attempt };
    }
    case 'merge': {
      const { task, attempt } = effect;
      const reply = await gateways.merge(effect.gateway, { ...build, task, attempt }, signal);
      const at = clock.now();
      if (reply.merged) return { type: 'task.merged', at, task, attempt, commit: reply.commit };
      return { type: 'task.conflicted', at, task, attempt, conflicts: reply.conflicts };
    }
    case 'check': {
      const check = await gateways.check(effect.gateway, { ...effect.request, ...build }, signal);
      return { type: 'check.ended', at: clock.now(), check };
    }
    case 'archive':
      return await archive(options, build, effect, signal);
    case 'end': {
      const { state, error, unmet } = effect;
      return { type: 'build.ended', at: clock.now(), state, error, unmet: [...unmet] };
    }
  }
}

/** Stops an attempt, or takes it back before it begins, and frees its place. */
export async function withdraw(
  { workers, nodes }: Pick<EffectOptions, 'workers' | 'nodes'>,
  build: StampedBuild,
  { node, lease, task, attempt }: Withdrawal,
  signal: AbortSignal,
): Promise<void> {
  await workers.withdraw(node, { ...build, task, attempt }, signal);
  await workers.release(node, lease);
  nodes.released(node, lease);
}

async function validatePlan(
  options: EffectOptions,
  effect: EffectOf<'validate-plan'>,
  signal: AbortSignal,
): Promise<FactBody> {
  const { plan } = effect;
  const gateway = options.nodes.gateways().includes(effect.gateway)
    ? effect.gateway
    : anyGateway(options);
  const tools = await options.gateways.tools(gateway, signal);
  const faults = planFaults(plan, tools);
  const at = options.clock.now();
  if (faults.length === 0) return { type: 'plan.accepted', at, plan };
  const error: WireError = {
    code: 'plan_invalid',
    message: `the plan cannot be carried out:\n${faults.map(fault => `- ${fault}`).join('\n')}`,
    details: { faults },
  };
  return { type: 'plan.rejected', at, error };
}

async function createWorkspace(
  options: EffectOptions,
  build: StampedBuild,
  effect: EffectOf<'create-workspace'>,
  signal: AbortSignal,
): Promise<FactBody> {
  const gateway = effect.gateway ?? anyGateway(options);
  const reply = await options.gateways.create(gateway, { ...build, name: effect.name }, signal);
  const { path, head } = reply;
  return { type: 'workspace.created', at: options.clock.now(), gateway, path, head };
}

function anyGateway(options: EffectOptions): GatewayId {
  const gateway = options.nodes.gateways()[0];
  if (gateway !== undefined) return gateway;
  throw new CodeGodError('no_responders', 'no gateway is ready', {
    hint: '`codegod status` shows why; `codegod up` starts one',
  });
}

async function dispatch(
  options: EffectOptions,
  build: StampedBuild,
  effect: EffectOf<'dispatch'>,
): Promise<FactBody> {
  const { message } = effect;
  const deadline_at = options.clock.now() + options.taskTimeoutMs + (LOAD_MS[message.engine] ?? 0);
  await options.workers.dispatch({
    ...message,
    ...build,
    deadline_at,
    limit_ms: options.taskTimeoutMs,
    tech_stack: { ...message.tech_stack },
    outline: [...message.outline],
  });
  const { task, attempt } = message;
  return { type: 'task.dispatched', at: options.clock.now(), task, attempt, deadline_at };
}

async function archive(
  options: EffectOptions,
  build: StampedBuild,
  effect: EffectOf<'archive'>,
  signal: AbortSignal,
): Promise<FactBody> {
  const reply = await options.gateways.archive(effect.gateway, build, signal);
  try {
    await options.gateways.finish(effect.gateway, build, signal);
  } catch (error) {
    // Left-over worktrees cost disk, not truth: the build ends well without this.
    options.log.warn('build.finish_failed', { ...build, error });
  }
  return {
    type: 'build.archived',
    at: options.clock.now(),
    archive: reply.archive,
    head: reply.head,
    files: reply.files.slice(0, FILES_MAX).map(file => file.path),
  };
}

/** Placing one attempt: wait for a place, reserve it, and where that fails wait for another. */
class Placing {
  readonly #options: EffectOptions;
  readonly #build: StampedBuild;
  readonly #effect: EffectOf<'place'>;
  readonly #signal: AbortSignal;
  readonly #patienceEndsMs: number;

  constructor(
    options: EffectOptions,
    build: StampedBuild,
    effect: EffectOf<'place'>,
    signal: AbortSignal,
  ) {
    this.#options = options;
    this.#build = build;
    this.#effect = effect;
    this.#signal = signal;
    const { tries } = effect;
    const pauseMs = Math.min(UNPLACED_PAUSE_MAX_MS, UNPLACED_PAUSE_MS * 2 ** Math.min(tries, 16));
    const nowMs = options.clock.monotonic();
    this.#patienceEndsMs = tries === 0 ? nowMs : nowMs + pauseMs;
  }

  /** Answers `task.placed`; or `task.unplaced`, at once at first, then after a growing pause. */
  async run(): Promise<FactBody> {
    const { pool } = this.#options;
    const gateway = this.#effect.gateway ?? (await this.#gateway());
    const asking = this.#asking();
    if (gateway === null) {
      const reason = 'no gateway is ready; `codegod status` shows why';
      return this.#unplaced({ ...pool.preview(asking.request), chosen: null, reason });
    }
    const leave = (): void => pool.cancel(asking.id);
    this.#signal.addEventListener('abort', leave, { once: true });
    try {
      this.#signal.throwIfAborted();
      let place = pool.acquire(asking, this.#patienceMs());
      for (;;) {
        const grant = await place;
        if (grant === null) return this.#unplaced(pool.preview(asking.request, asking.id));
        const reply = await this.#reserve(grant.plan);
        if (reply.granted) return await this.#taken(grant, gateway, reply);
        const error: WireError = { code: 'reservation_refused', message: reply.reason };
        const patienceMs = this.#patienceMs();
        place = pool.again(grant, error, { pauseMs: DECLINED_MS, patienceMs });
      }
    } finally {
      this.#signal.removeEventListener('abort', leave);
    }
  }

  #asking(): Asking {
    const { task, attempt, request } = this.#effect;
    return {
      id: `${this.#build.build}.${task}.${attempt}`,
      share: this.#build.build,
      priority: 0,
      request: { ...request, model: this.#model() },
    };
  }

  #patienceMs(): number {
    return Math.max(0, this.#patienceEndsMs - this.#options.clock.monotonic());
  }

  #unplaced(decision: PlacementDecision): FactBody {
    const { task, attempt, tries } = this.#effect;
    const at = this.#options.clock.now();
    return { type: 'task.unplaced', at, task, attempt, tries: tries + 1, decision };
  }

  /** What the request names, else what the configuration names, else the best there is. */
  #model(): string | null {
    const { masterModel, workerModel } = this.#options;
    const configured = this.#effect.task_kind === 'plan' ? masterModel : workerModel;
    return this.#effect.request.model ?? (configured === 'auto' ? null : configured);
  }

  /**
   * A node that does not answer has declined. The question is always waited for, cancelled or not:
   * only its answer tells which lease to give back.
   */
  async #reserve(plan: PlacementPlan): Promise<ReserveReply> {
    const { task, attempt } = this.#effect;
    const { taskTimeoutMs, workers } = this.#options;
    const { node, engine } = plan;
    const ttl_ms = Math.min(LEASE_MS_MAX, taskTimeoutMs + (LOAD_MS[engine] ?? 0) + LEASE_MARGIN_MS);
    try {
      const request = { ...this.#build, task, attempt, ...termsOf(plan), ttl_ms };
      return await workers.reserve(node, request);
    } catch (error) {
      return { granted: false, reason: toWireError(error).message.slice(0, 512) };
    }
  }

  async #taken(grant: Grant, gateway: GatewayId, reply: Granted): Promise<FactBody> {
    const { pool, workers, clock, nodes, taskTimeoutMs } = this.#options;
    const { task, attempt } = this.#effect;
    const { node, engine, model, context_tokens, need_bytes: bytes } = grant.plan;
    const { lease } = reply;
    if (this.#signal.aborted) {
      // Nobody waits for this place any more: it is given back rather than left to its time.
      pool.failed(grant, { code: 'cancelled', message: 'the build does not wait any more' });
      await workers.release(node, lease);
      this.#signal.throwIfAborted();
    }
    const at = clock.now();
    const expires_at = at + taskTimeoutMs;
    nodes.granted(node, { lease, ...this.#build, task, attempt, model, bytes, expires_at });
    pool.handedOver(grant);
    const { decision } = grant;
    return {
      ...{ type: 'task.placed', at, task, attempt, node, engine, model, context_tokens },
      ...{ gateway, lease, decision },
    };
  }

  /** A gateway that is ready, or null where none is before patience is over. */
  async #gateway(): Promise<GatewayId | null> {
    const { nodes } = this.#options;
    for (;;) {
      const gateway = nodes.gateways()[0];
      if (gateway !== undefined) return gateway;
      if (this.#patienceMs() === 0) return null;
      await this.#nodesChange(this.#patienceMs());
    }
  }

  /** Until an advert changes, but no longer than `limitMs`. */
  async #nodesChange(limitMs: number): Promise<void> {
    const { clock, nodes } = this.#options;
    const change = new AbortController();
    const stop = nodes.onChange(() => change.abort());
    try {
      await clock.sleep(limitMs, AbortSignal.any([change.signal, this.#signal]));
    } catch (error) {
      if (!change.signal.aborted || this.#signal.aborted) throw error;
    } finally {
      stop();
    }
  }
}

/** The fact of an effect that cannot succeed (E2). */
export function failedEffect(effect: BuildEffect, error: WireError, at: number): FactBody[] {
  switch (effect.kind) {
    case 'validate-plan':
      return [{ type: 'plan.rejected', at, error }];
    case 'create-workspace':
      return [{ type: 'workspace.failed', at, error }];
    case 'place':
    case 'merge':
      return [{ type: 'task.failed', at, task: effect.task, attempt: effect.attempt, error }];
    case 'dispatch': {
      const { task, attempt } = effect.message;
      return [{ type: 'task.failed', at, task, attempt, error }];
    }
    case 'withdraw': {
      const { task, attempt } = effect.withdrawal;
      return [{ type: 'task.withdrawn', at, task, attempt }];
    }
    case 'check':
      return [{ type: 'check.failed', at, round: effect.request.round, error }];
    case 'archive':
      return [{ type: 'archive.failed', at, error }];
    case 'admit':
    case 'end':
      // Neither asks anything of the world that could refuse.
      return [];
  }
}
