/** The consumer against a server that is this test: redelivery, working, stopping. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BusEvent, Delivery, Outcome } from './bus.ts';
import { consume } from './bus-consumer.ts';
import { TimerWheel } from './bus-wheel.ts';
import type { PulledMessage } from './bus-wire.ts';
import { SimulatedClock } from './clock.ts';

const OPTIONS = {
  durable: 'worker',
  filter: '>',
  ack_wait_ms: 30_000,
  max_deliver: -1,
  max_ack_pending: 10,
  concurrency: 2,
};

/** A consumer whose server is this test: it delivers by hand and notes every answer. */
async function scene(handler: (delivery: Delivery) => Promise<Outcome>) {
  const clock = new SimulatedClock();
  const wheel = new TimerWheel(clock);
  const events: BusEvent[] = [];
  const answers: string[] = [];
  let wanted = 0;
  let deliver: (pulled: PulledMessage) => void = () => undefined;
  const subscription = await consume(
    {
      wheel,
      emit: event => events.push(event),
      open: async (_stream, _options, onDelivery) => {
        deliver = onDelivery;
        return {
          want: count => {
            wanted += count;
          },
          stop: async () => undefined,
        };
      },
    },
    'S',
    OPTIONS,
    handler,
  );
  return {
    clock,
    events,
    answers,
    subscription,
    wanted: () => wanted,
    deliver(seq: number, deliveries: number, name: string) {
      wanted -= 1;
      const message = { subject: 's', headers: {}, body: new Uint8Array(0), seq, time: '' };
      const acknowledger = {
        done: async () => void answers.push(`${name} done`),
        retry: (delayMs: number) => void answers.push(`${name} retry ${delayMs}`),
        reject: (reason: string) => void answers.push(`${name} reject ${reason}`),
        working: () => void answers.push(`${name} working`),
      };
      deliver({ message, deliveries, acknowledger });
    },
  };
}

test('a second delivery of a running message is answered by the running handler', async () => {
  let finish: (outcome: Outcome) => void = () => undefined;
  let handlers = 0;
  const { deliver, answers, clock, wanted } = await scene(() => {
    handlers += 1;
    return new Promise(resolve => {
      finish = resolve;
    });
  });
  deliver(7, 1, 'first');
  deliver(7, 2, 'second');
  assert.equal(handlers, 1);
  assert.equal(wanted(), 1, 'one handler runs, so one more message is wanted');
  finish({ kind: 'done' });
  await clock.advance(0);
  assert.deepEqual(answers, ['second done']);
  assert.equal(wanted(), 2);
});

test('working is told every third of the ack wait, until the outcome', async () => {
  let finish: (outcome: Outcome) => void = () => undefined;
  const { deliver, answers, clock } = await scene(
    () =>
      new Promise(resolve => {
        finish = resolve;
      }),
  );
  deliver(1, 1, 'a');
  await clock.advance(35_000);
  assert.deepEqual(answers, ['a working', 'a working', 'a working']);
  finish({ kind: 'retry', delay_ms: 5, reason: 'busy' });
  await clock.advance(60_000);
  assert.deepEqual(answers.slice(3), ['a retry 5']);
});

test('what is delivered while stopping goes back, and stopping does not wait forever', async () => {
  const { deliver, answers, clock, subscription } = await scene(
    () => new Promise<Outcome>(() => undefined),
  );
  deliver(1, 1, 'stuck');
  let stopped = false;
  const stopping = subscription.stop().then(() => {
    stopped = true;
  });
  deliver(2, 1, 'late');
  assert.deepEqual(answers, ['late retry 0']);
  await clock.advance(29_000);
  assert.equal(stopped, false);
  await clock.advance(2_000);
  await stopping;
});
