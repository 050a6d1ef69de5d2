/**
 * What the engines of this node have, looked at every ten seconds and whenever something may have
 * changed: a model loaded, unloaded, pulled or removed.
 *
 * I1: an engine that does not answer is away, and the models it had are known as away with it, also
 *     over restarts of the worker: whoever needs one of them waits for the engine.
 */
import type { EngineAdvert } from '../../protocol/node.ts';
import type { EngineName } from '../../protocol/task.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Journal } from '../../runtime/journal.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Engine } from './engines/engine.ts';
import { awayAdvert, type KnownModels, LastKnown } from './last-known.ts';

const REFRESH_EVERY_MS = 10_000;
/** Somebody waits for its models. */
const AWAY_REFRESH_EVERY_MS = 2_000;

export interface InventoryOptions {
  readonly engines: readonly Engine[];
  /** Keeps what was there (I1). */
  readonly journal: Journal;
  readonly clock: Clock;
  readonly log: Logger;
  /** Called after every look, with the moment it began by the monotonic clock. */
  readonly looked: (adverts: readonly EngineAdvert[], beganMs: number) => void;
  /** Called when what is there is not what was there. */
  readonly changed: () => void;
}

export class Inventory {
  readonly #options: InventoryOptions;
  readonly #over = new AbortController();
  readonly #known = new Map<EngineName, KnownModels>();
  readonly #lastKnown: LastKnown;
  #adverts: readonly EngineAdvert[] = [];
  #refreshing: Promise<void> | null = null;
  #again = false;
  #loop: Promise<void> = Promise.resolve();

  constructor(options: InventoryOptions) {
    this.#options = options;
    this.#lastKnown = new LastKnown(options.journal, options.log);
  }

  get adverts(): readonly EngineAdvert[] {
    return this.#adverts;
  }

  /** Looks once, then goes on looking until `stop`. */
  async start(): Promise<void> {
    for (const { name } of this.#options.engines) {
      const known = await this.#lastKnown.read(name);
      if (known !== null) this.#known.set(name, known);
    }
    await this.refresh();
    this.#loop = this.#keepLooking();
  }

  async stop(): Promise<void> {
    this.#over.abort();
    await this.#loop;
    await this.#refreshing;
    await this.#lastKnown.close();
  }

  /** Looks now; calls that come while it looks share one further look. Never rejects. */
  refresh(): Promise<void> {
    if (this.#refreshing !== null) {
      this.#again = true;
      return this.#refreshing;
    }
    this.#refreshing = this.#look().finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  async #look(): Promise<void> {
    do {
      this.#again = false;
      const beganMs = this.#options.clock.monotonic();
      const adverts = await Promise.all(this.#options.engines.map(engine => this.#ask(engine)));
      if (this.#over.signal.aborted) return;
      const isNew = JSON.stringify(adverts) !== JSON.stringify(this.#adverts);
      this.#logAvailability(adverts);
      this.#adverts = adverts;
      this.#options.looked(adverts, beganMs);
      if (isNew) this.#options.changed();
    } while (this.#again);
  }

  async #ask(engine: Engine): Promise<EngineAdvert> {
    const { name } = engine;
    const { clock, log } = this.#options;
    let advert: EngineAdvert;
    try {
      const { models, ...rest } = await engine.inventory(this.#over.signal);
      advert = { name, ...rest, models: models.map(model => ({ ...model })) };
    } catch (error) {
      // Engines answer for their own absence; what is thrown is a bug of one, and must not hide the others.
      log.error('engine.inventory_failed', { engine: name, error });
      const reason = error instanceof Error ? error.message.slice(0, 1_000) : String(error);
      advert = { name, available: false, version: null, reason, models: [] };
    }
    if (this.#over.signal.aborted) return advert;
    if (!advert.available) return awayAdvert(advert, this.#known.get(name), clock.now());
    const known = { seen_at: clock.now(), models: advert.models };
    this.#known.set(name, known);
    this.#lastKnown.keep(name, known);
    return advert;
  }

  #logAvailability(adverts: readonly EngineAdvert[]): void {
    for (const { name, available, version, reason, models } of adverts) {
      const before = this.#adverts.find(advert => advert.name === name);
      if (before?.available === available) continue;
      const fields = { engine: name, available, version, reason, models: models.length };
      this.#options.log.info('engine.availability', fields);
    }
  }

  async #keepLooking(): Promise<void> {
    const { clock } = this.#options;
    const { signal } = this.#over;
    while (!signal.aborted) {
      // Woken early means that it is over, which the loop looks at next.
      const isAway = this.#adverts.some(({ away_since }) => away_since !== undefined);
      const everyMs = isAway ? AWAY_REFRESH_EVERY_MS : REFRESH_EVERY_MS;
      await clock.sleep(everyMs, signal).catch(() => undefined);
      if (!signal.aborted) await this.refresh();
    }
  }
}
