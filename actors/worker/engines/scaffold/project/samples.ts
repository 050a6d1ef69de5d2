/**
 * Values for a field: two that are right and differ (the first sorts before the second), and wrong
 * ones with the reason. Tests, README and contract of a generated project all draw from here, so
 * they always agree.
 */

import type { Entity, Field, ServiceSpec } from '../request/spec.ts';
import { spaced } from '../request/words.ts';

export type Json = string | number | boolean | null | readonly string[];

/** @returns two right values that differ; a reference has none of its own. */
export function rightValues(field: Field): readonly [Json, Json] {
  const label = spaced(field.name);
  switch (field.type) {
    case 'string':
      return [`First ${label}`, `Second ${label}`];
    case 'text':
      return [`Some words about the ${label}.`, `Other words about the ${label}.`];
    case 'integer':
      return rightIntegers(field);
    case 'number':
      return field.maximum === null ? [2.5, 7.25] : [field.minimum ?? 0, field.maximum];
    case 'boolean':
      return [false, true];
    case 'date':
      return ['2030-01-31', '2030-02-28'];
    case 'datetime':
      return ['2030-01-31T09:30:00Z', '2030-02-28T18:00:00Z'];
    case 'email':
      return ['ada@example.com', 'grace@example.com'];
    case 'url':
      return ['https://example.com/a', 'https://example.com/b'];
    case 'enum':
      return [field.values[0] ?? '', field.values[1] ?? ''];
    case 'list':
      return [['first', 'second'], ['third']];
    case 'reference':
      return [1, 2];
  }
}

function rightIntegers(field: Field): readonly [number, number] {
  if (field.minimum !== null && field.maximum !== null) return [field.minimum, field.maximum];
  return field.name.endsWith('year') ? [1999, 2024] : [3, 12];
}

/** @returns wrong values; each breaks exactly one rule of the field. */
export function wrongValues(field: Field): readonly Json[] {
  const below = field.minimum === null ? [] : [field.minimum - 1];
  const above = field.maximum === null ? [] : [field.maximum + 1];
  switch (field.type) {
    case 'string':
      return [7, ''];
    case 'text':
      return [7];
    case 'integer':
      return ['three', 1.5, ...below, ...above];
    case 'number':
      return ['heavy', ...below, ...above];
    case 'boolean':
      return ['yes'];
    case 'date':
      return ['2030-02-30', 'tomorrow'];
    case 'datetime':
      return ['2030-01-31', 'noon'];
    case 'email':
      return ['nobody'];
    case 'url':
      return ['example'];
    case 'enum':
      return ['something else'];
    case 'list':
      return ['first'];
    case 'reference':
      return ['one', 0];
  }
}

/** A right body without references: what README and contract show. */
export function exampleBody(entity: Entity): Record<string, Json> {
  return Object.fromEntries(entity.fields.map(field => [field.name, rightValues(field)[0]]));
}

/** The first field whose values can be told apart in a query string and put in order. */
export function sortableField(entity: Entity): Field | null {
  const types = ['string', 'integer', 'number', 'date', 'datetime', 'email', 'url'];
  return (
    entity.fields.find(field => types.includes(field.type) && !isQueryWord(field.name)) ?? null
  );
}

/** Names a list query already uses for itself; fields of that name cannot be filtered by. */
export function isQueryWord(name: string): boolean {
  return ['limit', 'offset', 'sort'].includes(name);
}

/** No field has such a name: names never hold two underscores in a row. */
export const UNKNOWN_FIELD = 'no__field';

/** A field that can be changed to its second right value; every entity has one. */
export function changeableField(entity: Entity): Field {
  const field = entity.fields.find(other => other.type !== 'reference') ?? entity.fields[0];
  if (field === undefined) throw new Error(`the entity ${entity.name} has no field`);
  return field;
}

/** @returns who refers to the entity, and by which field. */
export function holdersOf(spec: ServiceSpec, entity: Entity): (readonly [Entity, Field])[] {
  return spec.entities.flatMap(holder =>
    holder.fields
      .filter(field => field.type === 'reference' && field.target === entity.name)
      .map(field => [holder, field] as const),
  );
}
