/**
 * Goal: the gateway as a process on a real bus: a project is made, worked on through real tool
 * servers, merged, checked in the sandbox and archived; and a kill -9 at any moment loses nothing
 * and fires nothing twice.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { output, ZodType } from 'zod';
import { encode } from '../../protocol/codec.ts';
import { CodeGodError } from '../../protocol/errors.ts';
import { CallId, GatewayId, NodeId } from '../../protocol/ids.ts';
import { CallReply, type CallRequest, ListReply, McpStatusReply } from '../../protocol/mcp.ts';
import { Acknowledgement, GatewayAdvert } from '../../protocol/node.ts';
import { ARTIFACTS, BUCKETS } from '../../protocol/streams.ts';
import {
  advertKey,
  eventSubject,
  type McpVerb,
  mcpSubject,
  type NodeWorkspaceVerb,
  nodeMcpSubject,
  nodeWorkspaceSubject,
  taskSubject,
  type WorkspaceVerb,
  workspaceSubject,
} from '../../protocol/subjects.ts';
import {
  ArchiveReply,
  CheckReply,
  CommitReply,
  CreateWorkspaceReply,
  MergeReply,
  OpenAttemptReply,
  ReadFilesReply,
} from '../../protocol/workspace.ts';
import { systemClock } from '../../runtime/clock.ts';
import { loadConfig, wholeEnvironment } from '../../runtime/config.ts';
import { createMessenger } from '../../runtime/messages.ts';
import { connectNats } from '../../runtime/nats-bus.ts';
import { type NatsFixture, startNats } from '../../test/nats-fixture.ts';
import { programOf } from '../../test/source-tree.ts';
import { gitIn, isAlive, scopeOf, tempDir } from './test-world.ts';

const NODE = 'gateway-test';
const WORKER = NodeId.parse('attic');

let nats: NatsFixture;
before(async () => {
  nats = await startNats();
});
after(() => nats.stop());

async function gatewayWorld(t: TestContext) {
  const folder = await tempDir(t);
  const { paths } = loadConfig({ cwd: tmpdir() });
  await mkdir(join(folder, 'data'));
  // The Python environments of this machine, so that they are not installed once per test.
  await mkdir(join(paths.data, 'environments'), { recursive: true });
  await symlink(join(paths.data, 'environments'), join(folder, 'data', 'environments'));
  const env = {
    ...wholeEnvironment(),
    CODEGOD_HOME: folder,
    CODEGOD_BUS_URL: nats.url,
    CODEGOD_BUS_MONITORING_URL: nats.monitorUrl,
    CODEGOD_NODE_NAME: NODE,
  };
  let child: ChildProcess;
  let log = '';
  const launch = async (): Promise<void> => {
    child = spawn(process.execPath, programOf('actors/mcp-gateway/main.ts'), {
      env,
      stdio: ['ignore', 2, 'pipe'],
    });
    let ready = false;
    child.stderr?.on('data', chunk => {
      log += chunk;
      ready ||= String(chunk).includes('"actor.ready"');
    });
    const untilMs = systemClock.monotonic() + 60_000;
    while (!ready) {
      assert.equal(child.exitCode, null, `the gateway ended:\n${log}`);
      assert.ok(systemClock.monotonic() < untilMs, `the gateway is not ready:\n${log}`);
      await sleep(50);
    }
  };
  await launch();
  const bus = await connectNats({ servers: [nats.url], name: 'test', clock: systemClock });
  const messenger = createMessenger(bus, { source: '/test', clock: systemClock });
  t.after(async () => {
    await bus.close();
    child.kill('SIGKILL');
  });
  const gateway = GatewayId.parse(NODE);
  const ask = <S extends ZodType>(subject: string, request: object, schema: S) =>
    messenger.ask(subject, request, schema, { timeout_ms: 90_000 }) as Promise<output<S>>;
  return {
    folder,
    bus,
    mcp: <S extends ZodType>(verb: McpVerb, request: object, schema: S) =>
      ask(mcpSubject(gateway, verb), request, schema),
    workspace: <S extends ZodType>(verb: WorkspaceVerb, request: object, schema: S) =>
      ask(workspaceSubject(gateway, verb), request, schema),
    /** As the worker of a node asks. */
    call: (request: CallRequest, node = WORKER) =>
      ask(nodeMcpSubject(gateway, 'call', node), request, CallReply),
    attempt: <S extends ZodType>(
      verb: NodeWorkspaceVerb,
      request: object,
      schema: S,
      node = WORKER,
    ) => ask(nodeWorkspaceSubject(gateway, verb, node), request, schema),
    /** As the master gives an attempt to a node. */
    give: async ({ build, task, attempt } = scopeOf(), node = WORKER) => {
      const message = { build, task, attempt, node, engine: 'scaffold' };
      await bus.streams.append(taskSubject(node, build, task, attempt), encode(message));
    },
    kill9: async (): Promise<void> => {
      child.kill('SIGKILL');
      await new Promise(resolve => child.once('exit', resolve));
    },
    launch,
    log: () => log,
  };
}

let calls = 0;
function callOf(server: string, tool: string, args: object, scope = scopeOf()): CallRequest {
  calls += 1;
  return {
    call_id: CallId.parse(`${scope.build}.${scope.task}.${scope.attempt}.1.${calls}`),
    server,
    tool,
    arguments: { ...args },
    scope,
    timeout_ms: 30_000,
  };
}

const SUM = 'export const sum = (a, b) => a + b;\n';
const SUM_TEST = `import assert from 'node:assert';
import { test } from 'node:test';
import { sum } from './sum.js';
test('adds', () => assert.equal(sum(1, 2), 3));
`;

test('a project from creation to archive, through real tools and the sandbox', async t => {
  const { call, workspace, attempt, give, bus } = await gatewayWorld(t);
  await give();
  const { build } = scopeOf();
  const { path } = await workspace('create', { build, name: 'sum' }, CreateWorkspaceReply);
  await attempt('open', scopeOf(), OpenAttemptReply);
  for (const [file, content] of Object.entries({
    'package.json': '{"type":"module"}\n',
    'src/sum.js': SUM,
    'src/sum.test.js': SUM_TEST,
  })) {
    const reply = await call(callOf('filesystem', 'write_file', { path: file, content }));
    assert.ok(reply.ok, JSON.stringify(reply));
  }
  const staged = await call(callOf('', 'git.add', { paths: ['src/sum.js'] }));
  assert.ok(staged.ok, JSON.stringify(staged));
  const request = { ...scopeOf(), title: 'Add sums', model: 'scaffold', owns: ['**'] };
  const { files } = await attempt('commit', request, CommitReply);
  assert.deepEqual(files, ['package.json', 'src/sum.js', 'src/sum.test.js']);
  const merge = await workspace('merge', scopeOf(), MergeReply);
  assert.ok(merge.merged);
  const check = {
    build,
    round: 0,
    command: ['node', '--test'],
    stack: 'node',
    timeout_s: 60,
  };
  const checked = await workspace('check', check, CheckReply);
  assert.equal(checked.passed, true, checked.output);
  assert.equal(checked.tests_passed, 1);
  assert.deepEqual(await workspace('check', check, CheckReply), checked, 'journalled');
  const archived = await workspace('archive', { build }, ArchiveReply);
  assert.equal(archived.head, merge.commit);
  const info = await bus.objects(ARTIFACTS.name).info(archived.archive.name);
  assert.equal(info?.sha256, archived.archive.sha256);
  await workspace('finish', { build }, Acknowledgement);
  assert.equal(await gitIn(path, 'branch', '--format=%(refname)'), 'refs/heads/main');
});

test('a Python project is checked with the checks environment', async t => {
  const { call, workspace, attempt, give } = await gatewayWorld(t);
  await give();
  const { build } = scopeOf();
  await workspace('create', { build, name: 'py' }, CreateWorkspaceReply);
  await attempt('open', scopeOf(), OpenAttemptReply);
  const content =
    'from fastapi.testclient import TestClient\ndef test_a():\n    assert TestClient\n';
  await call(callOf('filesystem', 'write_file', { path: 'test_a.py', content }));
  await attempt('commit', { ...scopeOf(), title: 'x', model: 'm', owns: ['*.py'] }, CommitReply);
  await workspace('merge', scopeOf(), MergeReply);
  const checked = await workspace(
    'check',
    {
      build,
      round: 0,
      command: ['python', '-m', 'pytest', '-q'],
      stack: 'fastapi',
      timeout_s: 60,
    },
    CheckReply,
  );
  assert.equal(checked.passed, true, checked.output);
});

test('the tools on offer, the state of the servers and the advert are told', async t => {
  const { mcp, bus } = await gatewayWorld(t);
  const asked = { tools: ['filesystem.write_file', 'git.git_add', 'time.get_current_time', 'x.y'] };
  const listed = await mcp('list', asked, ListReply);
  assert.deepEqual(
    listed.tools.map(tool => `${tool.server}.${tool.name}`),
    asked.tools.slice(0, 3),
  );
  assert.deepEqual(listed.unknown, ['x.y']);
  const { servers } = await mcp('status', {}, McpStatusReply);
  const names = ['filesystem', 'git', 'memory', 'sequential-thinking', 'time', 'fetch'];
  assert.deepEqual(
    servers.map(server => server.name),
    names,
  );
  assert.ok(servers.every(server => server.version !== null));
  const entry = await bus.kv(BUCKETS.node.name).get(advertKey(NodeId.parse(NODE), 'gateway'));
  const advert = GatewayAdvert.parse(JSON.parse(new TextDecoder().decode(entry?.value)));
  assert.equal(advert.gateway, NODE);
  assert.equal(advert.servers.length, names.length);
});

test('kill -9 between firing and noting: nothing is fired twice, servers die along', async t => {
  const { mcp, call, workspace, attempt, give, kill9, launch, folder, bus } = await gatewayWorld(t);
  await give();
  await workspace('create', { build: scopeOf().build, name: 'crash' }, CreateWorkspaceReply);
  const { path } = await attempt('open', scopeOf(), OpenAttemptReply);
  const first = callOf('filesystem', 'write_file', { path: 'a.txt', content: 'one' });
  const done = await call(first);
  const { servers } = await mcp('status', {}, McpStatusReply);
  const pids = servers.map(server => server.pid).filter(pid => pid !== null);
  assert.equal(pids.length, 1);
  // Answered or not, a burst of calls is cut off somewhere in the middle.
  const burst = Array.from({ length: 12 }, (_, index) =>
    callOf('filesystem', 'write_file', { path: `burst-${index}.txt`, content: `${index}` }),
  );
  const cut = burst.map(fired => call(fired).catch((error: unknown) => error));
  await sleep(30);
  await kill9();
  void Promise.all(cut);
  await sleep(500);
  assert.deepEqual(
    await Promise.all(pids.map(isAlive)),
    pids.map(() => false),
  );
  // Of a build whose end did not reach the gateway.
  const leftover = join(folder, 'data', 'worktrees', 'b8');
  await mkdir(join(leftover, 'store.1'), { recursive: true });
  for (const type of ['build.received', 'build.ended']) {
    await bus.streams.append(eventSubject(scopeOf('store', 1, 'b8').build, type), encode({ type }));
  }
  await launch();
  const again = await call(first);
  assert.deepEqual(again, { ...done, replayed: true });
  for (const [index, fired] of burst.entries()) {
    const reply = await call(fired);
    const written = await readFile(join(path, `burst-${index}.txt`), 'utf8').catch(() => null);
    if (reply.ok) assert.equal(written, String(index));
    else assert.equal(reply.error.code, 'outcome_unknown', JSON.stringify(reply));
  }
  const untilMs = systemClock.monotonic() + 10_000;
  while (existsSync(leftover) && systemClock.monotonic() < untilMs) await sleep(20);
  assert.ok(!existsSync(leftover));
});

test('an error of a workspace reaches the caller with its code', async t => {
  const { attempt, give } = await gatewayWorld(t);
  await give(scopeOf('store', 1, 'b404'));
  await assert.rejects(
    attempt('open', scopeOf('store', 1, 'b404'), OpenAttemptReply),
    error => error instanceof CodeGodError && error.code === 'not_found',
  );
  await assert.rejects(
    attempt('open', { build: '../../x', task: 'a', attempt: 1 }, OpenAttemptReply),
    error => error instanceof CodeGodError && error.code === 'bad_message',
  );
});

test('an attempt is worked on by the node that it was given to, and by no other', async t => {
  const { call, workspace, attempt, give, bus } = await gatewayWorld(t);
  const [own, foreign] = [scopeOf('store', 1, 'b8'), scopeOf('view', 1, 'b8')];
  const other = NodeId.parse('cellar');
  await give(own);
  await give(foreign, other);
  // What the server can be made to say on any subject is no task.
  const answer = { stream: 'CODEGOD_REPORT', seq: 7 };
  await bus.streams.append(taskSubject(WORKER, own.build, own.task, 3), encode(answer));
  await workspace('create', { build: own.build, name: 'bound' }, CreateWorkspaceReply);
  await attempt('open', own, OpenAttemptReply);
  const write = (scope = own) =>
    callOf('filesystem', 'write_file', { path: 'a', content: 'a' }, scope);
  assert.ok((await call(write())).ok);
  const commit = { ...foreign, title: 'x', model: 'm', owns: ['**'] };
  const stolenId = { ...write(), call_id: write(foreign).call_id };
  for (const [what, asked] of Object.entries({
    open: () => attempt('open', foreign, OpenAttemptReply),
    read: () => attempt('read', { ...foreign, paths: ['**'] }, ReadFilesReply),
    commit: () => attempt('commit', commit, CommitReply),
    'a call': () => call(write(foreign)),
    "the id of another's call": () => call(stolenId),
    'an attempt that nobody was given': () =>
      attempt('open', { ...own, attempt: 2 }, OpenAttemptReply),
    'an attempt whose task is none': () =>
      attempt('open', { ...own, attempt: 3 }, OpenAttemptReply),
  })) {
    await assert.rejects(asked(), { code: 'denied' }, what);
  }
  await attempt('open', foreign, OpenAttemptReply, other);
});
