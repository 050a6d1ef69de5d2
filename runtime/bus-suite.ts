/**
 * One behaviour suite for every adapter of the bus: messages, asking, serving, reply streams.
 * Streams, consumers and buckets are in `bus-streams-suite.ts`, `bus-buckets-suite.ts`.
 *
 * Only tests import this. Every test has its own subjects and buses, so tests may share a server.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { CodeGodError } from '../protocol/errors.ts';
import type { Bus, BusEvent, BusMessage } from './bus.ts';

export interface BusHarness {
  /** How the adapter is called in test names. */
  readonly name: string;
  /** A new connection. The suite closes it. */
  connect(): Promise<Bus>;
}

/** What a test gets: connections that are closed afterwards, and a token of its own. */
export interface Scene {
  readonly unique: string;
  connect(): Promise<Bus>;
}

export interface Behaviour {
  readonly name: string;
  readonly body: (scene: Scene) => Promise<void>;
}

export const behaviour = (name: string, body: Behaviour['body']): Behaviour => ({ name, body });

/** Declares one test per behaviour. */
export function testBehaviours(harness: BusHarness, behaviours: readonly Behaviour[]): void {
  for (const [index, { name, body }] of behaviours.entries()) {
    test(`${harness.name}: ${name}`, { timeout: 30_000 }, async () => {
      const opened: Bus[] = [];
      const connect = async (): Promise<Bus> => {
        const bus = await harness.connect();
        opened.push(bus);
        return bus;
      };
      try {
        await body({ unique: `scene${index}`, connect });
      } finally {
        await Promise.all(opened.map(bus => bus.close()));
      }
    });
  }
}

export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
export const text = (body: Uint8Array): string => new TextDecoder().decode(body);

/** Waits for a condition, at most `limitMs`. */
export async function until(
  what: string,
  condition: () => boolean,
  limitMs = 10_000,
): Promise<void> {
  const deadlineMs = Date.now() + limitMs;
  while (!condition()) {
    assert(Date.now() < deadlineMs, `not within ${limitMs} ms: ${what}`);
    await sleep(5);
  }
}

/** A subscription reaches the server before this resolves. */
const seen = (bus: Bus): Promise<number> => bus.rtt();

export const CORE_BEHAVIOURS: readonly Behaviour[] = [
  behaviour('a message reaches every subscriber whose subject matches', async scene => {
    const [alice, bob] = [await scene.connect(), await scene.connect()];
    const got: string[] = [];
    const root = scene.unique;
    for (const filter of [`${root}.a`, `${root}.*`, `${root}.>`, `${root}.*.c`]) {
      bob.subscribe(filter, message => got.push(`${filter} ${text(message.body)}`));
    }
    await seen(bob);
    alice.publish(`${root}.a`, bytes('1'), { Name: 'value' });
    alice.publish(`${root}.b.c`, bytes('2'));
    await until('four messages', () => got.length === 5);
    assert.deepEqual(got.sort(), [
      `${root}.* 1`,
      `${root}.*.c 2`,
      `${root}.> 1`,
      `${root}.> 2`,
      `${root}.a 1`,
    ]);
  }),

  behaviour(
    'headers arrive as they were sent, and a stopped subscriber gets nothing',
    async scene => {
      const bus = await scene.connect();
      const got: BusMessage[] = [];
      const subscription = bus.subscribe(scene.unique, message => got.push(message));
      await seen(bus);
      bus.publish(scene.unique, bytes(''), { 'ce-id': 'x', Traceparent: '00-1' });
      await until('a message', () => got.length === 1);
      assert.deepEqual(got[0]?.headers, { 'ce-id': 'x', Traceparent: '00-1' });
      await subscription.stop();
      bus.publish(scene.unique, bytes(''));
      await seen(bus);
      await sleep(20);
      assert.equal(got.length, 1);
    },
  ),

  behaviour('a queue group shares its messages, each goes to one member', async scene => {
    const bus = await scene.connect();
    const counts = [0, 0];
    for (const member of [0, 1]) {
      bus.subscribe(scene.unique, () => (counts[member] = (counts[member] ?? 0) + 1), {
        queue: 'q',
      });
    }
    await seen(bus);
    for (let i = 0; i < 100; i += 1) bus.publish(scene.unique, bytes('x'));
    await until('all', () => (counts[0] ?? 0) + (counts[1] ?? 0) === 100);
    assert(
      counts.every(count => count > 10),
      `shared as ${counts}`,
    );
  }),

  behaviour('a subscriber that throws is reported, and gets the next message', async scene => {
    const bus = await scene.connect();
    const events: BusEvent[] = [];
    bus.status(event => events.push(event));
    let count = 0;
    bus.subscribe(scene.unique, () => {
      count += 1;
      throw new Error('bug');
    });
    await seen(bus);
    bus.publish(scene.unique, bytes('x'));
    bus.publish(scene.unique, bytes('x'));
    await until('both', () => count === 2);
    assert.deepEqual(
      events.map(event => event.type),
      ['error', 'error'],
    );
  }),

  behaviour('an ask gets the answer of the service', async scene => {
    const [client, server] = [await scene.connect(), await scene.connect()];
    server.serve(scene.unique, async message => ({
      body: bytes(text(message.body).toUpperCase()),
      headers: { Echo: message.headers['Say'] ?? '' },
    }));
    await seen(server);
    const options = { timeout_ms: 2_000, headers: { Say: 'hi' } };
    const reply = await client.ask(scene.unique, bytes('abc'), options);
    assert.equal(text(reply.body), 'ABC');
    assert.deepEqual(reply.headers, { Echo: 'hi' });
  }),

  behaviour('many asks in flight each get their own answer', async scene => {
    const [client, server] = [await scene.connect(), await scene.connect()];
    server.serve(scene.unique, async message => {
      await sleep(Math.random() * 20);
      return { body: message.body };
    });
    await seen(server);
    const asked = Array.from({ length: 200 }, (_, i) => String(i));
    const replies = await Promise.all(
      asked.map(i => client.ask(scene.unique, bytes(i), { timeout_ms: 5_000 })),
    );
    assert.deepEqual(
      replies.map(reply => text(reply.body)),
      asked,
    );
  }),

  behaviour('an ask nobody serves fails at once', async scene => {
    const bus = await scene.connect();
    const startMs = Date.now();
    await assert.rejects(bus.ask(scene.unique, bytes(''), { timeout_ms: 5_000 }), {
      code: 'no_responders',
    });
    assert(Date.now() - startMs < 1_000);
  }),

  behaviour('an ask that gets no answer times out', async scene => {
    const bus = await scene.connect();
    bus.subscribe(scene.unique, () => undefined);
    await seen(bus);
    const startMs = Date.now();
    await assert.rejects(bus.ask(scene.unique, bytes(''), { timeout_ms: 100 }), {
      code: 'timeout',
    });
    const elapsedMs = Date.now() - startMs;
    assert(elapsedMs >= 99 && elapsedMs < 1_000, `${elapsedMs} ms`);
  }),

  behaviour('an ask can be cancelled, before and while it waits', async scene => {
    const bus = await scene.connect();
    bus.subscribe(scene.unique, () => undefined);
    const asking = (signal: AbortSignal): Promise<BusMessage> =>
      bus.ask(scene.unique, bytes(''), { timeout_ms: 5_000, signal });
    await assert.rejects(asking(AbortSignal.abort()), { code: 'cancelled' });
    await assert.rejects(asking(AbortSignal.timeout(30)), { code: 'cancelled' });
  }),

  behaviour('what is larger than a message may be is refused, in either direction', async scene => {
    const bus = await scene.connect();
    const large = new Uint8Array(bus.info().max_payload_bytes + 1);
    bus.serve(scene.unique, async () => ({ body: large }));
    await seen(bus);
    assert.throws(() => bus.publish('x', large), { code: 'too_large' });
    const options = { timeout_ms: 2_000 };
    await assert.rejects(bus.ask(scene.unique, large, options), { code: 'too_large' });
    const reply = await bus.ask(scene.unique, bytes(''), options);
    assert.equal(reply.headers['Nats-Service-Error-Code'], '413');
    assert.equal(JSON.parse(text(reply.body)).code, 'too_large');
  }),

  behaviour('a service that throws answers with its error', async scene => {
    const bus = await scene.connect();
    bus.serve(scene.unique, async () => {
      throw new CodeGodError('not_found', 'no such\nbuild', { details: { id: 'b1' } });
    });
    bus.serve(`${scene.unique}.bug`, async () => {
      throw new TypeError('x is undefined');
    });
    await seen(bus);
    const reply = await bus.ask(scene.unique, bytes(''), { timeout_ms: 2_000 });
    assert.equal(reply.headers['Nats-Service-Error'], 'not_found: no such build');
    assert.equal(reply.headers['Nats-Service-Error-Code'], '404');
    assert.deepEqual(JSON.parse(text(reply.body)), {
      code: 'not_found',
      message: 'no such\nbuild',
      details: { id: 'b1' },
    });
    const bug = await bus.ask(`${scene.unique}.bug`, bytes(''), { timeout_ms: 2_000 });
    assert.equal(bug.headers['Nats-Service-Error-Code'], '500');
  }),

  behaviour('a service at its bound answers overloaded', async scene => {
    const bus = await scene.connect();
    let release = (): void => undefined;
    const held = new Promise<void>(resolve => {
      release = resolve;
    });
    const handler = async (): Promise<{ body: Uint8Array }> => {
      await held;
      return { body: bytes('done') };
    };
    bus.serve(scene.unique, handler, { concurrency: 1 });
    await seen(bus);
    const first = bus.ask(scene.unique, bytes(''), { timeout_ms: 5_000 });
    const second = await bus.ask(scene.unique, bytes(''), { timeout_ms: 5_000 });
    assert.equal(JSON.parse(text(second.body)).code, 'overloaded');
    release();
    assert.equal(text((await first).body), 'done');
  }),

  behaviour('stopping a service aborts its handlers and lets them answer', async scene => {
    const [client, server] = [await scene.connect(), await scene.connect()];
    const service = server.serve(scene.unique, async (_message, { signal }) => {
      await new Promise(resolve => signal.addEventListener('abort', resolve));
      return { body: bytes('stopped early') };
    });
    await seen(server);
    const asked = client.ask(scene.unique, bytes(''), { timeout_ms: 5_000 });
    await sleep(50);
    await service.stop();
    assert.equal(text((await asked).body), 'stopped early');
    await assert.rejects(client.ask(scene.unique, bytes(''), { timeout_ms: 2_000 }), {
      code: 'no_responders',
    });
  }),

  behaviour('a closed bus fails what is asked of it, and closing twice is one', async scene => {
    const bus = await scene.connect();
    bus.subscribe(scene.unique, () => undefined);
    await seen(bus);
    const waiting = bus.ask(scene.unique, bytes(''), { timeout_ms: 10_000 });
    const failed = assert.rejects(waiting, { code: 'bus_unavailable' });
    await Promise.all([bus.close(), bus.close()]);
    await failed;
    await assert.rejects(bus.ask('x', bytes(''), { timeout_ms: 1_000 }), {
      code: 'bus_unavailable',
    });
  }),
];
