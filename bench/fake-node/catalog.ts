/** What is there: `/api/tags`, `/api/ps`, `/api/show`; and copying and deleting. */
import type { ElementType } from '../../test/real-ollama/gguf-bytes.ts';
import { shapeMetadata, shapeTensors } from '../../test/real-ollama/model-gguf.ts';
import { ApiError, notFound } from './api-error.ts';
import { FOREVER_MS } from './environment.ts';
import { type FakeModel, tagged } from './fake-model.ts';
import { vramBytes } from './memory.ts';
import { type Exchange, findModel, type NodeState, textOf } from './node-state.ts';
import { sendJson, sendText } from './player.ts';

/** Longer lists are blanked unless everything was asked for. */
const LIST_LENGTH_MAX = 5;
/** Answers of megabytes, made once per model. */
const verbose = new WeakMap<FakeModel, string>();

export function tags({ models }: NodeState, { response }: Exchange): void {
  const list = [...models.values()].map(model => ({
    ...{ name: model.name, model: model.name, modified_at: model.modifiedAt },
    ...{ size: model.fileBytes, digest: model.digest, details: details(model) },
  }));
  sendJson(response, 200, { models: list });
}

export function ps({ scheduler }: NodeState, { response }: Exchange): void {
  const now = Date.now();
  const list = [...scheduler.loaded.values()].map(runner => {
    const { model, allocation, contextTokens, keepMs, expiresAtMs } = runner;
    const told = vramBytes(allocation);
    return {
      ...{ name: model.name, model: model.name, size: told + allocation.ramBytes },
      ...{ digest: model.digest, details: details(model) },
      expires_at: new Date(expiresAtMs ?? now + Math.min(keepMs, FOREVER_MS)).toISOString(),
      ...{ size_vram: told, context_length: contextTokens },
    };
  });
  list.sort((one, other) => (one.expires_at < other.expires_at ? 1 : -1));
  sendJson(response, 200, { models: list });
}

export function show(state: NodeState, { body, response }: Exchange): void {
  const asked = textOf(body['model']) || textOf(body['name']);
  if (asked === '') throw new ApiError(400, 'model is required');
  const model = findModel(state, asked);
  const everything = body['verbose'] === true;
  let text = everything ? verbose.get(model) : undefined;
  text ??= JSON.stringify(shown(model, everything));
  if (everything) verbose.set(model, text);
  sendText(response, 200, 'application/json; charset=utf-8', text);
}

export function remove(state: NodeState, { body, response }: Exchange): void {
  const model = findModel(state, textOf(body['model']) || textOf(body['name']));
  state.models.delete(model.name.toLowerCase());
  response.writeHead(200);
  response.end();
}

/** `/api/copy`: another name for the same file. */
export function copy(state: NodeState, { body, response }: Exchange): void {
  const source = textOf(body['source']);
  const found = state.models.get(tagged(source).toLowerCase());
  if (found === undefined) throw new ApiError(404, `model "${source}" not found`);
  name(state, found, textOf(body['destination']));
  response.writeHead(200);
  response.end();
}

/** `/api/create` from another model; from files is not for a fake. */
export function create(state: NodeState, { body, response }: Exchange): void {
  const from = textOf(body['from']);
  if (from === '') throw new ApiError(400, "neither 'from' or 'files' was specified");
  const found = state.models.get(tagged(from).toLowerCase());
  if (found === undefined) throw notFound(from);
  name(state, found, textOf(body['model']));
  const lines = [
    { status: `using existing layer ${found.file.replace('-', ':')}` },
    { status: 'writing manifest' },
    { status: 'success' },
  ];
  const text = lines.map(line => `${JSON.stringify(line)}\n`).join('');
  sendText(response, 200, 'application/x-ndjson', text);
}

function name(state: NodeState, model: FakeModel, to: string): void {
  if (to === '') throw new ApiError(400, 'destination "" is invalid');
  const named = tagged(to);
  state.models.set(named.toLowerCase(), { ...model, name: named });
}

function details(model: FakeModel): object {
  return {
    ...{ parent_model: '', format: 'gguf', family: model.family, families: [model.family] },
    parameter_size: rounded(model.parameters),
    quantization_level: quantization(model.shape.elements),
  };
}

const quantization = (elements: ElementType): string =>
  elements === 'f32' ? 'unknown' : elements.toUpperCase();

function shown(model: FakeModel, everything: boolean): object {
  const info = shapeMetadata(model.shape)
    .filter(({ key }) => key !== 'general.name')
    .map(({ key, value }) => [key, blanked(value, everything)] as const);
  const tensors = shapeTensors(model.shape).map(({ name, shape, type }) => ({
    ...{ name, type: type.toUpperCase(), shape },
  }));
  return {
    ...{ modelfile: `# FROM ${model.name}\n\nFROM /models/blobs/${model.file}\n`, template: '' },
    details: details(model),
    model_info: {
      ...Object.fromEntries(info),
      'general.parameter_count': model.parameters,
      ...(model.capabilities.includes('vision')
        ? { [`${model.shape.architecture}.vision.block_count`]: 27 }
        : {}),
    },
    ...{ tensors, capabilities: model.capabilities, modified_at: model.modifiedAt },
  };
}

function blanked(value: unknown, everything: boolean): unknown {
  if (everything || !Array.isArray(value)) return value;
  return value.length > LIST_LENGTH_MAX ? null : value;
}

/** `8.1B`, `107K`: as Ollama rounds them. */
function rounded(count: number): string {
  const units = [
    [1e9, 'B', 1],
    [1e6, 'M', 2],
    [1e3, 'K', 0],
  ] as const;
  const [size, letter, digits] = units.find(([least]) => count >= least) ?? [1, '', 0];
  return `${(count / size).toFixed(count % size === 0 ? 0 : digits)}${letter}`;
}
