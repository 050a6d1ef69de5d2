/**
 * What the pool has, as each kind of client lists it: one entry per name that can be asked for, however
 * many nodes have it, and none that the client's key is not for. What nobody knows is left out, never
 * made up.
 */
import { CodeGodError } from '../../../../protocol/errors.ts';
import type { ModelAdvert } from '../../../../protocol/node.ts';
import type { ApiKey } from '../../../../protocol/policy.ts';
import { sameModel } from '../../../../scheduling/model-names.ts';
import { permits } from '../../pool/api-keys.ts';
import { AUTO, type Holder, type ModelDirectory } from '../../pool/model-directory.ts';

/** When a model came is not told by all nodes; clients insist on a number. */
const CREATED_UNKNOWN = 0;

export interface Entry {
  /** The model's own, an alias, or `auto`. */
  readonly name: string;
  /** What it stands for. */
  readonly model: ModelAdvert;
  readonly holders: readonly Holder[];
}

/** What a key may ask for, under every name that there is for it; of null everything. */
function entries(directory: ModelDirectory, key: ApiKey | null): readonly Entry[] {
  const own = [...directory.models().values()].flatMap(holders => {
    const model = holders[0]?.model;
    return model === undefined ? [] : [{ name: model.name, model, holders }];
  });
  const further = directory.furtherNames().map(name => entryOf(directory, name));
  return [...own, ...further].filter(
    ({ name, model }) =>
      key === null || permits(key, name) || (name !== AUTO && permits(key, model.name)),
  );
}

/** `auto` is shown as the largest that writes. @throws CodeGodError `model_missing` */
export function entryOf(directory: ModelDirectory, name: string): Entry {
  const resolved = directory.resolve(name);
  const model = resolved === null ? largestOf(directory) : directory.holders(resolved)[0]?.model;
  if (model !== undefined) {
    const isOwn = resolved !== null && sameModel(name, model.name);
    return { name: isOwn ? model.name : name, model, holders: directory.holders(model.name) };
  }
  throw new CodeGodError('model_missing', `model '${name.slice(0, 128)}' not found`);
}

function largestOf(directory: ModelDirectory): ModelAdvert | undefined {
  const models = directory.holders(null).map(({ model }) => model);
  const writing = models.filter(({ capabilities }) => capabilities.includes('completion'));
  const eligible = writing.length > 0 ? writing : models;
  return eligible.toSorted((left, right) => right.size_bytes - left.size_bytes)[0];
}

export function openaiModels(directory: ModelDirectory, key: ApiKey | null) {
  return { object: 'list', data: entries(directory, key).map(openaiModel) };
}

export const openaiModel = ({ name, model }: Entry) => ({
  id: name,
  object: 'model',
  created: Math.floor((model.modified_at ?? CREATED_UNKNOWN) / 1_000),
  owned_by: 'library',
});

export function anthropicModels(directory: ModelDirectory, key: ApiKey | null) {
  const data = entries(directory, key).map(anthropicModel);
  return {
    data,
    has_more: false,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
  };
}

export const anthropicModel = ({ name, model }: Entry) => ({
  type: 'model',
  id: name,
  display_name: name,
  created_at: new Date(model.modified_at ?? CREATED_UNKNOWN).toISOString(),
});

/** The newest first, as there. */
export function ollamaTags(directory: ModelDirectory, key: ApiKey | null) {
  const newestFirst = entries(directory, key).toSorted(
    (left, right) => (right.model.modified_at ?? 0) - (left.model.modified_at ?? 0),
  );
  return {
    models: newestFirst.map(({ name, model, holders }) => ({
      name,
      model: name,
      ...timeOf('modified_at', model.modified_at),
      size: model.size_bytes,
      digest: model.digest,
      details: detailsOf(model),
      nodes: holders.map(({ node }) => node),
    })),
  };
}

/** In Ollama's words; left out where nobody said it. */
const timeOf = (key: string, ms: number | undefined): Record<string, string> =>
  ms === undefined ? {} : { [key]: new Date(ms).toISOString() };

/** Every loaded copy is an entry of its own. */
export function ollamaPs(directory: ModelDirectory, key: ApiKey | null) {
  return {
    models: [...directory.models().values()].flatMap(holders =>
      holders
        .filter(({ model }) => model.loaded && (key === null || permits(key, model.name)))
        .map(({ node, model }) => ({
          name: model.name,
          model: model.name,
          digest: model.digest,
          details: detailsOf(model),
          ...sizesOf(model),
          ...timeOf('expires_at', model.expires_at),
          ...(model.context_tokens === null ? {} : { context_length: model.context_tokens }),
          node,
        })),
    ),
  };
}

function sizesOf({ vram_bytes, ram_bytes }: ModelAdvert) {
  const vram = vram_bytes === null ? {} : { size_vram: vram_bytes };
  return vram_bytes === null || ram_bytes === null
    ? vram
    : { ...vram, size: vram_bytes + ram_bytes };
}

/** What is known of a model without asking anybody. */
export function ollamaShow({ model, holders }: Entry) {
  return {
    details: detailsOf(model),
    model_info: modelInfo(model),
    capabilities: model.capabilities,
    ...timeOf('modified_at', model.modified_at),
    nodes: holders.map(({ node }) => node),
  };
}

const detailsOf = (model: ModelAdvert) => ({
  parent_model: '',
  format: model.format ?? 'gguf',
  family: model.family,
  families: model.families ?? [model.family],
  parameter_size: model.parameter_size,
  quantization_level: model.quantization,
});

/** The keys that clients look for, with what the node read from the file. */
function modelInfo(model: ModelAdvert): Record<string, unknown> {
  const { profile } = model;
  const architecture = profile?.architecture ?? model.family;
  const of = (key: string): string => `${architecture}.${key}`;
  return {
    'general.architecture': architecture,
    ...(model.context_max === 0 ? {} : { [of('context_length')]: model.context_max }),
    ...(profile === undefined || profile.source === 'size'
      ? {}
      : {
          [of('embedding_length')]: profile.embedding_length,
          [of('attention.head_count')]: profile.head_count,
          [of('vocab_size')]: profile.vocabulary,
        }),
  };
}
