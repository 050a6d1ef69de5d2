/** Asking processes that are killed and started again, over the in-memory bus. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from '../protocol/codec.ts';
import { CodeGodError } from '../protocol/errors.ts';
import { BUCKETS } from '../protocol/streams.ts';
import { systemClock } from './clock.ts';
import { watchLives, whilePeerLives } from './living-peer.ts';
import { silentLogger } from './log.ts';
import { createMemoryBroker } from './memory-bus.ts';

const PATIENCE_MS = 5_000;

async function world() {
  const bus = createMemoryBroker({ clock: systemClock }).connect('test');
  const bucket = bus.kv(BUCKETS.node.name);
  await bucket.ensure({ storage: 'memory' });
  const say = (key: string, epoch: number, connections?: number) =>
    bucket.put(key, encode({ epoch, connections }));
  await say('attic.gateway', 1);
  const over = new AbortController();
  const lives = await watchLives({ bus, log: silentLogger }, 'gateway', over.signal);
  const heard = () => new Promise<void>(resolve => lives.onChange(resolve));
  const end = async () => {
    over.abort();
    await bus.close();
  };
  return { bus, lives, say, heard, end };
}

/** An ask that nobody answers: it ends by its signal, or by the test's patience. */
function unanswered(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const patience = setTimeout(() => reject(new Error('nobody ended the wait')), PATIENCE_MS);
    signal.addEventListener('abort', () => {
      clearTimeout(patience);
      reject(new CodeGodError('cancelled', 'aborted'));
    });
  });
}

const never = new AbortController().signal;

test('a peer that is started again ends the wait, as something to be tried again', async () => {
  const { lives, say, end } = await world();
  const asked = whilePeerLives(lives, 'attic', never, unanswered);
  await say('attic.gateway', 2);
  await assert.rejects(asked, error => {
    assert.ok(error instanceof CodeGodError);
    assert.deepEqual([error.code, error.retryable], ['no_responders', true]);
    return true;
  });
  await end();
});

test('a peer that was cut off from the bus, or not there when it was asked, ends the wait', async () => {
  const { lives, say, end } = await world();
  for (const [peer, connections] of [
    ['attic', 2],
    ['barn', undefined],
  ] as const) {
    const asked = whilePeerLives(lives, peer, never, unanswered);
    await say(`${peer}.gateway`, 1, connections);
    await assert.rejects(asked, { code: 'no_responders', message: /connected again/ });
  }
  await end();
});

test('its own adverts, and those of other peers and kinds, end nothing', async () => {
  const { lives, say, heard, end } = await world();
  let answer = (_: string): void => {};
  const asked = whilePeerLives(lives, 'attic', never, signal => {
    return Promise.race([
      unanswered(signal),
      new Promise<string>(resolve => {
        answer = resolve;
      }),
    ]);
  });
  await say('cellar.gateway', 9);
  await say('attic.capacity', 7);
  const again = heard();
  await say('attic.gateway', 1);
  await again;
  answer('here');
  assert.equal(await asked, 'here');
  await end();
});

test('the caller who cancels is told that, not that the peer is gone', async () => {
  const { lives, end } = await world();
  const caller = new AbortController();
  const asked = whilePeerLives(lives, 'attic', caller.signal, unanswered);
  caller.abort();
  await assert.rejects(asked, { code: 'cancelled' });
  await end();
});

test('an advert that is no advert is passed over', async () => {
  const { bus, lives, say, heard, end } = await world();
  await bus.kv(BUCKETS.node.name).put('attic.gateway', new Uint8Array([0xff, 0x00]));
  const next = heard();
  await say('attic.gateway', 3);
  await next;
  assert.equal(lives.lifeOf('attic'), '3.1');
  assert.equal(lives.lifeOf('nowhere'), null);
  await end();
});
