/**
 * Goal: a load is booked on the cards it will lie on, with what has to go for it, and stale figures
 * never make room. Method: chosen situations on nodes of one and two cards.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NodeId } from '../../protocol/ids.ts';
import { CapacityAdvert, EngineAdvert } from '../../protocol/node.ts';
import { profileOfSize } from '../../scheduling/memory.ts';
import { type Admission, admit, planLoad, type Situation } from './admission.ts';
import type { Lease } from './lease.ts';
import type { Resident } from './residents.ts';

const GIB = 1024 ** 3;
const MEASURED_AT = 1_000;

const capacity = (cards: readonly (readonly [total: number, free: number])[], ramFree = 0) =>
  CapacityAdvert.parse({
    ...{ node: 'n1', epoch: 1, host: 'h', state: 'ready', at: MEASURED_AT, os: '', arch: '' },
    cpu: { model: '', cores: 1, load: null },
    ram: { total_bytes: 64 * GIB, available_bytes: ramFree * GIB },
    disk: { total_bytes: null, free_bytes: null },
    gpus: cards.map(([total, free], index) => ({
      ...{ index, uuid: null, name: 'GPU', vendor: 'nvidia', unified: false, source: 'test' },
      ...{ total_bytes: total * GIB, used_bytes: null, free_bytes: free * GIB },
      ...{ utilization: null, temperature_c: null, power_w: null, measured_at: MEASURED_AT },
    })),
    ...{ reserve_bytes: 0, unknown: [] },
  });
const model = (name: string) => ({
  ...{ name, digest: name, size_bytes: GIB, family: '', parameter_size: '', quantization: '' },
  ...{ context_max: 32_768, capabilities: [], loaded: false },
  ...{ vram_bytes: null, ram_bytes: null, context_tokens: null },
});
const resident = (name: string, index: number, gib: number, changes: object = {}): Resident => ({
  ...{ engine: 'ollama', model: name, state: 'loaded', context_tokens: 8_192, ours: true },
  charge: { cards: [{ index, bytes: gib * GIB }], ram_bytes: 0, bytes: gib * GIB },
  ...{ in_flight: 0, kept: false, used_at: null, loaded_at: null, since: 0 },
  ...changes,
});
const situation = (advert: CapacityAdvert, changes: Partial<Situation> = {}): Situation => ({
  ...{ node: NodeId.parse('n1'), now: 2_000, ready: true, slots: 8, capacity: advert },
  engines: [
    EngineAdvert.parse({
      ...{ name: 'ollama', available: true, version: '1', reason: null },
      models: ['a', 'b', 'c'].map(model),
    }),
  ],
  ...{ residents: [], offload: false, aliases: {} },
  ...changes,
});
const wanted = (name: string, gib: number, context_tokens = 8_192) =>
  ({ engine: 'ollama', model: name, context_tokens, bytes: gib * GIB }) as const;
const lease = (name: string, index: number, gib: number): Lease =>
  ({
    ...{ build: 'b1', task: 'store', attempt: 1, lease: '1-1', epoch: 1, expires_at: 9_000 },
    ...wanted(name, gib),
    ...{ cards: [{ index, bytes: gib * GIB }], ram_bytes: 0 },
  }) as never;
const cardsOf = (admission: Admission): readonly number[] =>
  admission.kind === 'admitted'
    ? (admission.charge?.cards ?? []).map(({ index }) => index)
    : assert.fail(admission.reason);
const evictOf = (admission: Admission): readonly string[] =>
  admission.kind === 'admitted' ? admission.evict : assert.fail(admission.reason);

describe('a load on several cards', () => {
  it('is booked on the card with most free beside what is promised there', () => {
    const now = situation(
      capacity([
        [24, 24],
        [12, 12],
      ]),
    );
    assert.deepEqual(cardsOf(planLoad([], wanted('a', 10), now)), [0]);
    const promised = [lease('b', 0, 20)];
    assert.deepEqual(cardsOf(planLoad(promised, wanted('a', 10), now)), [1]);
    assert.equal(planLoad(promised, wanted('a', 16), now).kind, 'refused');
  });

  it('lies over both where neither holds it alone', () => {
    const now = situation(
      capacity([
        [12, 12],
        [12, 12],
      ]),
    );
    assert.deepEqual(cardsOf(planLoad([], wanted('a', 16), now)), [0, 1]);
  });

  it('evicts from the card where that is enough, and nobody else', () => {
    const now = situation(
      capacity([
        [24, 4],
        [12, 2],
      ]),
      { residents: [resident('b', 0, 20), resident('c', 1, 10)] },
    );
    assert.deepEqual(evictOf(planLoad([], wanted('a', 16), now)), ['b']);
    assert.deepEqual(evictOf(planLoad([], wanted('a', 3), now)), []);
  });

  it('evicts what the asker names, where that is enough and idle', () => {
    const residents = [resident('b', 0, 10), resident('c', 0, 10, { used_at: 1_900 })];
    const now = situation(capacity([[24, 4]]), { residents });
    const naming = (evict: readonly string[], gib = 12) => ({ ...wanted('a', gib), evict });
    assert.deepEqual(evictOf(planLoad([], wanted('a', 12), now)), ['b']);
    assert.deepEqual(evictOf(planLoad([], naming(['c']), now)), ['c']);
    assert.deepEqual(evictOf(planLoad([], naming(['b', 'c']), now)), ['b'], 'no more than needed');
    assert.deepEqual(evictOf(planLoad([], naming(['gone:7b']), now)), ['b']);
    assert.deepEqual(evictOf(planLoad([], naming(['c'], 20), now)).toSorted(), ['b', 'c']);
    const busy = situation(capacity([[24, 4]]), {
      residents: [resident('b', 0, 10), resident('c', 0, 10, { in_flight: 1 })],
    });
    assert.deepEqual(evictOf(planLoad([], naming(['c']), busy)), ['b']);
  });

  it('lies partly in main memory only where that is allowed, and rather evicts', () => {
    const advert = capacity([[12, 12]], 32);
    assert.equal(planLoad([], wanted('a', 16), situation(advert)).kind, 'refused');
    const spilled = planLoad([], wanted('a', 16), situation(advert, { offload: true }));
    assert.ok(spilled.kind === 'admitted' && (spilled.charge?.ram_bytes ?? 0) > 3 * GIB);
    const full = situation(capacity([[12, 1]], 32), {
      ...{ offload: true, residents: [resident('b', 0, 11)] },
    });
    assert.deepEqual(evictOf(planLoad([], wanted('a', 9), full)), ['b']);
  });
});

describe('a stale measurement', () => {
  const stale = capacity([[24, 24]]);

  it('of before a load does not hide what was loaded', () => {
    const residents = [resident('b', 0, 16, { since: MEASURED_AT, kept: true })];
    assert.equal(planLoad([], wanted('a', 10), situation(stale, { residents })).kind, 'refused');
  });

  it('of before the clock was put back does not hide it either', () => {
    // Ten of another program's were measured, and not yet the eight that came after.
    const residents = [resident('b', 0, 8, { since: MEASURED_AT - 700, kept: true })];
    const now = situation(capacity([[24, 14]]), { residents, now: MEASURED_AT - 500 });
    assert.equal(planLoad([], wanted('a', 10), now).kind, 'refused');
  });

  it('of before an unload costs a refusal', () => {
    const before = capacity([[24, 8]]);
    const residents = [resident('b', 0, 16, { state: 'unloading', since: MEASURED_AT + 1 })];
    assert.equal(planLoad([], wanted('a', 10), situation(before, { residents })).kind, 'refused');
  });
});

describe('an idle copy', () => {
  it('is lent, unless it has to go for what was promised', () => {
    const now = situation(capacity([[24, 14]]), { residents: [resident('b', 0, 10)] });
    assert.equal(admit([], wanted('b', 10), now).kind, 'admitted');
    assert.equal(admit([lease('a', 0, 12)], wanted('b', 10), now).kind, 'admitted');
    const admission = admit([lease('a', 0, 20)], wanted('b', 10), now);
    assert.match(admission.kind === 'refused' ? admission.reason : '', /promised to others/);
  });
});

describe('a model that was never loaded here', () => {
  const profile = {
    ...profileOfSize({ size_bytes: GIB, context_max: 32_768, family: 'x' }),
    source: 'show' as const,
  };
  const here = (...observed: readonly object[]) =>
    situation(capacity([[24, 24]]), {
      engines: [
        EngineAdvert.parse({
          ...{ name: 'ollama', available: true, version: '1', reason: null },
          models: [
            { ...model('a'), profile },
            ...observed.map((seen, index) => ({
              ...{ ...model(`b${index}`), profile },
              observed: seen,
            })),
          ],
        }),
      ],
    });
  const bytesOf = (admission: Admission): number =>
    admission.kind === 'admitted' ? (admission.charge?.bytes ?? 0) : assert.fail(admission.reason);

  it('is charged with what others of its kind took beside their estimate, once', () => {
    const seen = { measured_bytes: 3 * GIB, estimated_bytes: 2 * GIB, context_tokens: 8_192 };
    const plain = bytesOf(planLoad([], wanted('a', 0), here()));
    const taught = bytesOf(planLoad([], wanted('a', 0), here(seen)));
    assert.ok(taught > plain + 0.4 * GIB, `${taught} after ${plain}`);
    const told = bytesOf(planLoad([], wanted('a', taught / GIB), here(seen)));
    assert.ok(told < taught + 0.01 * GIB, 'the asker has counted it already');
  });
});
