/**
 * What the node says of itself in the bucket `codegod_node`: writes `<node>.runtime` every five
 * seconds and on every change, and reads `<node>.capacity`, which the resource-monitor writes.
 */
import type { NodeId } from '../../protocol/ids.ts';
import { CapacityAdvert, type RuntimeAdvert } from '../../protocol/node.ts';
import { ADVERT_EVERY_MS, BUCKETS } from '../../protocol/streams.ts';
import { advertKey } from '../../protocol/subjects.ts';
import type { Bus } from '../../runtime/bus.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';

/** Changes that come together are told together, and a large advert less often than a small one. */
const GATHER_MS = 20;
const GATHER_BYTES_PER_MS = 2_048;
/** A bus that does not answer must not keep the worker from its work. */
const KNOWN_WITHIN_MS = 2_000;

export interface NodeAdvertsOptions {
  readonly bus: Bus;
  readonly node: NodeId;
  readonly clock: Clock;
  readonly log: Logger;
  readonly advert: () => RuntimeAdvert;
  /** Told every measurement of this node's memory. */
  readonly measured: (capacity: CapacityAdvert | null) => void;
}

export class NodeAdverts {
  readonly #options: NodeAdvertsOptions;
  readonly #over = new AbortController();
  readonly #loops: Promise<void>[] = [];
  readonly #awaiting = new Set<() => void>();
  #capacity: CapacityAdvert | null = null;
  #wake = new AbortController();

  constructor(options: NodeAdvertsOptions) {
    this.#options = options;
  }

  /** As measured last; null where nobody measures. */
  get capacity(): CapacityAdvert | null {
    return this.#capacity;
  }

  /** Resolves at the next measurement, or when the signal fires. */
  nextCapacity(signal: AbortSignal): Promise<void> {
    return new Promise(resolve => {
      const end = (): void => {
        this.#awaiting.delete(end);
        signal.removeEventListener('abort', end);
        resolve();
      };
      if (signal.aborted) return resolve();
      this.#awaiting.add(end);
      signal.addEventListener('abort', end, { once: true });
    });
  }

  /** Resolves when what was measured before is known, or is known not to be there. */
  async start(): Promise<void> {
    const known = new AbortController();
    this.#loops.push(this.#advertise(), this.#watchCapacity(known));
    const { clock } = this.#options;
    await clock.sleep(KNOWN_WITHIN_MS, known.signal).catch(() => undefined); // Known: gone on with.
  }

  /** Tells the present state soon. */
  changed(): void {
    this.#wake.abort();
  }

  /** Ends, and takes the advert along instead of letting it time out. */
  async stop(): Promise<void> {
    const { bus, node, log } = this.#options;
    this.#over.abort();
    this.changed();
    await Promise.all(this.#loops);
    try {
      await bus.kv(BUCKETS.node.name).delete(advertKey(node, 'runtime'));
    } catch (error) {
      log.warn('worker.advert_left', { error }); // It vanishes by its time to live.
    }
  }

  async #advertise(): Promise<void> {
    const { bus, node, clock, log, advert } = this.#options;
    const bucket = bus.kv(BUCKETS.node.name);
    const { signal } = this.#over;
    while (!signal.aborted) {
      this.#wake = new AbortController();
      let gatherMs = GATHER_MS;
      try {
        const value = new TextEncoder().encode(JSON.stringify(advert()));
        gatherMs += value.length / GATHER_BYTES_PER_MS;
        await bucket.put(advertKey(node, 'runtime'), value);
      } catch (error) {
        // The next one repeats it; silence for longer is what the time to live is for.
        log.warn('worker.advert_failed', { error });
      }
      const woken = AbortSignal.any([signal, this.#wake.signal]);
      await clock.sleep(ADVERT_EVERY_MS, woken).catch(() => undefined);
      await clock.sleep(gatherMs, signal).catch(() => undefined);
    }
  }

  async #watchCapacity(known: AbortController): Promise<void> {
    const { bus, node, log } = this.#options;
    const key = advertKey(node, 'capacity');
    const changes = bus.kv(BUCKETS.node.name).watch(this.#over.signal, key);
    for await (const change of changes) {
      if (change.op === 'initial_done') {
        known.abort();
        continue;
      }
      if (change.op !== 'put') {
        this.#capacity = null;
        continue;
      }
      try {
        this.#capacity = CapacityAdvert.parse(JSON.parse(new TextDecoder().decode(change.value)));
      } catch (error) {
        log.warn('worker.capacity_unreadable', { error });
        this.#capacity = null;
      }
      this.#options.measured(this.#capacity);
      for (const end of [...this.#awaiting]) end();
    }
  }
}
