/** Goal: the pauses, the crash loop and the way out of every state, on a simulated clock. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AnyEventObject, createActor, fromCallback } from 'xstate';
import { SimulatedClock } from '../../runtime/clock.ts';
import { sourcePath } from '../../test/source-tree.ts';
import { assertReadmeDiagram } from '../../test/state-diagram.ts';
import { pauseAfter, SERVER_TIMINGS, type ServerEvent, serverMachine } from './server-machine.ts';

function supervised() {
  const clock = new SimulatedClock();
  const told: string[] = [];
  let starts = 0;
  const connection = fromCallback<AnyEventObject, { readonly name: string }>(({ receive }) => {
    starts += 1;
    receive(event => told.push(event.type));
    return () => told.push('left');
  });
  const actor = createActor(serverMachine.provide({ actors: { connection } }), {
    input: { name: 'odd', timings: SERVER_TIMINGS },
    clock: {
      setTimeout: (fire, delayMs) => clock.setTimeout(fire, delayMs),
      clearTimeout: handle => clock.clearTimeout(handle),
    },
  });
  actor.start();
  const send = (event: ServerEvent) => actor.send(event);
  const state = () => {
    const { value } = actor.getSnapshot();
    return typeof value === 'string' ? value : value.alive;
  };
  const crash = () =>
    send({ type: 'server.exited', at: clock.now(), jitter: 0.5, reason: 'exited with 1' });
  return { clock, actor, send, state, crash, told, starts: () => starts };
}

test('pauses double from one second to sixteen, a fifth shorter or longer', () => {
  assert.deepEqual(
    [1, 2, 3, 4, 5, 9].map(count => pauseAfter(count, 0.5)),
    [1_000, 2_000, 4_000, 8_000, 16_000, 16_000],
  );
  assert.equal(pauseAfter(1, 0), 800);
  assert.ok(pauseAfter(5, 0.999) <= 19_200);
});

test('a server nobody wants stays cold after its pause, a wanted one starts', async () => {
  const { clock, send, state, crash, starts } = supervised();
  send({ type: 'server.wanted' });
  crash();
  assert.equal(state(), 'backoff');
  await clock.advance(1_000);
  assert.equal(state(), 'cold');
  send({ type: 'server.wanted' });
  crash();
  send({ type: 'server.wanted' });
  await clock.advance(1_999);
  assert.equal(state(), 'backoff');
  await clock.advance(1);
  assert.equal(state(), 'starting');
  assert.equal(starts(), 3);
});

test('five crashes within five minutes are a crash loop; a reset or time ends it', async () => {
  const { clock, send, state, crash, actor } = supervised();
  for (let round = 0; round < 5; round++) {
    send({ type: 'server.wanted' });
    crash();
    if (round < 4) await clock.advance(20_000);
  }
  assert.equal(state(), 'crash_loop');
  assert.equal(actor.getSnapshot().context.reason, 'exited with 1');
  send({ type: 'server.wanted' });
  assert.equal(state(), 'crash_loop');
  send({ type: 'server.reset' });
  assert.equal(state(), 'cold');
  assert.equal(actor.getSnapshot().context.crashes.length, 0);
});

test('crashes that lie five minutes back do not count', async () => {
  const { clock, send, state, crash, actor } = supervised();
  for (let round = 0; round < 8; round++) {
    send({ type: 'server.wanted' });
    crash();
    assert.equal(state(), 'backoff');
    await clock.advance(100_000);
  }
  assert.equal(actor.getSnapshot().context.restarts, 8);
});

test('calls keep a server from being stopped; the last one that ends lets it idle', async () => {
  const { clock, send, state, told } = supervised();
  send({ type: 'server.wanted' });
  send({ type: 'server.ready' });
  send({ type: 'call.began' });
  send({ type: 'call.began' });
  send({ type: 'call.ended' });
  await clock.advance(SERVER_TIMINGS.idleMs * 2);
  assert.equal(state(), 'ready');
  send({ type: 'call.ended' });
  assert.equal(state(), 'idle');
  await clock.advance(SERVER_TIMINGS.idleMs);
  assert.equal(state(), 'stopping');
  assert.deepEqual(told, ['server.stop']);
});

test('a server wanted while it stops starts again once it is gone, without a crash counted', () => {
  const { clock, send, state, actor, crash, starts } = supervised();
  send({ type: 'server.wanted' });
  send({ type: 'server.ready' });
  send({ type: 'server.stop' });
  send({ type: 'server.wanted' });
  assert.equal(state(), 'stopping');
  crash();
  assert.equal(state(), 'starting');
  assert.equal(starts(), 2);
  assert.equal(actor.getSnapshot().context.restarts, 0);
  assert.ok(clock.now() > 0);
});

test('what is missing is looked for again after its pause', async () => {
  const { clock, send, state, actor } = supervised();
  send({ type: 'server.wanted' });
  send({ type: 'server.missing', reason: 'not installed', fix: 'npm ci' });
  assert.equal(state(), 'missing');
  assert.equal(actor.getSnapshot().context.fix, 'npm ci');
  await clock.advance(SERVER_TIMINGS.missingPauseMs);
  assert.equal(state(), 'cold');
});

test('the README shows the machine as it is', () => {
  assertReadmeDiagram(sourcePath('actors/mcp-gateway/README.md'), serverMachine);
});
