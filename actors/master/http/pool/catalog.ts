/**
 * What the pool has, as each kind of client lists it: one entry per model, however many nodes have
 * it. What nobody knows is left out, never made up.
 */
import { CodeGodError } from '../../../../protocol/errors.ts';
import type { ModelAdvert } from '../../../../protocol/node.ts';
import type { Holder, ModelDirectory } from '../../pool/model-directory.ts';

/** When a model came is not known; clients insist on a number. */
const CREATED_UNKNOWN = 0;

interface Entry {
  readonly model: ModelAdvert;
  readonly holders: readonly Holder[];
}

function entries(directory: ModelDirectory): readonly Entry[] {
  return [...directory.models().values()].flatMap(holders => {
    const model = holders[0]?.model;
    return model === undefined ? [] : [{ model, holders }];
  });
}

/** @throws CodeGodError `model_missing` */
function entryOf(directory: ModelDirectory, name: string): Entry {
  const resolved = directory.resolve(name);
  const holders = directory.holders(resolved);
  const model = holders[0]?.model;
  if (resolved !== null && model !== undefined) return { model, holders };
  throw new CodeGodError('model_missing', `model '${name.slice(0, 128)}' not found`);
}

export function openaiModels(directory: ModelDirectory) {
  return { object: 'list', data: entries(directory).map(openaiModel) };
}

export function openaiModelNamed(directory: ModelDirectory, name: string) {
  return openaiModel(entryOf(directory, name));
}

const openaiModel = ({ model }: Entry) => ({
  id: model.name,
  object: 'model',
  created: CREATED_UNKNOWN,
  owned_by: 'library',
});

export function anthropicModels(directory: ModelDirectory) {
  const data = entries(directory).map(anthropicModel);
  return {
    data,
    has_more: false,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
  };
}

export function anthropicModelNamed(directory: ModelDirectory, name: string) {
  return anthropicModel(entryOf(directory, name));
}

const anthropicModel = ({ model }: Entry) => ({
  type: 'model',
  id: model.name,
  display_name: model.name,
  created_at: new Date(CREATED_UNKNOWN).toISOString(),
});

export function ollamaTags(directory: ModelDirectory) {
  return {
    models: entries(directory).map(({ model, holders }) => ({
      name: model.name,
      model: model.name,
      size: model.size_bytes,
      digest: model.digest,
      details: detailsOf(model),
      nodes: holders.map(({ node }) => node),
    })),
  };
}

/** Every loaded copy is an entry of its own. */
export function ollamaPs(directory: ModelDirectory) {
  return {
    models: entries(directory).flatMap(({ holders }) =>
      holders
        .filter(({ model }) => model.loaded)
        .map(({ node, model }) => ({
          name: model.name,
          model: model.name,
          digest: model.digest,
          details: detailsOf(model),
          ...sizesOf(model),
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

export function ollamaShow(directory: ModelDirectory, name: string) {
  const { model, holders } = entryOf(directory, name);
  return {
    details: detailsOf(model),
    model_info: modelInfo(model),
    capabilities: model.capabilities,
    nodes: holders.map(({ node }) => node),
  };
}

const detailsOf = (model: ModelAdvert) => ({
  parent_model: '',
  format: 'gguf',
  family: model.family,
  families: [model.family],
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
