/**
 * How what the gateway keeps of builds ends. Method: real projects and worktrees, facts on a bus in
 * memory, a clock that is moved; what a removal does can fail at any of its steps.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { encode } from '../../../protocol/codec.ts';
import { buildKey, type StampedBuild } from '../../../protocol/ids.ts';
import { STREAMS } from '../../../protocol/streams.ts';
import { eventSubject } from '../../../protocol/subjects.ts';
import { SimulatedClock, systemClock } from '../../../runtime/clock.ts';
import { memoryJournal } from '../../../runtime/journal.ts';
import { GATEWAY_KEYS } from '../../../runtime/journal-keys.ts';
import { createMemoryBroker } from '../../../runtime/memory-bus.ts';
import { gitIn, scopeOf, stampedScope, workspaceWorld } from '../test-world.ts';
import { buildFates, type FateOf } from './build-fate.ts';
import { buildLeftovers } from './build-leftovers.ts';
import { openBuildMemories } from './build-memories.ts';

const DAY_MS = 86_400_000;
const never = new AbortController().signal;

async function leftoversWorld(t: TestContext) {
  const world = await workspaceWorld(t);
  const { data, workspaces, attempt } = world;
  const bus = createMemoryBroker({ clock: systemClock }).connect('test');
  t.after(() => bus.close());
  const { name, subjects } = STREAMS.event;
  await bus.streams.ensure({ name, subjects, storage: 'memory', discard: 'new' });
  const clock = new SimulatedClock({ startMs: 1_000 * DAY_MS });
  const journal = await memoryJournal(GATEWAY_KEYS);
  const folder = join(data, 'memories');
  const memories = await openBuildMemories(folder);
  const said: [event: string, fields: unknown][] = [];
  const say = (event: string, fields?: unknown): void => void said.push([event, fields]);
  const forgotten: string[] = [];
  const make = (changes: { fateOf?: FateOf; step?: () => void } = {}) => {
    const { step = () => {}, fateOf = buildFates(bus.streams) } = changes;
    return buildLeftovers({
      ...{ clock, fateOf, log: { info: say, warn: say } },
      workspaces: {
        kept: () => workspaces.kept(),
        finish: (build, around = drop => drop()) =>
          workspaces.finish(build, drop =>
            around(async () => {
              step();
              await drop();
              step();
            }),
          ),
      },
      journal: {
        get: key => journal.get(key),
        put: (key, value) => journal.put(key, value),
        keys: (...range) => journal.keys(...range),
        async batch(operations) {
          step();
          await journal.batch(operations);
          step();
        },
      },
      memories: {
        ...memories,
        async remove(build) {
          step();
          await memories.remove(build);
        },
      },
      servers: { forget: async build => void forgotten.push(build) },
    });
  };
  /** A build with all that the gateway keeps of one. */
  const begun = async (scope = stampedScope('aaaaaaaa'), text = 'text'): Promise<string> => {
    const { path } = await workspaces.create({ ...scope, name: 'todo' });
    await attempt(scope, { 'a.js': text });
    await workspaces.merge(scope);
    await attempt({ ...scope, task: scopeOf('other').task }, { 'b.js': 'never merged' });
    const key = buildKey(scope);
    for (const call of [1, 2]) await journal.put(`call.${key}.b7.store.1.1.${call}`, {});
    await journal.put(`check.${key}.0`, {});
    await journal.put(`ours.${key}`, true);
    await writeFile(join(folder, `${key}.jsonl`), '{}');
    return path;
  };
  const fact = (type: string, more: object = {}) =>
    bus.streams.append(eventSubject(scopeOf().build, type), encode({ type, ...more }));
  const kept = async (build: StampedBuild = stampedScope('aaaaaaaa')) => {
    const key = buildKey(build);
    const keys: string[] = [];
    for await (const one of journal.keys('')) {
      const [first] = one.slice(one.indexOf('.') + 1).split('.', 1);
      if (first === key) keys.push(one);
    }
    const files = (await readdir(folder)).filter(file => file === `${key}.jsonl`);
    const trees = (await workspaces.kept()).filter(tree => tree === key);
    return [...keys, ...files, ...trees];
  };
  return { ...world, clock, journal, folder, said, forgotten, make, begun, fact, kept, bus };
}

const ALL = [
  ...['call.b7-aaaaaaaa.b7.store.1.1.1', 'call.b7-aaaaaaaa.b7.store.1.1.2'],
  ...['check.b7-aaaaaaaa.0', 'ours.b7-aaaaaaaa', 'b7-aaaaaaaa.jsonl', 'b7-aaaaaaaa'],
];

test('what the end of a build did not remove goes with the next round, and a retry finds who wrote it', async t => {
  const { begun, fact, kept, make, forgotten } = await leftoversWorld(t);
  const path = await begun();
  await fact('build.received', { stamp: 'aaaaaaaa' });
  await fact('build.ended');
  await make().sweep(never);
  assert.deepEqual(await kept(), ['ours.b7-aaaaaaaa']);
  assert.deepEqual(forgotten, ['b7-aaaaaaaa']);
  assert.equal(await gitIn(path, 'for-each-ref', '--format=%(refname)'), 'refs/heads/main');
  assert.equal(await readFile(join(path, 'a.js'), 'utf8'), 'text');
});

test('nothing is touched of a build that goes on, is retried, or that nobody can tell of', async t => {
  const { begun, fact, kept, make, bus, said } = await leftoversWorld(t);
  await begun();
  await fact('build.received', { stamp: 'aaaaaaaa' });
  await make().sweep(never);
  assert.deepEqual(await kept(), ALL, 'it goes on');
  await fact('build.ended');
  await fact('build.controlled', { control: { action: 'retry' } });
  await make().sweep(never);
  assert.deepEqual(await kept(), ALL, 'it was retried');
  await fact('build.ended');
  const silent = buildFates({ last: () => Promise.reject(new Error('the bus is away')) });
  await make({ fateOf: silent }).sweep(never);
  assert.deepEqual(await kept(), ALL, 'nobody can tell');
  assert.equal(said.at(-1)?.[0], 'leftovers.not_looked_at');
  const fates = ['ended', 'open'] as const;
  let asked = 0;
  await make({ fateOf: async () => fates[asked++] ?? 'open' }).sweep(never);
  assert.equal(asked, 2);
  assert.deepEqual(await kept(), ALL, 'it was retried between the look and its turn');
  await bus.streams.purge(STREAMS.event.name, eventSubject(scopeOf().build, 'build.received'));
  await make().sweep(never);
  assert.deepEqual(await kept(), ALL, 'its first fact is too old');
});

test('of a build of a store that is no more all goes after a week, but not its project', async t => {
  const { begun, fact, kept, make, clock, path: other } = await leftoversWorld(t);
  const path = await begun();
  await writeFile(join(path, 'a.js'), 'edited by a person');
  const leftovers = make();
  await leftovers.sweep(never); // A bus that knows no build.
  await clock.advance(6 * DAY_MS);
  await fact('build.received', { stamp: 'aaaaaaaa' }); // The store was brought back.
  await leftovers.sweep(never);
  assert.deepEqual(await kept(), ALL, 'so nothing counts as unknown any more');
  await fact('build.received', { stamp: 'bbbbbbbb' }); // Another store, and a build of its number.
  await leftovers.sweep(never);
  await clock.advance(6 * DAY_MS);
  await leftovers.sweep(never);
  const marked = [...ALL];
  marked.splice(4, 0, 'unknown.b7-aaaaaaaa');
  assert.deepEqual(await kept(), marked, 'a week has not gone by');
  await clock.advance(2 * DAY_MS);
  await leftovers.sweep(never);
  assert.deepEqual(await kept(), []);
  assert.equal(await readFile(join(path, 'a.js'), 'utf8'), 'edited by a person');
  assert.equal(await gitIn(path, 'show', 'main:a.js'), 'text');
  assert.ok(existsSync(other));
});

test('after a failure at any step the next round removes the rest', async t => {
  const { begun, fact, kept, make, clock } = await leftoversWorld(t);
  await fact('build.received', { stamp: 'bbbbbbbb' });
  let isThrough = false;
  for (let last = 1; !isThrough; last += 1) {
    await begun(stampedScope('aaaaaaaa', 'store', last), String(last));
    await make().sweep(never);
    await clock.advance(8 * DAY_MS);
    let steps = 0;
    const step = (): void => {
      steps += 1;
      if (steps === last) throw new Error('killed');
    };
    await make({ step }).sweep(never);
    isThrough = steps < last;
    await make().sweep(never);
    assert.deepEqual(await kept(), [], `killed at step ${last}`);
    assert.ok(last < 30);
  }
});

test('the worktrees of a project that a person has moved away go all the same', async t => {
  const { begun, fact, kept, make, data } = await leftoversWorld(t);
  await rename(await begun(), join(data, 'mine'));
  await fact('build.received', { stamp: 'aaaaaaaa' });
  await make().finish(stampedScope('aaaaaaaa'));
  assert.deepEqual(await kept(), ['ours.b7-aaaaaaaa']);
  assert.equal(await readFile(join(data, 'mine', 'a.js'), 'utf8'), 'text');
});

test('the end of a build takes nothing from another one of its number', async t => {
  const { begun, kept, make } = await leftoversWorld(t);
  await begun(scopeOf());
  await begun();
  await make().finish(scopeOf());
  assert.deepEqual(await kept(scopeOf()), ['ours.b7']);
  assert.deepEqual(await kept(), ALL);
});

test('what is no name of a build is kept, and said once', async t => {
  const { make, journal, said, roots, folder, clock } = await leftoversWorld(t);
  await journal.put('check.b07.1', {});
  await mkdir(roots.worktrees);
  await writeFile(join(roots.worktrees, 'notes.txt'), '');
  await writeFile(join(folder, 'b7-x.jsonl'), '');
  const leftovers = make();
  for (const _ of [1, 2]) {
    await leftovers.sweep(never);
    await clock.advance(8 * DAY_MS);
  }
  assert.deepEqual(
    said.filter(([event]) => event === 'leftovers.unfit').map(([, fields]) => fields),
    [{ name: 'b07' }, { name: 'b7-x' }, { name: 'notes.txt' }],
  );
  assert.deepEqual(await journal.get('check.b07.1'), {});
  assert.ok(existsSync(join(roots.worktrees, 'notes.txt')));
  assert.ok(existsSync(join(folder, 'b7-x.jsonl')));
});

test('a round looks at so many builds, and the next one goes on from there', async t => {
  const { make, journal } = await leftoversWorld(t);
  for (let number = 1; number <= 300; number += 1) await journal.put(`ours.b${number}`, true);
  const asked: string[] = [];
  const leftovers = make({
    fateOf: async ({ build }) => {
      asked.push(build);
      return 'ended';
    },
  });
  await leftovers.sweep(never);
  assert.equal(asked.length, 256);
  await leftovers.sweep(never);
  assert.equal(new Set(asked).size, 300);
});
