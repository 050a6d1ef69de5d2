/**
 * Who waits for whom, of a server with two slots per model, one model at a time and one place in its
 * queue.
 */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { type Client, LONG_OPTIONS, type Reply, sleep, until } from './client.ts';

export const QUEUEING_ENV = {
  OLLAMA_NUM_PARALLEL: '2',
  OLLAMA_MAX_LOADED_MODELS: '1',
  OLLAMA_MAX_QUEUE: '1',
};
const SAME_LOAD = { options: { ...LONG_OPTIONS, num_predict: 1 } };
const HI = [{ role: 'user', content: 'hi' }];
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
    // A slow machine may still have the first in its queue when the second comes, or end the long
    // answer before all have asked. That proves nothing, and is tried again.
    for (let tries = 1; ; tries += 1) {
      const busy = await client().long('tiny');
      const head = asking(client(), 'other');
      await sleep(30);
      const second = asking(client(), 'third');
      await sleep(30);
      const third = asking(client(), 'tools');
      const past = await client().ask('/api/chat', { model: 'tiny', messages: HI, ...SAME_LOAD });
      await Promise.race([second.reply, third.reply, busy.rest]);
      const [refused, ...more] = [second, third].filter(asked => asked.seen !== null);
      // While the first still waits, nobody was served who came after it and needs a load.
      const isProof = head.seen === null && more.length === 0 && past.status === 200;
      busy.hangUp();
      const replies = await Promise.all([head.reply, second.reply, third.reply]);
      if (isProof && refused !== undefined) {
        assert.deepEqual([refused.seen?.status, refused.seen?.json], [503, { error: BUSY }]);
        assert.deepEqual([past.status, past.lines.at(-1)?.['done']], [200, true]);
        assert.deepEqual(replies.map(({ status }) => status).sort(), [200, 200, 503]);
        assert.deepEqual(await client().loaded(), [
          refused === second ? third.model : second.model,
        ]);
        return;
      }
      const seen = replies.map(({ status }) => status).join(', ');
      assert.ok(tries < 10, `not once one of three was refused while the others waited: ${seen}`);
    }
  });

  it('joins the load of the same model', async () => {
    await client().unload(...(await client().loaded()));
    const timed = async (askers: readonly number[]): Promise<number> => {
      const started = performance.now();
      await Promise.all(askers.map(() => patientLoad(client())));
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
    await patientLoad(client());
    assert.deepEqual(await client().loaded(), ['tiny']);
  });
}

interface Asking {
  readonly model: string;
  readonly reply: Promise<Reply>;
  /** The reply, once it is there. */
  seen: Reply | null;
}

/** Asks for a model to be loaded. */
function asking(client: Client, model: string): Asking {
  const asked: Asking = {
    ...{ model, seen: null },
    reply: client.ask('/api/chat', { model, messages: [] }).then(reply => {
      asked.seen = reply;
      return reply;
    }),
  };
  return asked;
}

/** Loads `tiny`; whoever came before may still stand in the one place of the queue. */
async function patientLoad(client: Client): Promise<void> {
  let reply: Reply | null = null;
  await until(async () => {
    reply = await client.ask('/api/chat', { model: 'tiny', messages: [], ...SAME_LOAD });
    return reply.status !== 503;
  });
  assert.equal((reply as Reply | null)?.status, 200);
}
