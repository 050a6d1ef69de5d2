/** Which idle models go. Held against every possible set of victims. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { chooseVictims, isEvictable, lossOf } from './eviction.ts';
import type { Resident } from './node-resident.ts';

const NOW = 1_000_000;
const GIB = 1024 ** 3;

const resident = (key: string, more: Partial<Resident> = {}): Resident => ({
  ...{ model: key, key, engine: 'ollama', state: 'loaded', ram_bytes: 0, context_tokens: 8_192 },
  ...{ cards: [{ index: 0, bytes: GIB }], slots: 1, in_flight: 0, leased: false, kept: false },
  ...{ used_at: null, loaded_at: null, reload_ms: 1_000 },
  ...more,
});
const bytesOf = (victims: readonly Resident[]): number =>
  victims.reduce((sum, { cards }) => sum + (cards[0]?.bytes ?? 0), 0);

test('what is at work, leased, kept, loading or just loaded is never a victim', () => {
  const spared: Partial<Resident>[] = [
    { in_flight: 1 },
    { leased: true },
    { kept: true },
    { state: 'loading' },
    { state: 'unloading' },
    { loaded_at: NOW - 5_000 },
  ];
  for (const more of spared) {
    const options = { now: NOW, residency_ms: 10_000 };
    assert.equal(isEvictable(resident('a', more), options), false, JSON.stringify(more));
    assert.equal(
      chooseVictims([resident('a', more)], () => true, options),
      null,
    );
  }
  assert.ok(
    isEvictable(resident('a', { loaded_at: NOW - 10_000 }), { now: NOW, residency_ms: 10_000 }),
  );
});

test('a model loses value with the time it was not used, and none while it is wanted', () => {
  const at = (used_at: number) => lossOf(resident('a', { used_at }), { now: NOW });
  assert.equal(at(NOW), 1_000);
  assert.ok(at(NOW - 60_000) > at(NOW - 600_000));
  const old = resident('a', { used_at: NOW - 600_000 });
  assert.equal(lossOf(old, { now: NOW, wanted: () => true }), 1_000);
});

test('a model that another node has too is worth less, but not where somebody waits for it', () => {
  const doubled = new Set(['a']);
  const used = resident('a', { used_at: NOW });
  assert.equal(lossOf(used, { now: NOW, doubled }), 250);
  assert.equal(lossOf(used, { now: NOW, doubled, wanted: () => true }), 1_000);
  const last = resident('b', { used_at: NOW, reload_ms: 900 });
  const choice = chooseVictims([used, last], victims => victims.length > 0, { now: NOW, doubled });
  assert.deepEqual(
    choice?.victims.map(({ key }) => key),
    ['a'],
  );
});

test('one large model goes rather than two that are worth more together', () => {
  const small = ['s1', 's2'].map(key => resident(key, { used_at: NOW, reload_ms: 4_000 }));
  const large = resident('l', {
    ...{ used_at: NOW, reload_ms: 6_000 },
    cards: [{ index: 0, bytes: 2 * GIB }],
  });
  const choice = chooseVictims([...small, large], victims => bytesOf(victims) >= 2 * GIB, {
    now: NOW,
  });
  assert.deepEqual(
    choice?.victims.map(({ key }) => key),
    ['l'],
  );
});

const residents = fc
  .uniqueArray(
    fc.record({
      key: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'),
      gibs: fc.integer({ min: 1, max: 12 }),
      reload_ms: fc.integer({ min: 1, max: 30 }).map(seconds => seconds * 1_000),
      idle_ms: fc.option(fc.integer({ min: 0, max: 900_000 })),
      in_flight: fc.constantFrom(0, 0, 0, 1),
    }),
    { maxLength: 8, selector: ({ key }) => key },
  )
  .map(list =>
    list.map(({ key, gibs, reload_ms, idle_ms, in_flight }) =>
      resident(key, {
        ...{ reload_ms, in_flight, cards: [{ index: 0, bytes: gibs * GIB }] },
        used_at: idle_ms === null ? null : NOW - idle_ms,
      }),
    ),
  );

test('the victims are enough, none of them is needless, and no other set costs less', () => {
  fc.assert(
    fc.property(residents, fc.integer({ min: 1, max: 40 }), (all, gibs) => {
      const isEnough = (victims: readonly Resident[]) => bytesOf(victims) >= gibs * GIB;
      const choice = chooseVictims(all, isEnough, { now: NOW });
      const idle = all.filter(({ in_flight }) => in_flight === 0);
      const sets = Array.from({ length: 2 ** idle.length }, (_, mask) =>
        idle.filter((_member, bit) => (mask & (1 << bit)) !== 0),
      ).filter(isEnough);
      if (choice === null) return assert.equal(sets.length, 0);
      assert.ok(isEnough(choice.victims));
      assert.ok(choice.victims.every(({ in_flight }) => in_flight === 0));
      for (const victim of choice.victims) {
        const rest = choice.victims.filter(other => other !== victim);
        assert.ok(rest.length === 0 || !isEnough(rest), 'a needless victim');
      }
      const lossOfSet = (victims: readonly Resident[]) =>
        victims.reduce((sum, victim) => sum + lossOf(victim, { now: NOW }), 0);
      const least = Math.min(...sets.map(lossOfSet));
      // Beyond six idle models the choice is greedy.
      if (idle.length <= 6) assert.ok(choice.cost_ms <= least + 1e-6);
    }),
    { numRuns: 300 },
  );
});

test('the order in which residents are listed does not matter', () => {
  fc.assert(
    fc.property(residents, fc.integer({ min: 1, max: 30 }), (all, gibs) => {
      const isEnough = (victims: readonly Resident[]) => bytesOf(victims) >= gibs * GIB;
      const forward = chooseVictims(all, isEnough, { now: NOW });
      const backward = chooseVictims(all.toReversed(), isEnough, { now: NOW });
      assert.deepEqual(backward, forward);
    }),
  );
});
