/**
 * Goal: a request that meets a connection which the engine has just closed is answered all the same.
 * Method: a server that resets every connection that was used before, in the moment it is used again.
 */
import assert from 'node:assert/strict';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { it } from 'node:test';
import type { CodeGodError } from '../../../protocol/errors.ts';
import type { Relay } from '../relay/relay.ts';
import { createOllamaRelay } from './ollama-relay.ts';

const asked = (relay: Relay): Promise<string> =>
  new Promise((resolve, reject) => {
    let text = '';
    relay.ask(
      { path: '/api/chat', model: 'tiny', body: '{}' },
      {
        answers: () => {},
        take: bytes => {
          text += bytes.toString('utf8');
        },
        end: () => resolve(text),
        fail: (error: CodeGodError) => reject(error),
      },
    );
  });

it('is sent again over a new connection, whatever else was kept', async () => {
  const used = new Set<Socket>();
  const waiting: ServerResponse[] = [];
  let resets = 0;
  const server = createServer((request, response) => {
    if (used.has(request.socket)) {
      resets += 1;
      request.socket.resetAndDestroy();
      return;
    }
    used.add(request.socket);
    waiting.push(response);
    // The first three are at work at once, so that three connections are kept.
    if (used.size >= 3) for (const one of waiting.splice(0)) one.end('{"done":true}');
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const relay = createOllamaRelay({ host: `http://127.0.0.1:${port}`, keep_alive: 900 });
  try {
    await Promise.all([asked(relay), asked(relay), asked(relay)]);
    assert.equal(await asked(relay), '{"done":true}');
    assert.deepEqual([resets, used.size], [1, 4]);
  } finally {
    relay.stop();
    server.closeAllConnections();
    server.close();
  }
});
