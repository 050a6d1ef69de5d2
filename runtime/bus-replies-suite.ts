/**
 * The part of the bus suite about reply streams: order, credit, cancelling, errors.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { CodeGodError } from '../protocol/errors.ts';
import type { Bus, BusMessage } from './bus.ts';
import { type Behaviour, behaviour, bytes, text, until } from './bus-suite.ts';

const OPTIONS = { first_ms: 2_000, idle_ms: 2_000 };

async function collect(messages: AsyncIterable<BusMessage>): Promise<string[]> {
  const got: string[] = [];
  for await (const { body } of messages) got.push(text(body));
  return got;
}

export const REPLY_STREAM_BEHAVIOURS: readonly Behaviour[] = [
  behaviour('a reply stream delivers all chunks in order, then ends', async scene => {
    const [client, server] = [await scene.connect(), await scene.connect()];
    server.serveStream(scene.unique, async (message, { send }) => {
      const count = Number(text(message.body));
      for (let i = 0; i < count; i += 1) await send(bytes(String(i)));
    });
    await server.rtt();
    for (const count of [0, 1, 1_000]) {
      const got = await collect(client.askStream(scene.unique, bytes(String(count)), OPTIONS));
      assert.deepEqual(
        got,
        Array.from({ length: count }, (_, i) => String(i)),
      );
    }
  }),

  behaviour('a caller that takes nothing stops the sender at 256 chunks', async scene => {
    const [client, server] = [await scene.connect(), await scene.connect()];
    let sent = 0;
    server.serveStream(scene.unique, async (_message, { send }) => {
      for (; sent < 600; sent += 1) await send(bytes('x'));
    });
    await server.rtt();
    const chunks = client.askStream(scene.unique, bytes(''), OPTIONS)[Symbol.asyncIterator]();
    await chunks.next();
    await until('the window is used up', () => sent === 256);
    await sleep(50);
    assert.equal(sent, 256);
    let taken = 1;
    for (let next = await chunks.next(); !next.done; next = await chunks.next()) taken += 1;
    assert.equal(taken, 600);
  }),

  behaviour('leaving a reply stream early cancels the sender', async scene => {
    const [client, server] = [await scene.connect(), await scene.connect()];
    const ended = endless(server, scene.unique);
    await server.rtt();
    for await (const _ of client.askStream(scene.unique, bytes(''), OPTIONS)) break;
    assert.equal((await ended).code, 'cancelled');
  }),

  behaviour('a caller that leaves before anything came is still told of', async scene => {
    const [client, server] = [await scene.connect(), await scene.connect()];
    let begun = (): void => {};
    const started = new Promise<void>(resolve => {
      begun = resolve;
    });
    const ended = new Promise<unknown>(resolve => {
      server.serveStream(scene.unique, async (_message, { signal }) => {
        signal.addEventListener('abort', () => resolve(signal.reason), { once: true });
        begun();
        await new Promise(() => {});
      });
    });
    await server.rtt();
    const leave = new AbortController();
    const options = { ...OPTIONS, signal: leave.signal };
    const next = client.askStream(scene.unique, bytes(''), options)[Symbol.asyncIterator]().next();
    const left = assert.rejects(next);
    await started;
    leave.abort();
    await left;
    assert.equal(((await ended) as CodeGodError).code, 'cancelled');
  }),

  behaviour('a signal ends a reply stream on both sides', async scene => {
    const [client, server] = [await scene.connect(), await scene.connect()];
    const ended = endless(server, scene.unique);
    await server.rtt();
    const signal = AbortSignal.timeout(100);
    const chunks = client.askStream(scene.unique, bytes(''), { ...OPTIONS, signal });
    await assert.rejects(collect(chunks), { code: 'cancelled' });
    assert.equal((await ended).code, 'cancelled');
  }),

  behaviour('a caller that vanishes is noticed by the sender', async scene => {
    const [client, server] = [await scene.connect(), await scene.connect()];
    const ended = endless(server, scene.unique);
    await server.rtt();
    const chunks = client.askStream(scene.unique, bytes(''), OPTIONS)[Symbol.asyncIterator]();
    await chunks.next();
    await client.close();
    assert.equal((await ended).code, 'cancelled');
  }),

  behaviour('an error in the middle is the last message', async scene => {
    const bus = await scene.connect();
    bus.serveStream(scene.unique, async (_message, { send }) => {
      await send(bytes('one'));
      throw new CodeGodError('engine_failed', 'out of memory');
    });
    await bus.rtt();
    const got: BusMessage[] = [];
    for await (const message of bus.askStream(scene.unique, bytes(''), OPTIONS)) got.push(message);
    assert.equal(got.length, 2);
    assert.equal(got[0] && text(got[0].body), 'one');
    assert.equal(got[1]?.headers['Nats-Service-Error-Code'], '502');
    assert.equal(JSON.parse(text(got[1]?.body ?? bytes('null'))).code, 'engine_failed');
  }),

  behaviour('silence before and between chunks times out', async scene => {
    const bus = await scene.connect();
    bus.subscribe(`${scene.unique}.mute`, () => undefined);
    bus.serveStream(`${scene.unique}.stuck`, async (_message, { send, signal }) => {
      await send(bytes('one'));
      await new Promise(resolve => signal.addEventListener('abort', resolve));
    });
    await bus.rtt();
    const limits = { first_ms: 100, idle_ms: 100 };
    for (const end of ['mute', 'stuck']) {
      const chunks = bus.askStream(`${scene.unique}.${end}`, bytes(''), limits);
      await assert.rejects(collect(chunks), { code: 'timeout' });
    }
    await assert.rejects(collect(bus.askStream('nobody.here', bytes(''), limits)), {
      code: 'no_responders',
    });
  }),

  behaviour('a plain service answers a streaming caller with one message', async scene => {
    const bus = await scene.connect();
    bus.serve(scene.unique, async () => ({ body: bytes('whole') }));
    await bus.rtt();
    assert.deepEqual(await collect(bus.askStream(scene.unique, bytes(''), OPTIONS)), ['whole']);
  }),
];

/** Serves chunks until it is stopped; resolves to why. */
function endless(server: Bus, subject: string): Promise<CodeGodError> {
  return new Promise(resolve => {
    server.serveStream(subject, async (_message, { send, signal }) => {
      try {
        for (;;) {
          await send(bytes('x'));
          await sleep(2);
        }
      } catch (error) {
        assert(error instanceof CodeGodError && signal.aborted);
        resolve(error);
      }
    });
  });
}
