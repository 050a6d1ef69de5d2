/** What a node has for one more model, card by card. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backendOf } from './node-cards.ts';
import type { NodeNews } from './node-resident.ts';
import { roomOf } from './node-room.ts';
import { GIB, NOW, type NodeInput, nodeView } from './test-nodes.ts';

const freeOf = (input: NodeInput, news?: NodeNews): (number | null)[] =>
  roomOf(nodeView(input), news).room.cards.map(({ free_bytes }) =>
    free_bytes === null ? null : free_bytes / GIB,
  );
const card = (free: number | null, total: number | null, more: object = {}) => ({
  free: free === null ? null : free * GIB,
  total: total === null ? null : total * GIB,
  ...more,
});
const model = (name: string, gibs: number, more: object = {}) => ({
  ...{ name, size_bytes: gibs * GIB },
  ...more,
});

test('the reserve is taken from every card', () => {
  const node = { id: 'a', gpus: [card(20, 24), card(8, 8)], reserve: GIB };
  assert.deepEqual(freeOf(node), [19, 7]);
});

test('the driver and the sum of what is known each have a say: the smaller counts', () => {
  const foreign = { foreign: 10 * GIB };
  assert.deepEqual(freeOf({ id: 'a', gpu: card(20, 24, foreign) }), [14]);
  assert.deepEqual(freeOf({ id: 'a', gpu: card(3, 24, foreign) }), [3]);
});

test('a promise to a model that is not loaded is not free; one to a loaded model is counted once', () => {
  const leases = [{ model: 'm:7b', bytes: 6 * GIB }];
  assert.deepEqual(freeOf({ id: 'a', gpu: card(20, 24), leases }), [14]);
  const loaded = [model('m:7b', 5, { loaded: true })];
  assert.deepEqual(freeOf({ id: 'a', gpu: card(19, 24), models: loaded, leases }), [18]);
});

test('unknown is neither nothing nor enough', () => {
  assert.deepEqual(freeOf({ id: 'a', gpu: card(null, 24) }), [null]);
  assert.equal(roomOf(nodeView({ id: 'a', gpu: card(null, 24) })).free_bytes, null);
});

test('memory shared with the processor is what is available of main memory', () => {
  const ram = { available: 10 * GIB, total: 32 * GIB };
  const node = { id: 'a', gpu: card(null, 24, { unified: true }), ram };
  assert.deepEqual(freeOf(node), [10]);
  assert.equal(roomOf(nodeView(node)).room.unified, true);
});

test('what lies on several cards is assumed where the memory is in use', () => {
  const models = [model('l:30b', 16, { loaded: true })];
  const { room, residents, without } = roomOf(
    nodeView({ id: 'a', gpus: [card(4, 24), card(24, 24)], models }),
  );
  assert.deepEqual(residents[0]?.cards, [{ index: 0, bytes: 16 * GIB }]);
  assert.equal(room.cards[0]?.free_bytes, 4 * GIB);
  assert.equal(without(residents).cards[0]?.free_bytes, 20 * GIB);
});

test('a load that was decided takes its memory, and gives that of its victims, before adverts show it', () => {
  const models = [model('old:7b', 18, { loaded: true }), model('new:7b', 9)];
  const node = { id: 'a', gpu: card(6, 24), models };
  const booking = {
    ...({ model: 'new:7b', engine: 'ollama', kind: 'inference', context_tokens: 8_192 } as const),
    ...{ cards: [{ index: 0, bytes: 10 * GIB }], ram_bytes: 0, load: true, evict: ['old:7b'] },
    started_at: NOW,
  };
  assert.deepEqual(freeOf(node, { bookings: [booking] }), [14]);
  const room = roomOf(nodeView(node), { bookings: [booking] });
  assert.deepEqual(
    room.residents.map(({ key, state }) => [key, state]),
    [['new:7b', 'loading']],
  );
  assert.deepEqual(room.evictable, []);
});

test('a request that is booked here and shown by the node counts once, and one that ended not at all', () => {
  const booking = {
    ...({ model: 'm:7b', engine: 'ollama', kind: 'inference', context_tokens: 8_192 } as const),
    ...{ cards: [], ram_bytes: 0, load: false, evict: [], started_at: NOW - 10 },
  };
  const inFlight = (in_flight: number, news: NodeNews) => {
    const models = [model('m:7b', 5, { loaded: true, in_flight })];
    return roomOf(nodeView({ id: 'a', gpu: card(18, 24), models }), news).residents[0]?.in_flight;
  };
  assert.equal(inFlight(1, { bookings: [booking] }), 1);
  assert.equal(inFlight(3, { bookings: [booking] }), 3);
  assert.equal(inFlight(0, { bookings: [{ ...booking, started_at: NOW + 5 }] }), 1);
  assert.equal(inFlight(1, { bookings: [], ended: new Map([['m:7b', 1]]) }), 0);
});

test('graphics beside the processor of which nobody knows what is free are no card', () => {
  const display = card(null, null, { integrated: true, unified: true });
  const ram = { available: 10 * GIB, total: 32 * GIB };
  const laptop = roomOf(nodeView({ id: 'a', gpu: display, ram }));
  assert.deepEqual([laptop.kind, laptop.free_bytes], ['ram', 10 * GIB]);
  assert.deepEqual(laptop.room, { cards: [], ram_free_bytes: 10 * GIB, unified: false });
  assert.equal(backendOf(nodeView({ id: 'a', gpu: display }).capacity?.advert ?? null), 'cpu');
  const beside = roomOf(nodeView({ id: 'a', gpus: [display, card(20, 24)], ram }));
  assert.deepEqual(
    beside.room.cards.map(({ index }) => index),
    [1],
  );
});

test('the scaffold holds nothing, so that it is neither there nor to be unloaded', () => {
  const models = [model('m:7b', 5, { loaded: true })];
  const { residents, evictable } = roomOf(
    nodeView({ id: 'a', gpu: card(19, 24), models, scaffold: true }),
  );
  assert.deepEqual([residents.length, evictable], [1, ['m:7b']]);
});
