/**
 * What goes wrong in the middle of a build, to a real system: somebody cancels, a worker stands
 * still, the disk is full, messages are garbage. Goal: every build ends in a clear state within its
 * bound, nothing crashes, and the next build succeeds.
 *
 * Method: a wiretap tells when a step begins; then the fault is set.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BuildSummary } from '../../protocol/build.ts';
import { decode } from '../../protocol/codec.ts';
import { HEADER } from '../../protocol/envelope.ts';
import { Fact } from '../../protocol/fact.ts';
import { BuildId } from '../../protocol/ids.ts';
import { STREAMS } from '../../protocol/streams.ts';
import { controlSubject, eventsOf } from '../../protocol/subjects.ts';
import type { Bus, MessageHeaders } from '../../runtime/bus.ts';
import { DEAD_HEADER } from '../../runtime/dead-letters.ts';
import {
  fillDisk,
  makeRoom,
  mountSmallDisk,
  SKIP_UNLESS_MOUNTABLE,
  unmount,
} from '../small-disk.ts';
import { eventually, TestSystem } from './test-system.ts';

const LIBRARY = 'Create a REST API for a library with books, members and loans';
const NOTES = 'Create a REST API for notes with a title and a text';
const REFUSED = 'write a 3D game in Rust';
/** Time for one attempt. A worker that stands still is noticed after it. */
const TASK_S = 10;
const OPTIONS = { timeout: 180_000 };

let system: TestSystem;

before(
  async () => {
    system = await TestSystem.create({
      CODEGOD_SCAFFOLD_PACE_MS: '2',
      CODEGOD_TASK_TIMEOUT_S: String(TASK_S),
      CODEGOD_BUILDS_MAX: '2',
    });
    await system.ok('up', '-d');
  },
  { timeout: 180_000 },
);

after(() => system.stop());

function treeOf(build: BuildSummary): string {
  assert.equal(build.state, 'succeeded', JSON.stringify(build.error));
  assert.ok(build.path !== null);
  return execFileSync('git', ['-C', build.path, 'rev-parse', 'HEAD^{tree}'], { encoding: 'utf8' });
}

async function within<T>(limitMs: number, what: string, promise: Promise<T>): Promise<T> {
  const late = sleep(limitMs, null, { ref: false }).then(() => assert.fail(`never: ${what}`));
  return await Promise.race([promise, late]);
}

async function factsOf(id: string, home = system): Promise<Fact[]> {
  const bus = await home.bus();
  try {
    const facts: Fact[] = [];
    const filter = eventsOf(BuildId.parse(id));
    for await (const stored of bus.streams.read(STREAMS.event.name, { filter, from_seq: 1 })) {
      facts.push(Fact.parse(decode(stored.body, stored.headers['content-type'])));
    }
    return facts;
  } finally {
    await bus.close();
  }
}

interface NodeAnswer {
  readonly node: string;
  /** Null while the worker is not heard of. */
  readonly runtime: { readonly leases: readonly unknown[] } | null;
}

async function node(): Promise<NodeAnswer> {
  const answer = await fetch(`${system.http}/nodes`);
  const { nodes } = (await answer.json()) as { nodes: NodeAnswer[] };
  assert.ok(nodes[0]);
  return nodes[0];
}

/** Of a build that may take this long. */
const limited = (limitS: number) => ({ constraints: { max_execution_time: limitS } });
const ON_NODE = { tech_stack: { backend: 'Node.js' } };

/** Nothing is at work and nothing is reserved. */
const assertIdle = (): Promise<void> =>
  eventually(async () => (await node()).runtime?.leases.length === 0, 15_000);

describe('builds at once', () => {
  test(
    'have the trees that they have alone; one above the limit waits and can be cancelled',
    OPTIONS,
    async () => {
      const alone = [
        treeOf(await system.ended(await system.begin(LIBRARY))),
        treeOf(await system.ended(await system.begin(NOTES, ON_NODE))),
      ];
      const [library, notes] = await Promise.all([
        system.begin(LIBRARY),
        system.begin(NOTES, ON_NODE),
      ]);
      const third = await system.begin(LIBRARY);
      const waiting = await system.until(third, ({ state }) => state !== 'planning', 15_000);
      await system.ok('cancel', third);
      assert.equal((await system.ended(third, 15_000)).state, 'cancelled');
      const together = [await system.ended(library), await system.ended(notes)];
      assert.deepEqual(together.map(treeOf), alone);
      if (waiting.state === 'received') assert.match(waiting.waiting ?? '', /turn/);
    },
  );
});

/** What begins each state, on the bus. */
const STATES = {
  received: 'codegod.event.*.build.received',
  planning: 'codegod.task.*.*.plan.*',
  validating_plan: 'codegod.mcp.*.list',
  contracting: 'codegod.workspace.*.create',
  executing: 'codegod.mcp.*.call.*',
  integrating: 'codegod.workspace.*.merge',
  verifying: 'codegod.workspace.*.check',
} as const;

describe('cancel', () => {
  for (const [state, subject] of Object.entries(STATES)) {
    test(
      `while ${state}: ends cancelled, frees the worker, keeps the project`,
      OPTIONS,
      async () => {
        const tap = await system.wiretap(subject);
        const bus = await system.bus();
        try {
          const id = await system.begin(LIBRARY);
          await within(60_000, subject, tap.first);
          const control = new TextEncoder().encode(JSON.stringify({ action: 'cancel' }));
          const answer = await bus.ask(controlSubject(BuildId.parse(id)), control, {
            timeout_ms: 10_000,
          });
          assert.equal(answer.headers[HEADER.error], undefined);
          const build = await system.ended(id, 15_000);
          assert.equal(build.state, 'cancelled');
          assert.equal(build.error?.code, 'cancelled');
          if (build.path !== null) assert.ok(existsSync(join(build.path, '.git')));
          assert.ok(
            build.tasks.every(task => ['merged', 'cancelled', 'failed'].includes(task.state)),
          );
          await assertIdle();
        } finally {
          await Promise.all([tap.close(), bus.close()]);
        }
      },
    );
  }

  test('while finalizing comes in time or is a clear conflict', OPTIONS, async () => {
    const tap = await system.wiretap('codegod.workspace.*.archive');
    try {
      const id = await system.begin(LIBRARY);
      await within(60_000, 'the archive', tap.first);
      const { code, stdout } = await system.run(['cancel', id, '--json']);
      const { state } = await system.ended(id);
      if (code === 0) assert.equal(state, 'cancelled');
      else assert.equal(JSON.parse(stdout).error.code, 'conflict');
      assert.equal(state, code === 0 ? 'cancelled' : 'succeeded');
    } finally {
      await tap.close();
    }
  });

  test('of a build that has ended is a conflict that says how it ended', OPTIONS, async () => {
    const id = await system.begin(NOTES);
    assert.equal((await system.ended(id)).state, 'succeeded');
    const { code, stdout } = await system.run(['cancel', id, '--json']);
    assert.equal(code, 1);
    const { error } = JSON.parse(stdout);
    assert.equal(error.code, 'conflict');
    assert.match(error.message, /succeeded/);
  });

  test('and retry: the build goes on to its end', OPTIONS, async () => {
    const tap = await system.wiretap('codegod.mcp.*.call.*');
    try {
      const id = await system.begin(LIBRARY);
      await within(60_000, 'a tool call', tap.first);
      await system.ok('cancel', id);
      assert.equal((await system.ended(id, 15_000)).state, 'cancelled');
      await system.ok('retry', id);
      const build = await system.until(id, ({ state }) => state === 'succeeded');
      assert.ok(build.tasks.every(task => task.state === 'merged'));
    } finally {
      await tap.close();
    }
  });
});

describe('a request that cannot be', () => {
  test('an unplannable prompt fails with the way out, exit code 1', OPTIONS, async () => {
    const { code, stdout, stderr } = await system.run(['build', REFUSED]);
    assert.equal(code, 1, stderr);
    assert.match(stdout, /failed/);
    assert.match(stdout, /model|recipe/i);
    const build = await system.show('latest');
    assert.equal(build.state, 'failed');
    assert.equal(build.error?.code, 'scaffold_refused');
    assert.match(JSON.stringify(build.error), /ollama pull/);
    assert.equal(build.path, null);
  });

  test('an empty prompt is refused at every door', OPTIONS, async () => {
    for (const prompt of ['', '   ']) {
      const { code, stdout } = await system.run(['build', prompt, '--json']);
      assert.equal(code, 2, `the command line took ${JSON.stringify(prompt)}`);
      assert.match(JSON.parse(stdout).error.message, /prompt|built/);
      const answer = await fetch(`${system.http}/build`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ prompt }),
      });
      assert.equal(answer.status, 400);
      assert.match(await answer.text(), /the prompt is empty/);
    }
    const bus = await system.bus();
    try {
      for (const body of ['', '  ', '{"prompt":"\\t"}', '""']) {
        const result = await bus.streams.append('codegod.build', new TextEncoder().encode(body));
        assert.ok(result.kind === 'appended');
        const build = await system.ended(`b${result.seq}`, 15_000);
        assert.equal(build.state, 'failed', body);
        assert.equal(build.error?.code, 'bad_message', body);
        assert.match(build.error?.message ?? '', /empty/, body);
      }
    } finally {
      await bus.close();
    }
  });
});

describe('a worker that stands still', () => {
  test(
    'is given up after the time of its task; its late report changes nothing',
    OPTIONS,
    async () => {
      const pid = system.pidOf('worker');
      const tap = await system.wiretap('codegod.mcp.*.call.*');
      const passed = await system.wiretap('codegod.event.*.deadline.passed');
      let id = '';
      try {
        id = await system.begin(LIBRARY);
        await within(60_000, 'a tool call', tap.first);
        process.kill(pid, 'SIGSTOP');
        await within(3 * TASK_S * 1_000, 'the deadline of a task', passed.first);
      } finally {
        process.kill(pid, 'SIGCONT');
        await Promise.all([tap.close(), passed.close()]);
      }
      const build = await system.ended(id);
      assert.equal(build.state, 'succeeded', JSON.stringify(build.error));
      assert.ok(build.tasks.some(task => task.attempt > 1));
      const merged = (await factsOf(build.id)).filter(fact => fact.type === 'task.merged');
      const tasks = merged.map(fact => fact.task);
      assert.deepEqual(tasks, [...new Set(tasks)], 'a task was merged twice');
      assert.equal(system.pidOf('worker'), pid);
      await assertIdle();
    },
  );

  test('for good: the build ends within its own limit and says so', OPTIONS, async () => {
    const pid = system.pidOf('worker');
    const tap = await system.wiretap('codegod.mcp.*.call.*');
    const limitS = 6;
    try {
      const id = await system.begin(LIBRARY, limited(limitS));
      await within(30_000, 'a tool call', tap.first);
      process.kill(pid, 'SIGSTOP');
      const build = await system.ended(id, (limitS + 40) * 1_000);
      assert.equal(build.state, 'failed');
      assert.equal(build.error?.code, 'budget_exceeded');
      assert.match(build.error?.message ?? '', /6 s/);
      assert.ok(build.unmet.length > 0);
    } finally {
      process.kill(pid, 'SIGCONT');
      await tap.close();
    }
    await assertIdle();
    assert.equal((await system.ended(await system.begin(NOTES))).state, 'succeeded');
  });
});

async function newestBuild(): Promise<number> {
  const bus = await system.bus();
  try {
    return (await bus.streams.last(STREAMS.build.name, 'codegod.build'))?.seq ?? 0;
  } finally {
    await bus.close();
  }
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
/** The same on every run. */
const NOISE = Uint8Array.from({ length: 512 }, (_, index) => ((index * 197 + 131) % 251) | 0x80);
const GARBAGE: Readonly<Record<string, Uint8Array>> = {
  noise: NOISE,
  'half a JSON': bytes('{"prompt":"x","call_id":'),
  prototypes: bytes('{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}'),
  'wrong types': bytes('{"prompt":7,"action":[],"build":{},"lease":0,"call_id":null,"tools":"x"}'),
  '200 KB': bytes('{"prompt":{"x":"'.padEnd(200 * 1024, 'x')),
  'deep nesting': bytes('{"build":'.repeat(10_000)),
};
const TYPES: readonly MessageHeaders[] = [
  {},
  { 'content-type': 'application/msgpack' },
  { 'content-type': 'application/json' },
];

describe('garbage', () => {
  test('on every subject is refused; nothing crashes, nothing is lost', OPTIONS, async () => {
    const before = await system.status();
    const { node: name } = await node();
    const bus = await system.bus();
    try {
      const build = await newestBuild();
      for (const [what, body] of Object.entries(GARBAGE)) {
        for (const headers of TYPES) await assertRefused(bus, name, { what, body, headers });
      }
      const stored = await storeGarbage(bus, name);
      await eventually(async () => {
        const dead = await deadOf(bus);
        return stored.every(place => dead.includes(place));
      }, 30_000);
      for (let seq = build + 1; seq <= (await newestBuild()); seq++) {
        const { state, error } = await system.ended(`b${seq}`, 15_000);
        assert.equal(state, 'failed', `b${seq}`);
        assert.ok(error?.code === 'bad_message', JSON.stringify(error));
      }
    } finally {
      await bus.close();
    }
    const { actors } = await system.status();
    assert.deepEqual(
      actors.map(({ name, pid, restarts }) => [name, pid, restarts]),
      before.actors.map(({ name, pid }) => [name, pid, 0]),
    );
    assert.equal((await system.ended(await system.begin(NOTES))).state, 'succeeded');
  });
});

interface Garbage {
  readonly what: string;
  readonly body: Uint8Array;
  readonly headers: MessageHeaders;
}

/** Requests whose every field may be left out: an object of any kind is a good one. */
const UNDEMANDING = ['list', 'status'];

async function assertRefused(bus: Bus, name: string, garbage: Garbage): Promise<void> {
  const { what, body, headers } = garbage;
  const subjects = [
    'codegod.control.build.b1',
    'codegod.control.build.x',
    ...['reserve', 'release', 'cancel'].map(verb => `codegod.node.${name}.${verb}`),
    ...['list', 'status'].map(verb => `codegod.mcp.${name}.${verb}`),
    `codegod.mcp.${name}.call.${name}`,
    ...['create', 'merge', 'check', 'archive', 'finish'].map(
      verb => `codegod.workspace.${name}.${verb}`,
    ),
    ...['open', 'read', 'commit'].map(verb => `codegod.workspace.${name}.${verb}.${name}`),
  ];
  const replies = await Promise.all(
    subjects.map(subject => bus.ask(subject, body, { headers, timeout_ms: 30_000 })),
  );
  replies.forEach((reply, index) => {
    const subject = subjects[index] ?? '';
    if (UNDEMANDING.some(verb => subject.endsWith(`.${verb}`))) return;
    const label = `${what} ${JSON.stringify(headers)} on ${subject}`;
    assert.ok(reply.headers[HEADER.error], `${label}: taken`);
    const code = reply.headers[HEADER.errorCode];
    assert.ok(code !== undefined && Number(code) < 500, `${label}: ${code}`);
  });
}

/** Answers the places in streams where it was stored: each must have its dead letter. */
async function storeGarbage(bus: Bus, name: string): Promise<string[]> {
  const places: string[] = [];
  let attempt = 0;
  for (const body of Object.values(GARBAGE)) {
    for (const headers of TYPES) {
      attempt++;
      for (const [stream, subject] of [
        ['CODEGOD_BUILD', 'codegod.build'],
        ['CODEGOD_TASK', `codegod.task.${name}.b900001.store.${attempt}`],
        ['CODEGOD_REPORT', `codegod.report.${name}.b900002.store.${attempt}`],
      ] as const) {
        const result = await bus.streams.append(subject, body, { headers });
        assert.ok(result.kind === 'appended', `${subject}: ${result.kind}`);
        places.push(`${stream} ${result.seq}`);
      }
    }
  }
  return places;
}

async function deadOf(bus: Bus): Promise<string[]> {
  const places: string[] = [];
  const options = { filter: 'codegod.dead.>', from_seq: 1 };
  for await (const { headers } of bus.streams.read(STREAMS.dead.name, options)) {
    places.push(`${headers[DEAD_HEADER.stream]} ${headers[DEAD_HEADER.sequence]}`);
  }
  return places;
}

const DISK_BYTES = 16 * 1024 * 1024;

describe('a full disk under the projects', {
  skip: SKIP_UNLESS_MOUNTABLE,
}, () => {
  let small: TestSystem;
  let data: string;

  /** Projects, worktrees and scratch get a small disk; what else lies there stays outside it. */
  before(async () => {
    small = await TestSystem.create({ CODEGOD_SCAFFOLD_PACE_MS: '2' });
    data = join(small.home, 'data');
    const environments = join(small.home, 'environments');
    execFileSync('mv', [join(data, 'environments'), environments]);
    mountSmallDisk(data, DISK_BYTES);
    symlinkSync(environments, join(data, 'environments'));
    mkdirSync(join(small.home, 'nats'));
    symlinkSync(join(small.home, 'nats'), join(data, 'nats'));
    await small.ok('up', '-d');
  });

  after(async () => {
    await small.run(['down']);
    unmount(data);
    await small.stop();
  });

  for (const [when, subject, limitS] of [
    ['before the project', 'codegod.workspace.*.create', 40],
    ['in the middle of the work', 'codegod.mcp.*.call.*', 15],
  ] as const) {
    test(
      `${when}: the build ends and names it; with room again, retry succeeds`,
      OPTIONS,
      async () => {
        const tap = await small.wiretap(subject);
        try {
          if (when === 'before the project') fillDisk(data);
          const id = await small.begin(NOTES, limited(limitS));
          await within(30_000, subject, tap.first);
          fillDisk(data);
          const build = await small.ended(id, 60_000);
          assert.equal(build.state, 'failed');
          assert.match(JSON.stringify([build.error, build.unmet]), /disk_full|no room|no space/i);
          makeRoom(data);
          assertWhole(build);
          await small.ok('retry', id);
          const again = await small.until(id, ({ state }) => state === 'succeeded', 60_000);
          assert.ok(again.path !== null);
          assertWhole(again);
        } finally {
          makeRoom(data);
          await tap.close();
        }
      },
    );
  }

  /** What is there of the project is a repository in order, without half-made files. */
  function assertWhole(build: BuildSummary): void {
    if (build.path === null) {
      const projects = join(data, 'projects');
      const found = existsSync(projects) ? readdirSync(projects) : [];
      assert.deepEqual(
        found.filter(name => name.endsWith(`-${build.id}`)),
        [],
      );
      return;
    }
    const git = (...args: string[]): string =>
      execFileSync('git', ['-C', build.path ?? '', ...args], { encoding: 'utf8' });
    git('fsck', '--strict');
    assert.equal(git('status', '--porcelain'), '');
    assert.ok(readFileSync(join(build.path, '.git', 'HEAD'), 'utf8').includes('main'));
  }
});
