/** `build` on a real bus whose master only tells what a master tells. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import type { BuildId, GatewayId, LeaseId, NodeId, TaskId } from '../../protocol/ids.ts';
import type { ArtifactReference } from '../../protocol/text.ts';
import { wholeEnvironment } from '../../runtime/config.ts';
import { type NatsFixture, startNats } from '../../test/nats-fixture.ts';
import { programOf } from '../../test/source-tree.ts';
import { startTestMaster, type TestMaster } from '../test-master.ts';
import { openHome } from '../test-world.ts';

const OPTIONS = { timeout: 60_000 };
let server: NatsFixture;
before(async () => {
  server = await startNats();
});
after(() => server.stop());

interface Story {
  readonly archive?: (master: TestMaster) => Promise<ArtifactReference>;
  readonly path?: string;
  readonly fails?: boolean;
  /** Tells the end only when asked to cancel. */
  readonly endless?: boolean;
}

/** What a master says of a build by the scaffold engine. */
function telling(story: Story) {
  return async (master: TestMaster, build: BuildId): Promise<void> => {
    const at = 1_000;
    const say = (body: Parameters<TestMaster['say']>[1]) => master.say(build, body);
    const request = master.requests.at(-1) ?? { prompt: '?' };
    const place = { task: 'store' as TaskId, attempt: 1 };
    await say({ type: 'build.received', at, request, name_hint: null });
    await say({ type: 'build.admitted', at });
    await say({
      type: 'task.placed',
      at,
      ...place,
      node: 'n1' as NodeId,
      engine: 'scaffold',
      model: 'scaffold',
      context_tokens: 8_192,
      gateway: 'n1' as GatewayId,
      lease: 'l1' as LeaseId,
      decision: { at, chosen: null, reason: 'the only one', candidates: [] },
    });
    const path = story.path ?? '/nowhere/todo';
    await say({ type: 'workspace.created', at, gateway: 'n1' as GatewayId, path, head: SHA });
    await say({ type: 'plan.accepted', at, plan: PLAN });
    if (story.endless) return;
    if (story.archive) {
      const archive = await story.archive(master);
      await say({ type: 'build.archived', at, archive, head: SHA, files: ['a.txt'] });
    }
    const error = { code: 'checks_failed' as const, message: 'two tests fail' };
    await say({
      type: 'build.ended',
      at: at + 2_500,
      state: story.fails ? 'failed' : 'succeeded',
      error: story.fails ? error : null,
      unmet: [],
    });
  };
}

const SHA = 'a'.repeat(40);
const PLAN = {
  name: 'todo',
  summary: '',
  stack: 'node',
  check: { command: ['node', '--test'], timeout_s: 60 },
  tasks: [
    {
      id: 'store' as TaskId,
      title: 'The store',
      type: 'backend' as const,
      goal: '',
      acceptance: [],
      owns: ['src/store.js'],
      reads: [],
      depends_on: [],
      mcp_tools: [],
      optional: false,
      priority: 5,
    },
  ],
};

async function open(t: TestContext, story: Story) {
  const home = openHome(t);
  const master = await startTestMaster(server.url, telling(story));
  home.atEnd(() => master.stop());
  const build = (...argv: string[]) =>
    home.run('--nats', server.url, 'build', 'Create a todo list', ...argv);
  return { home, master, build };
}

/** A tar.gz with one project folder of that name, as the gateway makes it. */
function tarOf(folder: string, name: string): Uint8Array {
  const root = mkdtempSync(join(folder, 'tar-'));
  mkdirSync(join(root, name));
  writeFileSync(join(root, name, 'a.txt'), 'hello\n');
  execFileSync('git', ['init', '-q', join(root, name)]);
  execFileSync('tar', ['-czf', join(root, 'p.tar.gz'), '-C', root, name]);
  return readFileSync(join(root, 'p.tar.gz'));
}

test('a build tells its tasks, who wrote it and where it lies', OPTIONS, async t => {
  const { master, build } = await open(t, {});
  const { code, stdout, stderr } = await build('--stack', 'fastapi');
  assert.equal(code, 0, stderr);
  assert.match(stderr, /^build b\d+$/m);
  assert.match(stderr, /no model found: the scaffold engine writes this/);
  assert.match(stderr, /planned todo \(node\): 1 task$/m);
  assert.match(stdout, /^succeeded {2}todo \(b\d+, 2\.5 s\)$/m);
  assert.match(stdout, /^written +by scaffold$/m);
  const request = master.requests.at(-1);
  assert.deepEqual(request, {
    prompt: 'Create a todo list',
    tech_stack: { backend: 'FastAPI' },
  });
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is looked for
  assert.doesNotMatch(stdout + stderr, /\x1b/);
});

test('a request has no say in the sandbox of a system that runs', OPTIONS, async t => {
  const { master, build } = await open(t, {});
  const { code, stderr } = await build('--no-sandbox');
  assert.equal(code, 2);
  assert.match(stderr, /sandbox: none/);
  assert.deepEqual(master.requests, []);
});

test('with --json each fact is a line and the summary is the last', OPTIONS, async t => {
  const { build } = await open(t, {});
  const { code, stdout } = await build('--json');
  assert.equal(code, 0);
  const lines = stdout
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line));
  assert.deepEqual(
    lines.slice(0, 3).map(line => line.type),
    ['build.received', 'build.admitted', 'task.placed'],
  );
  const summary = lines.at(-1);
  assert.equal(summary.type, 'build.summary');
  assert.deepEqual([summary.state, summary.name, summary.out], ['succeeded', 'todo', null]);
});

test('a failed build is exit code 1 with its reason', OPTIONS, async t => {
  const { build } = await open(t, { fails: true });
  const { code, stdout } = await build();
  assert.equal(code, 1);
  assert.match(stdout, /^failed {2}todo/m);
  assert.match(stdout, /^why +two tests fail$/m);
});

test('--detach prints the id at once', OPTIONS, async t => {
  const { build } = await open(t, { endless: true });
  const { code, stdout } = await build('--detach', '--json');
  assert.equal(code, 0);
  assert.match(JSON.parse(stdout).id, /^b\d+$/);
});

test('--out brings the whole project, and nothing is overwritten', OPTIONS, async t => {
  const { home, build } = await open(t, {
    archive: master => master.keep('todo.tar.gz', tarOf(home.folder, 'todo')),
  });
  const out = join(home.folder, 'out');
  const first = await build('--out', out);
  assert.equal(first.code, 0, first.stderr);
  assert.equal(readFileSync(join(out, 'todo', 'a.txt'), 'utf8'), 'hello\n');
  assert.ok(existsSync(join(out, 'todo', '.git')));
  assert.deepEqual(readdirSync(out), ['todo'], 'no scratch is left');
  writeFileSync(join(out, 'todo', 'mine.txt'), 'mine');
  const second = await build('--out', out, '--json');
  assert.equal(second.code, 0, second.stderr);
  const summary = JSON.parse(second.stdout.trimEnd().split('\n').at(-1) ?? '');
  assert.match(summary.out, /todo-b\d+$/);
  assert.equal(readFileSync(join(out, 'todo', 'mine.txt'), 'utf8'), 'mine');
  const third = await build('--out', out, '--name', 'todo');
  assert.equal(third.code, 2, 'a name that is taken is refused before anything is built');
});

test('a damaged archive is an error and leaves nothing half there', OPTIONS, async t => {
  const { home, build } = await open(t, {
    archive: async master => {
      const reference = await master.keep('bad.tar.gz', tarOf(home.folder, 'todo'));
      return { ...reference, sha256: '0'.repeat(64) };
    },
  });
  const out = join(home.folder, 'out');
  const { code, stderr } = await build('--out', out);
  assert.equal(code, 1);
  assert.match(stderr, /the archive is damaged/);
  assert.deepEqual(readdirSync(out), []);
});

test('a build that takes too long is left to go on', OPTIONS, async t => {
  const { build } = await open(t, { endless: true });
  const { code, stdout } = await build('--timeout', '1', '--json');
  assert.equal(code, 124);
  const { error } = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '');
  assert.equal(error.code, 'timeout');
  assert.match(error.hint, /goes on/);
});

test('Ctrl-C detaches, Ctrl-C twice cancels', OPTIONS, async t => {
  const { home, master } = await open(t, { endless: true });
  const start = () => {
    const argv = ['--nats', server.url, 'build', 'Create a todo list'];
    const child = spawn(process.execPath, [...programOf('cli/main.ts'), ...argv], {
      env: { ...wholeEnvironment(), ...home.env },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let stderr = '';
    const waiters = new Map<string, () => void>();
    child.stderr.on('data', chunk => {
      stderr += chunk;
      for (const [text, tell] of waiters) if (stderr.includes(text)) tell();
    });
    const said = (text: string) =>
      new Promise<void>(resolve => {
        if (stderr.includes(text)) resolve();
        else waiters.set(text, resolve);
      });
    const ended = new Promise<number | null>(resolve => child.once('close', resolve));
    return { child, said, ended };
  };
  const once = start();
  await once.said('planned');
  once.child.kill('SIGINT');
  assert.equal(await once.ended, 130);
  assert.deepEqual(master.controls, []);
  const twice = start();
  await twice.said('planned');
  twice.child.kill('SIGINT');
  await twice.said('detaching');
  twice.child.kill('SIGINT');
  await twice.said('cancelling');
  twice.child.kill('SIGINT');
  assert.equal(await twice.ended, 130);
  assert.deepEqual(master.controls, ['cancel']);
});

test('the facts of a build are its log', OPTIONS, async t => {
  const { home, build } = await open(t, {});
  await build();
  const run = (...argv: string[]) => home.run('--nats', server.url, ...argv);
  const { stdout } = await run('logs', 'latest', '-f');
  assert.match(stdout, /b\d+ {2}succeeded$/m);
  const json = await run('logs', 'latest', '--json');
  assert.equal(JSON.parse(json.stdout.split('\n', 1)[0] ?? '').type, 'build.received');
  const all = (await run('logs', 'latest')).stdout.trimEnd().split('\n');
  for (const argv of [
    ['-n', '2'],
    ['-f', '-n', '2'],
    ['--lines', '2'],
  ]) {
    const last = await run('logs', 'latest', ...argv);
    assert.deepEqual(last.stdout.trimEnd().split('\n'), all.slice(-2), argv.join(' '));
  }
  const facts = await run('logs', 'latest', '-n', '1', '--json');
  assert.equal(JSON.parse(facts.stdout).type, 'build.ended');
  const none = await run('logs', '999999');
  assert.equal(none.code, 1);
});

test('pub and req speak to the bare bus', OPTIONS, async t => {
  const { home, master } = await open(t, {});
  const run = (...argv: string[]) => home.run('--nats', server.url, ...argv);
  const reply = await run('req', 'codegod.build', '{"prompt":"Create a zoo"}');
  assert.equal(reply.code, 0, reply.stderr);
  const ack = JSON.parse(reply.stdout);
  assert.equal(ack.stream, 'CODEGOD_BUILD');
  assert.ok(Number.isInteger(ack.seq));
  await run('logs', `b${ack.seq}`, '-f');
  assert.equal(master.requests.at(-1)?.prompt, 'Create a zoo');
  const nobody = await run('req', 'nobody.is.here', 'x', '--json');
  assert.equal(nobody.code, 3);
  assert.equal(JSON.parse(nobody.stdout).error.code, 'no_responders');
  const published = await run('pub', 'some.subject', 'text', '--json');
  assert.deepEqual(JSON.parse(published.stdout), { subject: 'some.subject', bytes: 4 });
});
