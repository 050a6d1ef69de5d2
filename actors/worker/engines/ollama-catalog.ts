/**
 * What Ollama has: the models on its disk, those that are loaded, and what each can do. The details
 * of a model are asked for once per digest.
 */
import type { Ollama } from 'ollama';
import type { EngineModel } from './engine.ts';

const MODELS_MAX = 512;
const DETAILS_MAX = 2_048;
/** Questions about details in flight at once. */
const ASKED_AT_ONCE = 8;

export interface ModelDetails {
  readonly capabilities: readonly string[];
  readonly context_max: number;
  readonly family: string;
}

const UNKNOWN: ModelDetails = { capabilities: [], context_max: 0, family: '' };

export class OllamaCatalog {
  readonly #details = new Map<string, ModelDetails>();
  readonly #digests = new Map<string, string>();

  async read(client: Ollama): Promise<{ version: string; models: EngineModel[] }> {
    const [{ version }, tags, running] = await Promise.all([
      client.version(),
      client.list(),
      client.ps(),
    ]);
    const listed = (tags.models ?? []).slice(0, MODELS_MAX);
    for (const model of listed) this.#digests.set(model.name, model.digest);
    await this.#learn(
      client,
      listed.map(model => model.name),
    );
    const loaded = new Map((running.models ?? []).map(model => [model.name, model as Running]));
    const models = listed.map(model => {
      const details = this.#details.get(model.digest) ?? UNKNOWN;
      const instance = loaded.get(model.name);
      return {
        name: model.name.slice(0, 128),
        digest: model.digest.slice(0, 128),
        size_bytes: model.size,
        family: (model.details?.family ?? '').slice(0, 64),
        parameter_size: (model.details?.parameter_size ?? '').slice(0, 32),
        quantization: (model.details?.quantization_level ?? '').slice(0, 32),
        context_max: details.context_max,
        loaded: instance !== undefined,
        vram_bytes: instance?.size_vram ?? null,
        ram_bytes: instance === undefined ? null : Math.max(0, instance.size - instance.size_vram),
        context_tokens: instance?.context_length ?? null,
        capabilities: details.capabilities.slice(0, 32).map(name => name.slice(0, 64)),
      };
    });
    return { version: version.slice(0, 64), models };
  }

  /** Details of one model, from memory where its digest is known. */
  async describe(client: Ollama, model: string): Promise<ModelDetails> {
    const digest = this.#digests.get(model) ?? this.#digests.get(`${model}:latest`);
    const known = digest === undefined ? undefined : this.#details.get(digest);
    return known ?? (await this.#show(client, model));
  }

  async #learn(client: Ollama, names: readonly string[]): Promise<void> {
    const unknown = names.filter(name => !this.#details.has(this.#digests.get(name) ?? ''));
    for (let from = 0; from < unknown.length; from += ASKED_AT_ONCE) {
      const batch = unknown.slice(from, from + ASKED_AT_ONCE);
      await Promise.all(batch.map(name => this.#learnOne(client, name)));
    }
  }

  async #learnOne(client: Ollama, name: string): Promise<void> {
    try {
      const details = await this.#show(client, name);
      const digest = this.#digests.get(name);
      if (this.#details.size >= DETAILS_MAX) this.#details.clear();
      if (digest !== undefined) this.#details.set(digest, details);
    } catch {
      // A model that cannot be described is still listed; it is asked about again next time.
    }
  }

  async #show(client: Ollama, model: string): Promise<ModelDetails> {
    const shown = await client.show({ model });
    const info = Object.entries((shown.model_info ?? {}) as unknown as Record<string, unknown>);
    const context = info.find(([key]) => key.endsWith('.context_length'))?.[1];
    return {
      capabilities: shown.capabilities ?? [],
      context_max: typeof context === 'number' && context > 0 ? Math.floor(context) : 0,
      family: shown.details?.family ?? '',
    };
  }
}

/** A loaded model; the library's type does not have the context yet. */
interface Running {
  readonly size: number;
  readonly size_vram: number;
  readonly context_length?: number;
}
