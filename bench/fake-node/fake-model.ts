/**
 * What a model of a fake node is: the shape of a real one, from which its file, its memory and what
 * `/api/show` says of it all follow, and how fast it is.
 */
import { createHash } from 'node:crypto';
import { ELEMENT_TYPES, tensorBytes } from '../../test/real-ollama/gguf-bytes.ts';
import {
  isSliding,
  type ModelShape,
  modelShape,
  shapeTensors,
} from '../../test/real-ollama/model-gguf.ts';
import { MIB, parseBytes, parseMs } from './sizes.ts';

export type Capability = 'completion' | 'embedding' | 'tools' | 'thinking' | 'vision' | 'insert';

export interface FakeModelOptions {
  /** `chat:8b`; without a tag it is `:latest`. */
  readonly name: string;
  /** Bytes of the file: the shape is made to match. */
  readonly size?: number;
  /** Instead of a size. */
  readonly shape?: Partial<ModelShape>;
  readonly contextMax?: number;
  /** Of the key-value cache in f16, for one token: heads are made to match. */
  readonly kvBytesPerToken?: number;
  /** Names with the same file are one model to the scheduler, as in Ollama. */
  readonly file?: string;
  readonly digest?: string;
  readonly family?: string;
  readonly capabilities?: readonly Capability[];
  readonly loadMs?: number;
  readonly unloadMs?: number;
  /** Tokens per second; Infinity takes no time. */
  readonly prefill?: number;
  readonly decode?: number;
  /** Tokens of an answer that nothing cuts short. */
  readonly tokens?: number;
  /** What it always answers. */
  readonly answer?: string;
  /** Of the prompt. */
  readonly bytesPerToken?: number;
  /** What the driver sees beyond what the engine tells: context and library of the card. */
  readonly hiddenBytes?: number;
  /** One request at a time, whatever the node is configured to. */
  readonly singleSlot?: boolean;
}

export interface FakeModel extends Required<Omit<FakeModelOptions, 'answer' | 'size'>> {
  readonly shape: ModelShape;
  readonly answer: string | null;
  readonly fileBytes: number;
  /** Of the file, what goes to a card. */
  readonly weightBytes: number;
  readonly parameters: number;
  readonly modifiedAt: string;
}

const ELEMENTS_DEFAULT = 'q4_0';
const CONTEXT_DEFAULT = 32_768;
const VOCABULARY_DEFAULT = 32_000;
const HIDDEN_BYTES_DEFAULT = 300 * MIB;
/** Shapes by the largest file they are used for. */
const SCALES = [
  { bytes: 0.4e9, layers: 8, width: 512, heads: 8, kvHeads: 2 },
  { bytes: 2.5e9, layers: 24, width: 2_048, heads: 16, kvHeads: 8 },
  { bytes: 12e9, layers: 32, width: 4_096, heads: 32, kvHeads: 8 },
  { bytes: 30e9, layers: 48, width: 5_120, heads: 40, kvHeads: 8 },
  { bytes: Number.POSITIVE_INFINITY, layers: 80, width: 8_192, heads: 64, kvHeads: 8 },
] as const;

export function fakeModel(options: FakeModelOptions): FakeModel {
  const { contextMax: contextLength, kvBytesPerToken } = options;
  const asked = options.shape ?? shapeOfSize(options.size ?? 1e9, kvBytesPerToken);
  const context = contextLength ?? asked.contextLength ?? CONTEXT_DEFAULT;
  const shape = modelShape({ ...asked, contextLength: context });
  const tensors = shapeTensors(shape);
  const fileBytes = tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), 0);
  const [embedding] = tensors;
  const name = tagged(options.name);
  const file = options.file ?? name;
  const capabilities: readonly Capability[] =
    options.capabilities ?? (shape.pooled ? ['embedding'] : ['completion']);
  return {
    name,
    file: `sha256-${hash(file)}`,
    digest: options.digest ?? hash(`manifest ${name}`),
    family: options.family ?? shape.architecture,
    capabilities,
    shape,
    contextMax: context,
    kvBytesPerToken: kvBytesPerToken ?? layerBytesPerToken(shape) * shape.layers,
    fileBytes,
    // The embedding matrix stays in main memory; a tied one is there twice.
    weightBytes: fileBytes - (shape.tied || !embedding ? 0 : tensorBytes(embedding)),
    parameters: tensors.reduce((sum, tensor) => sum + elements(tensor.shape), 0),
    modifiedAt: '2026-01-01T00:00:00.000000000Z',
    loadMs: options.loadMs ?? 0,
    unloadMs: options.unloadMs ?? 0,
    prefill: options.prefill ?? Number.POSITIVE_INFINITY,
    decode: options.decode ?? Number.POSITIVE_INFINITY,
    tokens: options.tokens ?? 10,
    answer: options.answer ?? null,
    bytesPerToken: options.bytesPerToken ?? 4,
    hiddenBytes: options.hiddenBytes ?? HIDDEN_BYTES_DEFAULT,
    singleSlot: options.singleSlot ?? shape.pooled,
  };
}

/** Of the cache for so many tokens and sequences, in elements of so many bytes. */
export function cacheBytes(
  { shape, kvBytesPerToken }: FakeModel,
  tokens: number,
  elementBytes: number,
): number {
  const perLayer = (kvBytesPerToken / shape.layers / 2) * elementBytes;
  let sum = 0;
  for (let layer = 0; layer < shape.layers; layer++) {
    const slides = shape.architecture === 'gemma3' && isSliding(layer);
    sum += perLayer * (slides ? Math.min(tokens, shape.window + 512) : tokens);
  }
  return Math.round(sum);
}

/** Scratch memory of one batch: logits and activations. */
export const computeBytes = ({ shape }: FakeModel, batch: number): number =>
  4 * batch * (shape.vocabulary + 4 * shape.width);

/** `chat:8b,size=4.7GiB,kv=128KiB,ctx=32768,load=3s,prefill=2000,decode=60,tokens=40,caps=completion+tools` */
export function parseModel(text: string): FakeModelOptions {
  const [name = '', ...pairs] = text.split(',');
  const given = new Map(pairs.map(pair => pair.split('=', 2) as [string, string]));
  const take = <T>(key: string, read: (value: string) => T): T | undefined => {
    const value = given.get(key);
    given.delete(key);
    return value === undefined ? undefined : read(value);
  };
  const found = {
    name,
    size: take('size', parseBytes),
    kvBytesPerToken: take('kv', parseBytes),
    contextMax: take('ctx', Number),
    loadMs: take('load', parseMs),
    unloadMs: take('unload', parseMs),
    prefill: take('prefill', Number),
    decode: take('decode', Number),
    tokens: take('tokens', Number),
    answer: take('answer', String),
    file: take('file', String),
    family: take('family', String),
    bytesPerToken: take('bytes-per-token', Number),
    hiddenBytes: take('hidden', parseBytes),
    singleSlot: take('single-slot', value => value !== 'false'),
    capabilities: take('caps', value => value.split('+') as Capability[]),
  };
  if (given.size > 0) throw new Error(`unknown words of a model: ${[...given.keys()].join(', ')}`);
  const known = Object.entries(found).filter(([, value]) => value !== undefined);
  return Object.fromEntries(known) as unknown as FakeModelOptions;
}

export const tagged = (name: string): string => {
  const tail = name.slice(name.lastIndexOf('/') + 1);
  return tail.includes(':') ? name : `${name}:latest`;
};

function shapeOfSize(bytes: number, kvBytesPerToken: number | undefined): Partial<ModelShape> {
  const { layers, width, heads, kvHeads } = SCALES.find(scale => bytes <= scale.bytes) ?? SCALES[4];
  const elements = ELEMENTS_DEFAULT;
  const vocabulary = VOCABULARY_DEFAULT;
  const shape = { layers, width, heads, vocabulary, elements } as const;
  const perHead = layers * (width / heads) * 4;
  const wanted = kvBytesPerToken === undefined ? kvHeads : Math.round(kvBytesPerToken / perHead);
  const base = { ...shape, kvHeads: Math.max(1, wanted), feedForward: 32 };
  const least = shapeTensors(modelShape(base)).reduce((sum, one) => sum + tensorBytes(one), 0);
  const { bytes: blockBytes, weights } = ELEMENT_TYPES[elements];
  const perUnit = (layers * 3 * width * blockBytes) / weights;
  const more = Math.max(0, Math.round((bytes - least) / perUnit / 32)) * 32;
  return { ...base, feedForward: 32 + more };
}

const layerBytesPerToken = ({ kvHeads, headWidth }: ModelShape): number =>
  kvHeads * headWidth * 2 * 2;

const elements = (shape: readonly number[]): number => shape.reduce((one, other) => one * other, 1);

const hash = (text: string): string => createHash('sha256').update(text).digest('hex');
