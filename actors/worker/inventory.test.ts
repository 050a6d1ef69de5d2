/** Goal: what the engines have is known as it changes, and one broken engine hides no other. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SimulatedClock } from '../../runtime/clock.ts';
import { memoryJournal } from '../../runtime/journal.ts';
import { WORKER_KEYS } from '../../runtime/journal-keys.ts';
import { silentLogger } from '../../runtime/log.ts';
import type { Engine, EngineInventory } from './engines/engine.ts';
import { Inventory } from './inventory.ts';

const NOTHING: EngineInventory = { available: false, version: null, reason: 'off', models: [] };
const HERE: EngineInventory = { available: true, version: '1', reason: null, models: [] };
const WITH_MODEL: EngineInventory = {
  ...HERE,
  models: [
    {
      ...{ name: 'coder:14b', digest: 'd', size_bytes: 9e9, family: 'f', parameter_size: '14B' },
      ...{ quantization: 'Q4', context_max: 32_768, loaded: true, vram_bytes: 1, ram_bytes: 2 },
      ...{ context_tokens: 8_192, capabilities: ['completion'] },
    },
  ],
};

function engine(name: Engine['name'], look: () => Promise<EngineInventory>): Engine {
  return { name, inventory: look } as unknown as Engine;
}

describe('an inventory', () => {
  it('is looked at again every ten seconds, and tells what changed', async () => {
    const clock = new SimulatedClock();
    let now = NOTHING;
    let changes = 0;
    const inventory = new Inventory({
      engines: [engine('ollama', async () => now)],
      clock,
      journal: await memoryJournal(WORKER_KEYS),
      log: silentLogger,
      looked: () => {},
      changed: () => {
        changes += 1;
      },
    });
    await inventory.start();
    assert.deepEqual([changes, inventory.adverts[0]?.available], [1, false]);
    await clock.advance(10_000);
    assert.equal(changes, 1);
    now = HERE;
    await clock.advance(10_000);
    assert.deepEqual([changes, inventory.adverts[0]?.available], [2, true]);
    await inventory.stop();
    assert.equal(clock.timersPending, 0);
  });

  it('looks once more, not once each, for all who ask while it looks', async () => {
    let looks = 0;
    const inventory = new Inventory({
      engines: [
        engine('ollama', async () => {
          looks += 1;
          return HERE;
        }),
      ],
      clock: new SimulatedClock(),
      journal: await memoryJournal(WORKER_KEYS),
      log: silentLogger,
      looked: () => {},
      changed: () => {},
    });
    await Promise.all([inventory.refresh(), inventory.refresh(), inventory.refresh()]);
    assert.equal(looks, 2);
  });

  it('shows the others where one engine breaks', async () => {
    const inventory = new Inventory({
      engines: [
        engine('ollama', async () => {
          throw new Error('a bug');
        }),
        engine('scaffold', async () => HERE),
      ],
      clock: new SimulatedClock(),
      journal: await memoryJournal(WORKER_KEYS),
      log: silentLogger,
      looked: () => {},
      changed: () => {},
    });
    await inventory.refresh();
    const seen = inventory.adverts.map(({ name, available, reason }) => [name, available, reason]);
    assert.deepEqual(seen, [
      ['ollama', false, 'a bug'],
      ['scaffold', true, null],
    ]);
  });

  it('knows the models of an engine that is away, and since when, also after a restart', async () => {
    const clock = new SimulatedClock();
    const journal = await memoryJournal(WORKER_KEYS);
    let now = WITH_MODEL;
    const inventoryOf = () =>
      new Inventory({
        engines: [engine('ollama', async () => now)],
        ...{ clock, journal, log: silentLogger, looked: () => {}, changed: () => {} },
      });
    const first = inventoryOf();
    await first.start();
    assert.equal(first.adverts[0]?.away_since, undefined);
    const answeredAt = clock.now();
    now = NOTHING;
    await clock.advance(10_000);
    const told = () => {
      const [advert] = first.adverts;
      const models = advert?.models.map(({ name, loaded }) => [name, loaded]);
      return [advert?.available, advert?.reason, advert?.away_since, models];
    };
    const away = [false, 'off', answeredAt, [['coder:14b', false]]];
    assert.deepEqual(told(), away);
    await first.stop();

    await clock.advance(3_600_000);
    const second = inventoryOf();
    await second.start();
    const [advert] = second.adverts;
    assert.deepEqual([advert?.away_since, advert?.models.length], [answeredAt, 1]);
    // It is looked for more often than it would be looked at.
    now = WITH_MODEL;
    await clock.advance(2_000);
    assert.deepEqual(
      [second.adverts[0]?.available, second.adverts[0]?.away_since],
      [true, undefined],
    );
    await second.stop();

    now = NOTHING;
    await clock.advance(25 * 3_600_000);
    const third = inventoryOf();
    await third.start();
    assert.deepEqual(third.adverts[0]?.models, [], 'nobody has had it here for a day');
    await third.stop();
  });
});
