/**
 * Goal: a system that is stopped lets clients' answers end, within the time that it has, and takes
 * nothing new. Method: the real door, bus and worker over a fake Ollama that speaks slowly.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type NatsFixture, startNats } from '../../test/nats-fixture.ts';
import { TestMaster } from './test-master.ts';
import { TestNode } from './test-node.ts';

const LONG_MS = 10_000;
const SHORT_MS = 200;

describe('draining', { timeout: 60_000 }, () => {
  let nats: NatsFixture;
  before(async () => {
    nats = await startNats();
  });
  after(() => nats?.stop());

  /** A door, and a node with one model that says so many words in a second, ten in all. */
  const begin = async (id: string, decode: number) => {
    const master = await TestMaster.start({ url: nats.url });
    const name = `${id}:8b`;
    const models = [{ name, size: 1e9, tokens: 10, decode, loadMs: 1 }];
    const node = await TestNode.start({ url: nats.url, id, models });
    const ask = (): Promise<Response> =>
      fetch(`${master.http.url}/v1/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          model: name,
          stream: true,
          messages: [{ role: 'user', content: 'Hi' }],
        }),
      });
    for (let tries = 0; tries < 400; tries += 1) {
      const response = await ask();
      if (response.status === 200) return { master, node, ask, response };
      await response.arrayBuffer();
      await sleep(25);
    }
    return assert.fail(`${name} is never answered for`);
  };

  test('what is being answered is answered to its end, and nothing new is taken', async () => {
    const { master, node, ask, response } = await begin('patient', 10);
    // Each process stops as soon as it has drained, whatever the others do.
    const stopped = node.drain(LONG_MS).then(() => node.stop());
    const drained = master.http.drain();
    const refused = await ask();
    assert.equal(refused.status, 503);
    await refused.arrayBuffer();
    const text = await response.text();
    assert.match(text, /data: \[DONE\]\s*$/);
    assert.equal(text.match(/"content":"[^"]+"/g)?.length, 10, text);
    await Promise.all([stopped, drained]);
    await master.remove();
  });

  test('what takes longer than there is time for is cut, and its client is told', async () => {
    const { master, node, response } = await begin('hasty', 0.5);
    await node.drain(SHORT_MS);
    await node.stop();
    const text = await response.text();
    assert.match(text, /"error"/);
    assert.doesNotMatch(text, /\[DONE\]/);
    await master.remove();
  });
});
