/**
 * What the engines of this node have, looked at every ten seconds and whenever something may have
 * changed: a model loaded, unloaded, pulled or removed.
 */
import type { EngineAdvert } from '../../protocol/node.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Engine } from './engines/engine.ts';

const REFRESH_EVERY_MS = 10_000;

export interface InventoryOptions {
  readonly engines: readonly Engine[];
  readonly clock: Clock;
  readonly log: Logger;
  /** Called after every look, with the moment it began. */
  readonly looked: (adverts: readonly EngineAdvert[], at: number) => void;
  /** Called when what is there is not what was there. */
  readonly changed: () => void;
}

export class Inventory {
  readonly #options: InventoryOptions;
  readonly #over = new AbortController();
  #adverts: readonly EngineAdvert[] = [];
  #refreshing: Promise<void> | null = null;
  #again = false;
  #loop: Promise<void> = Promise.resolve();

  constructor(options: InventoryOptions) {
    this.#options = options;
  }

  get adverts(): readonly EngineAdvert[] {
    return this.#adverts;
  }

  /** Looks once, then goes on looking until `stop`. */
  async start(): Promise<void> {
    await this.refresh();
    this.#loop = this.#keepLooking();
  }

  async stop(): Promise<void> {
    this.#over.abort();
    await this.#loop;
    await this.#refreshing;
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
      const at = this.#options.clock.now();
      const adverts = await Promise.all(this.#options.engines.map(engine => this.#ask(engine)));
      if (this.#over.signal.aborted) return;
      const isNew = JSON.stringify(adverts) !== JSON.stringify(this.#adverts);
      this.#logAvailability(adverts);
      this.#adverts = adverts;
      this.#options.looked(adverts, at);
      if (isNew) this.#options.changed();
    } while (this.#again);
  }

  async #ask(engine: Engine): Promise<EngineAdvert> {
    try {
      const { models, ...rest } = await engine.inventory(this.#over.signal);
      return { name: engine.name, ...rest, models: models.map(model => ({ ...model })) };
    } catch (error) {
      // Engines answer for their own absence; what is thrown is a bug of one, and must not hide the others.
      this.#options.log.error('engine.inventory_failed', { engine: engine.name, error });
      const reason = error instanceof Error ? error.message.slice(0, 1_000) : String(error);
      return { name: engine.name, available: false, version: null, reason, models: [] };
    }
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
      await clock.sleep(REFRESH_EVERY_MS, signal).catch(() => undefined);
      if (!signal.aborted) await this.refresh();
    }
  }
}
