/**
 * Connecting, credentials, permissions, and what the server tells about itself.
 */
import assert from 'node:assert/strict';
import { connect as connectTo, createServer, Socket } from 'node:net';
import { test } from 'node:test';
import { nkeys } from '@nats-io/nats-core';
import { connect as connectClient } from '@nats-io/transport-node';
import { freePort, type NatsFixtureOptions, startNats } from '../test/nats-fixture.ts';
import type { Bus, BusEvent } from './bus.ts';
import { streamOf } from './bus-streams-suite.ts';
import { bytes, text, until } from './bus-suite.ts';
import { systemClock } from './clock.ts';
import { connectNats, type NatsOptions } from './nats-bus.ts';
import { socketOf } from './nats-wire.ts';

async function withServer(
  fixture: NatsFixtureOptions,
  body: (connect: (more?: Partial<NatsOptions>) => Promise<Bus>, pid: number) => Promise<void>,
): Promise<void> {
  const server = await startNats(fixture);
  const opened: Bus[] = [];
  try {
    await body(async more => {
      const { url, monitorUrl } = server;
      const options = { servers: [url], name: 'test', clock: systemClock, monitorUrl, ...more };
      const bus = await connectNats(options);
      opened.push(bus);
      return bus;
    }, server.pid);
  } finally {
    await Promise.all(opened.map(bus => bus.close()));
    await server.stop();
  }
}

test('no server: the error says where', async () => {
  const url = `nats://127.0.0.1:${await freePort()}`;
  const connecting = connectNats({ servers: [url], name: 'test', clock: systemClock });
  await assert.rejects(connecting, { code: 'bus_unavailable', message: new RegExp(url) });
});

/** A door before a server: `takes` says of each connection, by number from 1, what becomes of it. */
async function relayTo(url: string, takes: (number: number) => 'onward' | 'silence' | 'end') {
  const { hostname, port } = new URL(url);
  const sockets: Socket[] = [];
  const relay = createServer(socket => {
    socket.on('error', () => socket.destroy());
    const fate = takes(sockets.push(socket));
    if (fate === 'end') socket.destroy();
    if (fate !== 'onward') return;
    const onward = connectTo(Number(port), hostname);
    onward.on('error', () => socket.destroy());
    socket.pipe(onward).pipe(socket);
  });
  await new Promise<void>(resolve => relay.listen(0, '127.0.0.1', resolve));
  const address = relay.address();
  assert.ok(typeof address === 'object' && address !== null);
  const cut = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    url: `nats://127.0.0.1:${address.port}`,
    sockets,
    cut,
    close() {
      // The client leaves a connection open that it has given up; a real server ends it in 2 s.
      cut();
      relay.close();
    },
  };
}

test('a handshake that is lost once is made again', () =>
  withServer({}, async connect => {
    const server = (await connect()).info().url;
    const relay = await relayTo(server, number => (number === 1 ? 'silence' : 'onward'));
    const bus = await connect({ servers: [relay.url] });
    await bus.rtt();
    assert.equal(relay.sockets.length, 2);
    await bus.close();
    relay.close();
  }));

test('a bus that is away is looked for at once, then at growing pauses', () =>
  withServer({}, async connect => {
    let isAway = false;
    const server = (await connect()).info().url;
    const relay = await relayTo(server, () => (isAway ? 'end' : 'onward'));
    const bus = await connect({ servers: [relay.url] });
    const events: BusEvent[] = [];
    bus.status(event => events.push(event));
    isAway = true;
    relay.cut();
    // Four pauses of 50 to 400 ms at most: far less than this waits.
    await until('five more dials', () => relay.sockets.length > 5, 5_000);
    isAway = false;
    await until('it is back', () => events.some(({ type }) => type === 'reconnected'));
    await bus.rtt();
    await bus.close();
    relay.close();
  }));

test('a server that syncs before it acknowledges is durable', () =>
  withServer({}, async connect => {
    const durability = await (await connect()).requireDurable();
    assert.deepEqual(durability, { ok: true, is_same_server: true });
  }));

test('a server that syncs later, or whose monitoring is unknown or silent, is not', () =>
  withServer({ sync: 'default' }, async connect => {
    const lazy = await (await connect()).requireDurable();
    assert(!lazy.ok);
    assert.match(lazy.fix, /sync_interval: always/);
    const silent = { monitorUrl: `http://127.0.0.1:${await freePort()}` };
    assert.equal((await (await connect(silent)).requireDurable()).ok, false);
    const { monitorUrl: _, ...unknown } = { monitorUrl: '', name: 'unknown' };
    const blind = await connectNats({
      servers: [(await connect()).info().url],
      clock: systemClock,
      ...unknown,
    });
    const refused = await blind.requireDurable();
    await blind.close();
    assert(!refused.ok);
    assert.match(refused.fix, /monitoring/);
  }));

test('credentials let in, their absence is unauthorized, what they forbid is an event', async () => {
  const pair = nkeys.createUser();
  const nkeySeed = new TextDecoder().decode(pair.getSeed());
  const config = `authorization { users: [
    { user: ann, password: secret, permissions: { publish: ["ok.>", "_INBOX.>"], subscribe: [">"] } },
    { nkey: ${pair.getPublicKey()} }
  ] }`;
  await withServer({ config }, async connect => {
    await assert.rejects(connect(), { code: 'unauthorized' });
    const wrong = { credentials: { user: 'ann', pass: 'guess' } };
    await assert.rejects(connect(wrong), { code: 'unauthorized' });
    const ann = await connect({ credentials: { user: 'ann', pass: 'secret' } });
    const events: BusEvent[] = [];
    ann.status(event => events.push(event));
    ann.publish('forbidden', bytes('x'));
    await until('an event', () => events.length > 0);
    assert.deepEqual(events, [
      { type: 'permission_denied', operation: 'publish', subject: 'forbidden' },
    ]);
    const bob = await connect({ credentials: { nkeySeed }, inboxPrefix: '_INBOX.bob' });
    bob.serve('ok.echo', async ({ body }) => ({ body }));
    await bob.rtt();
    const reply = await ann.ask('ok.echo', bytes('hi'), { timeout_ms: 2_000 });
    assert.equal(reply.body.length, 2);
  });
});

test('a sole consumer that may not be reset begins all the same, and that is told', () => {
  const users = `authorization { users: [
    { user: u, password: p, permissions: { publish: { deny: "$JS.API.CONSUMER.RESET.>" } } }
  ] }`;
  return withServer({ config: users }, async connect => {
    const credentials = { user: 'u', pass: 'p' };
    const [first, second] = [await connect({ credentials }), await connect({ credentials })];
    await first.streams.ensure(streamOf('x'));
    const options = {
      ...{ durable: 'd', filter: 'x.>', ack_wait_ms: 400, max_deliver: -1, sole: true },
      ...{ max_ack_pending: 8, concurrency: 1 },
    };
    const taken: string[] = [];
    await first.consume('X', options, async ({ body }) => {
      taken.push(`first ${text(body)}`);
      return await new Promise<never>(() => undefined);
    });
    await first.streams.append('x.a', bytes('a'));
    await until('it is taken', () => taken.length === 1);
    await first.close();
    const events: BusEvent[] = [];
    second.status(event => events.push(event));
    await second.consume('X', options, async ({ body }) => {
      taken.push(`second ${text(body)}`);
      return { kind: 'done' };
    });
    await until('it comes after its ack wait', () => taken.includes('second a'));
    assert.ok(events.some(event => event.type === 'error' && event.where.startsWith('reset')));
  });
});

test('a token lets in', () =>
  withServer({ config: 'authorization { token: "t0ken" }' }, async connect => {
    await assert.rejects(connect(), { code: 'unauthorized' });
    await connect({ credentials: { token: 't0ken' } });
  }));

test('a server that prepares to stop is announced', () =>
  withServer(
    { config: 'lame_duck_duration: "30s", lame_duck_grace_period: "1s"' },
    async (connect, pid) => {
      const bus = await connect();
      const events: BusEvent[] = [];
      bus.status(event => events.push(event));
      process.kill(pid, 'SIGUSR2');
      await until('an event', () => events.some(event => event.type === 'lame_duck'));
    },
  ));

test('a message bound of the server is known to its clients', () =>
  withServer({ maxPayloadBytes: 65_536 }, async connect => {
    const bus = await connect();
    assert.equal(bus.info().max_payload_bytes, 65_536);
    assert.match(bus.info().server_version, /^2\./);
    assert.throws(() => bus.publish('x', new Uint8Array(65_537)), { code: 'too_large' });
  }));

test('a header that could smuggle another one is refused', () =>
  withServer({}, async connect => {
    const bus = await connect();
    assert.throws(() => bus.publish('x', bytes(''), { A: 'b\r\nC: d' }), { code: 'bad_message' });
  }));

test('nobody is answered on a subject of the system, however he asks', () =>
  withServer({}, async connect => {
    const bus = await connect();
    const client = await connectClient({ servers: [bus.info().url] });
    const [handled, heard, told]: [string[], string[], string[]] = [[], [], []];
    const wanted = ['$KV.codegod_node.hub.runtime', 'codegod.control.build.b1', '$JS.API.INFO'];
    for (const subject of wanted) bus.subscribe(subject, () => heard.push(subject));
    bus.status(event => event.type === 'error' && told.push(event.error.message));
    bus.serve('whole', async ({ subject }) => {
      handled.push(subject);
      return { body: bytes('{}') };
    });
    bus.serveStream('parts', async ({ subject }) => void handled.push(subject));
    await bus.rtt();
    for (const reply of wanted) {
      for (const subject of ['whole', 'parts']) client.publish(subject, 'x', { reply });
    }
    await client.flush();
    await until('all are told', () => told.length === 2 * wanted.length);
    await bus.ask('whole', bytes(''), { timeout_ms: 5_000 });
    assert.deepEqual([handled, heard], [['whole'], []]);
    assert.match(told.join(), /it asks to be answered on \$KV\.codegod_node/);
    await client.close();
  }));

test('the client library still has its socket where messages are gathered for it', async () => {
  const server = await startNats({});
  const connection = await connectClient({ servers: [server.url] });
  assert.ok(socketOf(connection) instanceof Socket);
  await connection.close();
  await server.stop();
});
