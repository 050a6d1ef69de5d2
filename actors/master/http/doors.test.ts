/** Who gets through the HTTP door, and where it stands. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { OpenAPIHono } from '@hono/zod-openapi';
import { CodeGodError } from '../../../protocol/errors.ts';
import { newDoorKey } from '../../../runtime/door-key.ts';
import { silentLogger } from '../../../runtime/log.ts';
import { errorAnswer } from './errors.ts';
import { Gate } from './gate.ts';
import { guard, isLoopback } from './guards.ts';
import { listen } from './listen.ts';
import { originsOf } from './origins.ts';

function guarded(loopback: boolean): OpenAPIHono {
  const app = new OpenAPIHono();
  const { other } = originsOf(['http://app.example', 'http://*.lan', 'null'], ['*']);
  app.use(guard({ isLoopback: loopback, mayAsk: other }));
  app.onError((error, context) => {
    const { body, status } = errorAnswer(error);
    return context.json(body, status);
  });
  app.all('/x', context => context.text('in'));
  return app;
}

const status = async (
  headers: Record<string, string>,
  options: { readonly loopback?: boolean; readonly body?: string } = {},
): Promise<number> => {
  const { body, loopback = true } = options;
  const init = body === undefined ? { headers } : { headers, method: 'POST', body };
  const response = await guarded(loopback).request('http://localhost/x', init);
  return response.status;
};

test('on loopback the Host header must name loopback', async () => {
  for (const host of ['localhost', 'localhost:8001', '127.0.0.1:8001', '[::1]:8001']) {
    assert.equal(await status({ host }), 200, host);
  }
  for (const host of ['evil.example', 'localhost.evil.example', '', '10.0.0.1:8001']) {
    assert.equal(await status({ host }), 403, host);
  }
  assert.equal(await status({ host: 'box.lan:8001' }, { loopback: false }), 200);
});

test('pages of other origins are refused, the own one is served', async () => {
  const host = 'localhost:8001';
  assert.equal(await status({ host, origin: 'http://localhost:8001' }), 200);
  for (const origin of ['http://evil.example', 'null', 'http://localhost:3000', 'app://x', '']) {
    assert.equal(await status({ host, origin }), 403, origin);
  }
  assert.equal(await status({ host: 'localhost', origin: 'http://localhost:8001' }), 403);
});

test('an origin that is listed in full may ask every route; one with a * or without a name may not', async () => {
  const host = 'localhost:8001';
  const ask = (origin: string, method = 'GET') =>
    guarded(true).request('http://localhost/x', { method, headers: { host, origin } });
  const answer = await ask('http://app.example');
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.get('access-control-allow-origin'), 'http://app.example');
  const preflight = await ask('http://app.example', 'OPTIONS');
  assert.equal(preflight.status, 204);
  assert.match(preflight.headers.get('access-control-allow-methods') ?? '', /POST/);
  for (const origin of [
    'http://box.lan',
    'null',
    'http://app.example.evil',
    'http://app.example:81',
  ]) {
    assert.equal((await ask(origin)).status, 403, origin);
    assert.equal((await ask(origin, 'OPTIONS')).status, 403, origin);
  }
});

test('models may be asked for by the pages that Ollama serves, and by those that are listed', () => {
  const { pool } = originsOf(['http://*.lan:3000', 'null'], ['https://chat.example']);
  for (const origin of [
    ...['http://localhost', 'http://localhost:3000', 'https://127.0.0.1:8443', 'http://0.0.0.0:1'],
    ...[
      'app://obsidian.md',
      'file://',
      'tauri://localhost',
      'vscode-webview://a-b',
      'vscode-file://x',
    ],
    ...['http://box.lan:3000', 'https://chat.example', 'null'],
  ]) {
    assert.ok(pool(origin), origin);
  }
  for (const origin of [
    ...[
      'http://evil.example',
      'http://localhost.evil.example',
      'http://localhost:3000.evil.example',
    ],
    ...[
      'http://evil.example:3000',
      'http://box.lan',
      'https://chat.example:1',
      'ftp://localhost',
      '',
    ],
  ]) {
    assert.ok(!pool(origin), origin);
  }
  assert.ok(!originsOf([], []).pool('null'));
});

test('a body must say that it is JSON; curl’s default passes where no page can send it', async () => {
  const host = 'localhost';
  const post = (type: string, more: Record<string, string> = {}): Promise<number> =>
    status({ host, 'content-type': type, 'content-length': '2', ...more }, { body: '{}' });
  assert.equal(await post('application/json; charset=utf-8'), 200);
  assert.equal(await post('application/x-www-form-urlencoded'), 200);
  const origin = 'http://localhost';
  assert.equal(await post('application/x-www-form-urlencoded', { origin }), 400);
  assert.equal(await post('text/plain'), 400);
  assert.equal(await post(''), 200);
  assert.equal(await post('', { origin }), 400);
  assert.equal(await post('', { 'sec-fetch-site': 'cross-site' }), 400);
  assert.equal(await post('application/json', { 'content-length': '99999999' }), 413);
});

test('a door that other machines reach needs a key of everybody, but to say that it lives', async () => {
  const keys = {
    find: (secret: string): never => {
      throw new CodeGodError('unauthorized', `there is no ${secret}`);
    },
  };
  const asked = async (path: string, gate: Gate, key?: string): Promise<number> => {
    const app = new OpenAPIHono();
    app.use(gate.middleware);
    app.onError((error, context) => {
      const { body, status } = errorAnswer(error);
      return context.json(body, status);
    });
    app.all('*', context => context.text('in'));
    const headers = key === undefined ? {} : { authorization: `Bearer ${key}` };
    return (await app.request(`http://localhost${path}`, { headers })).status;
  };
  const doors = [
    [new Gate({ keys, auth: 'auto', isLoopback: true }), 200],
    [new Gate({ keys, auth: 'required', isLoopback: true }), 401],
    [new Gate({ keys, auth: 'auto', isLoopback: false }), 401],
  ] as const;
  const ownerKey = newDoorKey();
  for (const isLoopback of [true, false]) {
    const gate = new Gate({ keys, auth: 'required', isLoopback, ownerKey });
    assert.equal(await asked('/nodes', gate, ownerKey), 200, 'the owner is never locked out');
    assert.equal(await asked('/nodes', gate, newDoorKey()), 401);
    assert.equal(await asked('/nodes', gate), 401);
  }
  for (const [gate, status] of doors) {
    assert.equal(await asked('/nodes', gate), status);
    assert.equal(await asked('/nodes', gate, 'anything'), status);
    assert.equal(await asked('/nodes', gate, 'cg_of-nobody'), 401);
    for (const path of ['/health', '/healthz', '/readyz']) {
      assert.equal(await asked(path, gate), 200, path);
    }
  }
});

test('addresses of this machine alone', () => {
  for (const host of ['127.0.0.1', 'localhost', '::1', '127.9.9.9']) assert.ok(isLoopback(host));
  for (const host of ['0.0.0.0', '::', '192.168.1.4', '127.evil.example']) {
    assert.ok(!isLoopback(host), host);
  }
});

test('a taken port: an error where it was asked for, else the next free one', async () => {
  const squatter = createServer().listen(0, '127.0.0.1');
  await new Promise(resolve => squatter.once('listening', resolve));
  const { port } = squatter.address() as AddressInfo;
  const app = guarded(true);
  const options = { host: '127.0.0.1', port, log: silentLogger };
  await assert.rejects(listen(app, { ...options, isConfigured: true }), /port_in_use|is taken/);
  const listening = await listen(app, { ...options, isConfigured: false });
  const taken = Number(new URL(listening.url).port);
  assert.ok(taken > port && taken <= port + 32);
  assert.equal(await (await fetch(`${listening.url}/x`)).text(), 'in');
  await listening.close();
  squatter.close();
});
