/**
 * Goal: supervision holds with real servers and with servers that fail in every way: nothing hangs,
 * nothing leaks, one bad server leaves the others alone, and the reason is always told.
 */
import assert from 'node:assert/strict';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ErrorCode } from '../../../protocol/error-codes.ts';
import { CodeGodError } from '../../../protocol/errors.ts';
import { systemClock } from '../../../runtime/clock.ts';
import { silentLogger } from '../../../runtime/log.ts';
import { sourcePath } from '../../../test/source-tree.ts';
import { CATALOG, type CatalogEntry, configuredEntry } from '../catalog.ts';
import { SERVER_TIMINGS } from '../server-machine.ts';
import { CONFINER, isAlive, TEST_PATH, tempDir } from '../test-world.ts';
import { RpcFailure } from './stdio-rpc.ts';
import { createToolCache } from './tool-cache.ts';
import { createToolPins } from './tool-pins.ts';
import { createToolServers, type ToolServers } from './tool-servers.ts';

const ODD = sourcePath('actors/mcp-gateway/fixtures/odd-server.mjs');
const soon = { timeoutMs: 15_000 };

const oddEntry = (mode: string, file = '') =>
  configuredEntry(mode.replaceAll('_', '-'), {
    command: process.execPath,
    args: [ODD, mode, file],
  });

async function serversWorld(t: TestContext, entries: readonly CatalogEntry[], options = {}) {
  const folder = await tempDir(t);
  const places = { worktrees: folder, memory: join(folder, 'memory.jsonl'), proxy: '' };
  await mkdir(join(folder, 'home'));
  const make = (): ToolServers =>
    createToolServers({
      entries,
      host: {
        node: process.execPath,
        python: null,
        confiner: CONFINER,
        path: TEST_PATH,
        networkEnvironment: {},
        home: join(folder, 'home'),
        places,
      },
      placesOf: build => ({ memory: join(folder, `${build}.jsonl`) }),
      cache: createToolCache(join(folder, 'tools')),
      pins: createToolPins(join(folder, 'pins')),
      clock: systemClock,
      log: silentLogger,
      ...options,
    });
  const servers = make();
  t.after(() => servers.close());
  return { folder, servers, make };
}

const statusOf = async (servers: ToolServers, name: string) => {
  const found = (await servers.status()).find(status => status.name === name);
  assert.ok(found);
  return found;
};

const down = (words: RegExp) => (error: unknown) =>
  error instanceof CodeGodError && error.code === 'server_down' && words.test(error.message);
const failed = (code: ErrorCode) => (error: unknown) =>
  error instanceof CodeGodError && error.code === code;

test('the npm servers of the catalog start, list their tools and answer', async t => {
  const entries = CATALOG.filter(entry => entry.origin.kind === 'npm');
  const { folder, servers } = await serversWorld(t, entries);
  const counts = await Promise.all(
    entries.map(async entry => (await servers.tools(entry.name, soon)).length),
  );
  assert.deepEqual(counts, [14, 9, 1]);
  const path = join(folder, 'a.txt');
  await servers.call('filesystem', 'write_file', { path, content: 'hello' }, soon);
  assert.equal(await readFile(path, 'utf8'), 'hello');
  const entity = { name: 'x', entityType: 'y', observations: [] };
  await servers.call('memory', 'create_entities', { entities: [entity] }, soon);
  assert.match(await readFile(join(folder, 'memory.jsonl'), 'utf8'), /"name":"x"/);
});

test('a server may ask the kernel for what it has declared', {
  skip: process.platform !== 'linux' || CONFINER === null,
}, async t => {
  const declared = ['filtered', 'namespaces', 'all'] as const;
  const args = [ODD, 'plain', ''];
  const entries = declared.map(system_calls =>
    configuredEntry(system_calls, { command: process.execPath, args, system_calls }),
  );
  const { servers } = await serversWorld(t, entries);
  const answers = await Promise.all(declared.map(name => servers.call(name, 'kernel', {}, soon)));
  // On some machines nobody gets namespaces, declared or not.
  const can = Object(answers[2]).content[0].text.endsWith('true');
  const texts = answers.map(answer => Object(answer).content[0].text);
  assert.deepEqual(texts, ['2 false', `2 ${can}`, `0 ${can}`]);
});

test('a listed server need not run: the list comes from the disk', async t => {
  const entries = CATALOG.filter(entry => entry.name === 'memory');
  const { servers, make } = await serversWorld(t, entries);
  const live = await servers.tools('memory', soon);
  const later = make();
  assert.deepEqual(await later.tools('memory', soon), live);
  assert.equal((await statusOf(later, 'memory')).state, 'cold');
  await later.close();
});

test('a Python server without its environment is missing, and the fix is named', async t => {
  const { servers } = await serversWorld(t, CATALOG);
  await assert.rejects(servers.tools('git', soon), down(/not in the tools environment/));
  await assert.rejects(servers.call('git', 'git_status', {}, soon), failed('server_down'));
  const status = await statusOf(servers, 'git');
  assert.equal(status.state, 'missing');
  assert.ok(status.fix);
});

test('a killed server fails the call in flight and serves the next one', async t => {
  const { servers } = await serversWorld(t, [oddEntry('plain')]);
  await servers.call('plain', 'echo', {}, soon);
  const { pid } = await statusOf(servers, 'plain');
  assert.ok(pid);
  const hanging = servers.call('plain', 'hang', {}, soon);
  await sleep(50);
  process.kill(pid, 'SIGKILL');
  await assert.rejects(hanging, error => error instanceof RpcFailure && error.kind === 'down');
  assert.ok(await servers.call('plain', 'echo', { text: 'again' }, soon));
  const status = await statusOf(servers, 'plain');
  assert.equal(status.restarts, 1);
  assert.notEqual(status.pid, pid);
});

test('a server that exits in its handshake fails the call with its last words', async t => {
  const entries = [oddEntry('exits_at_start'), oddEntry('exits_in_initialize')];
  const { servers } = await serversWorld(t, entries);
  await assert.rejects(
    servers.call('exits-at-start', 'echo', {}, soon),
    down(/exited with 3; it said: cannot open database: locked/),
  );
  await assert.rejects(
    servers.call('exits-in-initialize', 'echo', {}, soon),
    down(/exited with 4/),
  );
  assert.equal((await statusOf(servers, 'exits-at-start')).state, 'backoff');
});

test('a server that never answers the handshake is given up and killed', async t => {
  const { servers } = await serversWorld(t, [oddEntry('never_answers')], { handshakeMs: 400 });
  const call = servers.call('never-answers', 'echo', {}, { timeoutMs: 900 });
  await assert.rejects(call, down(/handshake failed: no answer within/));
});

test('one bad server leaves the others alone', async t => {
  const { servers } = await serversWorld(t, [oddEntry('never_answers'), oddEntry('plain')]);
  const bad = servers.call('never-answers', 'echo', {}, { timeoutMs: 2_000 });
  const good = servers.call('plain', 'echo', { text: 'fine' }, { timeoutMs: 2_000 });
  assert.ok(await good);
  await assert.rejects(bad, failed('server_down'));
});

test('a server that stops answering altogether is replaced', async t => {
  const { servers } = await serversWorld(t, [oddEntry('no_ping')]);
  await servers.call('no-ping', 'echo', {}, soon);
  const before = await statusOf(servers, 'no-ping');
  await assert.rejects(servers.call('no-ping', 'hang', {}, { timeoutMs: 200 }));
  await sleep(5_300);
  assert.ok(await servers.call('no-ping', 'echo', {}, soon));
  const after = await statusOf(servers, 'no-ping');
  assert.notEqual(after.pid, before.pid);
  assert.match(before.state, /idle|ready/);
});

test('an idle server is stopped and started again when wanted', async t => {
  const timings = { ...SERVER_TIMINGS, idleMs: 200 };
  const { servers } = await serversWorld(t, [oddEntry('plain')], { timings });
  await servers.call('plain', 'echo', {}, soon);
  const { pid } = await statusOf(servers, 'plain');
  await sleep(1_000);
  assert.equal((await statusOf(servers, 'plain')).state, 'cold');
  assert.equal(await isAlive(pid ?? 0), false);
  assert.ok(await servers.call('plain', 'echo', {}, soon));
  assert.equal((await statusOf(servers, 'plain')).restarts, 0);
});

test('only the allowed variables reach a server', async t => {
  const { servers } = await serversWorld(t, [oddEntry('plain')]);
  const result = await servers.call('plain', 'environment', {}, soon);
  assert.deepEqual(result, {
    content: [{ type: 'text', text: 'PATH,HOME,LANG,PYTHONDONTWRITEBYTECODE,PYTHONUNBUFFERED' }],
  });
});

test('closing leaves no process behind', async t => {
  const { servers, folder } = await serversWorld(t, [oddEntry('plain'), oddEntry('ignores_term')]);
  await servers.call('plain', 'echo', {}, soon);
  await servers.call('ignores-term', 'echo', {}, soon);
  const pids = (await servers.status()).map(status => status.pid ?? 0);
  await servers.close();
  assert.deepEqual(await Promise.all(pids.map(isAlive)), [false, false]);
  assert.ok(folder);
});

test('a server that remembers remembers each build by itself, until that is forgotten', async t => {
  const memory = CATALOG.filter(({ name }) => name === 'memory');
  const { servers } = await serversWorld(t, memory);
  const entity = { name: 'secret of one', entityType: 'note', observations: ['x'] };
  const of = (build?: string) => ({ ...soon, build });
  await servers.call('memory', 'create_entities', { entities: [entity] }, of('b1-aaaaaaaa'));
  const graph = async (build?: string): Promise<string> =>
    JSON.stringify(await servers.call('memory', 'read_graph', {}, of(build)));
  assert.match(await graph('b1-aaaaaaaa'), /secret of one/);
  assert.doesNotMatch(await graph('b1-bbbbbbbb'), /secret of one/);
  assert.doesNotMatch(await graph(), /secret of one/);
  await servers.forget('b1-aaaaaaaa');
});

test('a list that leads in a circle is read once, and the circle is named', async t => {
  const { servers } = await serversWorld(t, [oddEntry('turning')]);
  const tools = await servers.tools('turning', soon);
  assert.equal(new Set(tools.map(({ name }) => name)).size, tools.length);
  assert.equal(tools.length, 9);
  const { remarks } = await statusOf(servers, 'turning');
  assert.deepEqual(remarks, ['the list of tools was ended: its pages lead in a circle']);
});

test('tools that cannot be offered are named, the others are offered', async t => {
  const { servers } = await serversWorld(t, [oddEntry('unfit')]);
  const tools = await servers.tools('unfit', soon);
  assert.equal(tools.length, 9);
  const { remarks } = await statusOf(servers, 'unfit');
  assert.equal(remarks.length, 4);
});

test('a tool that is not what it was is withheld until a person has looked at it', async t => {
  const folder = await tempDir(t);
  const told = join(folder, 'told');
  const entries = [oddEntry('changes', told)];
  const { servers, make, folder: world } = await serversWorld(t, entries);
  assert.equal((await servers.tools('changes', soon)).length, 9);
  await servers.close();
  await writeFile(told, '');
  await rm(join(world, 'tools'), { recursive: true });
  const later = make();
  t.after(() => later.close());
  const tools = await later.tools('changes', soon);
  assert.deepEqual(
    ['echo', 'hang'].map(name => tools.some(tool => tool.name === name)),
    [false, true],
  );
  const { remarks } = await statusOf(later, 'changes');
  assert.match(remarks[0] ?? '', /^the tool echo is withheld: .*remove .*pins.changes\.json/);
});
