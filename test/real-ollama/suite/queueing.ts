/**
 * Who waits for whom, of a server with two slots per model, one model at a time and one place in its
 * queue.
 */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { type Client, LONG_OPTIONS, sleep, until } from './client.ts';

export const QUEUEING_ENV = {
  OLLAMA_NUM_PARALLEL: '2',
  OLLAMA_MAX_LOADED_MODELS: '1',
  OLLAMA_MAX_QUEUE: '1',
};
const SAME_LOAD = { options: { ...LONG_OPTIONS, num_predict: 1 } };
const BUSY = 'server busy, please try again.  maximum pending requests exceeded';

export function queueing(client: () => Client): void {
  it('has a cache for each of its slots', async () => {
    assert.equal(await client().bytesPerToken('tiny'), 2 * 256);
  });

  it('answers two at the same time, and the third when one of them has ended', async () => {
    const first = await client().long('tiny');
    const second = await client().long('tiny');
    assert.deepEqual([first.hasEnded(), second.hasEnded()], [false, false]);
    let third = false;
    const waits = client()
      .chat('tiny', 'hi', SAME_LOAD)
      .then(() => {
        third = true;
      });
    await sleep(50);
    assert.equal(third, false);
    first.hangUp();
    await waits;
    second.hangUp();
  });

  it('stops working for whoever hangs up: the next one gets the slot', async () => {
    const streams = [await client().long('tiny'), await client().long('tiny')];
    for (const stream of streams) stream.hangUp();
    // Were they still at work, this would wait for their tokens.
    const next = await client().long('tiny');
    assert.equal(next.hasEnded(), false);
    next.hangUp();
  });

  it('loads one model at a time: the older one goes when it has finished', async () => {
    const busy = await client().long('tiny', { options: { ...LONG_OPTIONS, num_predict: 300 } });
    const other = client().load('other', { options: { num_ctx: 512 } });
    const text = await busy.rest;
    assert.match(text, /"done":true,"done_reason":"length"/);
    await other;
    assert.deepEqual(await client().loaded(), ['other']);
  });

  it('refuses whoever finds the queue full, but never who needs no load', async () => {
    const busy = await client().long('tiny');
    const head = client().load('other');
    await sleep(50);
    const queued = client().load('third');
    await sleep(50);
    const { status, json } = await client().ask('/api/chat', { model: 'tools', messages: [] });
    assert.deepEqual([status, json], [503, { error: BUSY }]);
    const past = await client().chat('tiny', 'hi', SAME_LOAD);
    assert.equal(past['done'], true);
    busy.hangUp();
    await Promise.all([head, queued]);
    assert.deepEqual(await client().loaded(), ['third']);
  });

  it('joins the load of the same model', async () => {
    await client().unload('third');
    const timed = async (askers: readonly number[]): Promise<number> => {
      const started = performance.now();
      await Promise.all(askers.map(() => client().load('tiny', SAME_LOAD)));
      const tookMs = performance.now() - started;
      await client().unload('tiny');
      return tookMs;
    };
    const ratios: number[] = [];
    // A busy machine may make one of the two slow once, not thrice.
    while (ratios.length < 3 && ratios.every(ratio => ratio >= 1.8)) {
      const aloneMs = await timed([1]);
      ratios.push((await timed([1, 2])) / aloneMs);
    }
    assert.ok(
      ratios.some(ratio => ratio < 1.8),
      `two loads took ${ratios} times as long as one`,
    );
  });

  it('gives up a load when its asker hangs up', async () => {
    await client().unload('tiny');
    await client().give('/api/chat', { model: 'other', messages: [] }, 40);
    await until(async () => (await client().loaded()).length === 0);
    await client().load('tiny', SAME_LOAD);
    assert.deepEqual(await client().loaded(), ['tiny']);
  });
}
