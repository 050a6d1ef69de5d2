/**
 * What the node says of itself in the bucket `codegod_node`: writes `<node>.runtime` every five
 * seconds, on every change and whenever it has connected to the bus, and reads `<node>.capacity`,
 * which the resource-monitor writes and can be asked for.
 */
import { CodeGodError } from '../../protocol/errors.ts';
import type { NodeId } from '../../protocol/ids.ts';
import { CapacityAdvert, type RuntimeAdvert } from '../../protocol/node.ts';
import { ADVERT_EVERY_MS, ADVERT_TTL_MS, BUCKETS } from '../../protocol/streams.ts';
import { advertKey, nodeSubject } from '../../protocol/subjects.ts';
import type { Clock, TimerHandle } from '../../runtime/clock.ts';
import { type Entry, followTable } from '../../runtime/live-table.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Messenger } from '../../runtime/messages.ts';
import { cardsOf } from '../../scheduling/node-cards.ts';

/** Changes that come together are told together, and a large advert less often than a small one. */
const GATHER_MS = 20;
const GATHER_BYTES_PER_MS = 2_048;
/** Who comes and goes on a loaded model: whoever sends requests keeps count of his own. */
const USE_GATHER_MS = 1_000;
const CHANGED = 'changed';
/** A bus that does not answer must not keep the worker from its work. */
const KNOWN_WITHIN_MS = 2_000;
/** Longer than whoever asks for a measurement waits for it. */
const MEASURED_WITHIN_MS = 6_000;

export interface NodeAdvertsOptions {
  readonly messenger: Messenger;
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
  #useTold: TimerHandle | null = null;

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

  /**
   * Has the memory measured now. Resolves when it is, or the signal fires; where the monitor can't,
   * at the next measurement of its own.
   * @returns false where no monitor answers
   */
  async measureNow(signal: AbortSignal): Promise<boolean> {
    const { messenger, node, log } = this.#options;
    const options = { timeout_ms: MEASURED_WITHIN_MS, signal };
    try {
      this.#take(await messenger.ask(nodeSubject(node, 'measure'), {}, CapacityAdvert, options));
    } catch (error) {
      if (signal.aborted) return true;
      if (error instanceof CodeGodError && error.code === 'no_responders') return false;
      log.warn('worker.not_measured', { error });
      await this.nextCapacity(signal);
    }
    return true;
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
    // Without a reason every call would make an exception, aborted or not.
    if (!this.#wake.signal.aborted) this.#wake.abort(CHANGED);
  }

  /** Requests came or went, many times a second perhaps: told a few times a second. */
  used(): void {
    if (this.#useTold !== null || this.#wake.signal.aborted) return;
    this.#useTold = this.#options.clock.setTimeout(() => {
      this.#useTold = null;
      this.changed();
    }, USE_GATHER_MS);
  }

  /** Ends, and takes the advert along instead of letting it time out. */
  async stop(): Promise<void> {
    const { messenger, node, log } = this.#options;
    this.#over.abort();
    if (this.#useTold !== null) this.#options.clock.clearTimeout(this.#useTold);
    this.changed();
    await Promise.all(this.#loops);
    try {
      await messenger.bus.kv(BUCKETS.node.name).delete(advertKey(node, 'runtime'));
    } catch (error) {
      log.warn('worker.advert_left', { error }); // It vanishes by its time to live.
    }
  }

  async #advertise(): Promise<void> {
    const { messenger, node, clock, log, advert } = this.#options;
    const bucket = messenger.bus.kv(BUCKETS.node.name);
    const { signal } = this.#over;
    const forget = messenger.bus.status(({ type }) => type === 'reconnected' && this.changed());
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
    forget();
  }

  #watchCapacity(known: AbortController): Promise<void> {
    const { messenger, node, log } = this.#options;
    const table = {
      ...{ bus: messenger.bus, log, bucket: BUCKETS.node.name },
      filter: advertKey(node, 'capacity'),
      read: (value: unknown) => CapacityAdvert.parse(value),
      changed: (_: string, capacity: Entry<CapacityAdvert>) => {
        if (capacity.is === 'there') return this.#take(capacity.value);
        this.#capacity = null;
        this.#options.measured(null);
      },
    };
    const followed = followTable(table, this.#over.signal);
    const end = (): void => known.abort();
    void followed.known.then(end, end); // Where it cannot be known, the next measurement tells.
    return followed.over;
  }

  /** An advert and a reply may come in either order; the older one of them tells nothing. */
  #take(capacity: CapacityAdvert): void {
    const known = this.#capacity;
    const agoMs = known === null ? 0 : known.at - capacity.at;
    // A clock that was put back is not followed by figures that never grow newer.
    if (known?.epoch === capacity.epoch && agoMs > 0 && agoMs < ADVERT_TTL_MS) return;
    this.#capacity = capacity;
    this.#options.measured({ ...capacity, gpus: [...cardsOf(capacity)] });
    for (const end of [...this.#awaiting]) end();
  }
}
