/**
 * The tests of a Node service that are not about one kind of record, and the support to start it.
 */

import type { ServiceSpec } from '../../request/spec.ts';
import { collectionPath } from '../openapi.ts';

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
    const answer = await service.call('GET', '/no--path');
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
