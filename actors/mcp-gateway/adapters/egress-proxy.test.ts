/** Goal: behind the proxy nothing but the public internet can be reached, by no way of asking. */
import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { createServer, request } from 'node:http';
import { connect } from 'node:net';
import { type TestContext, test } from 'node:test';
import { type EgressProxy, startEgressProxy } from './egress-proxy.ts';

async function insideWorld(t: TestContext) {
  let visits = 0;
  const inside = createServer((_, response) => {
    visits += 1;
    response.end('inside');
  });
  await new Promise<void>(resolve => inside.listen(0, '127.0.0.1', resolve));
  const address = inside.address();
  const port = address !== null && typeof address === 'object' ? address.port : 0;
  const proxy = await startEgressProxy(async host =>
    host === 'moving.example' ? ['10.0.0.1'] : [],
  );
  t.after(async () => {
    inside.close();
    await proxy.close();
  });
  return { port, proxy, visits: () => visits };
}

function get(proxy: EgressProxy, url: string): Promise<number> {
  const { hostname, port } = new URL(proxy.url);
  return new Promise((resolve, reject) => {
    request({ host: hostname, port, path: url, headers: { host: new URL(url).host } }, response => {
      response.resume();
      resolve(response.statusCode ?? 0);
    })
      .on('error', reject)
      .end();
  });
}

function tunnel(proxy: EgressProxy, target: string): Promise<string> {
  const { hostname, port } = new URL(proxy.url);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname, () => {
      socket.write(`CONNECT ${target} HTTP/1.1\r\nhost: ${target}\r\n\r\n`);
    });
    let text = '';
    socket.on('data', chunk => {
      text += chunk;
    });
    socket.on('close', () => resolve(text.split('\r\n')[0] ?? ''));
    socket.on('error', reject);
  });
}

test('plain requests and tunnels to private addresses are refused', async t => {
  const { port, proxy, visits } = await insideWorld(t);
  assert.equal(await get(proxy, `http://127.0.0.1:${port}/`), 403);
  assert.equal(await get(proxy, 'http://moving.example/'), 403);
  assert.equal(await get(proxy, 'http://unknown.example/'), 403);
  for (const host of ['127.0.0.1', '[::1]', 'moving.example', '0x7f.1']) {
    assert.match(await tunnel(proxy, `${host}:${port}`), /^HTTP\/1\.1 403/);
  }
  assert.equal(visits(), 0);
});

/** A proxy whose look-ups wait until they are told to go on. */
async function slowWorld(t: TestContext) {
  const lookUps = new EventEmitter();
  const asked = once(lookUps, 'asked');
  const proxy = await startEgressProxy(async () => {
    lookUps.emit('asked');
    await once(lookUps, 'answered');
    return ['93.184.216.34'];
  });
  t.after(() => proxy.close());
  return { proxy, asked, goOn: () => lookUps.emit('answered') };
}

for (const ask of ['CONNECT a.example:443', 'GET http://a.example/'] as const) {
  test(`a client that resets during the look-up ends nothing: ${ask}`, async t => {
    const { proxy, asked, goOn } = await slowWorld(t);
    const { hostname, port } = new URL(proxy.url);
    const client = connect(Number(port), hostname);
    client.on('error', () => undefined); // Its own reset.
    await once(client, 'connect');
    client.write(`${ask} HTTP/1.1\r\nhost: a.example\r\n\r\n`);
    await asked;
    client.resetAndDestroy();
    await once(client, 'close');
    // The next one is answered: the proxy lives, and has seen the reset before the name is found.
    assert.match(await tunnel(proxy, '127.0.0.1:1'), /403/);
    goOn();
    assert.match(await tunnel(proxy, '127.0.0.1:1'), /403/);
  });
}
