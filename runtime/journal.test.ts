/** The journal on a real disk: what survives, what is noticed, who may hold it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import fc from 'fast-check';
import {
  fillDisk,
  makeRoom,
  mountSmallDisk,
  SKIP_UNLESS_MOUNTABLE,
  unmount,
} from '../test/small-disk.ts';
import { type Journal, memoryJournal, openJournal } from './journal.ts';
import { silentLogger } from './log.ts';
import { modulePath, sourceLoader } from './paths.ts';

async function scratch(context: { after(done: () => Promise<void>): void }): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'codegod-journal-'));
  context.after(() => rm(directory, { recursive: true, force: true }));
  return join(directory, 'journal');
}

async function all(journal: Journal, prefix: string, after?: string): Promise<[string, unknown][]> {
  const entries: [string, unknown][] = [];
  for await (const [key, value] of journal.entries(prefix, after)) entries.push([key, value]);
  return entries;
}

async function keysOf(keys: AsyncIterable<string>): Promise<string[]> {
  const found: string[] = [];
  for await (const key of keys) found.push(key);
  return found;
}

test('what was put is there after closing and opening, whatever its shape', async context => {
  const directory = await scratch(context);
  const values = [
    { a: 1, b: { c: [1, 'two', null, true] } },
    { a: 2 },
    'text',
    0,
    null,
    [],
    2 ** 45,
  ];
  const first = await openJournal(directory);
  for (const [index, value] of values.entries()) await first.put(`v/${index}`, value);
  await first.close();
  const second = await openJournal(directory);
  const found = await all(second, 'v/');
  assert.deepEqual(
    found.map(([, value]) => value),
    values,
  );
  assert.equal(await second.get('nothing'), undefined);
  await second.close();
});

test('any plain data comes back equal, from disk shapes kept by earlier values too', async context => {
  const directory = await scratch(context);
  let journal = await openJournal(directory);
  const plain = fc
    .jsonValue({ maxDepth: 3 })
    .filter(value => !JSON.stringify(value).includes('__proto__'));
  await fc.assert(
    fc.asyncProperty(fc.array(plain, { maxLength: 6 }), fc.boolean(), async (values, reopen) => {
      await Promise.all(values.map((value, index) => journal.put(`p/${index}`, value)));
      if (reopen) {
        await journal.close();
        journal = await openJournal(directory);
      }
      for (const [index, value] of values.entries()) {
        assert.deepEqual(await journal.get(`p/${index}`), normal(value));
      }
    }),
    { numRuns: 40 },
  );
  await journal.close();
});

/** Minus zero is no plain data of ours. Nor are keys named __proto__: the codec refuses them. */
const normal = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

test('entries come by key, from a prefix, after a key, and nothing else', async () => {
  const journal = await memoryJournal();
  for (const key of ['a/2', 'a/1', 'b/1', 'a/3', 'a']) await journal.put(key, key);
  const keys = async (prefix: string, after?: string) =>
    (await all(journal, prefix, after)).map(([key]) => key);
  assert.deepEqual(await keys('a/'), ['a/1', 'a/2', 'a/3']);
  assert.deepEqual(await keys('a/', 'a/1'), ['a/2', 'a/3']);
  assert.deepEqual(await keys(''), ['a', 'a/1', 'a/2', 'a/3', 'b/1']);
  assert.deepEqual(await keysOf(journal.keys('a/', 'a/1')), ['a/2', 'a/3']);
});

test('concurrent writes take effect in the order of the calls', async context => {
  const journal = await openJournal(await scratch(context));
  await Promise.all(Array.from({ length: 200 }, (_, n) => journal.put('same', { n })));
  assert.deepEqual(await journal.get('same'), { n: 199 });
  await journal.batch([
    { type: 'put', key: 'x', value: 1 },
    { type: 'del', key: 'x' },
    { type: 'del', key: 'same' },
  ]);
  assert.equal(await journal.get('x'), undefined);
  assert.equal(await journal.get('same'), undefined);
  await journal.close();
});

test('a value that cannot be packed fails alone and leaves the journal usable', async () => {
  const journal = await memoryJournal();
  await assert.rejects(journal.put('bad', Symbol('no data')));
  await journal.put('good', 1);
  assert.equal(await journal.get('good'), 1);
});

const CHILD = `
  import { openJournal } from ${JSON.stringify(pathToFileURL(modulePath('runtime/journal.ts')))};
  const journal = await openJournal(process.argv[1]);
  for (let n = 0; ; n++) {
    await journal.put('n/' + String(n).padStart(9, '0'), { n, ['shape' + n]: n });
    process.stdout.write(n + '\\n');
  }
`;

test('a process killed -9 loses nothing it was told is written, and its lock is free', async context => {
  const directory = await scratch(context);
  const args = [...sourceLoader(), '--input-type=module', '-e', CHILD, directory];
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  context.after(async () => void child.kill('SIGKILL'));
  let told = '';
  child.stdout.on('data', chunk => {
    told += String(chunk);
    if (told.split('\n').length > 50) child.kill('SIGKILL');
  });
  await once(child, 'close');
  const last = Number(told.trim().split('\n').at(-1));
  const journal = await openJournal(directory);
  const found = await all(journal, 'n/');
  assert(found.length > last, `${found.length} found, ${last} was told`);
  for (const [index, [, value]] of found.entries()) {
    assert.deepEqual(value, { n: index, [`shape${index}`]: index });
  }
  await journal.close();
});

test('a second process gets conflict, with what to do', { timeout: 30_000 }, async context => {
  const directory = await scratch(context);
  const journal = await openJournal(directory);
  await assert.rejects(openJournal(directory), { code: 'conflict', hint: /stop one of them/ });
  await journal.close();
  await (await openJournal(directory)).close();
});

test('one that waits for a lock gets it when the other lets go', async context => {
  const directory = await scratch(context);
  const first = await openJournal(directory);
  const second = openJournal(directory);
  await first.put('a', 1);
  await first.close();
  assert.equal(await (await second).get('a'), 1);
  await (await second).close();
});

/** Flips one bit of a text wherever the journal's files hold it; answers in how many. */
async function flipBit(directory: string, text: string): Promise<number> {
  let flipped = 0;
  for (const name of await readdir(directory)) {
    const bytes = await readFile(join(directory, name));
    const place = bytes.indexOf(text);
    if (place < 0) continue;
    bytes[place] = (bytes[place] ?? 0) ^ 1;
    await writeFile(join(directory, name), bytes);
    flipped += 1;
  }
  return flipped;
}

test('nobody else reads it, nor one that an earlier release made', async context => {
  const directory = await scratch(context);
  await mkdir(directory, { mode: 0o755 });
  for (const _ of ['made', 'found']) {
    const journal = await openJournal(directory);
    const modes = [directory, ...(await readdir(directory)).map(name => join(directory, name))];
    assert.ok(modes.length > 3);
    for (const path of modes) assert.equal((await stat(path)).mode & 0o077, 0, path);
    await journal.close();
    for (const path of modes.slice(1)) await chmod(path, 0o644).catch(() => undefined); // Replaced.
    await chmod(directory, 0o755);
  }
});

test('a flipped bit in a stored value is log_corrupt, never another value', async context => {
  const directory = await scratch(context);
  const first = await openJournal(directory);
  await first.put('k', { text: 'the very text of this value' });
  await first.close();
  // Opening again moves what stood in the write-ahead log into a table.
  await (await openJournal(directory)).close();
  assert.equal(await flipBit(directory, 'very text'), 1);
  const journal = await openJournal(directory);
  await assert.rejects(journal.get('k'), { code: 'log_corrupt', hint: /check the disk/ });
  await journal.close();
});

test('a damaged record of the write-ahead log is dropped, and that is told', async context => {
  const directory = await scratch(context);
  const first = await openJournal(directory);
  await first.put('kept', 1);
  await first.put('k', { text: 'the very text of this value' });
  await first.close();
  assert.equal(await flipBit(directory, 'very text'), 1);
  const told: string[] = [];
  const journal = await openJournal(directory, {
    ...silentLogger,
    error: (event, fields) => void told.push(`${event} ${JSON.stringify(fields)}`),
  });
  assert.equal(await journal.get('k'), undefined);
  assert.equal(await journal.get('kept'), 1);
  assert.equal(told.length, 1);
  assert.match(told[0] ?? '', /^journal\.records_dropped .*checksum mismatch/);
  await journal.close();
  await (await openJournal(directory, { ...silentLogger, error: () => assert.fail() })).close();
});

test('a directory that is no journal any more is log_corrupt, with what to do', async context => {
  const directory = await scratch(context);
  const first = await openJournal(directory);
  await first.put('k', 1);
  await first.close();
  await writeFile(join(directory, 'CURRENT'), 'nonsense\n');
  await assert.rejects(openJournal(directory), { code: 'log_corrupt', hint: /check the disk/ });
});

test('what is written after the disk was full is there after opening again', {
  skip: SKIP_UNLESS_MOUNTABLE,
}, async context => {
  const folder = await mkdtemp(join(tmpdir(), 'codegod-journal-'));
  mountSmallDisk(folder, 4 * 1024 * 1024);
  context.after(async () => {
    unmount(folder);
    await rm(folder, { recursive: true, force: true });
  });
  const directory = join(folder, 'journal');
  const value = 'x'.repeat(900);
  const journal = await openJournal(directory);
  await journal.put('before', value);
  fillDisk(folder);
  const refused = { code: 'disk_full' };
  await assert.rejects(async () => {
    for (;;) await journal.put('full', value);
  }, refused);
  await assert.rejects(journal.put('full', value), refused);
  assert.equal(await journal.get('before'), value, 'reading goes on');
  makeRoom(folder);
  const keys = Array.from({ length: 20 }, (_, index) => `kept/${index}`);
  for (const key of keys) await journal.put(key, value);
  await journal.close();
  const again = await openJournal(directory);
  assert.deepEqual((await all(again, 'kept/')).map(([key]) => key).sort(), keys.sort());
  await again.close();
});

test('a closed journal refuses politely', async context => {
  const journal = await openJournal(await scratch(context));
  await journal.close();
  await assert.rejects(journal.put('a', 1), { code: 'cancelled' });
  await assert.rejects(journal.get('a'), { code: 'cancelled' });
});

test('it keeps nothing under a name that was not declared, and removes what an earlier release kept', async context => {
  const directory = await scratch(context);
  const before = await openJournal(directory);
  await before.put('old/1', 1);
  await before.close();
  const journal = await openJournal(directory, silentLogger, { marks: 'mark/' });
  await journal.put('mark/1', 1);
  await assert.rejects(journal.put('marks', 1), { code: 'internal' });
  await journal.batch([{ type: 'del', key: 'old/1' }]);
  assert.deepEqual(await all(journal, ''), [['mark/1', 1]]);
  assert.deepEqual(await keysOf(journal.keys('mark/')), ['mark/1']);
  await journal.close();
});
