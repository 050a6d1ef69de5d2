/**
 * Goal: a promise is worth what is on the disk, however writes fail and whoever asks in between.
 * Method: the book on a journal whose writes are held up and let go, or refused, one by one.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CodeGodError, toWireError } from '../../protocol/errors.ts';
import { NodeId } from '../../protocol/ids.ts';
import { EngineAdvert, ReserveRequest } from '../../protocol/node.ts';
import { SimulatedClock } from '../../runtime/clock.ts';
import { type Journal, memoryJournal } from '../../runtime/journal.ts';
import { WORKER_KEYS } from '../../runtime/journal-keys.ts';
import { silentLogger } from '../../runtime/log.ts';
import type { Situation } from './admission.ts';
import { Draining } from './draining.ts';
import { LeaseBook } from './lease-book.ts';

const ENGINE = EngineAdvert.parse({
  ...{ name: 'scaffold', available: true, version: '1', reason: null },
  models: [
    {
      ...{ name: 'scaffold', digest: 'd', size_bytes: 0, family: '', parameter_size: '' },
      ...{ quantization: '', context_max: 32_768, capabilities: [], loaded: true },
      ...{ vram_bytes: 0, ram_bytes: 0, context_tokens: 32_768 },
    },
  ],
});
const situation = (): Situation => ({
  ...{ node: NodeId.parse('n1'), now: 1_000, ready: true, slots: 2, capacity: null },
  ...{ engines: [ENGINE], residents: [], offload: false, aliases: {} },
});
const asked = (attempt: number, changes: object = {}) =>
  ReserveRequest.parse({
    ...{ build: 'b1', task: 'store', attempt, engine: 'scaffold', model: 'scaffold' },
    ...{ context_tokens: 8_192, bytes: 0, ttl_ms: 10_000 },
    ...changes,
  });

/** A journal whose writes wait until each is let through or refused. */
async function heldUp() {
  const journal = await memoryJournal(WORKER_KEYS);
  const waiting: { readonly pass: () => void; readonly refuse: () => void }[] = [];
  const turn = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const full = new CodeGodError('disk_full', 'no space left');
      waiting.push({ pass: resolve, refuse: () => reject(full) });
    });
  const slow: Journal = {
    get: key => journal.get(key),
    entries: (prefix, after) => journal.entries(prefix, after),
    keys: (prefix, after) => journal.keys(prefix, after),
    close: () => journal.close(),
    put: async (key, value) => {
      await turn();
      await journal.put(key, value);
    },
    batch: async operations => {
      await turn();
      await journal.batch(operations);
    },
  };
  /** The write that is next, when it has come. */
  const next = async () => {
    while (waiting.length === 0) await new Promise(resolve => setImmediate(resolve));
    return waiting.shift() ?? assert.fail();
  };
  return { journal, slow, next };
}

const TOLD = { changed: () => {}, used: () => {} };
const bookOf = (journal: Journal) => LeaseBook.open(journal, 7, TOLD);
const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'nothing',
    (error: unknown) => toWireError(error).code,
  );

describe('a promise to an attempt', () => {
  it('that is asked for again is not answered from a write that fails', async () => {
    const { journal, slow, next } = await heldUp();
    const book = await bookOf(slow);
    const first = book.reserve(asked(1), situation);
    const again = book.reserve(asked(1), situation);
    (await next()).refuse();
    assert.equal(await codeOf(first), 'disk_full');
    (await next()).pass();
    const reply = await again;
    assert.ok(reply.granted);
    const kept = await bookOf(journal);
    assert.deepEqual(
      kept.ledger.leases.map(({ lease }) => lease),
      [reply.lease],
    );
  });

  it('that cannot be kept takes nothing from the one before it', async () => {
    const { journal, slow, next } = await heldUp();
    const book = await bookOf(slow);
    const first = book.reserve(asked(1), situation);
    (await next()).pass();
    const before = await first;
    const larger = book.reserve(asked(1, { context_tokens: 16_384 }), situation);
    (await next()).refuse();
    assert.equal(await codeOf(larger), 'disk_full');
    const leases = (from: LeaseBook) => from.ledger.leases.map(({ lease }) => lease);
    assert.ok(before.granted);
    assert.deepEqual(leases(book), [before.lease]);
    assert.deepEqual(leases(await bookOf(journal)), [before.lease]);
  });

  it('holds until its end is on disk, and is ended again when that failed', async () => {
    const { journal, slow, next } = await heldUp();
    const book = await bookOf(slow);
    const first = book.reserve(asked(1), situation);
    (await next()).pass();
    const { granted } = await first;
    assert.ok(granted);
    const gone = book.releaseAttempt('b1.store.1');
    (await next()).refuse();
    assert.equal(await codeOf(gone), 'disk_full');
    assert.equal(book.ledger.leases.length, 1);
    const swept = book.sweep({ now: () => 20_000, monotonic: () => 0 }, () => false);
    (await next()).pass();
    assert.equal((await swept).length, 1);
    assert.equal(book.ledger.leases.length, 0);
    assert.equal((await bookOf(journal)).ledger.leases.length, 0);
  });
});

describe('the time of a promise', () => {
  it('is over when it was said to be, however the clock is put in between', async () => {
    for (const shiftMs of [-3_600_000, 3_600_000]) {
      const clock = new SimulatedClock();
      const book = await bookOf(await memoryJournal(WORKER_KEYS));
      const at = () => ({ ...situation(), now: clock.now() });
      assert.ok((await book.reserve(asked(1), at)).granted);
      const sweep = () => book.sweep(clock, () => false);
      assert.equal((await sweep()).length, 0);
      clock.shift(shiftMs);
      await clock.advance(9_999);
      assert.equal((await sweep()).length, 0);
      await clock.advance(1);
      assert.equal((await sweep()).length, 1);
    }
  });
});

describe('a drain', () => {
  it('that is taken back while it is being written is answered with what is on disk', async () => {
    const { journal, slow, next } = await heldUp();
    const draining = await Draining.open(slow, silentLogger, () => {});
    const on = draining.set(true);
    const off = draining.set(false).then(() => draining.asked);
    (await next()).pass();
    await on;
    (await next()).pass();
    assert.equal(await off, false);
    assert.equal(await journal.get('drain'), false);
  });
});

it('a lease that cannot be read is dropped and told, and the others hold', async () => {
  const journal = await memoryJournal(WORKER_KEYS);
  const good = {
    lease: '6-1--5ec2e7',
    ...{ build: 'b1', task: 'store', attempt: 1, engine: 'ollama', model: 'm' },
    ...{ context_tokens: 4_096, bytes: 1_000, epoch: 6, expires_at: 9e15 },
  };
  await journal.put('lease/good', good);
  for (const [key, value] of Object.entries({
    number: 7,
    nothing: null,
    bytes: { ...good, bytes: 'many' },
    cards: { ...good, cards: [{ index: 0 }] },
    end: { ...good, expires_at: undefined },
  })) {
    await journal.put(`lease/${key}`, value);
  }
  await journal.put('lease/torn', good);
  const torn: Journal = {
    ...{ get: async key => readUnless(key === 'lease/torn', () => journal.get(key)) },
    ...{ put: (key, value) => journal.put(key, value), close: () => journal.close() },
    batch: operations => journal.batch(operations),
    entries: (...range) => journal.entries(...range),
    keys: (...range) => journal.keys(...range),
  };
  const told: string[] = [];
  const listeners = { ...TOLD, unreadable: (key: string) => void told.push(key) };
  const book = await LeaseBook.open(torn, 7, listeners);
  assert.deepEqual(book.ledger.leases, [good]);
  assert.deepEqual(
    told.sort(),
    ['bytes', 'cards', 'end', 'nothing', 'number', 'torn'].map(key => `lease/${key}`),
  );
  const left: string[] = [];
  for await (const [key] of journal.entries('lease/')) left.push(key);
  assert.deepEqual(left, ['lease/good']);
});

function readUnless<T>(isDamaged: boolean, read: () => Promise<T>): Promise<T> {
  if (isDamaged) throw new CodeGodError('log_corrupt', 'the value is damaged');
  return read();
}
