/** Decisions of the supervision machine, on a clock that stands still until it is told to move. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { createActor, fromCallback } from 'xstate';
import { SimulatedClock } from '../../runtime/clock.ts';
import { packageRoot } from '../../runtime/paths.ts';
import { assertReadmeDiagram } from '../../test/state-diagram.ts';
import {
  type ChildPolicy,
  childMachine,
  childState,
  crashLooping,
  type ProcessCommand,
  type ProcessEvent,
  type ProcessInput,
  restartPauseMs,
} from './child-machine.ts';

const POLICY: ChildPolicy = {
  start_ms: 5_000,
  drain_ms: 1_000,
  steady_ms: 3_000,
  backoff_first_ms: 250,
  backoff_max_ms: 8_000,
};

/** A child whose process is the test itself. */
function world() {
  const clock = new SimulatedClock();
  const commands: string[] = [];
  const inputs: ProcessInput[] = [];
  let say: (event: ProcessEvent) => void = () => {};
  const process = fromCallback<ProcessCommand, ProcessInput, ProcessEvent>(
    ({ sendBack, receive, input }) => {
      inputs.push(input);
      say = sendBack;
      receive(command => commands.push(command.type));
    },
  );
  const child = createActor(childMachine.provide({ actors: { process } }), {
    clock: {
      setTimeout: (fire: () => void, ms: number) => clock.setTimeout(fire, ms),
      clearTimeout: handle => clock.clearTimeout(handle),
    },
    input: POLICY,
  });
  child.start();
  const state = () => childState(child.getSnapshot());
  const context = () => child.getSnapshot().context;
  const die = () => say({ type: 'process.exited', reason: 'exit code 1' });
  const live = (details = {}) => {
    say({ type: 'process.spawned', pid: 100 + inputs.length });
    say({ type: 'process.ready', details });
  };
  return { clock, child, commands, inputs, state, context, die, live };
}

test('a started child runs from the moment it says that it is ready', () => {
  const w = world();
  assert.equal(w.state(), 'cold');
  w.child.send({ type: 'child.start' });
  assert.equal(w.state(), 'starting');
  w.live({ http_url: 'http://127.0.0.1:1' });
  assert.equal(w.state(), 'running');
  assert.equal(w.context().pid, 101);
  assert.deepEqual(w.context().details, { http_url: 'http://127.0.0.1:1' });
});

test('the first death restarts at once, with what the child last said of itself', async () => {
  const w = world();
  w.child.send({ type: 'child.start' });
  w.live({ url: 'nats://127.0.0.1:4222' });
  w.die();
  assert.equal(w.context().pid, null);
  await w.clock.advance(0);
  assert.equal(w.state(), 'starting');
  assert.equal(w.inputs.length, 2);
  assert.deepEqual(w.inputs[1]?.details, { url: 'nats://127.0.0.1:4222' });
  assert.equal(w.context().restarts, 1);
  assert.equal(w.context().reason, 'exit code 1');
});

test('the pauses between further deaths grow from 250 ms to 8 s and stay there', () => {
  const pauses = [1, 2, 3, 4, 5, 6, 7, 8, 1_000].map(deaths => restartPauseMs(deaths, POLICY));
  assert.deepEqual(pauses, [0, 250, 500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
});

test('a child that keeps dying is in a crash loop and is still started again', async () => {
  const w = world();
  w.child.send({ type: 'child.start' });
  for (let death = 1; death <= 20; death++) {
    w.die();
    assert.equal(w.state(), 'backoff');
    assert.equal(crashLooping(w.context()), death >= 4);
    await w.clock.advance(restartPauseMs(death, POLICY));
    assert.equal(w.state(), 'starting');
  }
  assert.equal(w.context().restarts, 20);
});

test('a child that has run steadily is forgiven its deaths', async () => {
  const w = world();
  w.child.send({ type: 'child.start' });
  for (let death = 1; death <= 5; death++) {
    w.die();
    await w.clock.advance(8_000);
  }
  w.live();
  await w.clock.advance(POLICY.steady_ms);
  assert.equal(w.context().deaths, 0);
  w.die();
  await w.clock.advance(0);
  assert.equal(w.state(), 'starting', 'restarted without a pause');
  assert.equal(w.context().restarts, 6);
});

test('a child that never becomes ready is killed and counts as dead', async () => {
  const w = world();
  w.child.send({ type: 'child.start' });
  await w.clock.advance(POLICY.start_ms);
  assert.deepEqual(w.commands, ['process.kill']);
  w.die();
  assert.equal(w.state(), 'backoff');
  assert.equal(w.context().deaths, 1);
});

test('stopping asks first and kills when the time to drain is over', async () => {
  const w = world();
  w.child.send({ type: 'child.start' });
  w.live();
  w.child.send({ type: 'child.stop' });
  w.child.send({ type: 'child.stop' });
  assert.equal(w.state(), 'stopping');
  assert.deepEqual(w.commands, ['process.terminate']);
  await w.clock.advance(POLICY.drain_ms);
  assert.deepEqual(w.commands, ['process.terminate', 'process.kill']);
  w.die();
  assert.equal(w.state(), 'stopped');
  assert.equal(w.context().restarts, 0, 'an end that was asked for is no death');
});

test('a child that waits for its restart stops at once', () => {
  const w = world();
  w.child.send({ type: 'child.start' });
  w.die();
  w.child.send({ type: 'child.stop' });
  assert.equal(w.state(), 'stopped');
});

test('a child stopped while it starts is terminated', () => {
  const w = world();
  w.child.send({ type: 'child.start' });
  w.child.send({ type: 'child.stop' });
  assert.deepEqual(w.commands, ['process.terminate']);
  w.die();
  assert.equal(w.state(), 'stopped');
});

test('a port that cannot even start the process counts as a death', async () => {
  const process = fromCallback<ProcessCommand, ProcessInput, ProcessEvent>(() => {
    throw new Error('no such program');
  });
  const child = createActor(childMachine.provide({ actors: { process } }), { input: POLICY });
  child.start();
  child.send({ type: 'child.start' });
  assert.equal(childState(child.getSnapshot()), 'backoff');
  assert.match(child.getSnapshot().context.reason ?? '', /no such program/);
  child.stop();
});

test('the README shows the present diagram', () => {
  assertReadmeDiagram(join(packageRoot(), 'cli', 'README.md'), childMachine);
});
