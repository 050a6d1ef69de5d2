/**
 * tests/bodies.py of a FastAPI service: a right body for every kind of record.
 */

import type { Entity, Field, ServiceSpec } from '../../request/spec.ts';
import { collectionPath } from '../openapi.ts';
import { rightValues } from '../samples.ts';
import { py } from './source.ts';

/** `todo_body`, the function that makes a right body. */
export function bodyFunction(entity: Entity): string {
  return `${entity.name}_body`;
}

/** tests/bodies.py */
export function bodiesFile(spec: ServiceSpec): string {
  const functions = spec.entities.map(entity => bodySource(spec, entity)).join('\n\n');
  return `"""A right body for every kind of record. What it refers to is created on the way."""

from typing import Any

from fastapi.testclient import TestClient


def create(client: TestClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


${functions}`;
}

function bodySource(spec: ServiceSpec, entity: Entity): string {
  const required = requiredReferences(entity);
  const own = entity.fields
    .filter(field => field.type !== 'reference')
    .map(field => `${py(field.name)}: ${py(rightValues(field)[0])}`);
  const references = required.map(field => {
    const target = spec.entities.find(other => other.name === field.target);
    return target === undefined ? '' : `${py(field.name)}: ${createCall(target)}["id"]`;
  });
  const lines = [...own, ...references].map(entry => `        ${entry},\n`).join('');
  const parameters = required.length > 0 ? 'client: TestClient' : '';
  return `def ${bodyFunction(entity)}(${parameters}) -> dict[str, Any]:
    return {
${lines}    }
`;
}

function requiredReferences(entity: Entity): Field[] {
  return entity.fields.filter(field => field.type === 'reference' && field.required);
}

export function bodyCall(entity: Entity): string {
  return `${bodyFunction(entity)}(${requiredReferences(entity).length > 0 ? 'client' : ''})`;
}

function createCall(entity: Entity): string {
  return `create(client, "${collectionPath(entity)}", ${bodyCall(entity)})`;
}
