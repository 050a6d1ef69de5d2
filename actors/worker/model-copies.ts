/** All copies of models that this node has, has had, or is about to have. */
import type { EngineAdvert, ModelAdvert } from '../../protocol/node.ts';
import type { EngineName } from '../../protocol/task.ts';
import type { ModelCopy } from './model-copy.ts';
import type { Resident } from './residents.ts';

export class ModelCopies {
  readonly #copies = new Map<string, ModelCopy>();
  readonly #isKept: (model: string) => boolean;
  readonly #create: (engine: EngineName, model: string) => ModelCopy;

  constructor(
    isKept: (model: string) => boolean,
    create: (engine: EngineName, model: string) => ModelCopy,
  ) {
    this.#isKept = isKept;
    this.#create = create;
  }

  all(): Iterable<ModelCopy> {
    return this.#copies.values();
  }

  find(engine: EngineName, model: string): ModelCopy | undefined {
    return this.#copies.get(keyOf(engine, model));
  }

  /** The copy of a model as the engine spells it; there is one for every model that is installed. */
  of(engine: EngineName, model: string): ModelCopy {
    const known = this.find(engine, model);
    if (known !== undefined) return known;
    const copy = this.#create(engine, model);
    this.#copies.set(keyOf(engine, model), copy);
    return copy;
  }

  /** Those in memory, or on their way in or out. */
  residents(): Resident[] {
    const residents: Resident[] = [];
    for (const copy of this.#copies.values()) {
      const { state, engine, model, charge, ours, usedAt, loadedAt, since, context } = copy;
      if (state === 'absent') continue;
      // One that is unloaded in order to be loaded larger is on its way in.
      const isComing = state === 'making_room' || context.plan !== null;
      residents.push({
        ...{ engine, model, charge, ours, since, used_at: usedAt, loaded_at: loadedAt },
        state: isComing ? 'loading' : state,
        context_tokens: context.contextTokens ?? context.plan?.context_tokens ?? null,
        in_flight: context.holds + copy.waiting.length,
        kept: this.#isKept(model),
      });
    }
    return residents;
  }

  /** A model as it is to be advertised. */
  described(engine: EngineName, model: ModelAdvert): ModelAdvert {
    const copy = this.find(engine, model.name);
    const state = copy?.state ?? (model.loaded ? 'loaded' : 'absent');
    const most = copy?.contextMost ?? null;
    return {
      ...model,
      ...(most === null ? {} : { context_max: most }),
      state: state === 'making_room' ? 'loading' : state,
      in_flight: copy?.context.holds ?? 0,
      used_at: copy?.usedAt ?? null,
      kept: this.#isKept(model.name),
    };
  }

  /**
   * Takes over what the engines say; a look that began, by the monotonic clock, before a copy last
   * changed is too old for it.
   */
  observe(engines: readonly EngineAdvert[], lookedMs: number): void {
    for (const engine of engines) {
      const installed = new Set<string>();
      const listed = new Set<string>();
      for (const model of engine.models) {
        installed.add(model.name);
        if (!model.loaded) continue;
        listed.add(model.name);
        const copy = this.of(engine.name, model.name);
        if (copy.sinceMs >= lookedMs) continue;
        copy.found(model);
      }
      for (const [key, copy] of this.#copies) {
        if (copy.engine !== engine.name || copy.sinceMs >= lookedMs) continue;
        if (!listed.has(copy.model)) copy.send({ type: 'copy.gone' });
        const isOver = engine.available && !installed.has(copy.model) && copy.isIdle;
        if (isOver) {
          copy.stop();
          this.#copies.delete(key);
        }
      }
    }
  }
}

const keyOf = (engine: EngineName, model: string): string => `${engine}/${model}`;
