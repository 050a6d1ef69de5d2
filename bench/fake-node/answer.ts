/**
 * What a fake model says: words, or a value that satisfies a JSON schema. The same seed, model and
 * prompt give the same answer.
 */

/** One word is one token. */
const WORDS =
  'the node holds a model and answers in order because memory is short while others wait for their turn so we load it once and keep every word that was asked until nobody needs more of them here again today'.split(
    ' ',
  );
const DEPTH_MAX = 8;
const ITEMS_DEFAULT = 1;

/** FNV-1a; good enough to tell prompts apart. */
export function hashOf(text: string, seed: number): number {
  let hash = 0x811c9dc5 ^ seed;
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  }
  return hash >>> 0;
}

/** Pieces of text, one token each. */
export function words(count: number, hash: number): string[] {
  const pieces: string[] = [];
  const step = 1 + (hash % (WORDS.length - 1));
  for (let index = 0; index < count; index++) {
    const word = WORDS[(hash + index * step) % WORDS.length] ?? '';
    pieces.push(index === 0 ? word : ` ${word}`);
  }
  return pieces;
}

/** A text that is no row of words, in tokens of so many letters. */
export function cut(text: string, letters: number): string[] {
  const count = Math.ceil(text.length / letters);
  return Array.from({ length: count }, (_, at) => text.slice(at * letters, (at + 1) * letters));
}

type Schema = Readonly<Record<string, unknown>>;

/** A value that satisfies a schema of the kind that grammars can be made of. */
export function schemaValue(schema: unknown, hash: number): unknown {
  return new Values(isSchema(schema) ? schema : {}, hash).value(schema, 0);
}

const isSchema = (value: unknown): value is Schema =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

class Values {
  readonly #root: Schema;
  #hash: number;

  constructor(root: Schema, hash: number) {
    this.#root = root;
    this.#hash = hash;
  }

  value(schema: unknown, depth: number): unknown {
    if (!isSchema(schema) || depth > DEPTH_MAX) return null;
    const { const: constant, enum: choices, $ref } = schema;
    if (constant !== undefined) return constant;
    if (Array.isArray(choices)) return choices[this.#next() % choices.length];
    if (typeof $ref === 'string') return this.value(this.#referred($ref), depth + 1);
    for (const list of [schema['anyOf'], schema['oneOf'], schema['allOf']]) {
      if (Array.isArray(list)) return this.value(list[0], depth + 1);
    }
    const type = Array.isArray(schema['type']) ? schema['type'][0] : schema['type'];
    switch (type ?? (schema['properties'] === undefined ? 'string' : 'object')) {
      case 'object':
        return this.#object(schema, depth);
      case 'array':
        return this.#array(schema, depth);
      case 'integer':
      case 'number':
        return this.#number(schema);
      case 'boolean':
        return this.#next() % 2 === 0;
      case 'null':
        return null;
      default:
        return this.#text(schema);
    }
  }

  #object(schema: Schema, depth: number): object {
    const properties = isSchema(schema['properties']) ? schema['properties'] : {};
    const entries = Object.entries(properties);
    return Object.fromEntries(entries.map(([key, inner]) => [key, this.value(inner, depth + 1)]));
  }

  #array(schema: Schema, depth: number): unknown[] {
    const length = Number(schema['minItems'] ?? ITEMS_DEFAULT);
    return Array.from({ length }, () => this.value(schema['items'], depth + 1));
  }

  #number(schema: Schema): number {
    const least = Number(schema['minimum'] ?? 0);
    const most = Number(schema['maximum'] ?? least + 100);
    return least + (this.#next() % (Math.floor(most - least) + 1));
  }

  #text(schema: Schema): string {
    const least = Number(schema['minLength'] ?? 0);
    const most = Number(schema['maxLength'] ?? Number.POSITIVE_INFINITY);
    let text = words(2, this.#next()).join('');
    while (text.length < least) text += ` ${words(4, this.#next()).join('')}`;
    return text.slice(0, Math.max(least, Math.min(most, text.length)));
  }

  #referred(reference: string): unknown {
    const path = reference.replace(/^#\/?/, '').split('/');
    return path.reduce<unknown>((at, key) => (isSchema(at) ? at[key] : undefined), this.#root);
  }

  #next(): number {
    this.#hash = (Math.imul(this.#hash, 1_664_525) + 1_013_904_223) >>> 0;
    return this.#hash >>> 8;
  }
}
