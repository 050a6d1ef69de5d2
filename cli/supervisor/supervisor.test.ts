/** The supervisor with a real bus server and fake actors, which are killed in every way. */
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { systemClock } from '../../runtime/clock.ts';
import { connectNats } from '../../runtime/nats-bus.ts';
import { ensureOwnerKey } from '../../runtime/nats-server/users.ts';
import { modulePath, sourceLoader } from '../../runtime/paths.ts';
import { identityOf } from '../../runtime/process-identity.ts';
import {
  fillDisk,
  makeRoom,
  mountSmallDisk,
  SKIP_UNLESS_MOUNTABLE,
  unmount,
} from '../../test/small-disk.ts';
import { logFile } from './log-file.ts';
import { type Supervisor, type SupervisorOptions, stopLeftovers } from './supervisor.ts';
import {
  readSystem,
  runningSystem,
  type SystemRecord,
  survivors,
  writeSystem,
} from './system-record.ts';
import { startFakeSystem } from './test-system.ts';

const OPTIONS = { timeout: 120_000 };

/** A folder, and systems in it that are stopped before it is removed. */
function world(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'codegod-supervisor-'));
  const systems: Supervisor[] = [];
  t.after(async () => {
    await Promise.all(systems.map(system => system.stop()));
    rmSync(folder, { recursive: true, force: true });
  });
  const start = async (names: string[], options: Partial<SupervisorOptions> = {}) => {
    const system = await startFakeSystem(folder, names, options);
    systems.push(system);
    return system;
  };
  return { folder, start };
}

async function until<T>(
  what: string,
  look: () => T | null | undefined | false | Promise<T | false>,
): Promise<T> {
  const deadline = systemClock.monotonic() + 30_000;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (systemClock.monotonic() > deadline) throw new Error(`never: ${what}`);
    await systemClock.sleep(20);
  }
}

const pidOf = (record: SystemRecord, name: string): number => {
  const one = [record.bus, ...record.actors].find(candidate => candidate.name === name);
  assert.ok(one?.pid, `${name} has a process`);
  return one.pid;
};

test('each process that is killed comes back, the bus on the same port', OPTIONS, async t => {
  const { folder, start } = world(t);
  const system = await start(['master', 'worker']);
  const first = await system.ready();
  assert.equal(first.http.url, 'http://127.0.0.1:9');
  for (const name of ['master', 'worker', 'nats-server']) {
    const pid = pidOf(system.record(), name);
    process.kill(pid, 'SIGKILL');
    const next = await until(`${name} is ready again`, () => {
      const record = runningSystem(folder);
      const one = [record?.bus, ...(record?.actors ?? [])].find(it => it?.name === name);
      return one?.state === 'ready' && one.pid !== pid && one;
    });
    assert.equal(next.restarts, 1);
    assert.equal(next.reason, 'killed by SIGKILL');
  }
  assert.equal(system.record().bus.url, first.bus.url);
  assert.match(readFileSync(logFile(folder, 'worker'), 'utf8'), /hello from worker\nhello from/);
});

test(
  'what hangs is replaced: stopped, in a loop, the bus too; nobody else is',
  OPTIONS,
  async t => {
    const { folder, start } = world(t);
    const system = await start(['master', 'worker', 'gateway'], { askEveryMs: 500 });
    const first = await system.ready();
    const hang: readonly (readonly [string, NodeJS.Signals])[] = [
      ['master', 'SIGSTOP'],
      ['worker', 'SIGUSR1'],
      ['nats-server', 'SIGSTOP'],
    ];
    for (const [name, signal] of hang) {
      const pid = pidOf(system.record(), name);
      process.kill(pid, signal);
      const next = await until(`${name} is replaced`, () => {
        const record = runningSystem(folder);
        const one = [record?.bus, ...(record?.actors ?? [])].find(it => it?.name === name);
        return one?.state === 'ready' && one.pid !== pid && one;
      });
      assert.equal(next.reason, 'it did not answer for 3 s');
      assert.equal(identityOf(pid), null);
    }
    assert.equal(pidOf(system.record(), 'gateway'), pidOf(first, 'gateway'));
  },
);

test('what keeps a process from its work is its state, with since when', OPTIONS, async t => {
  const { folder, start } = world(t);
  const system = await start(['master', 'worker']);
  const before = await system.ready();
  process.kill(pidOf(before, 'worker'), 'SIGUSR2');
  const record = await until('the system is degraded', () => {
    const now = runningSystem(folder);
    return now?.state === 'degraded' && now;
  });
  const worker = record.actors.find(({ name }) => name === 'worker');
  assert.deepEqual([worker?.state, worker?.reason], ['degraded', 'no bus']);
  assert.ok((worker?.since ?? 0) >= before.started_at);
  assert.deepEqual(await system.ready(), record, 'it has started');
});

test('a bus elsewhere that no process here can reach is told as such', OPTIONS, async t => {
  const { folder, start } = world(t);
  const bus = { kind: 'foreign', url: 'nats://10.0.0.1:4222', monitoringUrl: null } as const;
  const system = await start(['worker', 'resource-monitor'], { bus });
  const before = await system.ready();
  assert.equal(before.bus.state, 'ready');
  process.kill(pidOf(before, 'worker'), 'SIGUSR2');
  await until('the worker has a trouble', () => runningSystem(folder)?.state === 'degraded');
  assert.equal(system.record().bus.state, 'ready', 'the other one reaches it');
  process.kill(pidOf(before, 'resource-monitor'), 'SIGUSR2');
  const { bus: told } = await until('both have', () => {
    const now = runningSystem(folder);
    return now?.bus.state === 'degraded' && now;
  });
  assert.equal(told.reason, 'no bus');
  assert.ok((told.since ?? 0) >= before.started_at);
});

test('a full disk ends nothing, is told, and with room again everything can be stored', {
  ...OPTIONS,
  skip: SKIP_UNLESS_MOUNTABLE,
}, async t => {
  const { folder, start } = world(t);
  mountSmallDisk(folder, 32 * 1024 * 1024);
  const problems: string[] = [];
  const system = await start(['master', 'worker'], {
    askEveryMs: 500,
    onProblem: sentence => problems.push(sentence),
  });
  try {
    const { bus: server } = await system.ready();
    const bus = await connectNats({
      ...{ servers: [server.url ?? ''], name: 't', clock: systemClock },
      credentials: { nkeySeed: ensureOwnerKey(join(folder, 'bus')) },
    });
    t.after(() => bus.close());
    await bus.streams.ensure({
      name: 'FULL',
      subjects: ['full.>'],
      storage: 'file',
      discard: 'old',
    });
    const store = () =>
      bus.streams.append('full.one', Buffer.alloc(100_000, 1), { timeout_ms: 2_000 });
    await store();
    fillDisk(folder);
    await assert.rejects(async () => {
      for (;;) await store();
    });
    process.kill(pidOf(system.record(), 'worker'), 'SIGKILL');
    await until('the bus tells that its disk is full', () => {
      const { bus: told } = system.record();
      return told.state === 'degraded' && told.reason?.includes('is the disk full?');
    });
    await until('the worker is back', () =>
      system
        .record()
        .actors.some(
          ({ name, state, restarts }) => name === 'worker' && state === 'ready' && restarts === 1,
        ),
    );
    assert.match(problems.join(), /system.json cannot be written: ENOSPC/);
    makeRoom(folder);
    const again = await until('the bus is started again', () => {
      const { bus: one } = system.record();
      return one.state === 'ready' && one.restarts === 1 && one;
    });
    assert.equal(again.reason, 'its disk was full, and has room again');
    await until('it stores', () =>
      store().then(
        () => true,
        () => false,
      ),
    );
  } finally {
    await system.stop();
    unmount(folder);
  }
});

test('stopping leaves no process and no note', OPTIONS, async t => {
  const { folder, start } = world(t);
  const system = await start(['master', 'stubborn'], {
    policy: { drain_ms: 300 },
  });
  const record = await system.ready();
  assert.deepEqual(readSystem(folder), record);
  await Promise.all([system.stop(), system.stop()]);
  assert.deepEqual(survivors(record), []);
  assert.equal(readSystem(folder), null);
});

test('an actor that keeps dying fails the start with its name and reason', OPTIONS, async t => {
  const { folder, start } = world(t);
  const system = await start(['master', 'broken']);
  await assert.rejects(system.ready(), /broken keeps dying: exit code 7/);
  const broken = await until('the crash loop is noted', () =>
    runningSystem(folder)?.actors.find(one => one.state === 'crash_loop'),
  );
  assert.equal(broken.name, 'broken');
});

test('nothing survives a killed supervisor, and the next start sweeps up', OPTIONS, async t => {
  const { folder, start } = world(t);
  const supervisor = fork(modulePath('cli/supervisor/test-system.ts'), [folder], {
    execArgv: [...sourceLoader()],
    stdio: 'ignore',
  });
  const record = await until('the system is ready', () => {
    const running = runningSystem(folder);
    return running?.state === 'ready' && running;
  });
  supervisor.kill('SIGKILL');
  await until('its children are gone', () => survivors(record).length === 0);
  assert.equal(runningSystem(folder), null);
  assert.notEqual(readSystem(folder), null, 'the note of the dead lies there');
  const system = await start(['master']);
  const next = await system.ready();
  assert.notEqual(next.supervisor_pid, record.supervisor_pid);
  await system.stop();
});

test('leftovers of a dead supervisor are stopped, processes of reused ids are not', async t => {
  const { folder } = world(t);
  const orphan = fork(join(folderWithSleeper(folder), 'sleeper.mjs'), { stdio: 'ignore' });
  const bystander = fork(join(folder, 'sleeper.mjs'), { stdio: 'ignore' });
  t.after(() => bystander.kill('SIGKILL'));
  const one = (name: string, pid: number, started: string | null) => ({
    name,
    pid,
    pid_started: started,
    state: 'ready' as const,
    restarts: 0,
    reason: null,
  });
  const orphanPid = orphan.pid ?? 0;
  const bystanderPid = bystander.pid ?? 0;
  writeSystem(folder, {
    supervisor_pid: 1,
    supervisor_started: 'long ago',
    mode: 'detached',
    state: 'ready',
    started_at: 0,
    bus: { ...one('nats-server', bystanderPid, 'earlier'), url: null, monitoring_url: null },
    http: { url: null },
    actors: [one('worker', orphanPid, identityOf(orphanPid)?.started ?? null)],
  });
  assert.deepEqual(await stopLeftovers(folder, systemClock), ['worker']);
  assert.equal(identityOf(orphanPid), null);
  assert.notEqual(identityOf(bystanderPid), null);
});

function folderWithSleeper(folder: string): string {
  writeFileSync(join(folder, 'sleeper.mjs'), 'setInterval(() => {}, 1000);');
  return folder;
}
