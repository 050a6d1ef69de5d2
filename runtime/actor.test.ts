/** The life of an actor as a real process on a real bus: how it starts, what it says, how it ends. */
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type NatsFixture, startNats } from '../test/nats-fixture.ts';
import { ACTOR_EXIT } from './actor.ts';
import type { Bus } from './bus.ts';
import { systemClock } from './clock.ts';
import { connectNats } from './nats-bus.ts';
import { modulePath, sourceLoader } from './paths.ts';

interface Actor {
  readonly node: string;
  readonly child: ChildProcess;
  /** The lifecycle messages so far. */
  readonly told: Readonly<Record<string, unknown>>[];
  /** Events of its log so far, with their fields. */
  logged(event: string): Readonly<Record<string, unknown>>[];
  until(state: string): Promise<void>;
  /** Resolves with its exit code. */
  readonly exit: Promise<number | null>;
}

describe('an actor', { timeout: 120_000, concurrency: 3 }, () => {
  let nats: NatsFixture;
  let bus: Bus;
  let home = '';
  let actors = 0;
  const children: ChildProcess[] = [];

  before(async () => {
    nats = await startNats();
    home = await mkdtemp(join(tmpdir(), 'codegod-actor-'));
    bus = await connectNats({ servers: [nats.url], name: 'actor-test', clock: systemClock });
  });
  after(async () => {
    for (const child of children) child.kill('SIGKILL');
    await bus?.close();
    await nats?.stop();
    await rm(home, { recursive: true, force: true });
  });

  function start(behaviour: string, env: Readonly<Record<string, string>> = {}): Actor {
    actors += 1;
    const node = `n${actors}`;
    const child = fork(modulePath('test/actor-fixture.ts'), [behaviour], {
      execArgv: [...sourceLoader()],
      env: {
        ...process.env,
        CODEGOD_HOME: join(home, String(actors)),
        CODEGOD_BUS_URL: nats.url,
        CODEGOD_BUS_MONITORING_URL: nats.monitorUrl,
        CODEGOD_NODE_NAME: node,
        ...env,
      },
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    children.push(child);
    const told: Record<string, unknown>[] = [];
    child.on('message', message => told.push(message as Record<string, unknown>));
    let log = '';
    child.stderr?.on('data', chunk => {
      log += String(chunk);
    });
    // Not 'close': that does not come where it was the parent who closed the channel.
    const exit = Promise.all([once(child, 'exit'), child.stderr && once(child.stderr, 'end')]).then(
      ([[code]]) => code as number | null,
    );
    return {
      node,
      child,
      told,
      logged: event =>
        log
          .split('\n')
          .filter(line => line.startsWith('{'))
          .map(line => JSON.parse(line))
          .filter(line => line.event === event),
      exit,
      async until(state) {
        while (!told.some(message => message['state'] === state)) {
          assert.equal(child.exitCode, null, `it ended before it was ${state}: ${log}`);
          await systemClock.sleep(20);
        }
      },
    };
  }

  test('tells its supervisor each state with details, drains on SIGTERM and ends with 0', async () => {
    const actor = start('well');
    await actor.until('ready');
    actor.child.kill('SIGTERM');
    assert.equal(await actor.exit, ACTOR_EXIT.stopped);
    const head = { type: 'lifecycle', name: 'worker' };
    assert.deepEqual(actor.told, [
      { ...head, state: 'starting' },
      { ...head, state: 'ready', http_url: 'http://127.0.0.1:1' },
      { ...head, state: 'draining' },
      { ...head, state: 'stopped' },
    ]);
    assert.equal(actor.logged('test.drained')[0]?.['deadline_ms'], 10_000);
    assert.equal(actor.logged('test.let_go').length, 1);
  });

  test('is found by service discovery, with its endpoints and their figures', async () => {
    const actor = start('well');
    await actor.until('ready');
    const asked = async (subject: string, body: string = '') => {
      const reply = await bus.ask(subject, new TextEncoder().encode(body), { timeout_ms: 2_000 });
      return JSON.parse(new TextDecoder().decode(reply.body));
    };
    await asked('codegod.node.test.reserve', '{"a":1}');
    const { node } = actor;
    const id = String(actor.logged('actor.starting')[0]?.['epoch']);
    const ping = await asked(`$SRV.PING.codegod-worker.${node}-${id}`);
    assert.equal(ping.type, 'io.nats.micro.v1.ping_response');
    assert.equal(ping.name, 'codegod-worker');
    assert.equal(ping.version, '0.1.0');
    assert.equal(ping.metadata.node, node);
    assert.equal(ping.metadata.state, 'ready');
    const info = await asked(`$SRV.INFO.codegod-worker.${ping.id}`);
    assert.equal(info.description, 'an actor for tests');
    assert.deepEqual(info.endpoints, [
      { name: 'node-reserve', subject: 'codegod.node.test.reserve', queue_group: '' },
    ]);
    const stats = await asked(`$SRV.STATS.codegod-worker.${ping.id}`);
    assert.equal(stats.type, 'io.nats.micro.v1.stats_response');
    assert.equal(stats.endpoints[0].num_requests, 1);
    assert(stats.endpoints[0].processing_time > 0);
    assert.match(stats.started, /^\d{4}-.*Z$/);
    actor.child.kill('SIGTERM');
    assert.equal(await actor.exit, ACTOR_EXIT.stopped);
  });

  test('a second SIGTERM ends it at once, though it never drains', async () => {
    const actor = start('hang');
    await actor.until('ready');
    actor.child.kill('SIGTERM');
    await actor.until('draining');
    const sentMs = systemClock.monotonic();
    actor.child.kill('SIGTERM');
    assert.equal(await actor.exit, ACTOR_EXIT.terminated);
    assert(systemClock.monotonic() - sentMs < 2_000);
  });

  test('one that never drains is stopped after ten seconds', async () => {
    const actor = start('hang');
    await actor.until('ready');
    const sentMs = systemClock.monotonic();
    actor.child.kill('SIGTERM');
    assert.equal(await actor.exit, ACTOR_EXIT.stopped);
    const tookMs = systemClock.monotonic() - sentMs;
    assert(tookMs > 9_500 && tookMs < 15_000, `${tookMs} ms`);
    assert.equal(actor.logged('actor.step_late')[0]?.['step'], 'drain');
    assert.equal(actor.logged('test.let_go').length, 1);
  });

  test('without its supervisor it is gone within three seconds', async () => {
    const actor = start('hang');
    await actor.until('ready');
    const sentMs = systemClock.monotonic();
    actor.child.disconnect();
    assert.equal(await actor.exit, ACTOR_EXIT.stopped);
    const tookMs = systemClock.monotonic() - sentMs;
    assert(tookMs > 900 && tookMs < 4_500, `${tookMs} ms`);
    assert.equal(actor.logged('actor.supervisor_gone').length, 1);
  });

  test('an exception nobody caught ends it with 70, said in the log', async () => {
    const actor = start('crash');
    assert.equal(await actor.exit, ACTOR_EXIT.failed);
    assert.match(JSON.stringify(actor.logged('actor.crashed')), /nobody catches this/);
  });

  test('a handler that says fatal ends it with 70, in order', async () => {
    const actor = start('fatal');
    assert.equal(await actor.exit, ACTOR_EXIT.failed);
    assert.equal(actor.logged('actor.handler_fatal')[0]?.['reason'], 'the journal is gone');
    assert.equal(actor.logged('test.let_go').length, 1);
  });

  test('one that cannot start says why, and that starting again is no use', async () => {
    const actor = start('refuse');
    assert.equal(await actor.exit, ACTOR_EXIT.misconfigured);
    assert.match(JSON.stringify(actor.logged('actor.start_failed')), /port 8001 is taken/);
  });

  test('a wrong configuration is named, and that starting again is no use', async () => {
    const actor = start('well', { CODEGOD_HTTP_PORT: 'eighty' });
    assert.equal(await actor.exit, ACTOR_EXIT.misconfigured);
    assert.match(JSON.stringify(actor.logged('actor.start_failed')), /http\.port/);
  });

  test('on a bus that does not sync to disk it refuses, and says the fix', async () => {
    const lax = await startNats({ sync: 'default' });
    try {
      const env = { CODEGOD_BUS_URL: lax.url, CODEGOD_BUS_MONITORING_URL: lax.monitorUrl };
      const actor = start('well', env);
      assert.equal(await actor.exit, ACTOR_EXIT.misconfigured);
      const [line] = actor.logged('actor.start_failed');
      assert.match(JSON.stringify(line), /durability_refused/);
      assert.match(JSON.stringify(line), /sync_interval/);
    } finally {
      await lax.stop();
    }
  });

  test('a bus that comes back without syncing ends it, as at its start', async () => {
    const shaky = await startNats();
    try {
      const actor = start('well', {
        CODEGOD_BUS_URL: shaky.url,
        CODEGOD_BUS_MONITORING_URL: shaky.monitorUrl,
      });
      await actor.until('ready');
      await shaky.restart('default');
      assert.equal(await actor.exit, ACTOR_EXIT.misconfigured);
    } finally {
      await shaky.stop();
    }
  });

  test('without a bus it waits a while and ends with 69', async () => {
    const actor = start('well', { CODEGOD_BUS_URL: 'nats://127.0.0.1:1' });
    const startMs = systemClock.monotonic();
    assert.equal(await actor.exit, ACTOR_EXIT.unavailable);
    assert(systemClock.monotonic() - startMs > 5_000);
  });
});
