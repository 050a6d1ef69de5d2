/**
 * Reading a client's request field by field. What is absent or null is undefined; what has the wrong
 * form is refused with the name of the field, which also stands in `details.param`.
 */
import { CodeGodError } from '../../../protocol/errors.ts';

export type Fields = Readonly<Record<string, unknown>>;

export const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export function refusal(param: string, why: string): CodeGodError {
  return new CodeGodError('bad_request', `${param} ${why}`, { details: { param } });
}

export function fieldsOf(value: unknown, param: string): Fields {
  if (isFields(value)) return value;
  throw refusal(param, 'has to be an object');
}

export function listOf(value: unknown, param: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw refusal(param, 'has to be an array');
}

export function textOf(value: unknown, param: string): string {
  if (typeof value === 'string') return value;
  throw refusal(param, 'has to be a string');
}

export function numberField(body: Fields, key: string): number | undefined {
  const value = body[key] ?? undefined;
  if (value === undefined || typeof value === 'number') return value;
  throw refusal(key, 'has to be a number');
}

export function countField(body: Fields, key: string): number | undefined {
  const value = numberField(body, key);
  if (value === undefined || (Number.isInteger(value) && value >= 0)) return value;
  throw refusal(key, 'has to be a whole number');
}

/** A bound on how much is written; anything below nothing says that there is none, and is -1. */
export function limitField(body: Fields, key: string): number | undefined {
  const value = numberField(body, key);
  if (value === undefined || Number.isInteger(value))
    return value === undefined ? value : Math.max(-1, value);
  throw refusal(key, 'has to be a whole number');
}

export function flagField(body: Fields, key: string): boolean | undefined {
  const value = body[key] ?? undefined;
  if (value === undefined || typeof value === 'boolean') return value;
  throw refusal(key, 'has to be true or false');
}

export function textField(body: Fields, key: string): string | undefined {
  const value = body[key] ?? undefined;
  return value === undefined ? undefined : textOf(value, key);
}

/** One of a few words; an empty one counts as absent, as forms send what nobody chose. */
export const wordField = (body: Fields, key: string): string | undefined =>
  textField(body, key) || undefined;

export function listField(body: Fields, key: string): readonly unknown[] | undefined {
  const value = body[key] ?? undefined;
  return value === undefined ? undefined : listOf(value, key);
}

export function fieldsField(body: Fields, key: string): Fields | undefined {
  const value = body[key] ?? undefined;
  return value === undefined ? undefined : fieldsOf(value, key);
}

/** Refuses fields that would change the answer and that no engine here knows. */
export function refuseGiven(body: Fields, reasons: Readonly<Record<string, string>>): void {
  for (const [key, why] of Object.entries(reasons)) {
    const value = body[key] ?? undefined;
    if (value === undefined || value === false || isEmpty(value)) continue;
    throw refusal(key, why);
  }
}

const isEmpty = (value: unknown): boolean =>
  Array.isArray(value) ? value.length === 0 : isFields(value) && Object.keys(value).length === 0;

/** The fields of `names` that are numbers, under the same or their native name. */
export function numbersOf(body: Fields, names: Readonly<Record<string, string>>): Fields {
  const found: Record<string, number> = {};
  for (const [key, native] of Object.entries(names)) {
    const value = numberField(body, key);
    if (value !== undefined) found[native] = value;
  }
  return found;
}
