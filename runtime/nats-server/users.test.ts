/**
 * Who may connect, and what a joined node may do: asked of a real server, whose own refusals are the
 * proof. Clients here are bare, as somebody with bad intentions would write them.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { NodeId } from '../../protocol/ids.ts';
import { ARTIFACTS, BUCKETS, STREAMS } from '../../protocol/streams.ts';
import type { Bus, BusEvent, KvChange } from '../bus.ts';
import { monitoringPage } from '../bus-monitoring.ts';
import { until } from '../bus-suite.ts';
import { systemClock } from '../clock.ts';
import { attestationOf, requireAttested, verifyServer } from '../durability.ts';
import { connectNats } from '../nats-bus.ts';
import { createUserKey, publicKeyOf, type UserKey } from '../nats-keys.ts';
import { ensureStores } from '../stores.ts';
import { changeTokens, type JoinToken, tokenIdOf } from './join-tokens.ts';
import { launchNatsServer, type RunningServer } from './launch.ts';
import { nodePermissions } from './node-permissions.ts';
import { testServerBinary } from './test-server.ts';
import { ensureOwnerKey, ownerKeyFile, readSeed, reloadUsers, renderUsers } from './users.ts';

const ATTIC = NodeId.parse('attic');
const CELLAR = NodeId.parse('cellar');
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

let root: string;
let configDir: string;
let server: RunningServer;
const opened: Bus[] = [];

before(async () => {
  root = mkdtempSync(join(tmpdir(), 'codegod-door-'));
  configDir = join(root, 'config');
  server = await launchNatsServer({
    binary: await testServerBinary(),
    configDir,
    storeDir: join(root, 'store'),
    log: () => {},
  });
});

after(async () => {
  await Promise.all(opened.map(bus => bus.close()));
  server.kill();
  await server.exited;
  rmSync(root, { recursive: true, force: true });
});

async function connect(seed: string | null, isGuest = false): Promise<Bus> {
  const bus = await connectNats({
    servers: [server.url],
    name: 'test',
    clock: systemClock,
    isGuest,
    monitorUrl: server.monitoringUrl,
    ...(seed === null ? {} : { credentials: { nkeySeed: seed } }),
  });
  opened.push(bus);
  return bus;
}

const owner = (): Promise<Bus> => connect(readSeed(ownerKeyFile(configDir)));

async function admit(
  node: NodeId,
  key: UserKey,
  expiresInMs: number | null,
  monitoringUrl = server.monitoringUrl,
): Promise<void> {
  const now = systemClock.now();
  const token: JoinToken = {
    id: tokenIdOf(key.publicKey),
    node,
    public_key: key.publicKey,
    created_at: now,
    expires_at: expiresInMs === null ? null : now + expiresInMs,
  };
  await changeTokens(configDir, tokens => ({ tokens: [...tokens, token], answer: null }));
  await reloadUsers({ ...door(), monitoringUrl }, now, null);
}

const door = (): Parameters<typeof reloadUsers>[0] => ({
  configDir,
  host: '127.0.0.1',
  token: undefined,
  monitoringUrl: server.monitoringUrl,
});
const reload = (): Promise<string | null> => reloadUsers(door(), systemClock.now(), null);

/** A guest, with the stores of the system in place. */
async function joined(t: { after(end: () => Promise<unknown>): void }): Promise<Bus> {
  const key = createUserKey();
  await admit(ATTIC, key, null);
  t.after(() => changeTokens(configDir, () => ({ tokens: [], answer: null })));
  const hub = await owner();
  await ensureStores(hub);
  return await untilConnected(key.seed);
}

/** The server takes a moment to read its users again. */
async function untilConnected(seed: string): Promise<Bus> {
  for (let tries = 0; ; tries += 1) {
    try {
      return await connect(seed, true);
    } catch (error) {
      if (tries > 100) throw error;
      await systemClock.sleep(50);
    }
  }
}

/** The monitoring port behind one that is too busy for its first questions; notes what it said. */
async function busyMonitor(refusals: number) {
  const told: string[] = [];
  let asked = 0;
  const relay = createServer(async (request, response) => {
    asked += 1;
    if (asked <= refusals) return void response.writeHead(503).end();
    const answer = await fetch(monitoringPage(server.monitoringUrl, `.${request.url}`));
    const text = await answer.text();
    told.push(JSON.parse(text).config_load_time);
    response.end(text);
  });
  await new Promise<void>(resolve => relay.listen(0, '127.0.0.1', resolve));
  const address = relay.address();
  assert.ok(typeof address === 'object' && address !== null);
  return { monitoringUrl: `http://127.0.0.1:${address.port}`, told, close: () => relay.close() };
}

describe('a bus on loopback', () => {
  it('takes builds of any program of this machine, answers it, and shows it who is there', async () => {
    const hub = await owner();
    await ensureStores(hub);
    hub.serve('$SRV.PING', async () => ({ body: bytes('here') }));
    await hub.rtt();
    const stored = await (await connect(null)).ask('codegod.build', bytes('a prompt'), {
      timeout_ms: 5_000,
    });
    assert.equal(JSON.parse(new TextDecoder().decode(stored.body)).stream, 'CODEGOD_BUILD');
    const visitor = await connect(null);
    const there = await visitor.ask('$SRV.PING', bytes(''), { timeout_ms: 5_000 });
    assert.equal(new TextDecoder().decode(there.body), 'here');
  });

  it('lets a program without a key do nothing else, and hear nothing that is not for it', async () => {
    const hub = await owner();
    await ensureStores(hub);
    const visitor = await connect(null);
    for (const subject of [
      'codegod.build.x',
      'codegod.control.build.b1',
      'codegod.event.b1.build.received',
      'codegod.task.hub.b1.store.1',
      'codegod.report.hub.b1.store.1',
      'codegod.node.hub.reserve',
      'codegod.node.hub.infer',
      'codegod.workspace.hub.check',
      'codegod.workspace.hub.open.hub',
      'codegod.mcp.hub.list',
      'codegod.mcp.hub.call.hub',
      'codegod.dead.codegod_task.hub',
      '$KV.codegod_key.k1',
      '$JS.API.STREAM.NAMES',
      '$JS.API.STREAM.MSG.GET.CODEGOD_EVENT',
      '$JS.API.CONSUMER.CREATE.CODEGOD_BUILD',
      '$SYS.REQ.SERVER.PING',
    ]) {
      const asked = visitor.ask(subject, bytes('{}'), { timeout_ms: 5_000 });
      await assert.rejects(asked, { code: 'unauthorized' }, subject);
    }
    const denied: string[] = [];
    visitor.status(event => event.type === 'permission_denied' && denied.push(event.subject));
    const inbox = `_INBOX.${publicKeyOf(ensureOwnerKey(configDir), 'it')}.>`;
    const heard = ['>', inbox, 'codegod.>', '$KV.>', 'codegod.telemetry.*'];
    for (const subject of heard) visitor.subscribe(subject, () => assert.fail(subject));
    await until('all refusals', () => denied.length >= heard.length);
    assert.deepEqual(denied.sort(), heard.sort());
    // What it may listen to is not where answers to the owner go.
    const overheard: string[] = [];
    for (const all of ['_INBOX.>', '_INBOX.*.>', '_INBOX.*.*.>']) {
      visitor.subscribe(all, ({ subject }) => overheard.push(subject));
    }
    const node = createUserKey();
    await admit(ATTIC, node, null);
    await until('the visitor is back', () => visitor.info().connected);
    const attic = await untilConnected(node.seed);
    await visitor.rtt();
    await hub.streams.info('CODEGOD_BUILD');
    await attic.kv(BUCKETS.node.name).get('hub.runtime');
    await Promise.all([hub.rtt(), attic.rtt(), visitor.rtt()]);
    await visitor.rtt();
    await changeTokens(configDir, () => ({ tokens: [], answer: null }));
    assert.deepEqual(overheard, []);
  });

  it('lets in nobody with a key that it does not know, and an owner without a restart', async () => {
    await assert.rejects(connect(createUserKey().seed), { code: 'unauthorized' });
    const own = await owner();
    await admit(ATTIC, createUserKey(), null);
    assert.ok((await own.rtt()) >= 0, 'one more user disturbs no other');
    await assert.rejects(connect(createUserKey().seed), { code: 'unauthorized' });
    await changeTokens(configDir, () => ({ tokens: [], answer: null }));
  });

  it('has no visitors where other machines can reach it', () => {
    const text = renderUsers({ configDir, host: '0.0.0.0', token: undefined }, 0);
    assert.doesNotMatch(text, /visitor/);
    assert.match(text, /authorization/);
  });

  it('knows a token when it has been told of it, however busy its monitoring port is', async () => {
    const monitor = await busyMonitor(3);
    const key = createUserKey();
    await admit(ATTIC, key, null, monitor.monitoringUrl);
    assert.equal(new Set(monitor.told).size, 2, 'it has said that it read its users since');
    assert.ok((await (await connect(key.seed, true)).rtt()) >= 0);
    await changeTokens(configDir, () => ({ tokens: [], answer: null }));
    monitor.close();
  });

  it('keeps no seed but its own, and that one privately', () => {
    for (const file of readdirSync(configDir).map(name => join(configDir, name))) {
      const holdsSeed = /SU[A-Z2-7]{56}/.test(readFileSync(file, 'utf8'));
      assert.equal(holdsSeed, file === ownerKeyFile(configDir), file);
      if (/owner|users|tokens/.test(file)) assert.equal(statSync(file).mode & 0o777, 0o600, file);
    }
  });
});

describe('a joined node', () => {
  it('may do what its actors do', async t => {
    const node = await joined(t);
    const hub = await owner();
    const denied: BusEvent[] = [];
    node.status(event => event.type === 'permission_denied' && denied.push(event));
    await ensureStores(node);
    const adverts = node.kv(BUCKETS.node.name);
    await adverts.put('attic.runtime', bytes('{}'));
    node.publish('codegod.telemetry.attic', bytes('{}'));
    await node.streams.append('codegod.report.attic.b1.store.1', bytes('{}'));
    node.serve('codegod.node.attic.reserve', async () => ({ body: bytes('granted') }));
    node.serve('codegod.node.attic.measure', async () => ({ body: bytes('measured') }));
    node.serveStream('codegod.node.attic.infer', async (_, { send }) => {
      for (let chunk = 0; chunk < 100; chunk += 1) await send(bytes(`chunk ${chunk}`));
    });
    hub.serve('codegod.mcp.hub.call.*', async () => ({ body: bytes('called') }));
    const taken: string[] = [];
    const consumer = { durable: 'worker-attic', filter: 'codegod.task.attic.>' };
    const bounds = { ack_wait_ms: 30_000, max_deliver: 3, max_ack_pending: 8, concurrency: 2 };
    await node.consume('CODEGOD_TASK', { ...consumer, ...bounds }, async ({ subject }) => {
      taken.push(subject);
      return { kind: 'done' };
    });
    await Promise.all([node.rtt(), hub.rtt()]);
    await hub.streams.append('codegod.task.attic.b1.store.1', bytes('{}'));
    const asked = await hub.ask('codegod.node.attic.reserve', bytes(''), { timeout_ms: 5_000 });
    assert.equal(new TextDecoder().decode(asked.body), 'granted');
    const times = { first_ms: 5_000, idle_ms: 5_000 };
    let chunks = 0;
    for await (const _ of hub.askStream('codegod.node.attic.infer', bytes(''), times)) chunks += 1;
    assert.equal(chunks, 100);
    await node.ask('codegod.node.attic.measure', bytes(''), { timeout_ms: 5_000 });
    await node.ask('codegod.mcp.hub.call.attic', bytes(''), { timeout_ms: 5_000 });
    await until('the task', () => taken.length === 1);
    const large = new Uint8Array(700_000).map((_, index) => index % 251);
    await hub.objects(ARTIFACTS.name).put('large', large);
    const parts: Uint8Array[] = [];
    for await (const part of (await node.objects(ARTIFACTS.name).get('large')) ?? []) {
      parts.push(part);
    }
    assert.deepEqual(Buffer.concat(parts), Buffer.from(large));
    assert.deepEqual(denied, []);
  });

  it('may publish neither facts, nor builds, nor what others say of themselves, nor commands', async t => {
    const node = await joined(t);
    const hub = await owner();
    const heard: string[] = [];
    hub.subscribe('codegod.>', ({ subject }) => heard.push(subject));
    hub.subscribe('$KV.>', ({ subject }) => heard.push(subject));
    await hub.rtt();
    const forbidden = [
      'codegod.build',
      'codegod.control.build.b1',
      'codegod.event.b1.build.received',
      'codegod.task.hub.b1.store.1',
      'codegod.node.hub.reserve',
      'codegod.node.hub.measure',
      'codegod.node.attic.reserve',
      'codegod.telemetry.hub',
      'codegod.workspace.hub.finish',
      // As the release before this one wrote them: without the node's name.
      'codegod.report.b1.store.1',
      'codegod.dead.codegod_task',
      'codegod.workspace.hub.open',
      'codegod.mcp.hub.call',
      'codegod.report.attic.b1.store.1.more',
      '$KV.codegod_node.hub.runtime',
      '$KV.codegod_lease.leader.master',
      '$KV.codegod_policy.models.x',
      '$KV.codegod_key.k1',
      '$KV.codegod_server.N1',
    ];
    for (const subject of forbidden) {
      const asked = node.ask(subject, bytes('{}'), { timeout_ms: 5_000 });
      await assert.rejects(asked, { code: 'unauthorized' }, subject);
    }
    assert.deepEqual(heard, []);
  });

  it('may do nothing in the name of another', async t => {
    const node = await joined(t);
    const other = createUserKey();
    await admit(CELLAR, other, null);
    const mine = nodePermissions(ATTIC, other.publicKey);
    const named = (subjects: readonly string[]): readonly string[] =>
      subjects
        .filter(subject => subject.includes(ATTIC))
        .map(subject =>
          subject.replaceAll(ATTIC, CELLAR).replaceAll('.*', '.b1').replace('>', 'x'),
        );
    const published = named(mine.publish);
    assert.ok(published.length >= 15, published.join('\n'));
    // What is the same for all nodes writes nothing: who it is, and what everybody may read.
    for (const subject of mine.publish.filter(one => !one.includes(ATTIC))) {
      assert.match(subject, /^\$SYS\.REQ\.USER\.INFO$|^\$JS\.API\.STREAM\.(INFO|MSG\.GET)\./);
    }
    for (const subject of published) {
      const asked = node.ask(subject, bytes('{}'), { timeout_ms: 5_000 });
      await assert.rejects(asked, { code: 'unauthorized' }, subject);
    }
    const denied: string[] = [];
    node.status(event => event.type === 'permission_denied' && denied.push(event.subject));
    const heard = [...named(mine.subscribe), `_INBOX.${other.publicKey}.x`];
    for (const subject of heard) node.subscribe(subject, () => assert.fail(subject));
    await until('all refusals', () => denied.length >= heard.length);
    assert.deepEqual(denied.sort(), heard.toSorted());
  });

  it('that floods the bus is refused, and takes no room that is not its own', async t => {
    const node = await joined(t);
    const hub = await owner();
    const large = new Uint8Array(100_000);
    const { report, dead } = STREAMS;
    const kinds = new Set<string>();
    const flood = Array.from({ length: 200 }, async (_, index) => {
      const stored = await node.streams.append(`codegod.report.attic.b1.store.${index}`, large);
      kinds.add(stored.kind);
    });
    await Promise.all(flood);
    assert.deepEqual([...kinds].sort(), ['appended', 'subject_full']);
    const other = await hub.streams.append('codegod.report.cellar.b1.store.1', bytes('{}'));
    assert.equal(other.kind, 'appended');
    assert.equal(
      await hub.streams.purge(report.name, 'codegod.report.attic'),
      report.max_messages_per_subject,
    );
    // And what it cannot handle, by its own word.
    const letter = await hub.streams.append('codegod.dead.codegod_task.cellar', bytes('{}'));
    assert.equal(letter.kind, 'appended');
    const tooLarge = node.streams.append('codegod.dead.codegod_task.attic', large);
    await assert.rejects(tooLarge, { code: 'too_large' });
    const letters = Array.from({ length: dead.max_messages_per_subject + 20 }, () =>
      node.streams.append('codegod.dead.codegod_task.attic', bytes('poison')),
    );
    await Promise.all(letters);
    const kept = await hub.streams.last(dead.name, 'codegod.dead.codegod_task.cellar');
    assert.equal(new TextDecoder().decode(kept?.body), '{}');
    assert.equal(
      await hub.streams.purge(dead.name, 'codegod.dead.codegod_task.attic'),
      dead.max_messages_per_subject,
    );
  });

  it('may neither read keys and leases, nor make, change or remove what is stored', async t => {
    const node = await joined(t);
    await (await owner()).kv(BUCKETS.key.name).put('k1', bytes('secret'));
    const forbidden = [
      'STREAM.MSG.GET.KV_codegod_key',
      'DIRECT.GET.KV_codegod_key',
      'CONSUMER.CREATE.KV_codegod_key',
      // A consumer can have the server publish anywhere: none where the node writes the content.
      'CONSUMER.CREATE.KV_codegod_node',
      'CONSUMER.CREATE.CODEGOD_REPORT',
      'CONSUMER.CREATE.CODEGOD_TASK.worker-hub.codegod.task.hub.>',
      'CONSUMER.MSG.NEXT.CODEGOD_TASK.worker-hub',
      'CONSUMER.RESET.CODEGOD_TASK.worker-hub',
      'STREAM.INFO.CODEGOD_EVENT',
      'STREAM.MSG.GET.CODEGOD_EVENT',
      'STREAM.CREATE.MINE',
      'STREAM.UPDATE.CODEGOD_EVENT',
      'STREAM.PURGE.CODEGOD_TASK',
      'STREAM.DELETE.KV_codegod_node',
      'STREAM.NAMES',
    ];
    for (const verb of forbidden) {
      const asked = node.ask(`$JS.API.${verb}`, bytes('{}'), { timeout_ms: 5_000 });
      await assert.rejects(asked, { code: 'unauthorized' }, verb);
    }
  });

  it('may not listen to the replies, builds or nodes of others', async t => {
    const node = await joined(t);
    const denied: string[] = [];
    node.status(event => event.type === 'permission_denied' && denied.push(event.subject));
    const forbidden = ['>', '_INBOX.>', 'codegod.event.>', 'codegod.node.hub.*', '$KV.>'];
    for (const subject of forbidden) node.subscribe(subject, () => assert.fail(subject));
    await until('all refusals', () => denied.length >= forbidden.length);
    assert.deepEqual(denied.sort(), forbidden.sort());
  });

  it('sees adverts come, change and go, also over a restart of what holds them', async t => {
    const node = await joined(t);
    const hub = await owner();
    const over = new AbortController();
    const seen: KvChange[] = [];
    const watching = (async () => {
      for await (const change of node.kv(BUCKETS.node.name).watch(over.signal, '*.gateway')) {
        seen.push(change);
      }
    })();
    const adverts = hub.kv(BUCKETS.node.name);
    await until('the first picture', () => seen.some(({ op }) => op === 'initial_done'));
    await adverts.put('hub.gateway', bytes('1'));
    await adverts.put('hub.runtime', bytes('not wanted'));
    await until('the advert', () => seen.some(({ op }) => op === 'put'));
    await adverts.delete('hub.gateway');
    await until('its end', () => seen.some(({ op }) => op === 'delete'));
    const before = seen.length;
    await hub.ask('$JS.API.STREAM.DELETE.KV_codegod_node', bytes(''), { timeout_ms: 5_000 });
    await ensureStores(hub);
    await adverts.put('hub.gateway', bytes('2'));
    await until('the new advert', () => seen.slice(before).some(({ op }) => op === 'put'));
    assert.deepEqual(
      seen.map(({ op }) => op),
      ['initial_done', 'put', 'delete', 'put'],
    );
    over.abort();
    await watching;
  });

  it('is out at once when its token is revoked, and stays out', async t => {
    const node = await joined(t);
    const told: string[] = [];
    const leave = node.status(event => {
      if (event.type === 'refused') assert.match(event.reason, /was its token revoked/);
      told.push(event.type);
    });
    await changeTokens(configDir, () => ({ tokens: [], answer: null }));
    await reload();
    const refusals = () => told.filter(type => type === 'refused').length;
    await until('it is refused again and again', () => refusals() >= 3);
    assert.equal(node.info().connected, false);
    // What is told last is why it is out, and not merely that it is.
    assert.deepEqual(told.slice(-2), ['refused', 'refused'], told.join());
    leave();
    await node.close();
  });

  it('is out when its token expires, without anybody doing anything but looking', async () => {
    const key = createUserKey();
    await admit(ATTIC, key, 1_000);
    const node = await untilConnected(key.seed);
    const left = new Promise<void>(resolve => {
      node.status(event => event.type === 'disconnected' && resolve());
    });
    await systemClock.sleep(1_000);
    await server.refreshUsers();
    await left;
    await assert.rejects(connect(key.seed, true), { code: 'unauthorized' });
    await node.close();
  });
});

describe('the word of the owner on its server', () => {
  it('counts for this life of the server only, and its absence is a refusal', async t => {
    const node = await joined(t);
    await assert.rejects(requireAttested(node, systemClock, 0), { code: 'durability_refused' });
    await verifyServer(await owner(), '1.2.3', systemClock);
    await requireAttested(node, systemClock, 0);
    const attestation = await attestationOf(node);
    assert.equal(attestation?.server_id, node.info().server_id);
    assert.equal(attestation?.release, '1.2.3');
    const { server_id } = node.info();
    for (const unreadable of ['{', 'null', '{"sync_always":true}']) {
      await (await owner())
        .kv(BUCKETS.server.name)
        .put(server_id, new TextEncoder().encode(unreadable));
      assert.equal(await attestationOf(node), null, unreadable);
      await assert.rejects(requireAttested(node, systemClock, 0), { code: 'durability_refused' });
    }
  });
});
