/**
 * The tests of a Node service: support to start it, right bodies for every entity, one test file per entity, and one
 * for what all share.
 */

import type { Entity, Field, ServiceSpec } from '../../request/spec.ts';
import { camel, spaced, withArticle } from '../../request/words.ts';
import { collectionPath } from '../openapi.ts';
import { rightValues, sortableField, wrongValues } from '../samples.ts';
import { importNames, js } from './source.ts';

/** support/service.js */
export function supportFile(): string {
  return `/**
 * A running service with an empty store, for tests.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createApp } from '../src/app.js';
import { Store } from '../src/store.js';

export async function startService() {
  const server = createApp(new Store());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const base = \`http://127.0.0.1:\${server.address().port}\`;

  /** Sends a request; a body that is no string is sent as JSON. */
  async function call(method, path, body, headers = { 'content-type': 'application/json' }) {
    const response = await fetch(base + path, {
      method,
      ...(body === undefined
        ? {}
        : { headers, body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      body: text === '' ? null : JSON.parse(text),
    };
  }

  async function create(path, body) {
    const answer = await call('POST', path, body);
    assert.equal(answer.status, 201, JSON.stringify(answer.body));
    return answer.body;
  }

  async function close() {
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
  }

  return { call, create, close };
}
`;
}

const bodyFunction = (entity: Entity | string): string =>
  `${camel(typeof entity === 'string' ? entity : entity.name)}Body`;

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
function bodyCall(entity: Entity): string {
  return requiredReferences(entity).length > 0
    ? `await ${bodyFunction(entity)}(service)`
    : `${bodyFunction(entity)}()`;
}

/** test/<name>.test.js */
export function entityTestFile(spec: ServiceSpec, entity: Entity): string {
  const path = collectionPath(entity);
  const cases = [
    crudTests(entity, path),
    pageTests(entity, path),
    fieldTests(entity, path),
    referenceTests(spec, entity, path),
    holderTests(spec, entity, path),
  ].filter(part => part !== '');
  const holders = holdersOf(spec, entity).map(([holder]) => bodyFunction(holder));
  const needed = entity.fields.filter(field => field.type === 'reference' && !field.required);
  const targets = needed
    .filter(field => field.target !== entity.name)
    .map(field => bodyFunction(field.target ?? ''));
  const imported = [bodyFunction(entity), ...targets, ...holders];
  return `/**
 * ${capital(spaced(entity.plural))}: everything a client can do with them, and every way to get it wrong.
 */

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
${importNames(imported, '../support/bodies.js')}
import { startService } from '../support/service.js';

describe(${js(spaced(entity.plural))}, () => {
  let service;

  beforeEach(async () => {
    service = await startService();
  });

  afterEach(() => service.close());

${cases.join('\n')}});
`;
}

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

function crudTests(entity: Entity, path: string): string {
  const one = spaced(entity.name);
  const [field, next] = changeable(entity);
  const body = bodyCall(entity);
  return `  it('creates ${withArticle(entity.name)} and gives it back', async () => {
    const body = ${body};
    const created = await service.call('POST', '${path}', body);
    assert.equal(created.status, 201);
    assert.equal(created.headers.get('location'), \`${path}/\${created.body.id}\`);
    const read = await service.call('GET', \`${path}/\${created.body.id}\`);
    assert.equal(read.status, 200);
    assert.deepEqual(read.body, created.body);
    for (const [name, value] of Object.entries(body)) assert.deepEqual(read.body[name], value, name);
  });

  it('replaces ${withArticle(entity.name)}', async () => {
    const { id } = await service.create('${path}', ${body});
    const body = { ...${wrapAwait(body)}, ${field}: ${next} };
    const replaced = await service.call('PUT', \`${path}/\${id}\`, body);
    assert.equal(replaced.status, 200);
    assert.deepEqual(replaced.body.${field}, ${next});
  });

  it('changes one field and keeps the others', async () => {
    const before = await service.create('${path}', ${body});
    const changed = await service.call('PATCH', \`${path}/\${before.id}\`, { ${field}: ${next} });
    assert.equal(changed.status, 200);
    assert.deepEqual(changed.body, { ...before, ${field}: ${next} });
  });

  it('deletes ${withArticle(entity.name)}', async () => {
    const { id } = await service.create('${path}', ${body});
    assert.equal((await service.call('DELETE', \`${path}/\${id}\`)).status, 204);
    assert.equal((await service.call('GET', \`${path}/\${id}\`)).status, 404);
  });

  it('answers 404 for ${withArticle(entity.name)} that does not exist', async () => {
    const body = ${body};
    for (const method of ['GET', 'PUT', 'PATCH', 'DELETE']) {
      const sent = method === 'PUT' || method === 'PATCH' ? body : undefined;
      const answer = await service.call(method, '${path}/999', sent);
      assert.equal(answer.status, 404, method);
      assert.equal(answer.body.error.code, 'not_found');
    }
    assert.equal((await service.call('GET', '${path}/${one.replaceAll(' ', '-')}')).status, 404);
  });
`;
}

const wrapAwait = (call: string): string => (call.startsWith('await ') ? `(${call})` : call);

/** A field to change, with another right value as source. */
function changeable(entity: Entity): readonly [string, string] {
  const field = entity.fields.find(other => other.type !== 'reference');
  if (field === undefined) return ['id', '1'];
  return [field.name, js(rightValues(field)[1])];
}

function pageTests(entity: Entity, path: string): string {
  const field = sortableField(entity);
  const body = wrapAwait(bodyCall(entity));
  const many = spaced(entity.plural);
  const pages = `  it('lists ${many} page by page', async () => {
    for (let count = 0; count < 3; count++) await service.create('${path}', ${bodyCall(entity)});
    const first = await service.call('GET', '${path}?limit=2');
    assert.equal(first.status, 200);
    assert.deepEqual(first.body.items.map(item => item.id), [1, 2]);
    assert.deepEqual([first.body.total, first.body.limit, first.body.offset], [3, 2, 0]);
    const second = await service.call('GET', '${path}?limit=2&offset=2&sort=id');
    assert.deepEqual(second.body.items.map(item => item.id), [3]);
    const newest = await service.call('GET', '${path}?sort=-id');
    assert.deepEqual(newest.body.items.map(item => item.id), [3, 2, 1]);
  });

  for (const query of ['limit=0', 'limit=101', 'limit=x', 'offset=-1', 'sort=nothing', 'colour_of=x']) {
    it(\`refuses to list with ?\${query}\`, async () => {
      const answer = await service.call('GET', \`${path}?\${query}\`);
      assert.equal(answer.status, 422);
      assert.equal(answer.body.error.details[0].field, query.split('=')[0]);
    });
  }
`;
  if (field === null) return pages;
  const [low, high] = rightValues(field).map(value => js(value));
  const name = field.name;
  return `${pages}
  it('filters and sorts by ${spaced(name)}', async () => {
    await service.create('${path}', { ...${body}, ${name}: ${high} });
    await service.create('${path}', { ...${body}, ${name}: ${low} });
    const query = new URLSearchParams({ ${name}: ${low} });
    const found = await service.call('GET', \`${path}?\${query}\`);
    assert.deepEqual(found.body.items.map(item => item.${name}), [${low}]);
    assert.equal(found.body.total, 1);
    const sorted = await service.call('GET', '${path}?sort=${name}');
    assert.deepEqual(sorted.body.items.map(item => item.${name}), [${low}, ${high}]);
  });
`;
}

function fieldTests(entity: Entity, path: string): string {
  const wrong = entity.fields.flatMap(field =>
    wrongValues(field).map(value => `    ['${field.name}', ${js(value)}],\n`),
  );
  const missing = entity.fields.filter(field => field.required).map(field => js(field.name));
  const body = wrapAwait(bodyCall(entity));
  const needed =
    missing.length === 0
      ? ''
      : `
  for (const field of [${missing.join(', ')}]) {
    it(\`refuses ${withArticle(entity.name)} without \${field}\`, async () => {
      const { [field]: _, ...body } = ${bodyCall(entity)};
      const answer = await service.call('POST', '${path}', body);
      assert.equal(answer.status, 422);
      assert.deepEqual(answer.body.error.details, [{ field, message: 'is required' }]);
    });
  }
`;
  return `  for (const [field, value] of [
${wrong.join('')}  ]) {
    it(\`refuses \${JSON.stringify(value)} as \${field}\`, async () => {
      const answer = await service.call('POST', '${path}', { ...${body}, [field]: value });
      assert.equal(answer.status, 422);
      assert.equal(answer.body.error.code, 'validation_failed');
      assert.deepEqual(answer.body.error.details.map(detail => detail.field), [field]);
    });
  }
${needed}
  it('refuses a field it does not know', async () => {
    const body = { ...${body}, colour_of_sky: 'blue' };
    const answer = await service.call('POST', '${path}', body);
    assert.equal(answer.status, 422);
    assert.equal(answer.body.error.details[0].field, 'colour_of_sky');
  });
`;
}

function referenceTests(_spec: ServiceSpec, entity: Entity, path: string): string {
  const references = entity.fields.filter(field => field.type === 'reference');
  return references
    .map(
      field => `  it('refuses ${withArticle(entity.name)} of ${withArticle(field.target ?? '')} that does not exist', async () => {
    const body = { ...${wrapAwait(bodyCall(entity))}, ${field.name}: 999 };
    const answer = await service.call('POST', '${path}', body);
    assert.equal(answer.status, 422);
    assert.equal(answer.body.error.details[0].field, '${field.name}');
  });
`,
    )
    .join('\n');
}

function holdersOf(spec: ServiceSpec, entity: Entity): [Entity, Field][] {
  return spec.entities.flatMap(holder =>
    holder.fields
      .filter(field => field.type === 'reference' && field.target === entity.name)
      .map(field => [holder, field] as [Entity, Field]),
  );
}

function holderTests(spec: ServiceSpec, entity: Entity, path: string): string {
  return holdersOf(spec, entity)
    .map(
      ([
        holder,
        field,
      ]) => `  it('refuses to delete ${withArticle(entity.name)} that ${withArticle(holder.name)} refers to', async () => {
    const { id } = await service.create('${path}', ${bodyCall(entity)});
    const holder = await service.create('${collectionPath(holder)}', {
      ...${wrapAwait(bodyCall(holder))},
      ${field.name}: id,
    });
    const refused = await service.call('DELETE', \`${path}/\${id}\`);
    assert.equal(refused.status, 409);
    assert.equal(refused.body.error.code, 'still_referenced');
    await service.call('DELETE', \`${collectionPath(holder)}/\${holder.id}\`);
    assert.equal((await service.call('DELETE', \`${path}/\${id}\`)).status, 204);
  });
`,
    )
    .join('\n');
}

/** test/service.test.js */
export function serviceTestFile(spec: ServiceSpec): string {
  const first = spec.entities[0];
  const path = first === undefined ? '/' : collectionPath(first);
  return `/**
 * What holds for every path: health, the contract, and the errors of HTTP itself.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { startService } from '../support/service.js';

const CONTRACT = JSON.parse(readFileSync(new URL('../openapi.json', import.meta.url), 'utf8'));

describe('the service', () => {
  let service;

  beforeEach(async () => {
    service = await startService();
  });

  afterEach(() => service.close());

  it('tells that it is up', async () => {
    const answer = await service.call('GET', '/health');
    assert.deepEqual([answer.status, answer.body], [200, { status: 'ok' }]);
  });

  it('serves its contract', async () => {
    assert.deepEqual((await service.call('GET', '/openapi.json')).body, CONTRACT);
  });

  it('answers every collection of the contract, empty at first', async () => {
    const paths = Object.keys(CONTRACT.paths).filter(path => CONTRACT.paths[path].post);
    assert.ok(paths.length > 0);
    for (const path of paths) {
      const answer = await service.call('GET', path);
      assert.deepEqual([answer.status, answer.body.items, answer.body.total], [200, [], 0], path);
    }
  });

  it('answers 404 where there is nothing', async () => {
    const answer = await service.call('GET', '/no-such-path');
    assert.deepEqual([answer.status, answer.body.error.code], [404, 'not_found']);
  });

  it('answers 405 with the methods that are allowed', async () => {
    const answer = await service.call('DELETE', '${path}');
    assert.deepEqual([answer.status, answer.body.error.code], [405, 'method_not_allowed']);
    assert.equal(answer.headers.get('allow'), 'GET, POST');
  });

  it('answers 400 to a body that is not JSON', async () => {
    const answer = await service.call('POST', '${path}', '{"half":');
    assert.deepEqual([answer.status, answer.body.error.code], [400, 'malformed_json']);
  });

  it('answers 422 to a body that is no object', async () => {
    const answer = await service.call('POST', '${path}', '[1, 2]');
    assert.deepEqual([answer.status, answer.body.error.code], [422, 'validation_failed']);
  });

  it('answers 415 to a body that is not declared as JSON', async () => {
    const answer = await service.call('POST', '${path}', '{}', { 'content-type': 'text/plain' });
    assert.deepEqual([answer.status, answer.body.error.code], [415, 'unsupported_media_type']);
  });

  it('answers 413 to a body that is too large', async () => {
    const answer = await service.call('POST', '${path}', { text: 'x'.repeat(1024 * 1024) });
    assert.deepEqual([answer.status, answer.body.error.code], [413, 'body_too_large']);
  });
});
`;
}

/** test/store.test.js */
export function storeTestFile(): string {
  return `/**
 * The store: what is written is there again after a restart.
 */

import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Store } from '../src/store.js';

function temporaryFolder(t) {
  const folder = mkdtempSync(join(tmpdir(), 'store-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

test('records survive a restart and ids are never given twice', t => {
  const folder = temporaryFolder(t);
  const file = join(folder, 'nested', 'store.json');
  const before = new Store(file);
  const kept = before.insert('things', { name: 'kept' });
  const gone = before.insert('things', { name: 'gone' });
  before.remove('things', gone.id);
  before.replace('things', kept.id, { name: 'changed' });

  const after = new Store(file);
  assert.deepEqual(after.all('things'), [{ id: kept.id, name: 'changed' }]);
  assert.equal(after.insert('things', { name: 'new' }).id, gone.id + 1);
  assert.deepEqual(readdirSync(join(folder, 'nested')), ['store.json']);
});

test('a change that cannot be saved does not count', t => {
  const folder = temporaryFolder(t);
  const store = new Store(join(folder, 'data', 'store.json'));
  writeFileSync(join(folder, 'data'), 'a file where the folder should be');
  assert.throws(() => store.insert('things', { name: 'lost' }));
  assert.deepEqual(store.all('things'), []);
});

test('a file that is not JSON stops the start', t => {
  const file = join(temporaryFolder(t), 'store.json');
  writeFileSync(file, '{"half":');
  assert.throws(() => new Store(file), SyntaxError);
});
`;
}
