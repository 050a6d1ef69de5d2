/**
 * Policies that see the whole pool and one queue: GPUStack's binpack and LocalAI's router.
 * Reimplemented from their documentation; no code of theirs is here.
 */

import { makeRoom } from './routers.ts';
import { couldHold, type TraceJob } from './trace.ts';
import type { Assignment, Policy, World, WorldNode } from './world.ts';

abstract class CentralPolicy implements Policy {
  abstract readonly name: string;
  readonly #queue: TraceJob[] = [];

  arrived(job: TraceJob): void {
    this.#queue.push(job);
  }

  ended(): void {}

  returned(job: TraceJob): void {
    this.#queue.unshift(job);
  }

  decide(world: World): readonly Assignment[] {
    for (const [index, job] of this.#queue.entries()) {
      const assignment = this.place(job, world);
      if (assignment === null) continue;
      this.#queue.splice(index, 1);
      return [assignment];
    }
    return [];
  }

  wakeAt(): null {
    return null;
  }

  protected abstract place(job: TraceJob, world: World): Assignment | null;
}

const nodesFor = (job: TraceJob, world: World): WorldNode[] =>
  [...world.nodes.values()].filter(
    node => !node.isKnownLost && couldHold(node.spec, world.model(job.model)),
  );

const held = (node: WorldNode): number =>
  [...node.copies.values()].reduce((sum, copy) => sum + copy.model.need_bytes, 0);

const atWork = (node: WorldNode): number =>
  [...node.copies.values()].reduce((sum, copy) => sum + copy.running.size + copy.pending.length, 0);

function readyCopy(job: TraceJob, nodes: readonly WorldNode[]): WorldNode | null {
  const ready = nodes
    .map(node => ({ node, copy: node.copies.get(job.model) }))
    .filter(({ node, copy }) => {
      return copy !== undefined && copy.running.size + copy.pending.length < node.spec.slots;
    });
  ready.sort((left, right) => atWork(left.node) - atWork(right.node));
  return ready[0]?.node ?? null;
}

/**
 * A model gets one replica on the fullest worker that its claim fits into, and its requests wait
 * for it. Replicas are static there; so that a trace ends at all, a model that fits nowhere takes
 * the place of idle ones.
 */
export class GpuStackPolicy extends CentralPolicy {
  readonly name = 'gpustack-binpack';

  protected place(job: TraceJob, world: World): Assignment | null {
    const nodes = nodesFor(job, world);
    const ready = readyCopy(job, nodes);
    if (ready !== null) return { job: job.id, node: ready.spec.id, evict: [] };
    if (nodes.some(node => node.copies.has(job.model))) return null;
    const need = world.model(job.model).need_bytes;
    const score = (node: WorldNode): number => (held(node) + need) / node.spec.bytes;
    const byScore = [...nodes].sort((left, right) => score(right) - score(left));
    const fits = byScore.find(node => makeRoom(node, need, 'lru')?.length === 0);
    const taken = fits ?? byScore.find(node => makeRoom(node, need, 'lru') !== null);
    if (taken === undefined) return null;
    const evict = makeRoom(taken, need, 'lru') ?? [];
    return { job: job.id, node: taken.spec.id, evict };
  }
}

/** Loaded, else most free memory, else least recently used idle models evicted, else wait. */
export class LocalAiPolicy extends CentralPolicy {
  readonly name = 'localai';

  protected place(job: TraceJob, world: World): Assignment | null {
    const nodes = nodesFor(job, world);
    const ready = readyCopy(job, nodes);
    if (ready !== null) return { job: job.id, node: ready.spec.id, evict: [] };
    const need = world.model(job.model).need_bytes;
    const absent = nodes.filter(node => !node.copies.has(job.model));
    const byFree = [...absent].sort(
      (left, right) =>
        right.spec.bytes - held(right) - (left.spec.bytes - held(left)) ||
        atWork(left) - atWork(right),
    );
    const taken =
      byFree.find(node => makeRoom(node, need, 'lru')?.length === 0) ??
      byFree.find(node => makeRoom(node, need, 'lru') !== null);
    if (taken === undefined) return null;
    return { job: job.id, node: taken.spec.id, evict: makeRoom(taken, need, 'lru') ?? [] };
  }
}
