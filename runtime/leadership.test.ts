/** The lease over the in-memory bus with simulated time, and once over a real nats-server. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { STREAMS } from '../protocol/streams.ts';
import { type ErrandFact, errandMachine } from '../test/durable-fixture.ts';
import { type NatsFixture, startNats } from '../test/nats-fixture.ts';
import type { Bus, Kv } from './bus.ts';
import { SimulatedClock, systemClock } from './clock.ts';
import { createDurableHost } from './durable-host.ts';
import type { FactLog } from './fact-log.ts';
import { createStreamFactLog } from './fact-log-stream.ts';
import { memoryJournal } from './journal.ts';
import { createLeadership, type LeaseHolder, leaseHolder } from './leadership.ts';
import { silentLogger } from './log.ts';
import { createMemoryBroker } from './memory-bus.ts';
import { connectNats } from './nats-bus.ts';

const TTL_MS = 3_000;
const NEVER = new AbortController().signal;

const holder = (name: string, more: Partial<LeaseHolder> = {}): LeaseHolder => ({
  name,
  host: name,
  pid: 1,
  started: 'once',
  ...more,
});

async function place() {
  const clock = new SimulatedClock();
  const broker = createMemoryBroker({ clock });
  const join = async (
    name: string,
    options: { holder?: LeaseHolder; isAlive?: () => boolean } = {},
  ) => {
    const bus = broker.connect(name);
    const kv = bus.kv('codegod_lease');
    await kv.ensure({ ttl_ms: TTL_MS, storage: 'file', history: 1 });
    const leadership = createLeadership({
      kv,
      holder: options.holder ?? holder(name),
      clock,
      ttl_ms: TTL_MS,
      isAlive: options.isAlive ?? (() => true),
    });
    return { bus, kv, leadership };
  };
  return { clock, join };
}

/** Lets time pass until the promise has settled. */
async function passing<T>(clock: SimulatedClock, promise: Promise<T>): Promise<T> {
  let isOver = false;
  const over = promise.finally(() => {
    isOver = true;
  });
  for (let steps = 0; !isOver && steps < 10_000; steps++) await clock.advance(50);
  return await over;
}

test('a lease is kept for as long as its holder renews it', async () => {
  const { clock, join } = await place();
  const [first, second] = [await join('first'), await join('second')];
  const lease = await first.leadership.acquire(NEVER);
  const waiting = new AbortController();
  const acquiring = second.leadership.acquire(waiting.signal);
  await clock.advance(20 * TTL_MS);
  assert.equal(lease.lost.aborted, false);
  assert.equal(await second.leadership.holder(), 'first');
  waiting.abort();
  await assert.rejects(acquiring, { code: 'cancelled' });
  await first.leadership.release();
});

test('a released lease is had at once, under a greater fence', async () => {
  const { clock, join } = await place();
  const [first, second] = [await join('first'), await join('second')];
  const lease = await first.leadership.acquire(NEVER);
  const acquiring = second.leadership.acquire(NEVER);
  await clock.advance(1_000);
  const startMs = clock.monotonic();
  await first.leadership.release();
  assert.equal(lease.lost.aborted, true);
  const next = await passing(clock, acquiring);
  assert(clock.monotonic() - startMs <= TTL_MS / 4);
  assert(next.fence > lease.fence);
  await second.leadership.release();
});

test('a holder that is cut off knows it before anybody else can hold the lease', async () => {
  const { clock, join } = await place();
  const [first, second] = [await join('first'), await join('second')];
  const lease = await first.leadership.acquire(NEVER);
  let lostAtMs = 0;
  lease.lost.addEventListener('abort', () => {
    lostAtMs = clock.monotonic();
  });
  await clock.advance(TTL_MS);
  first.bus.disconnect();
  const next = await passing(clock, second.leadership.acquire(NEVER));
  assert(lostAtMs > 0 && lostAtMs < clock.monotonic());
  assert(next.fence > lease.fence);
  await second.leadership.release();
});

test('a dead holder of this machine is replaced at once, one elsewhere only in time', async () => {
  for (const { host, waits } of [
    { host: 'here', waits: false },
    { host: 'elsewhere', waits: true },
  ]) {
    const { clock, join } = await place();
    const dead = await join('dead', { holder: holder('dead', { host, pid: 77 }) });
    await dead.leadership.acquire(NEVER);
    dead.bus.disconnect();
    const startMs = clock.monotonic();
    const heir = await join('heir', {
      holder: holder('heir', { host: 'here' }),
      isAlive: () => false,
    });
    const lease = await passing(clock, heir.leadership.acquire(NEVER));
    const waitedMs = clock.monotonic() - startMs;
    assert(waits ? waitedMs > TTL_MS / 2 : waitedMs <= 100, `${host}: ${waitedMs} ms`);
    assert(lease.fence > 1);
    await heir.leadership.release();
  }
});

test('a renewal that hangs costs the lease in time', async () => {
  const clock = new SimulatedClock();
  const bus = createMemoryBroker({ clock }).connect('only');
  const kv = bus.kv('codegod_lease');
  await kv.ensure({ ttl_ms: TTL_MS, storage: 'file' });
  const hanging: Kv = { ...boundKv(kv), update: () => new Promise(() => {}) };
  const leadership = createLeadership({ kv: hanging, holder: holder('a'), clock, ttl_ms: TTL_MS });
  const lease = await leadership.acquire(NEVER);
  await clock.advance(TTL_MS * 0.79);
  assert.equal(lease.lost.aborted, false);
  await clock.advance(TTL_MS * 0.02);
  assert.equal(lease.lost.aborted, true);
});

test('a renewal whose answer was lost is found again', async () => {
  const clock = new SimulatedClock();
  const bus = createMemoryBroker({ clock }).connect('only');
  const kv = bus.kv('codegod_lease');
  await kv.ensure({ ttl_ms: TTL_MS, storage: 'file' });
  let lostAnswers = 1;
  const forgetful: Kv = {
    ...boundKv(kv),
    async update(...what) {
      const revision = await kv.update(...what);
      if (lostAnswers-- > 0) throw new Error('the answer is lost');
      return revision;
    },
  };
  const leadership = createLeadership({
    kv: forgetful,
    holder: holder('a'),
    clock,
    ttl_ms: TTL_MS,
  });
  const lease = await leadership.acquire(NEVER);
  await clock.advance(5 * TTL_MS);
  assert.equal(lease.lost.aborted, false);
  await leadership.release();
});

const boundKv = (kv: Kv): Kv => ({
  ensure: config => kv.ensure(config),
  get: key => kv.get(key),
  put: (key, value) => kv.put(key, value),
  create: (key, value) => kv.create(key, value),
  update: (key, value, revision) => kv.update(key, value, revision),
  delete: (key, revision) => kv.delete(key, revision),
  keys: () => kv.keys(),
  watch: (signal, filter) => kv.watch(signal, filter),
});

test('this process is recognised as alive, a past one as dead', async () => {
  const { join } = await place();
  const own = leaseHolder('own');
  const { pid } = spawnSync('true');
  const dead = await join('dead', { holder: { ...own, name: 'dead', pid, started: '1' } });
  await dead.leadership.acquire(NEVER);
  const { kv, clock } = { kv: dead.kv, clock: new SimulatedClock() };
  const heir = createLeadership({ kv, holder: own, clock, ttl_ms: TTL_MS });
  assert((await heir.acquire(NEVER)).fence > 1, 'without waiting: the dead one is on this machine');
  const rival = createLeadership({ kv, holder: { ...own, pid: 1 }, clock, ttl_ms: TTL_MS });
  const soon = new AbortController();
  const waiting = rival.acquire(soon.signal);
  await clock.advance(TTL_MS);
  soon.abort();
  await assert.rejects(waiting, { code: 'cancelled' });
  await heir.release();
});

describe('over a real server', { timeout: 60_000 }, () => {
  const ttlMs = 2_000;
  let nats: NatsFixture;
  const buses: Bus[] = [];
  const connect = async (): Promise<Bus> => {
    const bus = await connectNats({ servers: [nats.url], name: 'lead-test', clock: systemClock });
    buses.push(bus);
    return bus;
  };
  before(async () => {
    nats = await startNats();
    const bus = await connect();
    const { event } = STREAMS;
    const subjects = event.subjects;
    await bus.streams.ensure({ name: event.name, subjects, storage: 'file', discard: 'new' });
    await bus.kv('codegod_lease').ensure({ ttl_ms: ttlMs, storage: 'file', history: 1 });
  });
  after(async () => {
    for (const bus of buses) await bus.close();
    await nats?.stop();
  });

  test('of two hosts the one that lost its lease is fenced, and the log is whole', async () => {
    const host = async (name: string) => {
      const bus = await connect();
      const kv = bus.kv('codegod_lease');
      const leadership = createLeadership({
        kv,
        holder: holder(name),
        clock: systemClock,
        ttl_ms: ttlMs,
      });
      const lease = await leadership.acquire(AbortSignal.timeout(10_000));
      const log = createStreamFactLog({ bus, source: `/${name}`, fence: () => lease.fence });
      const lost: string[] = [];
      const durable = createDurableHost<typeof errandMachine>({
        machine: errandMachine,
        log: log as unknown as FactLog<ErrandFact>,
        snapshots: await memoryJournal(),
        schemaVersion: 1,
        migrations: {},
        clock: systemClock,
        logger: silentLogger,
        perform: (_entity, _key, _effect, signal) =>
          new Promise(resolve => signal.addEventListener('abort', () => resolve([]))),
        failed: () => [],
        onDeadline: (key, at) => ({ type: 'deadline.passed', at, key }),
        resumed: () => [{ type: 'host.resumed', at: 1 }],
        notLeader: entity => lost.push(entity),
      });
      return { kv, lease, leadership, durable, lost };
    };
    const asked = (key: string): ErrandFact => ({ type: 'errand.asked', at: 1, key });
    const old = await host('old');
    await old.durable.submit('b1', asked('a'));
    await old.leadership.release(); // As after a long pause: it still believes it leads.
    const young = await host('young');
    await young.durable.open('b1');
    await young.durable.submit('b1', asked('b'));
    await assert.rejects(old.durable.submit('b1', asked('stale')), { code: 'wrong_last_sequence' });
    assert.deepEqual(old.lost, ['b1']);
    assert.equal(old.durable.context('b1'), undefined);
    await young.durable.submit('b1', asked('c'));
    const context = young.durable.context('b1');
    assert.deepEqual(Object.keys(context?.pending ?? {}), ['a', 'b', 'c']);
    assert.equal(context?.resumed, 1);
    await old.durable.stop();
    await young.durable.stop();
    await young.leadership.release();
  });

  test('a lease that is not renewed ends, and the next holder has a greater fence', async () => {
    const bus = await connect();
    const silent = await bus.kv('codegod_lease').create('leader.test', new Uint8Array([1]));
    assert(silent !== null);
    const kv = bus.kv('codegod_lease');
    const leadership = createLeadership({
      kv,
      holder: holder('next'),
      clock: systemClock,
      ttl_ms: ttlMs,
      key: 'leader.test',
    });
    const lease = await leadership.acquire(AbortSignal.timeout(10_000));
    assert(lease.fence > silent);
    await systemClock.sleep(3 * ttlMs);
    assert.equal(lease.lost.aborted, false, 'renewed over three lives of the lease');
    await leadership.release();
    assert.equal(await leadership.holder(), null);
  });
});
