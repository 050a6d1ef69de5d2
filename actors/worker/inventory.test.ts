/** Goal: what the engines have is known as it changes, and one broken engine hides no other. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SimulatedClock } from '../../runtime/clock.ts';
import { silentLogger } from '../../runtime/log.ts';
import type { Engine, EngineInventory } from './engines/engine.ts';
import { Inventory } from './inventory.ts';

const NOTHING: EngineInventory = { available: false, version: null, reason: 'off', models: [] };
const HERE: EngineInventory = { available: true, version: '1', reason: null, models: [] };

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
});
