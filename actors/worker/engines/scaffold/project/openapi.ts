/**
 * The OpenAPI 3.1 contract of a service. Both stacks commit and serve the same document.
 */

import type { Entity, Field, ServiceSpec } from '../request/spec.ts';
import { kebab, pascal, spaced, withArticle } from '../request/words.ts';
import { exampleBody, isQueryWord } from './samples.ts';

type Schema = Record<string, unknown>;

const URL_PATTERN = '^https?://\\S+$';
export const STRING_CHARS_MAX = 200;
export const TEXT_CHARS_MAX = 10_000;
export const LIST_ITEMS_MAX = 100;

/** The path of an entity's collection: `/order-items`. */
export function collectionPath(entity: Entity): string {
  return `/${kebab(entity.plural)}`;
}

/** @returns the contract as a JSON value. */
export function openApi(spec: ServiceSpec): Schema {
  const paths = Object.assign({}, ...spec.entities.map(pathsOf));
  const schemas = Object.assign({}, ...spec.entities.map(schemasOf));
  return {
    openapi: '3.1.0',
    info: { title: spec.title, version: '1.0.0' },
    paths: { '/health': { get: healthOperation() }, ...paths },
    components: {
      parameters: { Id: idParameter(), Limit: limitParameter(), Offset: offsetParameter() },
      responses: errorResponses(),
      schemas: { ...schemas, Error: errorSchema() },
    },
  };
}

function healthOperation(): Schema {
  const schema = { type: 'object', properties: { status: { const: 'ok' } }, required: ['status'] };
  return {
    operationId: 'health',
    summary: 'Tell whether the service is up',
    responses: { 200: { description: 'The service is up', ...json(schema) } },
  };
}

const json = (schema: Schema): Schema => ({ content: { 'application/json': { schema } } });
const ref = (kind: string, name: string): Schema => ({ $ref: `#/components/${kind}/${name}` });

function pathsOf(entity: Entity): Schema {
  const one = spaced(entity.name);
  const many = spaced(entity.plural);
  const type = pascal(entity.name);
  const group = { tags: [many] };
  const answer = (description: string, schema = type): Schema => ({
    description,
    ...json(ref('schemas', schema)),
  });
  const failures = (...codes: number[]): Schema =>
    Object.fromEntries(codes.map(code => [code, ref('responses', `Error${code}`)]));
  const body = { required: true, ...json(ref('schemas', `${type}Input`)) };
  const changes = { required: true, ...json(ref('schemas', `${type}Changes`)) };
  const path = collectionPath(entity);
  return {
    [path]: {
      get: {
        ...group,
        operationId: `list_${entity.plural}`,
        summary: `List ${many}`,
        parameters: listParameters(entity),
        responses: { 200: answer(`A page of ${many}`, `${type}Page`), ...failures(422) },
      },
      post: {
        ...group,
        operationId: `create_${entity.name}`,
        summary: `Create ${withArticle(entity.name)}`,
        requestBody: body,
        responses: { 201: answer(`The new ${one}`), ...failures(400, 413, 415, 422) },
      },
    },
    [`${path}/{id}`]: {
      parameters: [ref('parameters', 'Id')],
      get: {
        ...group,
        operationId: `read_${entity.name}`,
        summary: `Read one ${one}`,
        responses: { 200: answer(`The ${one}`), ...failures(404) },
      },
      put: {
        ...group,
        operationId: `replace_${entity.name}`,
        summary: `Replace ${withArticle(entity.name)}`,
        requestBody: body,
        responses: { 200: answer(`The ${one}`), ...failures(400, 404, 413, 415, 422) },
      },
      patch: {
        ...group,
        operationId: `change_${entity.name}`,
        summary: `Change some fields of ${withArticle(entity.name)}`,
        requestBody: changes,
        responses: { 200: answer(`The ${one}`), ...failures(400, 404, 413, 415, 422) },
      },
      delete: {
        ...group,
        operationId: `delete_${entity.name}`,
        summary: `Delete ${withArticle(entity.name)}`,
        responses: { 204: { description: 'Deleted' }, ...failures(404, 409) },
      },
    },
  };
}

function schemasOf(entity: Entity): Schema {
  const type = pascal(entity.name);
  const properties = Object.fromEntries(
    entity.fields.map(field => [field.name, fieldSchema(field)]),
  );
  const needed = entity.fields.filter(field => field.required).map(field => field.name);
  const closed = { type: 'object', properties, additionalProperties: false };
  const id = { type: 'integer', minimum: 1, readOnly: true };
  return {
    [type]: {
      type: 'object',
      properties: { id, ...properties },
      required: ['id', ...entity.fields.map(field => field.name)],
    },
    [`${type}Input`]: {
      ...closed,
      ...(needed.length > 0 ? { required: needed } : {}),
      examples: [exampleBody(entity)],
    },
    [`${type}Changes`]: { ...closed, minProperties: 1 },
    [`${type}Page`]: {
      type: 'object',
      properties: {
        items: { type: 'array', items: ref('schemas', type) },
        total: { type: 'integer', minimum: 0 },
        limit: { type: 'integer' },
        offset: { type: 'integer' },
      },
      required: ['items', 'total', 'limit', 'offset'],
    },
  };
}

function fieldSchema(field: Field): Schema {
  const schema = valueSchema(field);
  if (field.required) return schema;
  if (field.type === 'boolean') return { ...schema, default: false };
  if (field.type === 'list') return { ...schema, default: [] };
  if (field.type === 'enum') return { enum: [...field.values, null], default: null };
  return { ...schema, type: [schema['type'], 'null'], default: null };
}

function valueSchema(field: Field): Schema {
  const bounds = {
    ...(field.minimum === null ? {} : { minimum: field.minimum }),
    ...(field.maximum === null ? {} : { maximum: field.maximum }),
  };
  switch (field.type) {
    case 'string':
      return { type: 'string', minLength: 1, maxLength: STRING_CHARS_MAX };
    case 'text':
      return { type: 'string', maxLength: TEXT_CHARS_MAX };
    case 'integer':
      return { type: 'integer', ...bounds };
    case 'number':
      return { type: 'number', ...bounds };
    case 'boolean':
      return { type: 'boolean' };
    case 'date':
      return { type: 'string', format: 'date' };
    case 'datetime':
      return { type: 'string', format: 'date-time' };
    case 'email':
      return { type: 'string', format: 'email', maxLength: STRING_CHARS_MAX };
    case 'url':
      return { type: 'string', format: 'uri', pattern: URL_PATTERN };
    case 'enum':
      return { enum: [...field.values] };
    case 'list':
      return {
        type: 'array',
        items: { type: 'string', minLength: 1, maxLength: STRING_CHARS_MAX },
        maxItems: LIST_ITEMS_MAX,
      };
    case 'reference':
      return {
        type: 'integer',
        minimum: 1,
        description: `The id of ${withArticle(field.target ?? '')}`,
      };
  }
}

function listParameters(entity: Entity): Schema[] {
  const filters = entity.fields
    .filter(field => field.type !== 'list' && !isQueryWord(field.name))
    .map(field => ({
      name: field.name,
      in: 'query',
      description: `Only ${spaced(entity.plural)} with this ${spaced(field.name)}`,
      schema: valueSchema(field),
    }));
  const names = [
    'id',
    ...entity.fields.filter(field => field.type !== 'list').map(field => field.name),
  ];
  const sort = {
    name: 'sort',
    in: 'query',
    description: 'A field to sort by; a leading minus turns the order round',
    schema: { enum: names.flatMap(name => [name, `-${name}`]) },
  };
  return [ref('parameters', 'Limit'), ref('parameters', 'Offset'), sort, ...filters];
}

function idParameter(): Schema {
  return { name: 'id', in: 'path', required: true, schema: { type: 'integer', minimum: 1 } };
}

function limitParameter(): Schema {
  const schema = { type: 'integer', minimum: 1, maximum: 100, default: 20 };
  return { name: 'limit', in: 'query', description: 'How many records at most', schema };
}

function offsetParameter(): Schema {
  const schema = { type: 'integer', minimum: 0, default: 0 };
  return { name: 'offset', in: 'query', description: 'How many records to skip', schema };
}

function errorResponses(): Schema {
  const meanings: readonly (readonly [number, string])[] = [
    [400, 'The body is not JSON'],
    [404, 'There is no such record'],
    [409, 'Another record refers to this one'],
    [413, 'The body is too large'],
    [415, 'The body is not declared as JSON'],
    [422, 'A value breaks a rule'],
  ];
  return Object.fromEntries(
    meanings.map(([code, description]) => [
      `Error${code}`,
      { description, ...json(ref('schemas', 'Error')) },
    ]),
  );
}

function errorSchema(): Schema {
  const text = { type: 'string' };
  const detail = {
    type: 'object',
    properties: { field: text, message: text },
    required: ['field', 'message'],
  };
  return {
    type: 'object',
    properties: {
      error: {
        type: 'object',
        properties: { code: text, message: text, details: { type: 'array', items: detail } },
        required: ['code', 'message', 'details'],
      },
    },
    required: ['error'],
  };
}
