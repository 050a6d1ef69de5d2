/**
 * The profile of the model to be estimated: from an answer of `/api/show`, from the header of a GGUF
 * file, or asked of Ollama by the model's name. Of a GGUF file only the header is read.
 */
import { type FileHandle, open, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { ModelProfile } from '../protocol/model-profile.ts';
import {
  type ByteSource,
  type GgufHeader,
  HEADER_BYTES_MAX,
  inputOfGguf,
  readGgufHeader,
} from '../scheduling/gguf.ts';
import { profileOfSize } from '../scheduling/memory.ts';
import { sizeOfName } from '../scheduling/name-size.ts';
import { allBytes, type ProfileInput, profileOf } from '../scheduling/profile.ts';
import { shapeDoubt, sizeDoubt } from '../scheduling/profile-doubts.ts';
import { inputOfShow } from '../scheduling/profile-show.ts';
import { CliError } from './exit-code.ts';

export interface EstimateSource {
  readonly model?: string | undefined;
  readonly show?: string | undefined;
  readonly gguf?: string | undefined;
}

export interface EstimatedModel {
  readonly name: string;
  readonly profile: ModelProfile;
  /** Of the Ollama that was asked; null where none was. */
  readonly engine_version: string | null;
  /** What is doubtful about it, as sentences. */
  readonly doubts: readonly string[];
}

const SHOW_BYTES_MAX = 64 * 2 ** 20;
const SHARDS_MAX = 1_000;
const HTTP_TIMEOUT_MS = 10_000;

export async function readModel(
  source: EstimateSource,
  ollamaHost: () => Promise<string>,
): Promise<EstimatedModel> {
  const given = Object.values(source).filter(value => value !== undefined);
  if (given.length !== 1) {
    throw new CliError(
      'usage',
      'give one of MODEL, --show FILE and --gguf FILE',
      '`codegod estimate --help`',
    );
  }
  if (source.show !== undefined) return ofShow(source.show);
  const named = source.gguf ?? source.model ?? '';
  if (source.gguf !== undefined || named.endsWith('.gguf') || (await isFile(named))) {
    return ofGguf(named);
  }
  try {
    return await ofOllama(named, await ollamaHost());
  } catch (error) {
    const isAbsent = error instanceof CliError && ABSENT.has(error.code);
    const guess = isAbsent ? ofName(named, error.message) : null;
    if (guess === null) throw error;
    return guess;
  }
}

const ABSENT: ReadonlySet<string> = new Set(['not_found', 'engine_unavailable']);

/** Of a model that nobody has downloaded yet; null where its name does not tell its size. */
function ofName(name: string, why: string): EstimatedModel | null {
  const size_bytes = sizeOfName(name);
  if (size_bytes === null) return null;
  return {
    name,
    profile: profileOfSize({ size_bytes, context_max: 0, family: 'unknown' }),
    engine_version: null,
    doubts: [`an upper guess from its name alone: ${why}`],
  };
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile();
  } catch {
    return false; // Then it is the name of a model.
  }
}

async function ofShow(file: string): Promise<EstimatedModel> {
  const text = await textOf(file);
  let show: unknown;
  try {
    show = JSON.parse(text);
  } catch (error) {
    throw new CliError('usage', `--show: ${shown(file)} is not JSON: ${(error as Error).message}`);
  }
  const { size, model, name } = (show ?? {}) as Readonly<Record<string, unknown>>;
  if (size !== undefined && !(Number.isSafeInteger(size) && Number(size) > 0)) {
    throw new CliError('usage', '--show: `size` is no number of bytes', SIZE_HINT);
  }
  const input = inputOfShow(show, size === undefined ? null : Number(size));
  if (input === null) {
    throw new CliError('usage', '--show: neither `size` nor `tensors` is in the answer', SIZE_HINT);
  }
  const called = [model, name].find(value => typeof value === 'string');
  return {
    name: called ?? (file === '-' ? 'stdin' : basename(file)),
    engine_version: null,
    ...profiled(input),
  };
}

/** The profile, and why it may be wrong. */
function profiled(input: ProfileInput): Pick<EstimatedModel, 'profile' | 'doubts'> {
  const shape = shapeDoubt(input);
  const size = sizeDoubt(allBytes(input.tensors ?? []), input.file_bytes);
  const guess = shape === null ? [] : [`an upper guess from its size alone: ${shape}`];
  return { profile: profileOf(input), doubts: [...guess, ...(size === null ? [] : [size])] };
}

const SIZE_HINT = 'add the `size` of the model from /api/tags at the top, in bytes';

async function textOf(file: string): Promise<string> {
  if (file === '-') {
    const bytes = await readStdin(SHOW_BYTES_MAX + 1);
    if (bytes.length <= SHOW_BYTES_MAX) return decoded(bytes);
    throw new CliError('too_large', `stdin is longer than ${SHOW_BYTES_MAX} bytes`);
  }
  const { size } = await statOf(file);
  if (size > SHOW_BYTES_MAX)
    throw new CliError('too_large', `${file} is longer than ${SHOW_BYTES_MAX} bytes`);
  return decoded(await readFile(file));
}

/** UTF-8 or UTF-16, as its byte order mark says: some shells write redirected output as UTF-16. */
function decoded(bytes: Uint8Array): string {
  const [first, second] = bytes;
  const isLittle = first === 0xff && second === 0xfe;
  const isBig = first === 0xfe && second === 0xff;
  return new TextDecoder(isLittle ? 'utf-16le' : isBig ? 'utf-16be' : 'utf-8').decode(bytes);
}

/** The first bytes of stdin, no more than asked for. */
async function readStdin(max: number): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of process.stdin) {
    chunks.push(chunk);
    length += chunk.length;
    if (length >= max) break;
  }
  return Buffer.concat(chunks).subarray(0, max);
}

async function statOf(file: string): Promise<{ readonly size: number }> {
  try {
    const found = await stat(file);
    if (found.isFile()) return found;
  } catch (error) {
    throw new CliError('usage', `${file} cannot be read: ${(error as Error).message}`);
  }
  throw new CliError('usage', `${file} is no file`);
}

/** One file, or the shards of one: `NAME-00001-of-00003.gguf`. */
async function ofGguf(file: string): Promise<EstimatedModel> {
  if (file === '-') {
    const bytes = await readStdin(HEADER_BYTES_MAX);
    const header = await readGgufHeader({
      size_bytes: bytes.length,
      read: async (offset, length) => bytes.subarray(offset, offset + length),
    });
    return { name: 'stdin', engine_version: null, ...profiled(inputOfGguf([header], null)) };
  }
  const shard = /^(.+)-\d{5}-of-(\d{5})\.gguf$/.exec(basename(file));
  const count = Number(shard?.[2] ?? 1);
  if (count > SHARDS_MAX) {
    throw new CliError(
      'usage',
      `${file} calls itself one of ${count} parts; at most ${SHARDS_MAX}`,
    );
  }
  const digits = (value: number): string => String(value).padStart(5, '0');
  const files =
    shard === null
      ? [file]
      : Array.from({ length: count }, (_, index) =>
          join(dirname(file), `${shard[1]}-${digits(index + 1)}-of-${digits(count)}.gguf`),
        );
  const headers: GgufHeader[] = [];
  let bytes = 0;
  await statOf(file);
  for (const path of files) {
    if (!(await isFile(path))) {
      throw new CliError(
        'usage',
        `${file} is one of ${count} parts; ${basename(path)} is not beside it`,
      );
    }
    bytes += (await statOf(path)).size;
    headers.push(await headerOf(path));
  }
  const name = shard?.[1] ?? basename(file, '.gguf');
  return { name, engine_version: null, ...profiled(inputOfGguf(headers, bytes)) };
}

async function headerOf(path: string): ReturnType<typeof readGgufHeader> {
  const handle = await open(path, 'r');
  try {
    return await readGgufHeader(sourceOf(handle, (await handle.stat()).size));
  } finally {
    await handle.close();
  }
}

function sourceOf(handle: FileHandle, size: number): ByteSource {
  return {
    size_bytes: size,
    async read(offset, length) {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, offset);
      return buffer.subarray(0, bytesRead);
    },
  };
}

async function ofOllama(model: string, host: string): Promise<EstimatedModel> {
  const tags = await ask<{ models?: readonly { name: string; size: number }[] }>(host, '/api/tags');
  const wanted = model.includes(':') ? model : `${model}:latest`;
  const found = tags.models?.find(({ name }) => name === wanted || name === model);
  if (found === undefined) {
    const names = tags.models?.map(({ name }) => name).slice(0, 8) ?? [];
    throw new CliError(
      'not_found',
      `Ollama at ${host} has no model ${model}`,
      names.length > 0 ? `it has ${names.join(', ')}` : `ollama pull ${model}`,
    );
  }
  const [show, version] = await Promise.all([
    ask<unknown>(host, '/api/show', { model: found.name, verbose: true }),
    ask<{ version?: string }>(host, '/api/version'),
  ]);
  const input = inputOfShow(show, found.size);
  if (input === null) throw new CliError('internal', `Ollama tells no size of ${found.name}`);
  return { name: found.name, engine_version: version.version ?? null, ...profiled(input) };
}

async function ask<T>(host: string, path: string, body?: unknown): Promise<T> {
  const signal = AbortSignal.timeout(HTTP_TIMEOUT_MS);
  const post = { method: 'POST', body: JSON.stringify(body) };
  let response: Response;
  try {
    response = await fetch(`${host}${path}`, { signal, ...(body === undefined ? {} : post) });
  } catch (error) {
    throw new CliError(
      'engine_unavailable',
      `no Ollama answers at ${host}: ${(error as Error).message}`,
      'start it, or give --gguf FILE or --show FILE',
    );
  }
  if (!response.ok)
    throw new CliError('engine_unavailable', `${host}${path}: HTTP ${response.status}`);
  return (await response.json()) as T;
}

const shown = (file: string): string => (file === '-' ? 'stdin' : file);
