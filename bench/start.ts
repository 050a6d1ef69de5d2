/**
 * How long a master takes from its start until it leads, with many builds in its store.
 *
 *     node --import tsx bench/start.ts [ended] [open]     # default: 50 and 55
 *
 * The store is made by a master and stand-ins for worker and gateway: `ended` builds that went well,
 * `open` ones whose last task is at work. Then a master is started on it, three times with its
 * journal and once without.
 */
import { rm } from 'node:fs/promises';
import { planOf } from '../actors/master/test-build.ts';
import { TestMaster } from '../actors/master/test-master.ts';
import { TestPeers } from '../actors/master/test-peers.ts';
import { BUILD_ENDS } from '../protocol/build.ts';
import { systemClock } from '../runtime/clock.ts';
import { createMessenger } from '../runtime/messages.ts';
import { connectNats } from '../runtime/nats-bus.ts';
import { ensureStores } from '../runtime/stores.ts';
import { startNats } from '../test/nats-fixture.ts';

const STARTS = 3;
const WAIT_MS = 600_000;
const [ended = 50, open = 55] = process.argv.slice(2).map(Number);

async function startedIn(url: string, directory: string, epoch: number): Promise<number> {
  const startedAt = performance.now();
  const master = await TestMaster.start({ url, directory, epoch });
  await master.master.settled(WAIT_MS);
  const spentMs = performance.now() - startedAt;
  await master.stop();
  return spentMs;
}

const nats = await startNats();
const bus = await connectNats({ servers: [nats.url], name: 'peers', clock: systemClock });
const messenger = createMessenger(bus, { source: '/node/node-a/actor/worker', clock: systemClock });
await ensureStores(bus);
const peers = new TestPeers(messenger, systemClock, 'node-a');
await peers.start();
peers.plan = planOf(
  Array.from({ length: 8 }, (_, index) => ({
    id: `task-${index}`,
    type: 'testing',
    depends_on: index === 0 ? [] : [`task-${index - 1}`],
  })),
);
const buildsMax = ended + open;
const first = await (await TestMaster.start({ url: nats.url, buildsMax })).settled();
const submit = (count: number): Promise<string[]> =>
  Promise.all(
    Array.from({ length: count }, (_, index) =>
      first.submit({ prompt: `Create a REST API for the list ${index}` }),
    ),
  );
for (const id of await submit(ended)) {
  await first.until(id, ({ state }) => BUILD_ENDS.includes(state), WAIT_MS);
}
peers.work = ({ task }) => (task === 'task-7' ? null : {});
for (const id of await submit(open)) {
  await first.until(id, ({ tasks }) => tasks.at(-1)?.state === 'running', WAIT_MS);
}
await first.stop();

console.log(`a store of ${ended} ended and ${open} open builds`);
for (let start = 1; start <= STARTS; start++) {
  const ms = await startedIn(nats.url, first.directory, start + 1);
  console.log(`  start ${start}: ${Math.round(ms)} ms until it leads`);
}
await rm(first.directory, { recursive: true, force: true });
const bare = await startedIn(nats.url, first.directory, STARTS + 2);
console.log(`  without its journal: ${Math.round(bare)} ms`);

await peers.stop();
await bus.close();
await nats.stop();
await rm(first.directory, { recursive: true, force: true });
