/** A durable consumer whose pulls the server ends at once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { WireMessage } from './bus-wire.ts';
import { systemClock } from './clock.ts';
import { openConsumer } from './nats-consumer.ts';
import type { NatsParts } from './nats-parts.ts';

const ROUNDS = 12;

test('pulls that end with 409 again and again are opened ever more slowly', async () => {
  const pauses: number[] = [];
  let pulls = 0;
  let enough = (): void => {};
  const ended = new Promise<void>(resolve => {
    enough = resolve;
  });
  const handlers = new Map<string, (message: WireMessage) => void>();
  const wire = {
    inbox: 'inbox',
    connected: true,
    subscribe(subject: string, handler: (message: WireMessage) => void) {
      handlers.set(subject, handler);
      return { stop: () => void handlers.delete(subject) };
    },
    publish(_subject: string, body: Uint8Array, headers: object, reply: string) {
      pulls += 1;
      if (pulls > ROUNDS) return enough();
      const refusal = { subject: reply, body, headers: headers ?? {}, reply: null, status: 409 };
      setImmediate(() => handlers.get(reply)?.(refusal as unknown as WireMessage));
    },
    flush: async () => {},
  };
  const parts = {
    wire,
    wheel: { after: () => ({ cancel: () => {} }) },
    clock: { ...systemClock, random: () => 1, sleep: async (ms: number) => void pauses.push(ms) },
    api: { call: async () => ({}) },
    emit: () => {},
    listen: () => () => {},
  } as unknown as NatsParts;
  const options = {
    ...{ durable: 'd', filter: 'f', ack_wait_ms: 30_000, max_deliver: 3 },
    ...{ max_ack_pending: 1, concurrency: 1 },
  };
  const link = await openConsumer(parts)('S', options, () => {});
  link.want(1);
  await ended;
  await link.stop();
  assert.equal(pauses.length, ROUNDS - 1, 'the first is opened again at once');
  assert.deepEqual(pauses.slice(0, 4), [100, 200, 400, 800]);
  assert.equal(Math.max(...pauses), 5_000);
});
