/**
 * The models that an engine had when it answered last, kept in the journal, so that an engine that is
 * away is not taken for one that has none.
 */
import { z } from 'zod';
import { type EngineAdvert, ModelAdvert } from '../../protocol/node.ts';
import type { EngineName } from '../../protocol/task.ts';
import { EpochMs } from '../../protocol/text.ts';
import type { Journal } from '../../runtime/journal.ts';
import { WORKER_KEYS } from '../../runtime/journal-keys.ts';
import type { Logger } from '../../runtime/log.ts';

/** After so long without an answer an engine counts as one that nobody has here any more. */
const KNOWN_FOR_MS = 24 * 3_600_000;
/** Between two writes of the same list. */
const KEPT_EVERY_MS = 3_600_000;
const PREFIX = WORKER_KEYS.engines;

const KnownModels = z.object({ seen_at: EpochMs, models: z.array(ModelAdvert).max(512) });
export type KnownModels = z.infer<typeof KnownModels>;

/** What is told of an engine that does not answer. */
export function awayAdvert(
  advert: EngineAdvert,
  known: KnownModels | undefined,
  now: number,
): EngineAdvert {
  if (known === undefined || known.models.length === 0) return advert;
  if (now - known.seen_at > KNOWN_FOR_MS) return advert;
  const models = known.models.map(model => ({
    ...model,
    ...{ loaded: false, vram_bytes: null, ram_bytes: null, context_tokens: null },
  }));
  return { ...advert, models, away_since: known.seen_at };
}

export class LastKnown {
  readonly #journal: Journal;
  readonly #log: Logger;
  readonly #kept = new Map<EngineName, { readonly names: string; readonly at: number }>();
  #writing: Promise<void> = Promise.resolve();

  constructor(journal: Journal, log: Logger) {
    this.#journal = journal;
    this.#log = log;
  }

  async read(engine: EngineName): Promise<KnownModels | null> {
    try {
      const read = KnownModels.safeParse(await this.#journal.get(PREFIX + engine));
      return read.success ? read.data : null;
    } catch (error) {
      this.#log.warn('engine.last_known_unreadable', { engine, error }); // As of one never seen.
      return null;
    }
  }

  /** Written where it is another list, or an old one. */
  keep(engine: EngineName, { seen_at, models }: KnownModels): void {
    const names = JSON.stringify(models.map(({ name, digest }) => [name, digest]));
    const kept = this.#kept.get(engine);
    const ageMs = Math.abs(seen_at - (kept?.at ?? 0));
    if (kept?.names === names && ageMs < KEPT_EVERY_MS) return;
    this.#kept.set(engine, { names, at: seen_at });
    // The profile is megabytes of all models together, and is known by its digest.
    const value = { seen_at, models: models.map(({ profile: _, ...model }) => model) };
    const written = this.#writing.then(() => this.#journal.put(PREFIX + engine, value));
    this.#writing = written.catch((error: unknown) => {
      this.#kept.delete(engine); // Written with the next look.
      this.#log.warn('engine.last_known_unwritten', { engine, error });
    });
  }

  async close(): Promise<void> {
    await this.#writing;
  }
}
