/** Whose turn it is. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildId } from '../../protocol/ids.ts';
import { Admission } from './admission.ts';

const id = (number: number): BuildId => BuildId.parse(`b${number}`);

class Queue {
  readonly admission: Admission;
  readonly admitted: string[] = [];

  constructor(buildsMax: number) {
    this.admission = new Admission(buildsMax);
  }

  ask(number: number, signal = new AbortController().signal): void {
    const asked = this.admission.admit(id(number), signal);
    asked.then(
      () => this.admitted.push(id(number)),
      () => this.admitted.push(`${id(number)} left`),
    );
  }

  async settled(): Promise<readonly string[]> {
    await new Promise(resolve => setImmediate(resolve));
    return this.admitted;
  }
}

test('no more than builds_max, and the rest in the order in which they came', async () => {
  const queue = new Queue(2);
  queue.admission.open();
  for (const number of [1, 2, 10, 9]) queue.ask(number);
  assert.deepEqual(await queue.settled(), ['b1', 'b2']);
  queue.admission.note(id(1), 'succeeded');
  assert.deepEqual(await queue.settled(), ['b1', 'b2', 'b9']);
});

test('nobody is admitted before the builds of the last term are counted', async () => {
  const queue = new Queue(1);
  queue.ask(2);
  assert.deepEqual(await queue.settled(), []);
  queue.admission.note(id(1), 'executing');
  queue.admission.open();
  assert.deepEqual(await queue.settled(), []);
  queue.admission.note(id(1), 'failed');
  assert.deepEqual(await queue.settled(), ['b2']);
});

test('a build that waits for people or memory takes nobody’s place', async () => {
  for (const state of ['awaiting_approval', 'waiting_capacity', 'paused'] as const) {
    const queue = new Queue(1);
    queue.admission.open();
    queue.ask(1);
    queue.ask(2);
    queue.admission.note(id(1), state);
    assert.deepEqual(await queue.settled(), ['b1', 'b2'], state);
  }
});

test('builds that wait for memory do not let in all the others, which would wait with them', async () => {
  const queue = new Queue(2);
  queue.admission.open();
  for (let number = 1; number <= 9; number++) queue.ask(number);
  for (let number = 1; number <= 4; number++) {
    queue.admission.note(id(number), 'waiting_capacity');
  }
  assert.deepEqual(await queue.settled(), ['b1', 'b2', 'b3', 'b4']);
});

test('a build that has its place keeps it until it says that it has begun', async () => {
  const queue = new Queue(1);
  queue.admission.open();
  queue.ask(1);
  queue.ask(2);
  queue.admission.note(id(1), 'received');
  assert.deepEqual(await queue.settled(), ['b1']);
});

test('a build that is cancelled while it waits leaves the queue', async () => {
  const queue = new Queue(1);
  queue.admission.open();
  const abort = new AbortController();
  queue.ask(1);
  queue.ask(2, abort.signal);
  queue.ask(3);
  abort.abort();
  queue.admission.note(id(1), 'succeeded');
  assert.deepEqual(await queue.settled(), ['b1', 'b2 left', 'b3']);
});
