/**
 * The product's own `decide()` as a policy of the simulator: it sees nothing but adverts, made from
 * the world as a worker and a monitor would make them.
 */
import { NodeId } from '../../protocol/ids.ts';
import type { CapacityAdvert, RuntimeAdvert } from '../../protocol/node.ts';
import type { NodeView } from '../../scheduling/node-view.ts';
import { decide } from '../../scheduling/queue.ts';
import {
  emptyQueue,
  ended,
  entered,
  type QueueOptions,
  type QueueState,
  returned,
} from '../../scheduling/queue-state.ts';
import { CONTEXT_TOKENS, GIB, loadMs, type TraceJob } from './trace.ts';
import type { Assignment, Policy, World, WorldNode } from './world.ts';

/** Tokens that a job of one ms on a machine of speed 1 reads and writes there. */
const OUTPUT_TOKENS_PER_S = 40;

export class ProductPolicy implements Policy {
  readonly name = 'code-god';
  state: QueueState;
  readonly #views = new Map<string, { version: number; view: NodeView }>();
  #wakeAt: number | null = null;

  constructor(options: QueueOptions) {
    this.state = emptyQueue(options);
  }

  arrived(job: TraceJob, world: World): void {
    this.state = entered(this.state, {
      ...{ id: job.id, share: job.share, priority: 0, arrived_at: world.now },
      request: {
        ...{ model: job.model, context_tokens: CONTEXT_TOKENS, remote: 'deny' },
        ...{ avoid: [], refused: {}, kind: 'inference', prompt_tokens: 0 },
        output_tokens: Math.round((job.work_ms / 1_000) * OUTPUT_TOKENS_PER_S),
      },
    });
  }

  ended(job: TraceJob, _node: string, world: World): void {
    this.state = ended(this.state, job.id, world.now);
  }

  returned(job: TraceJob, _node: string, world: World): void {
    this.state = returned(this.state, job.id, world.now, 'the node is gone');
  }

  decide(world: World): readonly Assignment[] {
    const views: NodeView[] = [];
    for (const node of world.nodes.values())
      if (!node.isKnownLost) views.push(this.#view(node, world));
    const decision = decide(this.state, views, world.now);
    this.state = decision.state;
    this.#wakeAt = decision.wake_at;
    return decision.starts.map(({ job, plan }) => ({
      ...{ job: job.id, node: plan.node, evict: plan.evict },
    }));
  }

  wakeAt(): number | null {
    return this.#wakeAt;
  }

  #view(node: WorldNode, world: World): NodeView {
    const known = this.#views.get(node.spec.id);
    if (known !== undefined && known.version === node.version) return known.view;
    const id = NodeId.parse(node.spec.id);
    const head = { node: id, epoch: 1, host: id, state: 'ready' as const, at: 0 };
    const view: NodeView = {
      node: id,
      capacity: { advert: capacityOf(node, head), seen_at: world.now },
      // A node in the table is not silent: its loss is told by its disappearance.
      runtime: { advert: runtimeOf(node, world, head), seen_at: Number.MAX_SAFE_INTEGER },
    };
    this.#views.set(node.spec.id, { version: node.version, view });
    return view;
  }
}

type Head = Pick<CapacityAdvert, 'node' | 'epoch' | 'host' | 'state' | 'at'>;

function capacityOf(node: WorldNode, head: Head): CapacityAdvert {
  let used = 0;
  for (const copy of node.copies.values())
    used += copy.state === 'loaded' ? copy.model.need_bytes : 0;
  return {
    ...head,
    ...{ os: 'linux', arch: 'x64', cpu: { model: '', cores: 8, load: null } },
    ram: { total_bytes: 64 * GIB, available_bytes: 48 * GIB },
    disk: { total_bytes: null, free_bytes: null },
    gpus: [
      {
        ...{ index: 0, uuid: null, name: 'card', vendor: 'nvidia', unified: false },
        ...{ total_bytes: node.spec.bytes, used_bytes: used, free_bytes: node.spec.bytes - used },
        ...{ utilization: null, temperature_c: null, power_w: null, source: 'sim', measured_at: 0 },
      },
    ],
    ...{ reserve_bytes: 0, unknown: [] },
  };
}

function runtimeOf(node: WorldNode, world: World, head: Head): RuntimeAdvert {
  const models = world.trace.models.map(model => {
    const copy = node.copies.get(model.name);
    const loaded = copy?.state === 'loaded';
    return {
      ...{ name: model.name, digest: model.name, size_bytes: model.size_bytes, family: 'sim' },
      ...{ parameter_size: '', quantization: '', context_max: 32_768 },
      capabilities: ['completion'],
      loaded,
      vram_bytes: loaded ? model.need_bytes : null,
      ram_bytes: loaded ? 0 : null,
      context_tokens: loaded ? CONTEXT_TOKENS : null,
      state: loaded
        ? ('loaded' as const)
        : copy === undefined
          ? ('absent' as const)
          : ('loading' as const),
      slots: node.spec.slots,
      in_flight: copy === undefined ? 0 : copy.running.size + copy.pending.length,
      used_at: copy?.used_at ?? null,
      load_ms: loadMs(node.spec, model),
      prompt_tokens_per_s: 1_000,
      output_tokens_per_s: OUTPUT_TOKENS_PER_S * node.spec.speed,
    };
  });
  const ollama = { name: 'ollama' as const, available: true, version: null, reason: null, models };
  return { ...head, engines: [ollama], leases: [], attempt_protocol: 1, slots: 8, slots_used: 0 };
}
