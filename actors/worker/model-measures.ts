/**
 * What was measured of each model here: how long a load takes, how many tokens are read and written
 * per second, how much memory the engine allocated beside what had been estimated. Kept in the
 * journal over restarts; forgotten when the model's file is another one.
 */
import { z } from 'zod';
import { type ModelAdvert, ObservedLoad } from '../../protocol/node.ts';
import type { Clock } from '../../runtime/clock.ts';
import { type Journal, soundEntries } from '../../runtime/journal.ts';
import { WORKER_KEYS } from '../../runtime/journal-keys.ts';
import type { Logger } from '../../runtime/log.ts';
import { moreTelling } from '../../scheduling/observed-loads.ts';
import type { Measured } from './hold.ts';
import type { LoadRecord } from './model-loader.ts';

const PREFIX = WORKER_KEYS.measures;
const MODELS_MAX = 2_048;
/** Between two writes of one model's figures: a mean of a few answers more or less is no loss. */
const KEPT_EVERY_MS = 10_000;
/** Share of the newest figure in the mean: about the last five count. */
const NEWEST_SHARE = 0.3;
/**
 * The same for reading: by how long it took. A prompt that the engine still had in its cache is read
 * in no time, which says nothing; one that took minutes says nearly all there is to know.
 */
const READING_SHARE_MAX = 0.7;
const READING_HALF_MS = 2_000;
/** Fewer tokens say more about the start of an answer than about its speed. */
const TOKENS_MIN = 16;

const Measures = z.object({
  digest: z.string(),
  load_ms: z.number().nullable(),
  prompt_tokens_per_s: z.number().nullable(),
  output_tokens_per_s: z.number().nullable(),
  // What an older release compared was not comparable.
  observed: ObservedLoad.refine(({ backend }) => backend !== undefined)
    .optional()
    .catch(undefined),
});
type Measures = z.infer<typeof Measures>;

export interface ModelMeasuresOptions {
  readonly journal: Journal;
  readonly log: Logger;
  readonly clock: Clock;
}

export class ModelMeasures {
  readonly #journal: Journal;
  readonly #log: Logger;
  readonly #measures: Map<string, Measures>;
  readonly #clock: Clock;
  /** When each model's figures were last written, and those that are newer than that. */
  readonly #keptMs = new Map<string, number>();
  readonly #unkept = new Set<string>();
  #writing: Promise<void> = Promise.resolve();

  private constructor(
    { journal, log, clock }: ModelMeasuresOptions,
    measures: Map<string, Measures>,
  ) {
    this.#journal = journal;
    this.#log = log;
    this.#clock = clock;
    this.#measures = measures;
  }

  static async open(options: ModelMeasuresOptions): Promise<ModelMeasures> {
    const { journal, log } = options;
    const measures = new Map<string, Measures>();
    // Measured again with the next answer.
    const damaged = (key: string): void => log.warn('model.measure_unreadable', { key });
    for await (const [key, value] of soundEntries(journal, PREFIX, damaged)) {
      const read = Measures.safeParse(value);
      if (read.success) measures.set(key.slice(PREFIX.length), read.data);
    }
    return new ModelMeasures(options, measures);
  }

  /** Fields of the model's advert. */
  of({ name, digest }: Pick<ModelAdvert, 'name' | 'digest'>): Partial<ModelAdvert> {
    const known = this.#measures.get(name);
    if (known === undefined || known.digest !== digest) return {};
    const { load_ms, prompt_tokens_per_s, output_tokens_per_s, observed } = known;
    return {
      ...{ load_ms, prompt_tokens_per_s, output_tokens_per_s },
      ...(observed === undefined ? {} : { observed }),
    };
  }

  loaded({ model, load_ms, observed }: LoadRecord): void {
    const before = this.#before(model);
    this.#keptMs.delete(model.name); // A load is rare, and what it taught worth a write.
    this.#keep(model.name, {
      ...before,
      load_ms: mean(before.load_ms, load_ms),
      ...(observed === null ? {} : { observed: moreTelling(before.observed, observed) }),
    });
  }

  spoke(model: ModelAdvert, measured: Measured): void {
    const before = this.#before(model);
    const reading = perSecond(measured.prompt_tokens, measured.prompt_ms);
    const writing = perSecond(measured.output_tokens, measured.output_ms);
    if (reading === null && writing === null) return;
    this.#keep(model.name, {
      ...before,
      prompt_tokens_per_s: readingMean(
        before.prompt_tokens_per_s,
        reading,
        measured.prompt_ms ?? 0,
      ),
      output_tokens_per_s: mean(before.output_tokens_per_s, writing),
    });
  }

  /** Writes what is not written yet. */
  async close(): Promise<void> {
    for (const name of [...this.#unkept]) this.#write(name);
    await this.#writing;
  }

  #before({ name, digest }: ModelAdvert): Measures {
    const known = this.#measures.get(name);
    if (known !== undefined && known.digest === digest) return known;
    return { digest, load_ms: null, prompt_tokens_per_s: null, output_tokens_per_s: null };
  }

  #keep(name: string, measures: Measures): void {
    if (this.#measures.size >= MODELS_MAX && !this.#measures.has(name)) return;
    this.#measures.set(name, measures);
    this.#unkept.add(name);
    const keptMs = this.#keptMs.get(name) ?? Number.NEGATIVE_INFINITY;
    if (this.#clock.monotonic() - keptMs >= KEPT_EVERY_MS) this.#write(name);
  }

  #write(name: string): void {
    this.#unkept.delete(name);
    this.#keptMs.set(name, this.#clock.monotonic());
    const written = this.#journal.put(PREFIX + name, this.#measures.get(name));
    this.#writing = written.catch((error: unknown) => {
      // Measured again with the next answer.
      this.#log.warn('model.measure_not_kept', { model: name, error });
    });
  }
}

function mean(before: number | null, newest: number | null): number | null {
  if (newest === null) return before;
  if (before === null) return round(newest);
  return round(before * (1 - NEWEST_SHARE) + newest * NEWEST_SHARE);
}

/** Of the time per token: what took none pulls little, however fast that makes it look. */
function readingMean(before: number | null, newest: number | null, ms: number): number | null {
  if (newest === null || before === null || before <= 0) return mean(null, newest ?? before);
  const share = Math.min(READING_SHARE_MAX, ms / (ms + READING_HALF_MS));
  return round(1 / ((1 - share) / before + share / newest));
}

const round = (value: number): number => Math.round(value * 10) / 10;

function perSecond(tokens: number | null, ms: number | null): number | null {
  if (tokens === null || ms === null || tokens < TOKENS_MIN || ms <= 0) return null;
  return (tokens / ms) * 1_000;
}
