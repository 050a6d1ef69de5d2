/** The list of builds on disk. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BuildState } from '../../../protocol/build.ts';
import { CodeGodError } from '../../../protocol/errors.ts';
import { BuildId } from '../../../protocol/ids.ts';
import { type Journal, memoryJournal } from '../../../runtime/journal.ts';
import { MASTER_KEYS } from '../../../runtime/journal-keys.ts';
import { silentLogger } from '../../../runtime/log.ts';
import { NEW_BUILD } from '../build-context.ts';
import { summaryOf } from '../build-summary.ts';
import { BuildIndex } from './build-index.ts';

const id = (number: number): BuildId => BuildId.parse(`b${number}`);
const summary = (number: number, state: BuildState) => summaryOf(id(number), state, NEW_BUILD);
const open = (journal: Journal): Promise<BuildIndex> => BuildIndex.open(journal, silentLogger);

async function flakyJournal() {
  const journal = await memoryJournal(MASTER_KEYS);
  const disk = { isFull: false };
  const flaky: Journal = {
    get: key => journal.get(key),
    put: (key, value) => journal.put(key, value),
    entries: (prefix, after) => journal.entries(prefix, after),
    keys: (prefix, after) => journal.keys(prefix, after),
    close: () => journal.close(),
    batch: async operations => {
      if (disk.isFull) throw new Error('the disk is full');
      await journal.batch(operations);
    },
  };
  return { journal, flaky, disk };
}

test('pages go from the newest to the oldest, by number', async () => {
  const index = await open(await memoryJournal(MASTER_KEYS));
  for (const number of [9, 10, 2, 100]) index.put(summary(number, 'executing'), number);
  assert.deepEqual(index.page(2, null), ['b100', 'b10']);
  assert.deepEqual(index.page(2, id(10)), ['b9', 'b2']);
});

test('the list outlives the process; what has not ended is recovering until it is opened', async () => {
  const journal = await memoryJournal(MASTER_KEYS);
  const index = await open(journal);
  index.put(summary(1, 'executing'), 11);
  index.put(summary(2, 'succeeded'), 12);
  await index.flush();
  const again = await open(journal);
  assert.deepEqual(again.unended(), ['b1']);
  assert.equal(again.scanned, 12);
  assert.equal((await again.get(id(1)))?.state, 'recovering');
  assert.equal((await again.get(id(2)))?.state, 'succeeded');
  assert.equal(await again.get(id(3)), null);
});

test('what is on its way to the disk is seen already', async () => {
  const journal = await memoryJournal(MASTER_KEYS);
  const index = await open(journal);
  index.put(summary(1, 'executing'), 1);
  index.put(summary(1, 'succeeded'), 2);
  assert.equal((await index.get(id(1)))?.state, 'succeeded');
});

test('after a write that failed nothing more is taken for scanned', async () => {
  const { journal, flaky, disk } = await flakyJournal();
  const index = await open(flaky);
  disk.isFull = true;
  index.put(summary(1, 'received'), 5);
  await index.flush();
  disk.isFull = false;
  index.put(summary(2, 'received'), 6);
  await index.flush();
  const again = await open(journal);
  assert.ok(again.scanned < 6, 'or the first build would never be looked for');
  assert.deepEqual(again.unended(), ['b2']);
});

test('a write that fails while others wait behind it leaves nothing out', async () => {
  const { journal, flaky, disk } = await flakyJournal();
  const index = await open(flaky);
  await index.flush();
  disk.isFull = true;
  const batch = flaky.batch;
  // The first write fails; those that were asked for before anybody knew of it do not.
  Object.assign(flaky, {
    batch: (operations: Parameters<typeof batch>[0]) => {
      const written = batch(operations);
      disk.isFull = false;
      return written;
    },
  });
  index.put(summary(1, 'received'), 5);
  index.put(summary(2, 'received'), 6);
  await index.flush();
  const again = await open(journal);
  assert.deepEqual(again.unended(), ['b2']);
  assert.ok(again.scanned < 5, 'or the first build would never be looked for');
});

test('the list is begun anew where the stream is another one, or lost its end', async () => {
  const journal = await memoryJournal(MASTER_KEYS);
  const filled = async (last_seq: number, created = 'then'): Promise<BuildIndex> => {
    const index = await open(journal);
    await index.listOf({ created, last_seq });
    return index;
  };
  const first = await open(journal);
  first.put(summary(1, 'executing'), 11);
  await first.flush();
  // The list of an earlier release names no stream: it is of the one that is there.
  assert.deepEqual((await filled(11)).unended(), ['b1']);
  assert.deepEqual((await filled(12)).unended(), ['b1']);
  const other = await filled(12, 'later');
  assert.deepEqual([other.unended(), other.scanned], [[], 0]);
  other.put(summary(2, 'executing'), 9);
  await other.flush();
  const shorter = await filled(8, 'later');
  assert.deepEqual([shorter.unended(), shorter.scanned], [[], 0]);
  assert.deepEqual((await open(journal)).unended(), []);
});

test('a row that cannot be read is looked for again in the stream, and the others stay', async () => {
  const journal = await memoryJournal(MASTER_KEYS);
  const first = await open(journal);
  for (const number of [1, 2]) first.put(summary(number, 'executing'), number);
  await first.flush();
  const damaged = 'build/0000000000000001';
  assert.notEqual(await journal.get(damaged), undefined);
  const torn: Journal = {
    ...(await flakyJournal()).flaky,
    get: async key => {
      if (key === damaged) throw new CodeGodError('log_corrupt', 'damaged');
      return await journal.get(key);
    },
    batch: operations => journal.batch(operations),
    keys: (...range) => journal.keys(...range),
  };
  const second = await open(torn);
  assert.deepEqual(second.unended(), ['b2']);
  assert.equal(second.scanned, 0);
  const third = await open(journal);
  assert.equal(third.scanned, 0, 'also after another kill');
  assert.deepEqual(third.unended(), ['b2']);
});
