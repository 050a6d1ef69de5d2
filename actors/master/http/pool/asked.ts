/**
 * What a client's request asks for, as far as placing it has to know: model, stream, and roughly how
 * much is read and written. Everything else is the business of the engine that answers.
 *
 * Q1: an estimate errs upwards: a context that is too small costs an error, one that is too large
 *     some memory.
 */
import { CodeGodError } from '../../../../protocol/errors.ts';
import type { Dialect } from '../../../../protocol/inference.ts';
import { nameIn } from '../../../../scheduling/model-names.ts';
import type { Capability } from '../../../../scheduling/placement.ts';

export interface Asked {
  /** As the client wrote it, without blanks around it. */
  readonly model: string;
  readonly stream: boolean;
  /** What a model must be able to do, where the pool may choose it. */
  readonly capability: Capability;
  readonly prompt_tokens: number;
  readonly output_tokens: number;
  readonly context_tokens: number;
}

type Value = Readonly<Record<string, unknown>>;

/** Byte-pair vocabularies of the present models give 3.3 to 4.5 bytes per token (Q1). */
const BYTES_PER_TOKEN = 3;
/** Role marks and the like around each part. */
const TOKENS_PER_PART = 8;
/** Common vision encoders give 256 to 1,600. */
const TOKENS_PER_IMAGE = 1_024;
/** What is expected to be written where nobody says. */
const OUTPUT_TOKENS = 512;
/** Room kept for the answer at most: clients ask for their own maximum out of habit. */
const OUTPUT_ROOM_MAX = 4_096;
const OUTPUT_ROOM = 2_048;
const CONTEXT_TOKENS_MAX = 16_777_216;
const DEPTH_MAX = 32;

const TEXT_FIELDS = ['messages', 'prompt', 'suffix', 'system', 'tools', 'functions', 'template'];

/** @throws CodeGodError `bad_request`, with the parameter in its details */
export function asked(dialect: Dialect, body: Value): Asked {
  const model = requireName(body);
  if (isEmbedding(dialect)) return { ...embeddingSize(body), model, stream: false };
  const count: Count = { bytes: 0, images: 0, parts: 0 };
  for (const field of TEXT_FIELDS) measure(body[field], count, 0);
  if (Array.isArray(body['images'])) count.images += body['images'].length;
  const prompt_tokens = tokensOf(count);
  const limit = outputLimit(body);
  const room = limit === null ? OUTPUT_ROOM : Math.min(limit, OUTPUT_ROOM_MAX);
  return {
    model,
    stream: dialect.startsWith('ollama') ? body['stream'] !== false : body['stream'] === true,
    capability: capabilityOf(body, count),
    prompt_tokens,
    output_tokens: Math.min(limit ?? OUTPUT_TOKENS, OUTPUT_TOKENS),
    context_tokens: bounded(Math.max(prompt_tokens + room, contextAsked(body))),
  };
}

/** @throws CodeGodError `bad_request`, in Ollama's words */
export function requireName(body: Value): string {
  const name = nameIn(body);
  if (name !== null) return name;
  throw wrong('model', 'you must provide a model');
}

/** What `count_tokens` tells: an estimate, without the room for an answer. */
export function promptTokens(body: Value): number {
  const count: Count = { bytes: 0, images: 0, parts: 0 };
  for (const field of TEXT_FIELDS) measure(body[field], count, 0);
  return tokensOf(count);
}

const isEmbedding = (dialect: Dialect): boolean =>
  dialect === 'openai-embedding' || dialect === 'ollama-embed';

const isCount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 1;

/** Tokens that may be written at most; null where the client does not say. */
function outputLimit(body: Value): number | null {
  const options = optionsOf(body);
  for (const limit of [body['max_completion_tokens'], body['max_tokens'], options['num_predict']]) {
    if (isCount(limit)) return limit;
  }
  return null;
}

/** The context that an Ollama client asks for itself. */
function contextAsked(body: Value): number {
  const wanted = optionsOf(body)['num_ctx'];
  return isCount(wanted) ? wanted : 0;
}

function optionsOf(body: Value): Value {
  const options = body['options'];
  return typeof options === 'object' && options !== null ? (options as Value) : {};
}

function capabilityOf(body: Value, count: Count): Capability {
  if (count.images > 0) return 'vision';
  return Array.isArray(body['tools']) && body['tools'].length > 0 ? 'tools' : 'completion';
}

/** Every input is read by itself, so the longest says how much context is needed. */
function embeddingSize(body: Value): Omit<Asked, 'model' | 'stream'> {
  const input = body['input'] ?? body['prompt'];
  const inputs = Array.isArray(input) && typeof input[0] !== 'number' ? input : [input];
  let longest = 0;
  let sum = 0;
  for (const one of inputs) {
    const count: Count = { bytes: 0, images: 0, parts: 1 };
    measure(one, count, 0);
    const tokens = tokensOf(count);
    longest = Math.max(longest, tokens);
    sum += tokens;
  }
  const context_tokens = bounded(Math.max(longest, contextAsked(body), 1));
  return { capability: 'embedding', prompt_tokens: sum, output_tokens: 0, context_tokens };
}

interface Count {
  bytes: number;
  images: number;
  parts: number;
}

const tokensOf = ({ bytes, images, parts }: Count): number =>
  Math.ceil(bytes / BYTES_PER_TOKEN) + images * TOKENS_PER_IMAGE + parts * TOKENS_PER_PART;

const bounded = (tokens: number): number => Math.min(CONTEXT_TOKENS_MAX, tokens);

/** Adds up text, without the pictures in it. What is nested too deep is refused by the engine. */
function measure(value: unknown, count: Count, depth: number): void {
  if (typeof value === 'string') {
    if (value.startsWith('data:')) count.images += 1;
    else count.bytes += Buffer.byteLength(value);
  } else if (typeof value === 'number') {
    // Prompts may come as numbers of tokens.
    count.bytes += BYTES_PER_TOKEN;
  } else if (Array.isArray(value)) {
    if (depth < DEPTH_MAX) for (const item of value) measure(item, count, depth + 1);
  } else if (typeof value === 'object' && value !== null && depth < DEPTH_MAX) {
    measureObject(value as Value, count, depth);
  }
}

function measureObject(value: Value, count: Count, depth: number): void {
  count.parts += 1;
  for (const key in value) {
    const field = value[key];
    if (key === 'images' && Array.isArray(field)) count.images += field.length;
    else if (key === 'image_url' || key === 'input_audio' || isFile(key, field)) count.images += 1;
    else {
      count.bytes += key.length;
      measure(field, count, depth + 1);
    }
  }
}

/** `{"type":"image","source":{"type":"base64","data":…}}` */
const isFile = (key: string, field: unknown): boolean =>
  key === 'source' && typeof field === 'object' && field !== null && 'type' in field;

const wrong = (param: string, message: string): CodeGodError =>
  new CodeGodError('bad_request', message, { details: { param } });
