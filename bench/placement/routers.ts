/**
 * Policies in which something in front picks a node for each request as it comes, and the node's own
 * scheduler does the rest: round robin and least connections over plain Ollama servers, and
 * llama-swap on every machine. Reimplemented from their documentation; no code of theirs is here.
 */
import { couldHold, type TraceJob } from './trace.ts';
import type { Assignment, Copy, Policy, World, WorldNode } from './world.ts';

type Pick = (
  job: TraceJob,
  able: readonly WorldNode[],
  queued: (node: string) => number,
) => WorldNode;

/** Over those that have the model and could hold it, in turn. */
export function roundRobin(): Pick {
  let turn = 0;
  return (_job, able) => {
    turn += 1;
    const node = able[turn % able.length];
    if (node === undefined) throw new Error('no node can hold the model');
    return node;
  };
}

export function leastConnections(): Pick {
  return (_job, able, queued) => {
    const [node] = [...able].sort((left, right) => queued(left.spec.id) - queued(right.spec.id));
    if (node === undefined) throw new Error('no node can hold the model');
    return node;
  };
}

/**
 * `ollama`: a loaded model with a free slot is served at once; otherwise the head of the queue loads,
 * evicting idle models by path, and all behind it wait. `swap`: whatever is loaded is served first,
 * requests for one model are taken together, and a swap waits until the models in the way are idle.
 */
export type NodeScheduler = 'ollama' | 'swap';

export class RouterPolicy implements Policy {
  readonly name: string;
  readonly #pick: Pick;
  readonly #scheduler: NodeScheduler;
  readonly #queues = new Map<string, TraceJob[]>();
  readonly #open = new Map<string, number>();

  constructor(name: string, pick: Pick, scheduler: NodeScheduler) {
    this.name = name;
    this.#pick = pick;
    this.#scheduler = scheduler;
  }

  arrived(job: TraceJob, world: World): void {
    const model = world.model(job.model);
    const able = [...world.nodes.values()].filter(
      node => !node.isKnownLost && couldHold(node.spec, model),
    );
    const node = this.#pick(job, able, id => this.#open.get(id) ?? 0);
    const queue = this.#queues.get(node.spec.id) ?? [];
    queue.push(job);
    this.#queues.set(node.spec.id, queue);
    this.#open.set(node.spec.id, (this.#open.get(node.spec.id) ?? 0) + 1);
  }

  ended(_job: TraceJob, node: string): void {
    this.#open.set(node, (this.#open.get(node) ?? 1) - 1);
  }

  returned(job: TraceJob, node: string, world: World): void {
    this.ended(job, node);
    this.arrived(job, world);
  }

  decide(world: World): readonly Assignment[] {
    const assignments: Assignment[] = [];
    for (const [id, queue] of this.#queues) {
      const node = world.node(id);
      if (node.isKnownLost) {
        for (const job of queue.splice(0)) this.returned(job, id, world);
        continue;
      }
      const assignment = this.#next(node, queue, world);
      if (assignment !== null) assignments.push(assignment);
    }
    return assignments;
  }

  wakeAt(): null {
    return null;
  }

  #next(node: WorldNode, queue: TraceJob[], world: World): Assignment | null {
    const take = (index: number, evict: readonly string[]): Assignment | null => {
      const [job] = queue.splice(index, 1);
      return job === undefined ? null : { job: job.id, node: node.spec.id, evict };
    };
    const ready = queue.findIndex(job => {
      const copy = node.copies.get(job.model);
      return copy !== undefined && load(copy) < node.spec.slots;
    });
    if (ready >= 0) return take(ready, []);
    if ([...node.copies.values()].some(copy => copy.state === 'loading')) return null;
    const first =
      this.#scheduler === 'swap' ? queue.findIndex(job => !node.copies.has(job.model)) : 0;
    const job = queue[first];
    if (job === undefined || node.copies.has(job.model)) return null;
    const evict = makeRoom(node, world.model(job.model).need_bytes, 'path');
    return evict === null ? null : take(first, evict);
  }
}

const load = (copy: Copy): number => copy.running.size + copy.pending.length;

/** Idle models to unload so that `bytes` fit; null where those at work are in the way. */
export function makeRoom(
  node: WorldNode,
  bytes: number,
  order: 'path' | 'lru',
): readonly string[] | null {
  const wanted = Math.max(bytes * 1.03, bytes + 256 * 1024 ** 2);
  let free = node.spec.bytes;
  for (const copy of node.copies.values()) free -= copy.model.need_bytes;
  const idle = [...node.copies.values()].filter(
    copy => copy.state === 'loaded' && copy.running.size + copy.pending.length === 0,
  );
  idle.sort((left, right) =>
    order === 'lru' ? left.used_at - right.used_at : left.model.name < right.model.name ? -1 : 1,
  );
  const evict: string[] = [];
  for (const copy of idle) {
    if (free >= wanted) break;
    free += copy.model.need_bytes;
    evict.push(copy.model.name);
  }
  return free >= wanted ? evict : null;
}
