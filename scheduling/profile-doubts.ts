/**
 * What is wrong with what a model's metadata and tensors say of it. Where the shapes are missing or
 * those of no model, the formula would come to no cache at all, or to one of petabytes; its size is
 * then the best there is to go by.
 *
 * B1: every count that a formula multiplies is held to the largest that any model could have.
 */
import type { ProfileInput } from './profile.ts';
import { MetadataReader } from './profile-metadata.ts';

const LAYERS_MAX = 4_096;
const WIDTH_MAX = 2 ** 18;
const HEADS_MAX = 2 ** 14;
const HEAD_WIDTH_MAX = 2 ** 16;
/** A file of tensors has little beside them; what is far from their sum is not that file. */
const SMALLER_FILE = 0.99;
const LARGER_FILE = 2;

/** Why the shapes cannot be gone by, as one sentence; null where they can. */
export function shapeDoubt({ metadata, tensors }: ProfileInput): string | null {
  const reader = new MetadataReader(metadata);
  const missing = ['block_count', 'embedding_length'].filter(
    name => (reader.number(name) ?? 0) === 0,
  );
  const isHeadless =
    !reader.isGiven('attention.head_count') && !reader.isGiven('attention.key_length');
  if (isHeadless && !isRecurrent(reader)) missing.push('attention.head_count');
  if (missing.length > 0) {
    const names = missing.map(name => `${reader.architecture || '(no architecture)'}.${name}`);
    return `it does not say ${names.join(', ')}`;
  }
  const large = Object.entries(BOUNDS).find(([name, most]) => largest(reader, name) > most);
  if (large !== undefined) return `no model has a ${large[0]} of ${largest(reader, large[0])}`;
  const elements = (tensors ?? []).map(({ shape }) => shape.reduce((all, size) => all * size, 1));
  return elements.every(Number.isSafeInteger)
    ? null
    : 'no model has a tensor as large as one of its';
}

/** B1. */
const BOUNDS: Readonly<Record<string, number>> = {
  block_count: LAYERS_MAX,
  embedding_length: WIDTH_MAX,
  'attention.head_count': HEADS_MAX,
  'attention.head_count_kv': HEADS_MAX,
  'attention.key_length': HEAD_WIDTH_MAX,
  'attention.value_length': HEAD_WIDTH_MAX,
  'attention.key_length_swa': HEAD_WIDTH_MAX,
  'attention.value_length_swa': HEAD_WIDTH_MAX,
  'attention.kv_lora_rank': HEAD_WIDTH_MAX,
  feed_forward_length: 16 * WIDTH_MAX,
  'ssm.inner_size': WIDTH_MAX,
  'ssm.state_size': HEAD_WIDTH_MAX,
};

const largest = (reader: MetadataReader, name: string): number =>
  Math.max(0, ...reader.perLayer(name, LAYERS_MAX, 0));

/** Layers of Mamba and RWKV alone have no heads. */
const isRecurrent = (reader: MetadataReader): boolean =>
  ['ssm.state_size', 'wkv.head_size'].some(name => (reader.number(name) ?? 0) > 0);

/** Whether the file and its tensors can be of one model; a sentence where they cannot. */
export function sizeDoubt(tensorBytes: number, fileBytes: number): string | null {
  if (tensorBytes === 0) return null;
  if (fileBytes < tensorBytes * SMALLER_FILE) {
    return `its tensors take ${tensorBytes} bytes, but it has ${fileBytes}: it is cut, or the size is wrong`;
  }
  return fileBytes > tensorBytes * LARGER_FILE
    ? `it has ${fileBytes} bytes, but its tensors take only ${tensorBytes}: some are missing, or the size is wrong`
    : null;
}
