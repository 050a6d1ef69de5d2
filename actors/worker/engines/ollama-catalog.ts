/**
 * What Ollama has: the models on its disk, those that are loaded, and what each can do. The details
 * of a model are asked for once per digest, with everything (an answer of megabytes), and kept over
 * restarts: what has one digest never changes. A model that cannot be described is still listed, and
 * asked about again after a pause that grows.
 */
import type { ModelResponse, Ollama } from 'ollama';
import { z } from 'zod';
import { ModelProfile } from '../../../protocol/model-profile.ts';
import type { Clock } from '../../../runtime/clock.ts';
import type { Journal } from '../../../runtime/journal.ts';
import { WORKER_KEYS } from '../../../runtime/journal-keys.ts';
import { profileOfShow } from '../../../scheduling/profile-show.ts';
import type { EngineModel, RunningCopy } from './engine.ts';

const MODELS_MAX = 512;
const DETAILS_MAX = 2_048;
/** Answers are large: few at once. */
const ASKED_AT_ONCE = 2;
const PAUSE_MS = 15_000;
const PAUSE_MAX_MS = 600_000;

/** Grows with what a model's details hold: older ones are asked for again. */
const DETAILS_VERSION = 2;

const ModelDetails = z.object({
  version: z.literal(DETAILS_VERSION),
  capabilities: z.array(z.string()),
  context_max: z.int(),
  family: z.string(),
  profile: ModelProfile,
});
export type ModelDetails = z.infer<typeof ModelDetails>;

export type DetailsStore = Pick<Journal, 'get' | 'put'>;

/** A store that is full or damaged costs a question more, and never hides what the engine has. */
export const forgiving = (store: DetailsStore): DetailsStore => ({
  get: key => store.get(key).catch(() => undefined), // Asked for again.
  put: (key, value) => store.put(key, value).catch(() => {}), // Known until the process ends.
});

/** On disk and in memory, as listed at one moment. */
export interface Listed {
  readonly version: string;
  readonly models: readonly ModelResponse[];
  readonly running: readonly RunningCopy[];
}

export class OllamaCatalog {
  readonly #details = new Map<string, ModelDetails>();
  readonly #installed = new Map<string, { readonly digest: string; readonly size: number }>();
  /** Digests that nothing could be learnt about: how often, and when to ask again. */
  readonly #unlearnt = new Map<string, { readonly failures: number; readonly againMs: number }>();
  readonly #store: DetailsStore | null;
  readonly #clock: Clock;

  constructor(store: DetailsStore | null, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  async list(client: Ollama): Promise<Listed> {
    const [{ version }, tags, running] = await Promise.all([
      client.version(),
      client.list(),
      this.running(client),
    ]);
    const models = (tags.models ?? []).slice(0, MODELS_MAX);
    this.#installed.clear();
    for (const { name, digest, size } of models) this.#installed.set(name, { digest, size });
    const digests = new Set(models.map(({ digest }) => digest));
    for (const digest of this.#unlearnt.keys()) {
      if (!digests.has(digest)) this.#unlearnt.delete(digest);
    }
    return { version: version.slice(0, 64), models, running };
  }

  /** The models with their details; `onNext` is called whenever one more has been asked about. */
  async describeAll(
    client: Ollama,
    { models, running }: Listed,
    onNext: () => void,
  ): Promise<EngineModel[]> {
    await this.#learn(
      client,
      models.map(({ name }) => name),
      onNext,
    );
    const loaded = new Map(running.map(copy => [copy.model, copy]));
    return models.map(model => {
      const details = this.#details.get(model.digest);
      const copy = loaded.get(model.name);
      return {
        name: model.name.slice(0, 128),
        digest: model.digest.slice(0, 128),
        size_bytes: model.size,
        family: (model.details?.family ?? '').slice(0, 64),
        parameter_size: (model.details?.parameter_size ?? '').slice(0, 32),
        quantization: (model.details?.quantization_level ?? '').slice(0, 32),
        context_max: details?.context_max ?? 0,
        loaded: copy !== undefined,
        vram_bytes: copy?.vram_bytes ?? null,
        ram_bytes: copy?.ram_bytes ?? null,
        context_tokens: copy?.context_tokens ?? null,
        capabilities: (details?.capabilities ?? []).slice(0, 32).map(name => name.slice(0, 64)),
        ...(details === undefined ? {} : { profile: details.profile }),
        ...fileFacts(model),
        ...(copy?.expires_at === undefined ? {} : { expires_at: copy.expires_at }),
      };
    });
  }

  /** What is in memory now. */
  async running(client: Ollama): Promise<RunningCopy[]> {
    const { models } = await client.ps();
    return (models ?? []).map(model => {
      const { name, size, size_vram, context_length, expires_at } = model as unknown as Running;
      const until = momentOf(expires_at);
      return {
        ...{ model: name, vram_bytes: size_vram, ram_bytes: Math.max(0, size - size_vram) },
        context_tokens: context_length || null,
        ...(until === null ? {} : { expires_at: until }),
      };
    });
  }

  digestOf(model: string): string | null {
    return this.#find(model)?.digest ?? null;
  }

  sizeOf(model: string): number {
    return this.#find(model)?.size ?? 0;
  }

  /** Details of one model, from memory where its digest is known. */
  async describe(client: Ollama, model: string): Promise<ModelDetails> {
    const digest = this.digestOf(model);
    const known = digest === null ? undefined : await this.#known(digest);
    return known ?? (await this.#show(client, model, this.sizeOf(model)));
  }

  #find(model: string) {
    return this.#installed.get(model) ?? this.#installed.get(`${model}:latest`);
  }

  async #learn(client: Ollama, names: readonly string[], onNext: () => void): Promise<void> {
    const unknown: string[] = [];
    const nowMs = this.#clock.monotonic();
    for (const name of names) {
      const digest = this.digestOf(name);
      if (digest === null || (await this.#known(digest)) !== undefined) continue;
      if (nowMs >= (this.#unlearnt.get(digest)?.againMs ?? nowMs)) unknown.push(name);
    }
    for (let from = 0; from < unknown.length; from += ASKED_AT_ONCE) {
      const batch = unknown.slice(from, from + ASKED_AT_ONCE);
      await Promise.all(batch.map(name => this.#learnOne(client, name)));
      onNext();
    }
  }

  async #known(digest: string): Promise<ModelDetails | undefined> {
    const known = this.#details.get(digest);
    if (known !== undefined || this.#store === null) return known;
    const stored = ModelDetails.safeParse(await this.#store.get(detailsKey(digest)));
    if (!stored.success) return undefined; // Not there, or of an older release.
    this.#remember(digest, stored.data);
    return stored.data;
  }

  async #learnOne(client: Ollama, name: string): Promise<void> {
    const found = this.#find(name);
    if (found === undefined) return;
    let details: ModelDetails;
    try {
      details = await this.#show(client, name, found.size);
    } catch {
      const failures = (this.#unlearnt.get(found.digest)?.failures ?? 0) + 1;
      const pauseMs = Math.min(PAUSE_MAX_MS, PAUSE_MS * 2 ** (failures - 1));
      this.#unlearnt.set(found.digest, { failures, againMs: this.#clock.monotonic() + pauseMs });
      return;
    }
    this.#unlearnt.delete(found.digest);
    this.#remember(found.digest, details);
    await this.#store?.put(detailsKey(found.digest), details);
  }

  #remember(digest: string, details: ModelDetails): void {
    if (this.#details.size >= DETAILS_MAX) this.#details.clear();
    this.#details.set(digest, details);
  }

  async #show(client: Ollama, model: string, sizeBytes: number): Promise<ModelDetails> {
    // Without `verbose` every list longer than five is left out, heads per layer among them.
    const request: Parameters<Ollama['show']>[0] & { verbose: boolean } = { model, verbose: true };
    const shown = await client.show(request);
    const info = Object.entries((shown.model_info ?? {}) as unknown as Record<string, unknown>);
    const context = info.find(([key]) => key.endsWith('.context_length'))?.[1];
    return {
      version: DETAILS_VERSION,
      capabilities: shown.capabilities ?? [],
      context_max: typeof context === 'number' && context > 0 ? Math.floor(context) : 0,
      family: shown.details?.family ?? '',
      profile: profileOfShow(shown, sizeBytes),
    };
  }
}

const detailsKey = (digest: string): string => `${WORKER_KEYS.models}${digest}`;

/** A loaded model; the library's type does not have the context yet. */
interface Running {
  readonly name: string;
  readonly size: number;
  readonly size_vram: number;
  readonly context_length?: number;
  readonly expires_at?: string;
}

/** What clients are told of a model's file, where it is not what can be taken for granted. */
function fileFacts({ modified_at, details }: ModelResponse): Partial<EngineModel> {
  const modified = momentOf(modified_at);
  const format = (details?.format || GGUF).slice(0, 32);
  const families = (details?.families ?? []).slice(0, 16).map(family => family.slice(0, 64));
  const isPlain =
    families.length === 0 || (families.length === 1 && families[0] === details.family);
  return {
    ...(modified === null ? {} : { modified_at: modified }),
    ...(format === GGUF ? {} : { format }),
    ...(isPlain ? {} : { families }),
  };
}

const GGUF = 'gguf';

/** A time as Go writes it; its zero means that there is none. */
function momentOf(time: unknown): number | null {
  const ms = typeof time === 'string' ? Date.parse(time) : Number.NaN;
  return ms > 0 ? Math.floor(ms) : null;
}
