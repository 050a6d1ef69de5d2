/**
 * What becomes of a system when the process that owns it dies, and of two systems side by side.
 * Goal: nothing of a dead system is left running, and its builds go on with the next one.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { eventually, type SystemStatus, TestSystem } from './test-system.ts';

const LIBRARY = 'Create a REST API for a library with books, members and loans';
const NOTES = 'Create a REST API for notes with a title and a text';
/** Within this everything of a killed supervisor must be gone. */
const GONE_MS = 5_000;
const OPTIONS = { timeout: 180_000, skip: process.platform !== 'linux' && 'needs /proc' };

let system: TestSystem;

before(async () => {
  system = await TestSystem.create({ CODEGOD_SCAFFOLD_PACE_MS: '2' });
});

after(() => system.stop());

async function within<T>(limitMs: number, what: string, promise: Promise<T>): Promise<T> {
  const late = sleep(limitMs, null, { ref: false }).then(() => assert.fail(`never: ${what}`));
  return await Promise.race([promise, late]);
}

async function assertGone(home: TestSystem, limitMs: number): Promise<void> {
  try {
    await eventually(() => home.processes().length === 0, limitMs);
  } catch {
    assert.fail(`still running after ${limitMs} ms: ${home.describe(home.processes())}`);
  }
}

const pidsOf = ({ supervisor_pid, bus, actors }: SystemStatus): readonly (number | null)[] => [
  supervisor_pid,
  bus.pid,
  ...actors.map(({ pid }) => pid),
];

test(
  'up twice is one system; down leaves no process; down twice is no error',
  OPTIONS,
  async () => {
    await system.ok('up', '-d');
    const first = await system.status();
    assert.equal(first.state, 'ready');
    assert.equal(first.actors.length, 4);
    await system.ok('up', '-d');
    assert.deepEqual(pidsOf(await system.status()), pidsOf(first));
    assert.deepEqual(await system.json('down'), { stopped: true });
    await assertGone(system, 1_000);
    assert.deepEqual(await system.json('down'), { stopped: false });
    assert.equal((await system.run(['status'])).code, 3);
  },
);

test(
  'kill -9 of the supervisor in the middle of a build: all are gone, the next up ends it',
  OPTIONS,
  async () => {
    await system.ok('up', '-d');
    const tap = await system.wiretap('codegod.mcp.*.call.*');
    const id = await system.begin(LIBRARY);
    await within(60_000, 'a tool call', tap.first);
    const { supervisor_pid } = await system.status();
    assert.ok(supervisor_pid !== null);
    process.kill(supervisor_pid, 'SIGKILL');
    await Promise.all([assertGone(system, GONE_MS), tap.close()]);
    assert.equal((await system.status()).running, false);
    await system.ok('up', '-d');
    const build = await system.ended(id);
    assert.equal(build.state, 'succeeded', JSON.stringify(build.error));
    await system.ok('down');
    await assertGone(system, 1_000);
  },
);

test(
  'kill -9 of an ephemeral build: the next build begins where it was, up ends it',
  OPTIONS,
  async () => {
    const first = system.start('build', LIBRARY);
    let said = '';
    const published = new Promise<string>(resolve => {
      for (const stream of [first.stdout, first.stderr]) {
        stream.setEncoding('utf8').on('data', (chunk: string) => {
          said += chunk;
          const id = /\bb\d+\b/.exec(said)?.[0];
          if (id !== undefined) resolve(id);
        });
      }
    });
    const id = await within(120_000, 'its id', published);
    const tap = await system.wiretap('codegod.mcp.*.call.*');
    await within(60_000, 'a tool call', tap.first);
    first.kill('SIGKILL');
    await once(first, 'exit');
    await Promise.all([assertGone(system, GONE_MS), tap.close()]);

    const next = await system.run(['build', NOTES]);
    assert.equal(next.code, 0, next.stderr + next.stdout);
    await assertGone(system, 1_000);
    await system.ok('up', '-d');
    const build = await system.ended(id);
    assert.equal(build.state, 'succeeded', JSON.stringify(build.error));
  },
);

test('two systems at once do not disturb each other, not even by dying', OPTIONS, async t => {
  const other = await TestSystem.create({ CODEGOD_SCAFFOLD_PACE_MS: '2' });
  t.after(() => other.stop());
  await Promise.all([system.ok('up', '-d'), other.ok('up', '-d')]);
  const [before, others] = await Promise.all([system.status(), other.status()]);
  const shared = pidsOf(before).filter(pid => pidsOf(others).includes(pid));
  assert.deepEqual(shared, []);

  const tap = await other.wiretap('codegod.mcp.*.call.*');
  const [mine, theirs] = await Promise.all([system.begin(NOTES), other.begin(NOTES)]);
  await within(60_000, 'a tool call', tap.first);
  assert.ok(others.supervisor_pid !== null);
  process.kill(others.supervisor_pid, 'SIGKILL');
  const build = await system.ended(mine);
  assert.equal(build.state, 'succeeded', JSON.stringify(build.error));
  assert.ok(build.path?.startsWith(system.home), build.path ?? 'no path');
  await Promise.all([assertGone(other, GONE_MS), tap.close()]);

  await other.ok('up', '-d');
  const ended = await other.ended(theirs);
  assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error));
  assert.ok(ended.path?.startsWith(other.home), ended.path ?? 'no path');
  await other.ok('down');
  await assertGone(other, 1_000);
  assert.deepEqual(pidsOf(await system.status()), pidsOf(before));
});
