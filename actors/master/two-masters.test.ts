/**
 * Goal: two masters on one bus, one that leads and one that stands by, answer clients from the same
 * nodes without booking memory twice: the nodes have the last word.
 * Method: both real doors under load at once, real workers over fake Ollamas that fit one of three
 * models at a time; what is loaded is watched all the while.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { type NatsFixture, startNats } from '../../test/nats-fixture.ts';
import { TestMaster } from './test-master.ts';
import { TestNode } from './test-node.ts';

const GIB = 1024 ** 3;
const VRAM_GIB = 24;
const NAMES = ['a:14b', 'b:14b', 'c:14b'] as const;
const MODELS = NAMES.map(name => ({
  ...{ name, size: 14 * GIB, tokens: 3, loadMs: 30 },
  ...{ prefill: Number.POSITIVE_INFINITY, decode: Number.POSITIVE_INFINITY },
}));
const REQUESTS = 24;
const IN_FLIGHT = 6;

const Loaded = z.object({
  models: z.array(z.looseObject({ name: z.string(), size: z.number(), size_vram: z.number() })),
});

describe('two masters at once', { timeout: 120_000 }, () => {
  let nats: NatsFixture;
  let masters: TestMaster[] = [];
  let nodes: TestNode[] = [];

  before(async () => {
    nats = await startNats();
    masters = [
      await (await TestMaster.start({ url: nats.url, epoch: 1 })).settled(),
      await TestMaster.start({ url: nats.url, epoch: 2 }),
    ];
    const parts = { url: nats.url, models: MODELS, vramGib: VRAM_GIB };
    nodes = await Promise.all(['node-a', 'node-b'].map(id => TestNode.start({ ...parts, id })));
    for (const { http } of masters) await knowsAll(http.url);
  });
  after(async () => {
    await Promise.all(nodes.map(node => node.stop()));
    await Promise.all(masters.map(master => master.remove()));
    await nats?.stop();
  });

  const knowsAll = async (url: string): Promise<void> => {
    for (let tries = 0; tries < 400; tries += 1) {
      const { data } = (await (await fetch(`${url}/v1/models`)).json()) as { data: unknown[] };
      if (data.length > MODELS.length) return; // `auto` is one more.
      await sleep(25);
    }
    assert.fail(`${url} never knew the models`);
  };

  /** Asks one door, so many at a time; answers how each ended and where. */
  const ask = async (url: string): Promise<string[]> => {
    const ended: string[] = [];
    let next = 0;
    const one = async (): Promise<void> => {
      while (next < REQUESTS) {
        const model = NAMES[(next++ * 7) % NAMES.length];
        const response = await fetch(`${url}/v1/chat/completions`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ model, messages: [{ role: 'user', content: 'Hello' }] }),
        });
        const text = await response.text();
        assert.equal(response.status, 200, text);
        ended.push(response.headers.get('x-codegod-node') ?? '');
      }
    };
    await Promise.all(Array.from({ length: IN_FLIGHT }, one));
    return ended;
  };

  test('every request is answered, and no card ever holds more than it has', async () => {
    const most = new Map<string, number>();
    let isOver = false;
    const watch = async (node: TestNode): Promise<void> => {
      while (!isOver) {
        const { models } = Loaded.parse(await (await fetch(`${node.ollama.url}/api/ps`)).json());
        const bytes = models.reduce((sum, { size }) => sum + size, 0);
        most.set(node.node, Math.max(most.get(node.node) ?? 0, bytes));
        for (const { name, size, size_vram } of models) {
          assert.equal(size_vram, size, `${name} on ${node.node} did not fit`);
        }
        await sleep(5);
      }
    };
    const watching = Promise.all(nodes.map(watch));
    try {
      const ended = (await Promise.all(masters.map(({ http }) => ask(http.url)))).flat();
      assert.equal(ended.length, REQUESTS * masters.length);
      assert.deepEqual([...new Set(ended)].sort(), ['node-a', 'node-b']);
    } finally {
      isOver = true;
      await watching;
    }
    for (const [node, bytes] of most) {
      assert.ok(bytes > 0 && bytes <= VRAM_GIB * GIB, `${node} held ${bytes} bytes`);
    }
  });
});
