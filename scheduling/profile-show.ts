/**
 * The profile of a model from Ollama's answer to `/api/show`. Best asked with `verbose: true`:
 * otherwise longer lists are blanked to null and the tensors may be missing, and the figures are
 * taken from what is left.
 */
import { CodeGodError } from '../protocol/errors.ts';
import type { ModelProfile } from '../protocol/model-profile.ts';
import { allBytes, type ProfileInput, type ProfileTensor, profileOf } from './profile.ts';

const TENSORS_MAX = 200_000;

/**
 * @param show the parsed answer
 * @param sizeBytes of the model on disk, as `/api/tags` tells it; null where unknown
 * @returns null where neither the size nor the tensors are known
 * @throws `bad_request` where the answer is none of a model
 */
export function profileOfShow(show: unknown, sizeBytes: number): ModelProfile;
export function profileOfShow(show: unknown, sizeBytes: number | null): ModelProfile | null;
export function profileOfShow(show: unknown, sizeBytes: number | null): ModelProfile | null {
  const input = inputOfShow(show, sizeBytes);
  return input === null ? null : profileOf(input);
}

/** What {@link profileOfShow} goes by. */
export function inputOfShow(show: unknown, sizeBytes: number | null): ProfileInput | null {
  const answer = recordOf(show);
  const metadata = recordOf(answer?.['model_info']);
  if (metadata === null || typeof metadata['general.architecture'] !== 'string') {
    throw new CodeGodError(
      'bad_request',
      'this is not an answer of /api/show: model_info with general.architecture is missing',
    );
  }
  const tensors = tensorsOf(answer?.['tensors']);
  if (sizeBytes === null && tensors === null) return null;
  return {
    metadata,
    tensors,
    file_bytes: sizeBytes ?? allBytes(tensors ?? []),
    projector_apart: recordOf(answer?.['projector_info']) !== null,
    draft_tokens: draftTokensOf(answer?.['parameters']),
    source: 'show',
  };
}

/** What the model's own parameters set, as lines of a name and a value; null where they do not. */
function draftTokensOf(parameters: unknown): number | null {
  if (typeof parameters !== 'string') return null;
  const set = /^draft_num_predict[ \t]+(\d{1,4})[ \t]*$/m.exec(parameters)?.[1];
  return set === undefined ? null : Number(set);
}

function recordOf(value: unknown): Readonly<Record<string, unknown>> | null {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Readonly<Record<string, unknown>>)
    : null;
}

/** Null where there is no list, or one that cannot be read to its end. */
function tensorsOf(list: unknown): ProfileTensor[] | null {
  if (!Array.isArray(list) || list.length === 0 || list.length > TENSORS_MAX) return null;
  const tensors: ProfileTensor[] = [];
  for (const item of list) {
    const tensor = recordOf(item);
    const name = tensor?.['name'];
    const type = tensor?.['type'];
    const shape = tensor?.['shape'];
    if (typeof name !== 'string' || typeof type !== 'string' || !Array.isArray(shape)) return null;
    if (!shape.every((size): size is number => Number.isSafeInteger(size) && size >= 0))
      return null;
    if (!Number.isSafeInteger(shape.reduce((all, size) => all * size, 1))) return null;
    tensors.push({ name, type, shape });
  }
  return tensors;
}
