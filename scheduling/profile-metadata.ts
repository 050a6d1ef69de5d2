/**
 * Reads a model's metadata by the names it has behind the architecture: `attention.head_count` of a
 * `llama` is `llama.attention.head_count`. Whatever is missing or of another kind is null.
 */
export type Metadata = Readonly<Record<string, unknown>>;

export class MetadataReader {
  readonly architecture: string;
  readonly #metadata: Metadata;

  constructor(metadata: Metadata) {
    this.#metadata = metadata;
    const name = metadata['general.architecture'];
    this.architecture = typeof name === 'string' ? name : '';
  }

  #value(name: string): unknown {
    return this.#metadata[`${this.architecture}.${name}`];
  }

  number(name: string): number | null {
    const value = this.#value(name);
    return isCount(value) ? value : null;
  }

  /** Whether there is a count, a list of counts, or one that was blanked. */
  isGiven(name: string): boolean {
    const value = this.#value(name);
    if (Array.isArray(value)) return value.some(isCount);
    return value === null || isCount(value);
  }

  /** Whether there is such a value, but nobody was told which. */
  isBlanked(name: string): boolean {
    return this.#value(name) === null;
  }

  /** One value for each layer, from a list of them or from one for all. */
  perLayer(name: string, layers: number, otherwise: number): readonly number[] {
    const value = this.#value(name);
    if (Array.isArray(value) && value.length > 0) {
      const last: unknown = value.at(-1);
      return Array.from({ length: layers }, (_, layer) => {
        const item: unknown = layer < value.length ? value[layer] : last;
        return isCount(item) ? item : otherwise;
      });
    }
    return Array<number>(layers).fill(isCount(value) ? value : otherwise);
  }

  /** A list of counts, or null where there is none. */
  counts(name: string): readonly number[] | null {
    const value = this.#value(name);
    return Array.isArray(value) && value.length > 0 ? value.filter(isCount) : null;
  }

  /** One flag for each layer, or null where there is no such list. */
  flags(name: string, layers: number): readonly boolean[] | null {
    const value = this.#value(name);
    if (!Array.isArray(value) || value.length === 0) return null;
    return Array.from({ length: layers }, (_, layer) => {
      const item: unknown = value[layer];
      return item === true || (isCount(item) && item > 0);
    });
  }

  /** `general.file_type`: the mixture of element types. */
  get fileType(): number | null {
    const value = this.#metadata['general.file_type'];
    return isCount(value) ? value : null;
  }

  /** Parameters of all tensors together. */
  get parameters(): number | null {
    const value = this.#metadata['general.parameter_count'];
    return Number.isSafeInteger(value) && Number(value) > 0 ? Number(value) : null;
  }

  /** Size of the vocabulary, where the tokens are listed or counted. */
  get tokens(): number | null {
    const list = this.#metadata['tokenizer.ggml.tokens'];
    if (typeof list !== 'object' || list === null) return null;
    const { length } = list as { readonly length?: unknown };
    return isCount(length) ? length : null;
  }
}

/** Larger counts are of no model, and their products would be no exact numbers. */
const COUNT_MAX = 2 ** 24;

function isCount(value: unknown): value is number {
  return Number.isInteger(value) && Number(value) >= 0 && Number(value) <= COUNT_MAX;
}
