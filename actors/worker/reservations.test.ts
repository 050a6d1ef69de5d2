/**
 * Goal: a node never promises more memory than it has, and keeps what it promised. Method: the pure
 * ledger under chosen situations, and under random ones.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { NodeId } from '../../protocol/ids.ts';
import { CapacityAdvert, EngineAdvert, ReserveRequest } from '../../protocol/node.ts';
import { roomOf } from '../../scheduling/node-room.ts';
import type { Situation } from './admission.ts';
import { holderKey, isAttempt, type Lease, type LeaseRequest, leaseAdvert } from './lease.ts';
import { expire, type Ledger, newLedger, release, reserve as reserveWith } from './reservations.ts';
import type { Resident } from './residents.ts';

const reserve = (ledger: Ledger, asked: LeaseRequest, now: Situation) =>
  reserveWith(ledger, asked, now, 'secret');

const MIB = 1024 ** 2;
const GIB = 1024 * MIB;
const gpu = (free: number | null, total: number | null = 24 * GIB) => ({
  ...{ index: 0, uuid: null, name: 'GPU', vendor: 'nvidia', unified: false, source: 'test' },
  ...{ total_bytes: total, used_bytes: null, free_bytes: free },
  ...{ utilization: null, temperature_c: null, power_w: null, measured_at: 1 },
});
const capacity = (gpus: object[], ramFree = 8 * GIB, reserve_bytes = 0): CapacityAdvert =>
  CapacityAdvert.parse({
    ...{ node: 'n1', epoch: 1, host: 'h', state: 'ready', at: 1, os: '', arch: '' },
    cpu: { model: '', cores: 1, load: null },
    ram: { total_bytes: 64 * GIB, available_bytes: ramFree },
    disk: { total_bytes: null, free_bytes: null },
    ...{ gpus, reserve_bytes, unknown: [] },
  });
const model = (name: string, changes: object = {}) => ({
  ...{ name, digest: name, size_bytes: GIB, family: '', parameter_size: '', quantization: '' },
  ...{ context_max: 32_768, capabilities: [], loaded: false },
  ...{ vram_bytes: null, ram_bytes: null, context_tokens: null },
  ...changes,
});
const engine = (models: object[], changes: object = {}): EngineAdvert =>
  EngineAdvert.parse({
    ...{ name: 'ollama', available: true, version: '1', reason: null, models },
    ...changes,
  });
const situation = (changes: Partial<Situation> = {}): Situation => ({
  node: NodeId.parse('n1'),
  now: 1_000,
  ready: true,
  slots: 8,
  capacity: capacity([gpu(20 * GIB)]),
  engines: [engine([model('coder:7b'), model('planner:14b')])],
  residents: [],
  ...{ offload: false, aliases: {} },
  ...changes,
});
const resident = (name: string, bytes: number, changes: object = {}): Resident => ({
  ...{ engine: 'ollama', model: name, state: 'loaded', context_tokens: 8_192, ours: true },
  charge: { cards: [{ index: 0, bytes }], ram_bytes: 0, bytes },
  ...{ in_flight: 0, kept: false, used_at: null, loaded_at: null, since: 0 },
  ...changes,
});
const request = (attempt: number, bytes: number, changes: object = {}): ReserveRequest =>
  ReserveRequest.parse({
    ...{ build: 'b1', task: 'store', attempt, engine: 'ollama', model: 'coder:7b' },
    ...{ context_tokens: 8_192, bytes, ttl_ms: 10_000 },
    ...changes,
  });
const reasonOf = (reply: ReturnType<typeof reserve>['reply']): string =>
  reply.granted ? assert.fail('it was granted') : reply.reason;

describe('a reservation', () => {
  it('is granted once per attempt', () => {
    const first = reserve(newLedger(5), request(1, 6 * GIB), situation());
    assert.deepEqual(first.reply, {
      granted: true,
      lease: '5-1--secret',
      epoch: 5,
      expires_at: 11_000,
    });
    const again = reserve(first.ledger, request(1, 6 * GIB), situation({ now: 2_000 }));
    assert.deepEqual([again.reply, again.fresh], [first.reply, null]);
    assert.equal(again.ledger.leases.length, 1);
  });

  it('of an attempt that is placed anew with another model replaces the older one', () => {
    const first = reserve(newLedger(1), request(1, 6 * GIB), situation());
    const other = request(1, 12 * GIB, { model: 'planner:14b' });
    const second = reserve(first.ledger, other, situation());
    assert.deepEqual(
      second.ledger.leases.map(lease => lease.model),
      ['planner:14b'],
    );
    assert.equal(second.fresh?.lease, '1-2--secret');
  });

  it('counts what is promised, also before it is loaded', () => {
    const first = reserve(newLedger(1), request(1, 12 * GIB), situation());
    const second = reserve(
      first.ledger,
      request(2, 12 * GIB, { model: 'planner:14b' }),
      situation(),
    );
    assert.match(reasonOf(second.reply), /needs 12\.4 GiB, 8\.0 GiB can be had/);
    const later = reserve(release(first.ledger, '1-1--secret'), request(2, 12 * GIB), situation());
    assert.ok(later.reply.granted);
  });

  it('of a model that is promised or loaded already shares its copy', () => {
    const first = reserve(newLedger(1), request(1, 16 * GIB), situation());
    assert.ok(reserve(first.ledger, request(2, 16 * GIB), situation()).reply.granted);
    const full = situation({
      capacity: capacity([gpu(GIB)]),
      residents: [resident('coder:7b', 19 * GIB)],
    });
    assert.ok(reserve(newLedger(1), request(3, 16 * GIB), full).reply.granted);
    const larger = request(4, 30 * GIB, { context_tokens: 32_768 });
    assert.match(reasonOf(reserve(newLedger(1), larger, full).reply), /can be had/);
  });

  it('may take the place of a model that nobody holds a lease on', () => {
    const now = situation({
      capacity: capacity([gpu(8 * GIB)]),
      residents: [resident('planner:14b', 12 * GIB, { context_tokens: 4_096 })],
    });
    assert.ok(reserve(newLedger(1), request(1, 16 * GIB), now).reply.granted);
    const held = reserve(
      newLedger(1),
      request(2, 12 * GIB, { model: 'planner:14b', context_tokens: 4_096 }),
      now,
    );
    assert.match(
      reasonOf(reserve(held.ledger, request(1, 16 * GIB), now).reply),
      /8\.0 GiB can be had/,
    );
  });

  it('leaves the reserve alone', () => {
    const now = situation({ capacity: capacity([gpu(10 * GIB)], 0, 2 * GIB) });
    const most = 8 * GIB - 256 * MIB; // What an estimate does not see is kept free as well.
    assert.ok(reserve(newLedger(1), request(1, most), now).reply.granted);
    assert.ok(!reserve(newLedger(1), request(1, most + 1), now).reply.granted);
  });

  it('on a GPU that keeps its figures to itself needs room in main memory', () => {
    const now = situation({ capacity: capacity([gpu(null, null)], 8 * GIB) });
    assert.ok(reserve(newLedger(1), request(1, 7 * GIB), now).reply.granted);
    const more = reserve(newLedger(1), request(1, 8 * GIB), now);
    assert.match(reasonOf(more.reply), /nobody knows how much GPU memory is free/);
  });

  it('of no bytes needs a slot and nothing else', () => {
    const scaffold = engine([model('scaffold')], { name: 'scaffold' });
    const now = situation({ capacity: null, engines: [scaffold], slots: 1 });
    const wanted = { engine: 'scaffold', model: 'scaffold' };
    const first = reserve(newLedger(1), request(1, 0, wanted), now);
    assert.ok(first.reply.granted);
    assert.match(
      reasonOf(reserve(first.ledger, request(2, 0, wanted), now).reply),
      /slots are taken/,
    );
  });

  for (const [name, changes, asked, reason] of [
    ['a worker that is not ready', { ready: false }, {}, /no new work/],
    ['a node that nobody measures', { capacity: null }, {}, /nobody measures/],
    ['a model that is not there', {}, { model: 'coder:8b' }, /nearest one is coder:7b/],
    ['an engine that is not there', {}, { engine: 'openai' }, /no engine openai/],
    [
      'an engine that is down',
      { engines: [engine([], { available: false, reason: 'ECONNREFUSED' })] },
      {},
      /ECONNREFUSED/,
    ],
  ] as const) {
    it(`is declined by ${name}, with the reason`, () => {
      const { reply, ledger } = reserve(newLedger(1), request(1, GIB, asked), situation(changes));
      assert.match(reasonOf(reply), reason);
      assert.deepEqual(ledger.leases, []);
    });
  }

  it('ends by its time, but not while its attempt is at work', () => {
    const { ledger } = reserve(newLedger(1), request(1, GIB), situation());
    const by = (now: number) => (lease: Lease) => lease.expires_at <= now;
    assert.equal(expire(ledger, by(10_999), () => false).expired.length, 0);
    assert.equal(expire(ledger, by(11_000), attempt => attempt === 'b1.store.1').expired.length, 0);
    assert.equal(expire(ledger, by(11_000), () => false).ledger.leases.length, 0);
  });

  it('is never granted beyond what is free, whatever comes in whatever order', () => {
    const step = fc.record({
      attempt: fc.integer({ min: 1, max: 9 }),
      model: fc.constantFrom('coder:7b', 'planner:14b'),
      bytes: fc.integer({ min: 1, max: 24 }),
      release: fc.boolean(),
    });
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 40 }),
        fc.integer({ min: 0, max: 24 }),
        (steps, free) => {
          const now = situation({ capacity: capacity([gpu(free * GIB)], 0) });
          let ledger = newLedger(1);
          for (const { attempt, model: name, bytes, release: drop } of steps) {
            if (drop) {
              const held = ledger.leases.find(
                lease => isAttempt(lease) && lease.attempt === attempt,
              );
              if (held !== undefined) ledger = release(ledger, held.lease);
            } else {
              ledger = reserve(ledger, request(attempt, bytes * GIB, { model: name }), now).ledger;
            }
            const perModel = new Map<string, number>();
            for (const lease of ledger.leases) {
              perModel.set(lease.model, Math.max(perModel.get(lease.model) ?? 0, lease.bytes));
            }
            const promised = [...perModel.values()].reduce((sum, more) => sum + more, 0);
            assert.ok(promised <= free * GIB, `${promised / GIB} of ${free} GiB`);
            assert.equal(new Set(ledger.leases.map(holderKey)).size, ledger.leases.length);
          }
          const runtime = {
            ...{ node: now.node, epoch: 1, host: '', state: 'ready' as const, at: 1 },
            ...{
              engines: [...now.engines],
              slots: 8,
              slots_used: 0,
              leases: ledger.leases.map(lease => leaseAdvert(lease)),
            },
          };
          const view = {
            node: now.node,
            capacity: { advert: now.capacity ?? assert.fail(), seen_at: 1 },
            runtime: { advert: runtime, seen_at: 1 },
          };
          assert.ok((roomOf(view).free_bytes ?? -1) >= 0);
        },
      ),
      { numRuns: 300 },
    );
  });
});
