/** Verdicts on buses that are not ours: peers that only say the first words of the protocol. */
import assert from 'node:assert/strict';
import { createServer as createHttpServer } from 'node:http';
import { createServer, type Server } from 'node:net';
import { afterEach, describe, it } from 'node:test';
import { verifyBus } from './verify.ts';

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function listen(server: Server): Promise<number> {
  servers.push(server);
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  assert(typeof address === 'object' && address);
  return address.port;
}

/** A peer that says this on connecting. */
async function bus(words: string): Promise<string> {
  const server = createServer(socket => socket.on('error', () => undefined).end(words));
  return `nats://user:secret@127.0.0.1:${await listen(server)}`;
}

async function monitor(varz: object): Promise<string> {
  const server = createHttpServer((_request, response) => response.end(JSON.stringify(varz)));
  return `http://127.0.0.1:${await listen(server)}`;
}

const good = 'INFO {"version":"2.15.1","jetstream":true}\r\n';

describe('a bus', () => {
  it('that answers well and tells that it syncs is good', async () => {
    const varz = { version: '2.15.1', port: 4222, jetstream: { config: { sync_always: true } } };
    const verdict = await verifyBus(await bus(good), await monitor(varz));
    assert.deepEqual(verdict.problems, []);
    assert.equal(verdict.sync_always, true);
  });

  it('that acknowledges before it syncs is refused', async () => {
    const varz = { version: '2.15.1', port: 4222, jetstream: { config: {} } };
    const verdict = await verifyBus(await bus(good), await monitor(varz));
    assert.equal(verdict.problems[0]?.code, 'durability_refused');
    assert.match(verdict.problems[0]?.message ?? '', /sync_interval/);
  });

  it('whose monitoring port is silent is not known to sync', async () => {
    const verdict = await verifyBus(await bus(good), null);
    assert.equal(verdict.sync_always, null);
    assert.deepEqual(verdict.problems, []);
  });

  it('that is old and stores nothing is refused for both', async () => {
    const verdict = await verifyBus(await bus('INFO {"version":"2.9.10"}\r\n'), null);
    const messages = verdict.problems.map(({ message }) => message).join('; ');
    assert.match(messages, /nats-server 2\.9\.10; 2\.12\.0 is needed/);
    assert.match(messages, /jetstream is not enabled/);
  });

  for (const [what, words] of [
    ['speaks another protocol', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['says nothing', ''],
    ['breaks off', 'INFO {"version"'],
    ['says nonsense', 'INFO {"version":\r\n'],
  ] as const) {
    it(`that ${what} is unavailable, and its password stays unsaid`, async () => {
      const verdict = await verifyBus(await bus(words), null);
      assert.equal(verdict.problems[0]?.code, 'bus_unavailable');
      assert.equal(JSON.stringify(verdict).includes('secret'), false);
    });
  }
});
