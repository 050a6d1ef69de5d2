/**
 * support/bodies.js of a Node service: a right body for every kind of record.
 */

import type { Entity, Field, ServiceSpec } from '../../request/spec.ts';
import { camel } from '../../request/words.ts';
import { collectionPath } from '../openapi.ts';
import { rightValues } from '../samples.ts';
import { js } from './source.ts';

/** `todoBody`, the function that makes a right body. */
export function bodyFunction(entity: Entity): string {
  return `${camel(entity.name)}Body`;
}

/** support/bodies.js */
export function bodiesFile(spec: ServiceSpec): string {
  const functions = spec.entities.map(entity => bodySource(spec, entity)).join('\n');
  return `/**
 * A right body for every kind of record. Records that a body must refer to are created on the way.
 */

${functions}`;
}

function bodySource(spec: ServiceSpec, entity: Entity): string {
  const required = requiredReferences(entity);
  const own = entity.fields
    .filter(field => field.type !== 'reference')
    .map(field => `${field.name}: ${js(rightValues(field)[0])}`);
  const references = required.map(
    field => `${field.name}: (await ${createCall(spec, field.target ?? '')}).id`,
  );
  const entries = [...own, ...references];
  const lines = entries.map(entry => `    ${entry},\n`).join('');
  const head = required.length > 0 ? 'export async function' : 'export function';
  const parameters = required.length > 0 ? 'service' : '';
  return `${head} ${bodyFunction(entity)}(${parameters}) {
  return {
${lines}  };
}
`;
}

function requiredReferences(entity: Entity): Field[] {
  return entity.fields.filter(field => field.type === 'reference' && field.required);
}

function createCall(spec: ServiceSpec, name: string): string {
  const entity = spec.entities.find(other => other.name === name);
  if (entity === undefined) return '';
  return `service.create('${collectionPath(entity)}', ${bodyCall(entity)})`;
}

/** `todoBody()`, or `await loanBody(service)` when other records have to exist first. */
export function bodyCall(entity: Entity): string {
  return requiredReferences(entity).length > 0
    ? `await ${bodyFunction(entity)}(service)`
    : `${bodyFunction(entity)}()`;
}
