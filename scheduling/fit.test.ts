/** Where a model fits on one host, and the largest context that still does. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CONTEXT_TIERS, type Fit, fit, largestContext, type Room, tierOf } from './fit.ts';
import { GIB, type MemoryOptions, memoryNeed, profileOfSize, reserveOf } from './memory.ts';
import { profileNamed } from './test-profiles.ts';

const OPTIONS: MemoryOptions = {
  context_tokens: 8_192,
  slots: 1,
  kv_type: 'f16',
  flash_attention: true,
  backend: 'cuda',
};
const LLAMA = profileNamed('llama3.1:8b');
const card = (
  free: number | null,
  index = 0,
  more: { integrated?: boolean; bandwidth?: number } = {},
) => ({
  index,
  total_bytes: null,
  free_bytes: free === null ? null : Math.round(free * GIB),
  bandwidth_bytes_per_s: more.bandwidth ?? null,
  integrated: more.integrated ?? false,
});
const roomOf = (ram: number | null, ...cards: ReturnType<typeof card>[]): Room => ({
  cards,
  ram_free_bytes: ram === null ? null : Math.round(ram * GIB),
  unified: false,
});
const fitted = (room: Room, offload = true, options = OPTIONS): Fit =>
  fit(LLAMA, options, room, { offload });

test('on one card where one holds it: discrete first, then the one with most free', () => {
  const cards = [card(30, 0, { integrated: true }), card(8, 1), card(20, 2)];
  const found = fitted(roomOf(64, ...cards));
  assert.equal(found.kind, 'single');
  assert.deepEqual(found.cards, [{ index: 2, bytes: found.need.total_bytes }]);
  assert.equal(found.ram_bytes, found.need.host_bytes);
  const only = fitted(roomOf(64, card(30, 0, { integrated: true }), card(2, 1)));
  assert.deepEqual(
    only.cards.map(({ index }) => index),
    [0],
  );
});

test('a card that would be full to its last byte is not enough: the reserve stays free', () => {
  const { total_bytes } = memoryNeed(LLAMA, OPTIONS);
  const exact = (total_bytes + reserveOf(total_bytes)) / GIB;
  assert.equal(fitted(roomOf(64, card(exact)), false).kind, 'single');
  assert.equal(fitted(roomOf(64, card(exact - 1e-6)), false).kind, 'none');
});

test('over several cards in proportion to what is free; each pays buffer and overhead', () => {
  const found = fitted(roomOf(64, card(6, 0), card(3, 1)));
  assert.equal(found.kind, 'multi');
  const [first, second] = found.cards;
  assert.ok((first?.bytes ?? 0) > (second?.bytes ?? 0));
  const { need } = found;
  const together = found.cards.reduce((sum, { bytes }) => sum + bytes, 0);
  const once = need.compute_bytes + need.overhead_bytes;
  assert.ok(together >= need.total_bytes + once && together < need.total_bytes + once + 1_000);
});

test('partly in main memory, only where that is allowed, slower by what was spilled', () => {
  const room = roomOf(64, card(4, 0, { bandwidth: 256e9 }));
  assert.equal(fitted(room, false).kind, 'none');
  const found = fitted(room);
  assert.equal(found.kind, 'partial');
  assert.ok(found.slowdown > 1 && found.slowdown < 4);
  assert.ok(found.ram_bytes > found.need.host_bytes);
  const faster = fitted(roomOf(64, card(4, 0, { bandwidth: 1_008e9 })));
  assert.ok(faster.slowdown > found.slowdown, 'a faster card loses more');
});

test('wholly in main memory: without a card at full speed, beside one slower', () => {
  const alone = fitted(roomOf(16));
  assert.equal(alone.kind, 'cpu');
  assert.equal(alone.slowdown, 1);
  assert.equal(alone.ram_bytes, memoryNeed(LLAMA, { ...OPTIONS, backend: 'cpu' }).total_bytes);
  const beside = fitted(roomOf(16, card(0.5)));
  assert.equal(beside.kind, 'cpu');
  assert.ok(beside.slowdown > 1);
});

test('nowhere, and by how much', () => {
  const none = fitted(roomOf(2, card(4)), false);
  assert.equal(none.kind, 'none');
  const more = none.short_bytes / GIB;
  assert.equal(fitted(roomOf(2, card(4 + more)), false).kind, 'single');
  assert.equal(fitted(roomOf(2)).kind, 'none');
});

test('memory that nobody knows is neither zero nor enough', () => {
  assert.equal(fitted(roomOf(64, card(null)), false).kind, 'unknown');
  assert.equal(fitted(roomOf(64, card(null, 0), card(20, 1))).kind, 'single');
  assert.equal(fitted(roomOf(null)).kind, 'unknown');
  assert.equal(fitted(roomOf(null, card(1))).kind, 'unknown');
  assert.equal(fitted(roomOf(null, card(1)), false).kind, 'none');
});

test('cards that share main memory are not given it twice', () => {
  const shared = { ...roomOf(6, card(12)), unified: true };
  assert.equal(fit(LLAMA, OPTIONS, shared, { offload: false }).kind, 'none');
  const roomy = { ...roomOf(12, card(12)), unified: true };
  assert.equal(fit(LLAMA, OPTIONS, roomy, { offload: false }).kind, 'single');
});

test('several cards that share main memory pay their buffers out of it', () => {
  const cards = [card(4.2, 0, { integrated: true }), card(4.2, 1, { integrated: true })];
  const { need, ...spread } = fit(LLAMA, OPTIONS, roomOf(32, ...cards), { offload: false });
  assert.equal(spread.kind, 'multi');
  const taken = spread.cards.reduce((sum, share) => sum + share.bytes, need.host_bytes) / GIB;
  const within = (ram: number) =>
    fit(LLAMA, OPTIONS, { ...roomOf(ram, ...cards), unified: true }, { offload: false }).kind;
  assert.equal(within(taken + 1e-6), 'multi');
  assert.equal(within(taken - 1e-6), 'none');
});

test('what observed loads took besides is counted', () => {
  const room = roomOf(64, card(7));
  assert.equal(fit(LLAMA, OPTIONS, room, { offload: false }).kind, 'single');
  const learnt = { offload: false, residual_bytes: 2 * GIB };
  assert.equal(fit(LLAMA, OPTIONS, room, learnt).kind, 'none');
});

test('tiers: the smallest that holds the tokens, never more than the model was made for', () => {
  assert.equal(tierOf(1, { context_max: 0 }), 4_096);
  assert.equal(tierOf(8_193, { context_max: 131_072 }), 16_384);
  assert.equal(tierOf(30_000, { context_max: 20_480 }), 20_480);
  assert.equal(tierOf(300_000, { context_max: 0 }), 524_288);
});

test('the largest context is one that fits, and its next one does not', () => {
  const { context_tokens: _, ...rest } = OPTIONS;
  const room = roomOf(16, card(9));
  const exact = largestContext(LLAMA, rest, room, { offload: false });
  assert.ok(exact !== null && exact % 256 === 0);
  const at = (context_tokens: number) => fitted(room, false, { ...OPTIONS, context_tokens }).kind;
  assert.equal(at(exact), 'single');
  assert.equal(at(exact + 256), 'none');
  const tier = largestContext(LLAMA, rest, room, { offload: false }, 'tiers');
  assert.ok(tier !== null && tier <= exact && CONTEXT_TIERS.includes(tier) && tier * 2 > exact);
  const small = roomOf(16, card(4));
  assert.equal(largestContext(LLAMA, rest, small, { offload: false }), null);
  const large = roomOf(64, card(80));
  assert.equal(largestContext(LLAMA, rest, large, { offload: false }), LLAMA.context_max);
  assert.equal(largestContext(LLAMA, rest, large, { offload: false }, 'tiers'), 131_072);
});

const anyProfile = fc.oneof(
  fc.constantFrom(
    LLAMA,
    profileNamed('qwen3:30b-a3b'),
    profileNamed('gemma3:4b'),
    profileNamed('qwen3.5:4b'),
    profileNamed('qwen3.6:27b'),
  ),
  fc
    .integer({ min: 1, max: 60 * GIB })
    .map(size_bytes => profileOfSize({ size_bytes, context_max: 131_072, family: 'any' })),
);
const bytes = fc.integer({ min: 0, max: 48 * GIB });
const anyRoom: fc.Arbitrary<Room> = fc.record({
  cards: fc
    .array(fc.record({ free_bytes: fc.option(bytes, { freq: 8 }), integrated: fc.boolean() }), {
      maxLength: 4,
    })
    .map(cards =>
      cards.map((one, index) => ({
        ...one,
        index,
        total_bytes: null,
        bandwidth_bytes_per_s: null,
      })),
    ),
  ram_free_bytes: fc.option(bytes, { freq: 8 }),
  unified: fc.boolean(),
});
const anyContext = fc.integer({ min: 256, max: 131_072 });
const anyVersion = fc.constantFrom(null, '0.17.4', '0.33.2');

test('never over-committed, and the same question has the same answer', () => {
  fc.assert(
    fc.property(
      anyProfile,
      anyRoom,
      anyContext,
      fc.boolean(),
      anyVersion,
      (profile, room, context_tokens, offload, engine_version) => {
        const options = { ...OPTIONS, context_tokens, engine_version };
        const found = fit(profile, options, room, { offload });
        assert.deepEqual(found, fit(profile, options, structuredClone(room), { offload }));
        for (const share of found.cards) {
          const free = room.cards.find(({ index }) => index === share.index)?.free_bytes ?? 0;
          const kept = reserveOf(share.bytes, found.need.kept_free_bytes);
          assert.ok(share.bytes + kept <= free, `card ${share.index}`);
        }
        const onCards = found.cards.reduce((sum, share) => sum + share.bytes, 0);
        const shared = room.unified ? onCards : 0;
        if (room.ram_free_bytes !== null)
          assert.ok(found.ram_bytes + shared <= room.ram_free_bytes, 'main memory');
        assert.ok(found.slowdown >= 1, 'slowdown');
        const isPlaced = !['none', 'unknown'].includes(found.kind);
        assert.equal(isPlaced, found.cards.length > 0 || found.ram_bytes > 0);
        assert.equal(found.short_bytes > 0, found.kind === 'none');
      },
    ),
    { numRuns: 400 },
  );
});

const RANK = { single: 0, multi: 1, partial: 2, cpu: 3, unknown: 4, none: 4 } as const;

test('more free memory never makes it worse, a larger context never better', () => {
  const known = anyRoom.filter(
    room =>
      room.ram_free_bytes !== null && room.cards.every(({ free_bytes }) => free_bytes !== null),
  );
  const arbitraries = [anyProfile, known, anyContext, fc.nat(3), bytes, fc.boolean()] as const;
  fc.assert(
    fc.property(...arbitraries, anyVersion, (profile, room, context_tokens, which, ...more) => {
      const [extra, offload, engine_version] = more;
      const options = { ...OPTIONS, context_tokens, engine_version };
      const rank = (one: Room, context = context_tokens) =>
        RANK[fit(profile, { ...options, context_tokens: context }, one, { offload }).kind];
      const cards = room.cards.map((one, index) =>
        index === which ? { ...one, free_bytes: (one.free_bytes ?? 0) + extra } : one,
      );
      const ram_free_bytes = (room.ram_free_bytes ?? 0) + extra;
      assert.ok(rank({ ...room, cards, ram_free_bytes }) <= rank(room), 'more memory');
      assert.ok(rank(room, context_tokens + 4_096) >= rank(room), 'larger context');
    }),
    { numRuns: 400 },
  );
});
