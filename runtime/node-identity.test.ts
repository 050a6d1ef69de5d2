/** What of an identity stays over starts, renames and damage. */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { SimulatedClock } from './clock.ts';
import { openNodeIdentity } from './node-identity.ts';

async function place(context: { after(done: () => Promise<void>): void }) {
  const directory = await mkdtemp(join(tmpdir(), 'codegod-identity-'));
  context.after(() => rm(directory, { recursive: true }));
  const clock = new SimulatedClock();
  const start = (process: string, name = 'box', configured = false) =>
    openNodeIdentity({ directory, process, clock, name, configured });
  return { directory, start };
}

test('the id stays when the machine is renamed, and a chosen one goes before it', async context => {
  const { start } = await place(context);
  assert.equal((await start('worker')).node, 'box');
  assert.equal((await start('worker', 'renamed')).node, 'box');
  assert.equal((await start('worker', 'chosen', true)).node, 'chosen');
  assert.equal((await start('worker', 'renamed')).node, 'box');
});

test('processes that start at once agree on the id', async context => {
  const { directory, start } = await place(context);
  const names = ['a', 'b', 'c', 'd', 'e'];
  const identities = await Promise.all(names.map(name => start(`p-${name}`, name)));
  assert.equal(new Set(identities.map(({ node }) => node)).size, 1);
  assert.deepEqual(
    (await readdir(directory)).sort(),
    ['node-id', ...names.map(name => `epoch-p-${name}`)].sort(),
    'no drafts are left',
  );
});

test('an epoch grows with each start of its process, over damage too', async context => {
  const { directory, start } = await place(context);
  const first = await start('worker');
  const second = await start('worker');
  assert.equal(second.epoch, first.epoch + 1);
  await writeFile(join(directory, 'epoch-worker'), 'no number');
  assert((await start('worker')).epoch >= first.epoch);
  assert((await start('master')).epoch >= 1);
});

test('what is no id is refused, and says where it stands', async context => {
  const { directory, start } = await place(context);
  await assert.rejects(start('worker', 'No Token!', true), { code: 'config_invalid' });
  await writeFile(join(directory, 'node-id'), '../up');
  await assert.rejects(start('worker'), { code: 'config_invalid', message: /node-id is not one/ });
});
