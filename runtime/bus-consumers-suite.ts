/**
 * The part of the bus suite about durable consumers: every outcome, redelivery, bounds.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Bus, BusEvent, ConsumeOptions, Delivery, Outcome } from './bus.ts';
import { streamOf } from './bus-streams-suite.ts';
import { type Behaviour, behaviour, bytes, text, until } from './bus-suite.ts';

const consumerOf = (unique: string, more: Partial<ConsumeOptions> = {}): ConsumeOptions => ({
  durable: 'worker',
  filter: `${unique}.>`,
  ack_wait_ms: 5_000,
  max_deliver: -1,
  max_ack_pending: 100,
  concurrency: 4,
  ...more,
});

/** Consumes with a handler that notes every delivery as `body/deliveries`. */
async function consuming(
  bus: Bus,
  unique: string,
  more: Partial<ConsumeOptions>,
  handler: (delivery: Delivery) => Promise<Outcome> | Outcome,
): Promise<{ readonly got: string[]; readonly events: BusEvent[]; stop(): Promise<void> }> {
  const got: string[] = [];
  const events: BusEvent[] = [];
  bus.status(event => events.push(event));
  await bus.streams.ensure(streamOf(unique));
  const subscription = await bus.consume(
    unique.toUpperCase(),
    consumerOf(unique, more),
    async delivery => {
      got.push(`${text(delivery.body)}/${delivery.deliveries}`);
      return handler(delivery);
    },
  );
  return { got, events, stop: () => subscription.stop() };
}

export const CONSUMER_BEHAVIOURS: readonly Behaviour[] = [
  behaviour('done: a message is delivered once, also to a later consumer', async scene => {
    const bus = await scene.connect();
    const { unique } = scene;
    const first = await consuming(bus, unique, {}, () => ({ kind: 'done' }));
    for (let i = 0; i < 50; i += 1) await bus.streams.append(`${unique}.a`, bytes(String(i)));
    await until('all', () => first.got.length === 50);
    await first.stop();
    const second = await consuming(bus, unique, {}, () => ({ kind: 'done' }));
    await bus.streams.append(`${unique}.a`, bytes('new'));
    await until('the new one', () => second.got.length > 0);
    assert.deepEqual(second.got, ['new/1']);
    assert.equal(new Set(first.got).size, 50);
  }),

  behaviour('retry: a message comes again after the delay', async scene => {
    const bus = await scene.connect();
    const times: number[] = [];
    const { got } = await consuming(bus, scene.unique, {}, ({ deliveries }) => {
      times.push(Date.now());
      return deliveries < 3 ? { kind: 'retry', delay_ms: 150, reason: 'busy' } : { kind: 'done' };
    });
    await bus.streams.append(`${scene.unique}.a`, bytes('x'));
    await until('three deliveries', () => got.length === 3);
    assert.deepEqual(got, ['x/1', 'x/2', 'x/3']);
    const [first = 0, , third = 0] = times;
    assert(third - first >= 290 && third - first < 2_000, `${third - first} ms`);
  }),

  behaviour('reject: a message never comes again, and that is told', async scene => {
    const bus = await scene.connect();
    const { unique } = scene;
    const consumer = await consuming(bus, unique, { ack_wait_ms: 300 }, () => ({
      kind: 'reject',
      reason: 'not a task',
    }));
    await bus.streams.append(`${unique}.a`, bytes('x'));
    await until('an event', () => consumer.events.length === 1);
    await sleep(500);
    assert.deepEqual(consumer.got, ['x/1']);
    assert.deepEqual(consumer.events, [
      { type: 'message_rejected', subject: `${unique}.a`, reason: 'not a task' },
    ]);
  }),

  behaviour('fatal: the consumer stops and another one gets the message', async scene => {
    const [sick, healthy] = [await scene.connect(), await scene.connect()];
    const { unique } = scene;
    const first = await consuming(sick, unique, {}, () => ({ kind: 'fatal', reason: 'no disk' }));
    await sick.streams.append(`${unique}.a`, bytes('x'));
    await until('an event', () => first.events.length === 1);
    assert.deepEqual(first.events, [
      { type: 'handler_fatal', subject: `${unique}.a`, reason: 'no disk' },
    ]);
    const second = await consuming(healthy, unique, {}, () => ({ kind: 'done' }));
    await until('the message', () => second.got.length === 1);
    assert.deepEqual(second.got, ['x/2']);
    await sick.streams.append(`${unique}.a`, bytes('y'));
    await until('the next message', () => second.got.length === 2);
    assert.equal(first.got.length, 1);
  }),

  behaviour('a handler that throws is a retry, and that is told', async scene => {
    const bus = await scene.connect();
    const { got, events } = await consuming(bus, scene.unique, {}, ({ deliveries }) => {
      if (deliveries === 1) throw new Error('bug');
      return { kind: 'done' };
    });
    await bus.streams.append(`${scene.unique}.a`, bytes('x'));
    await until('again', () => got.length === 2);
    assert.equal(events[0]?.type, 'error');
  }),

  behaviour('a handler may take longer than the ack wait', async scene => {
    const bus = await scene.connect();
    let ended = false;
    const { got } = await consuming(bus, scene.unique, { ack_wait_ms: 300 }, async () => {
      await sleep(1_200);
      ended = true;
      return { kind: 'done' };
    });
    await bus.streams.append(`${scene.unique}.a`, bytes('x'));
    await until('the end', () => ended);
    await sleep(500);
    assert.deepEqual(got, ['x/1']);
  }),

  behaviour('what a closed process did not answer comes again after the ack wait', async scene => {
    const [first, second] = [await scene.connect(), await scene.connect()];
    const { unique } = scene;
    const options = { ack_wait_ms: 400 };
    await consuming(first, unique, options, () => new Promise<Outcome>(() => undefined));
    await first.streams.append(`${unique}.a`, bytes('x'));
    await sleep(100);
    await first.close();
    const { got } = await consuming(second, unique, options, () => ({ kind: 'done' }));
    await until('a second delivery', () => got.length === 1);
    assert.deepEqual(got, ['x/2']);
  }),

  behaviour('a sole consumer gets at once what its predecessor did not answer', async scene => {
    const [first, second] = [await scene.connect(), await scene.connect()];
    const { unique } = scene;
    const options = { ack_wait_ms: 60_000, concurrency: 2, sole: true };
    let end = (): void => {};
    const over = new Promise<void>(resolve => {
      end = resolve;
    });
    const before = await consuming(first, unique, options, async ({ body }) => {
      if (text(body) !== 'b') await over;
      return { kind: 'done' };
    });
    for (const body of ['a', 'b', 'c']) await first.streams.append(`${unique}.a`, bytes(body));
    await until('all three', () => before.got.length === 3);
    await sleep(100);
    const { got } = await consuming(second, unique, options, () => ({ kind: 'done' }));
    await until('what was open', () => got.includes('a/1') && got.includes('c/1'));
    await second.streams.append(`${unique}.a`, bytes('d'));
    await until('the next one', () => got.includes('d/1'));
    // What was answered after an open one may come along: the server goes back to its ack floor.
    assert.deepEqual(got.filter(body => body !== 'b/1').sort(), ['a/1', 'c/1', 'd/1']);
    end();
  }),

  behaviour('a message whose deliveries are exhausted is told and left alone', async scene => {
    const bus = await scene.connect();
    const { unique } = scene;
    const { got, events } = await consuming(bus, unique, { max_deliver: 2 }, () => ({
      kind: 'retry',
      delay_ms: 20,
      reason: 'never',
    }));
    await bus.streams.append(`${unique}.a`, bytes('x'));
    await until('an event', () => events.length === 1);
    assert.deepEqual(got, ['x/1', 'x/2']);
    assert.deepEqual(events, [
      { type: 'deliveries_exhausted', stream: unique.toUpperCase(), seq: 1 },
    ]);
  }),

  behaviour('no more handlers run than allowed, and the rest waits at the server', async scene => {
    const [busy, free] = [await scene.connect(), await scene.connect()];
    const { unique } = scene;
    let running = 0;
    let most = 0;
    const held: (() => void)[] = [];
    const first = await consuming(busy, unique, { concurrency: 2 }, async () => {
      running += 1;
      most = Math.max(most, running);
      await new Promise<void>(resolve => held.push(resolve));
      running -= 1;
      return { kind: 'done' };
    });
    for (let i = 0; i < 6; i += 1) await busy.streams.append(`${unique}.a`, bytes(String(i)));
    await until('two', () => held.length === 2);
    const second = await consuming(free, unique, { concurrency: 2 }, () => ({ kind: 'done' }));
    await until('the others', () => second.got.length === 4);
    for (const release of held) release();
    await first.stop();
    assert.equal(most, 2);
    assert.deepEqual([...first.got, ...second.got].sort(), [
      '0/1',
      '1/1',
      '2/1',
      '3/1',
      '4/1',
      '5/1',
    ]);
  }),

  behaviour('a filter picks the messages of one consumer', async scene => {
    const bus = await scene.connect();
    const { unique } = scene;
    const filter = `${unique}.n1.>`;
    const { got } = await consuming(bus, unique, { filter }, () => ({ kind: 'done' }));
    for (const node of ['n1', 'n2', 'n1']) {
      await bus.streams.append(`${unique}.${node}.t`, bytes(node));
    }
    await until('both', () => got.length === 2);
    await sleep(50);
    assert.deepEqual(got, ['n1/1', 'n1/1']);
  }),
];
