/** Archives in a store that has no room left. Method: a bus in memory whose store is small. */
import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { BuildId } from '../../../protocol/ids.ts';
import { ARTIFACTS } from '../../../protocol/streams.ts';
import { systemClock } from '../../../runtime/clock.ts';
import { createMemoryBroker } from '../../../runtime/memory-bus.ts';
import { tempDir } from '../test-world.ts';
import { storeArchive } from './archive-store.ts';

test('where the store is full, the oldest archives make room for a new one', async t => {
  const data = await tempDir(t);
  const bus = createMemoryBroker({ clock: systemClock }).connect('test');
  t.after(() => bus.close());
  const store = bus.objects(ARTIFACTS.name);
  await store.ensure({ storage: 'file', max_bytes: 300_000 });
  const archived = async (build: string, size: number): Promise<void> => {
    const folder = join(data, build);
    const file = join(folder, 'todo.tar.gz');
    await mkdir(folder);
    await writeFile(file, Buffer.alloc(size, build));
    const archive = { file, folder, name: 'todo.tar.gz', size, sha256: '', head: '', files: [] };
    await storeArchive({ archive: async () => archive }, bus, { build: BuildId.parse(build) });
  };
  for (const build of ['b1', 'b2', 'b3']) await archived(build, 90_000);
  await archived('b4', 170_000);
  const sizes = await Promise.all(
    ['b1', 'b2', 'b3', 'b4'].map(async build => (await store.info(`${build}/todo.tar.gz`))?.size),
  );
  assert.deepEqual(sizes, [undefined, undefined, 90_000, 170_000]);
});
