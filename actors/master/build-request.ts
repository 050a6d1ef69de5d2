/**
 * What arrives on `codegod.build`, understood: JSON, msgpack or a bare prompt. Pure.
 *
 * Q1: hostile bytes give an error with a reason, never a build.
 * Q2: configuration enters a build here, as defaults of its request, so that its state follows from
 *     its facts alone.
 */
import { BuildRequest } from '../../protocol/build.ts';
import { decode, decodeText, MSGPACK_TYPE } from '../../protocol/codec.ts';
import { acceptVersion, HEADER, type Headers } from '../../protocol/envelope.ts';
import { CodeGodError } from '../../protocol/errors.ts';

const EXCERPT_LENGTH = 200;
/** A name comes from the first words. */
const HINT_READ_LENGTH = 4_096;
const NAME_WORDS_MAX = 5;
const NAME_LENGTH_MAX = 50;
/** Words that open a prompt and say nothing about the project. */
const FILLERS = new Set(
  'a an the create build make write generate implement please me with and for of to i want need that'.split(
    ' ',
  ),
);

export interface RequestDefaults {
  readonly max_parallel_tasks: number;
  readonly fallback: 'deny' | 'allow';
  readonly prefer_local: boolean;
}

/**
 * The request in a message.
 * @throws CodeGodError `bad_message`, `unsupported_version`
 */
export function readBuildRequest(
  body: Uint8Array,
  headers: Headers,
  defaults: RequestDefaults,
): BuildRequest {
  acceptVersion(headers);
  const result = BuildRequest.safeParse(decoded(body, headers[HEADER.contentType]));
  if (!result.success) throw wrongFields(result.error.issues);
  return { ...defaults, ...result.data };
}

function wrongFields(
  issues: readonly { readonly path: PropertyKey[]; readonly message: string }[],
): CodeGodError {
  const sentences = issues
    .slice(0, 8)
    .map(({ path, message }) => `${path.map(String).join('.') || 'the message'}: ${message}`);
  return new CodeGodError('bad_message', `a request to build is wrong: ${sentences.join('; ')}`);
}

function decoded(body: Uint8Array, type: string | undefined): unknown {
  if (body.length === 0) throw new CodeGodError('bad_message', 'the message is empty');
  if (type !== undefined && /msgpack/i.test(type)) return decode(body, type);
  const text = decodeText(body);
  // msgpack says nothing about itself and is hardly ever valid UTF-8.
  if (text === null) return unmarked(body);
  const trimmed = text.trim();
  if (trimmed.startsWith('{')) return decode(body, undefined);
  if (trimmed.startsWith('"')) return { prompt: decode(body, undefined) };
  if (hasControlCharacter(trimmed)) {
    throw new CodeGodError('bad_message', 'neither JSON nor text: it holds control characters');
  }
  return { prompt: trimmed };
}

/** Bytes that are no text: msgpack, or nothing that is understood. */
function unmarked(body: Uint8Array): unknown {
  try {
    const value = decode(body, MSGPACK_TYPE);
    if (typeof value === 'object' && value !== null) return value;
  } catch (error) {
    if (!(error instanceof CodeGodError)) throw error;
  }
  throw new CodeGodError('bad_message', 'neither JSON nor msgpack nor text');
}

function hasControlCharacter(text: string): boolean {
  for (const character of text) {
    const code = character.charCodeAt(0);
    if (code === 0x7f || (code < 0x20 && !'\t\n\r'.includes(character))) return true;
  }
  return false;
}

/** The beginning of a message, printable, for people who ask what was rejected. */
export function excerptOf(body: Uint8Array): string {
  const text = new TextDecoder().decode(body.subarray(0, EXCERPT_LENGTH));
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
  return text.replace(/[\u0000-\u001f\u007f]/g, '·').slice(0, EXCERPT_LENGTH);
}

/** A name for the project from the prompt: `todo-list-api`-like, or null where no word is left. */
export function nameHint(prompt: string): string | null {
  const words = prompt
    .slice(0, HINT_READ_LENGTH)
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, ' ')
    .trim()
    .split(' ')
    .filter(word => word !== '' && !FILLERS.has(word));
  const name = words.slice(0, NAME_WORDS_MAX).join('-').slice(0, NAME_LENGTH_MAX);
  return name.replace(/^-+|-+$/g, '') || null;
}
