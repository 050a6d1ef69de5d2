/**
 * test/entities/<name>.test.js of a Node service: everything a client can do with one kind of
 * record.
 */

import type { Entity, Field, ServiceSpec } from '../../request/spec.ts';
import { spaced, withArticle } from '../../request/words.ts';
import { collectionPath } from '../openapi.ts';
import {
  changeableField,
  holdersOf,
  rightValues,
  sortableField,
  UNKNOWN_FIELD,
  wrongValues,
} from '../samples.ts';
import { bodyCall, bodyFunction } from './bodies.ts';
import { importNames, js } from './source.ts';

/** test/entities/<name>.test.js */
export function entityTestFile(spec: ServiceSpec, entity: Entity): string {
  const holders = holdersOf(spec, entity);
  const names = capital(spaced(entity.plural));
  const cases = [
    crudTests(entity),
    pageTests(),
    sortTest(entity),
    fieldTests(entity),
    ...entity.fields.filter(field => field.type === 'reference').map(referenceTest),
    ...holders.map(([holder, field]) => holderTest(holder, field)),
  ].filter(part => part !== '');
  const bodies = [entity, ...holders.map(([holder]) => holder)].map(bodyFunction);
  return `/**
 * ${names}: everything a client can do with them, and every way to get it wrong.
 */

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
${importNames(bodies, '../../support/bodies.js')}
import { startService } from '../../support/service.js';

const PATH = ${js(collectionPath(entity))};

const valuesOf = (answer, name) => answer.body.items.map(item => item[name]);

describe(${js(spaced(entity.plural))}, () => {
  let service;
  let body;

  beforeEach(async () => {
    service = await startService();
    body = ${bodyCall(entity)};
  });

  afterEach(() => service.close());

${cases.join('\n')}});
`;
}

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

function crudTests(entity: Entity): string {
  const one = withArticle(entity.name);
  const field = changeableField(entity);
  const next = js(rightValues(field)[1]);
  return `  it('creates ${one} and gives it back', async () => {
    const created = await service.call('POST', PATH, body);
    assert.equal(created.status, 201);
    const { id } = created.body;
    assert.deepEqual(created.body, { ...created.body, ...body });
    assert.equal(created.headers.get('location'), \`\${PATH}/\${id}\`);
    const read = await service.call('GET', \`\${PATH}/\${id}\`);
    assert.deepEqual([read.status, read.body], [200, created.body]);
  });

  it('replaces ${one}', async () => {
    const { id } = await service.create(PATH, body);
    const changes = { ${field.name}: ${next} };
    const replaced = await service.call('PUT', \`\${PATH}/\${id}\`, { ...body, ...changes });
    assert.equal(replaced.status, 200);
    assert.deepEqual(replaced.body, { ...replaced.body, ...changes });
  });

  it('changes one field and keeps the others', async () => {
    const before = await service.create(PATH, body);
    const changes = { ${field.name}: ${next} };
    const changed = await service.call('PATCH', \`\${PATH}/\${before.id}\`, changes);
    assert.equal(changed.status, 200);
    assert.deepEqual(changed.body, { ...before, ...changes });
  });

  it('deletes ${one}', async () => {
    const { id } = await service.create(PATH, body);
    assert.equal((await service.call('DELETE', \`\${PATH}/\${id}\`)).status, 204);
    assert.equal((await service.call('GET', \`\${PATH}/\${id}\`)).status, 404);
  });

  it('answers 404 for ${one} that does not exist', async () => {
    for (const method of ['GET', 'PUT', 'PATCH', 'DELETE']) {
      const sent = method === 'PUT' || method === 'PATCH' ? body : undefined;
      const answer = await service.call(method, \`\${PATH}/999\`, sent);
      assert.deepEqual([answer.status, answer.body.error.code], [404, 'not_found'], method);
    }
  });
`;
}

function pageTests(): string {
  return `  it('lists page by page', async () => {
    for (let count = 0; count < 3; count++) await service.create(PATH, body);
    const first = await service.call('GET', \`\${PATH}?limit=2\`);
    assert.equal(first.status, 200);
    assert.deepEqual(valuesOf(first, 'id'), [1, 2]);
    assert.deepEqual([first.body.total, first.body.limit, first.body.offset], [3, 2, 0]);
    const second = await service.call('GET', \`\${PATH}?limit=2&offset=2&sort=id\`);
    assert.deepEqual(valuesOf(second, 'id'), [3]);
    const newest = await service.call('GET', \`\${PATH}?sort=-id\`);
    assert.deepEqual(valuesOf(newest, 'id'), [3, 2, 1]);
  });

  for (const query of ['limit=0', 'limit=101', 'limit=x', 'offset=-1', 'sort=?', '${UNKNOWN_FIELD}=1']) {
    it(\`refuses to list with ?\${query}\`, async () => {
      const answer = await service.call('GET', \`\${PATH}?\${query}\`);
      assert.equal(answer.status, 422);
      assert.equal(answer.body.error.details[0].field, query.split('=')[0]);
    });
  }
`;
}

function sortTest(entity: Entity): string {
  const field = sortableField(entity);
  if (field === null) return '';
  const [low, high] = rightValues(field).map(js);
  const { name } = field;
  return `  it('filters and sorts by ${spaced(name)}', async () => {
    await service.create(PATH, { ...body, ${name}: ${high} });
    await service.create(PATH, { ...body, ${name}: ${low} });
    const query = new URLSearchParams({ ${name}: ${low} });
    const found = await service.call('GET', \`\${PATH}?\${query}\`);
    assert.deepEqual(valuesOf(found, '${name}'), [${low}]);
    assert.equal(found.body.total, 1);
    const sorted = await service.call('GET', \`\${PATH}?sort=${name}\`);
    assert.deepEqual(valuesOf(sorted, '${name}'), [${low}, ${high}]);
  });
`;
}

function fieldTests(entity: Entity): string {
  const wrong = entity.fields.flatMap(field =>
    wrongValues(field).map(value => `    ['${field.name}', ${js(value)}],\n`),
  );
  const missing = entity.fields.filter(field => field.required).map(field => js(field.name));
  const needed =
    missing.length === 0
      ? ''
      : `
  for (const field of [${missing.join(', ')}]) {
    it(\`refuses ${withArticle(entity.name)} without \${field}\`, async () => {
      const { [field]: _, ...rest } = body;
      const answer = await service.call('POST', PATH, rest);
      assert.equal(answer.status, 422);
      assert.deepEqual(answer.body.error.details, [{ field, message: 'is required' }]);
    });
  }
`;
  return `  for (const [field, value] of [
${wrong.join('')}  ]) {
    it(\`refuses \${JSON.stringify(value)} as \${field}\`, async () => {
      const answer = await service.call('POST', PATH, { ...body, [field]: value });
      assert.deepEqual([answer.status, answer.body.error.code], [422, 'validation_failed']);
      assert.equal(answer.body.error.details.length, 1);
      assert.equal(answer.body.error.details[0].field, field);
    });
  }
${needed}
  it('refuses a field it does not know', async () => {
    const answer = await service.call('POST', PATH, { ...body, ${UNKNOWN_FIELD}: 1 });
    assert.equal(answer.status, 422);
    assert.equal(answer.body.error.details[0].field, '${UNKNOWN_FIELD}');
  });
`;
}

function referenceTest(field: Field): string {
  return `  it('refuses a reference to ${withArticle(field.target ?? '')} that does not exist', async () => {
    const answer = await service.call('POST', PATH, { ...body, ${field.name}: 999 });
    assert.equal(answer.status, 422);
    assert.equal(answer.body.error.details[0].field, '${field.name}');
  });
`;
}

function holderTest(holder: Entity, field: Field): string {
  const path = collectionPath(holder);
  return `  it('refuses to delete what ${withArticle(holder.name)} refers to', async () => {
    const { id } = await service.create(PATH, body);
    const holderBody = { ...${wrapped(bodyCall(holder))}, ${field.name}: id };
    const holder = await service.create('${path}', holderBody);
    const refused = await service.call('DELETE', \`\${PATH}/\${id}\`);
    assert.deepEqual([refused.status, refused.body.error.code], [409, 'still_referenced']);
    await service.call('DELETE', \`${path}/\${holder.id}\`);
    assert.equal((await service.call('DELETE', \`\${PATH}/\${id}\`)).status, 204);
  });
`;
}

const wrapped = (call: string): string => (call.startsWith('await ') ? `(${call})` : call);
