/**
 * Copies that a rule wants kept: nodes are asked to load what is missing. Which copy is missing, and
 * where it goes, is decided by `scheduling/` with everything else.
 *
 * C1: a node is asked once at a time for a model, and after a failure not again for a while.
 */
import { toWireError } from '../../../protocol/errors.ts';
import { Acknowledgement } from '../../../protocol/node.ts';
import { nodeSubject } from '../../../protocol/subjects.ts';
import type { Clock } from '../../../runtime/clock.ts';
import type { Logger } from '../../../runtime/log.ts';
import type { Messenger } from '../../../runtime/messages.ts';
import type { WantedLoad } from '../../../scheduling/queue.ts';

/** Cold loads of large models from slow disks. */
const LOAD_MS = 900_000;
const AFTER_FAILURE_MS = 30_000;
/** Until an advert shows the copy, at the latest. */
const AFTER_LOAD_MS = 10_000;
const ASKED_MAX = 1_024;

export interface ReplicasOptions {
  readonly messenger: Messenger;
  readonly clock: Clock;
  readonly log: Logger;
}

export class Replicas {
  readonly #options: ReplicasOptions;
  /** Loads that were asked for, and until when, by the monotonic clock, they are not asked for again. */
  readonly #asked = new Map<string, number>();

  constructor(options: ReplicasOptions) {
    this.#options = options;
  }

  /** `ended` is told the id of each, when its load is over, however it went. */
  wanted(loads: readonly WantedLoad[], signal: AbortSignal, ended: (id: string) => void): void {
    const nowMs = this.#options.clock.monotonic();
    for (const [key, untilMs] of this.#asked) if (untilMs <= nowMs) this.#asked.delete(key);
    for (const load of loads) {
      const key = `${load.plan.node} ${load.plan.model}`;
      if (this.#asked.has(key) || this.#asked.size >= ASKED_MAX) ended(load.id);
      else {
        this.#asked.set(key, nowMs + LOAD_MS);
        void this.#load(key, load, signal).finally(() => ended(load.id));
      }
    }
  }

  /** Never rejects. */
  async #load(key: string, { plan }: WantedLoad, signal: AbortSignal): Promise<void> {
    const { messenger, clock, log } = this.#options;
    const { node, model, context_tokens } = plan;
    log.info('replica.wanted', { node, model, context_tokens });
    let pauseMs = AFTER_LOAD_MS;
    try {
      const request = { model, context_tokens };
      const limits = { timeout_ms: LOAD_MS, signal };
      await messenger.ask(nodeSubject(node, 'load'), request, Acknowledgement, limits);
    } catch (error) {
      pauseMs = AFTER_FAILURE_MS;
      log.warn('replica.failed', { node, model, error: toWireError(error) });
    }
    this.#asked.set(key, clock.monotonic() + pauseMs);
  }
}
