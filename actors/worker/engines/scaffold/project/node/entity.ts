/**
 * The file that defines one entity of a Node service, and the list of all of them.
 */

import type { Entity, ServiceSpec } from '../../request/spec.ts';
import { camel, spaced, withArticle } from '../../request/words.ts';
import { collectionPath } from '../openapi.ts';
import { fieldEntry, rulesOf } from './rules.ts';
import { importNames, js } from './source.ts';

/** `order_item` → `orderItemEntity`; the suffix keeps every noun clear of reserved words. */
export function entityConstant(entity: Entity): string {
  return `${camel(entity.name)}Entity`;
}

/** src/entities/<name>.js */
export function entityFile(spec: ServiceSpec, entity: Entity): string {
  const collectionOf = (name: string): string =>
    spec.entities.find(other => other.name === name)?.plural ?? name;
  const fields = entity.fields.map(field => `    ${fieldEntry(field, collectionOf)},\n`).join('');
  return `/**
 * What ${withArticle(entity.name)} holds.
 */

${importNames(rulesOf(entity), '../rules.js')}

export const ${entityConstant(entity)} = {
  label: ${js(spaced(entity.name))},
  collection: ${js(entity.plural)},
  path: ${js(collectionPath(entity))},
  fields: {
${fields}  },
};
`;
}

/** The module an import names, to sort imports by. */
function fromOf(statement: string): string {
  return statement.slice(statement.indexOf(" from '"));
}

/** src/entities.js */
export function entitiesFile(spec: ServiceSpec): string {
  const imports = spec.entities
    .map(entity => importNames([entityConstant(entity)], `./entities/${entity.name}.js`))
    .sort((a, b) => (fromOf(a) < fromOf(b) ? -1 : 1))
    .join('\n');
  const names = spec.entities.map(entityConstant);
  const line = `export const entities = [${names.join(', ')}];`;
  const list =
    line.length <= 100
      ? line
      : `export const entities = [\n${names.map(name => `  ${name},\n`).join('')}];`;
  return `/**
 * Every kind of record the service keeps.
 */

${imports}

${list}
`;
}
