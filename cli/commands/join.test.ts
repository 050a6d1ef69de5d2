/**
 * `token`, `join` and `leave` as people type them, against a real bus server; what a joined machine
 * runs is fake. Two homes on one machine are two machines to the commands.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { systemClock } from '../../runtime/clock.ts';
import { wholeEnvironment } from '../../runtime/config.ts';
import { verifyServer } from '../../runtime/durability.ts';
import { connectNats } from '../../runtime/nats-bus.ts';
import { createUserKey } from '../../runtime/nats-keys.ts';
import { launchNatsServer, type RunningServer } from '../../runtime/nats-server/launch.ts';
import { testServerBinary } from '../../runtime/nats-server/test-server.ts';
import { ensureOwnerKey } from '../../runtime/nats-server/users.ts';
import { runProgram } from '../../runtime/run-program.ts';
import { ensureStores } from '../../runtime/stores.ts';
import { freePort } from '../../test/nats-fixture.ts';
import { programOf } from '../../test/source-tree.ts';
import { runCli } from '../program.ts';
import { runningSystem } from '../supervisor/system-record.ts';
import { type CliHome, openHome } from '../test-world.ts';

const OPTIONS = { timeout: 120_000 };
const SEED = /SU[A-Z2-7]{56}/;

/** The machine of the bus. */
let hub: CliHome;
let server: RunningServer;
const configOf = (home: CliHome): string => join(home.folder, 'config');

/** Starts the machine of the bus: its server, and its actors' word on it. */
async function startHub(t: TestContext): Promise<void> {
  hub = openHome(t);
  server = await launchNatsServer({
    binary: await testServerBinary(),
    configDir: configOf(hub),
    storeDir: join(hub.folder, 'store'),
    log: () => {},
  });
  hub.atEnd(async () => {
    server.kill();
    await server.exited;
  });
  hub.pretendRunning({ bus: server.url, monitoring: server.monitoringUrl });
  const bus = await connectNats({
    servers: [server.url],
    name: 'hub',
    clock: systemClock,
    monitorUrl: server.monitoringUrl,
    credentials: { nkeySeed: ensureOwnerKey(configOf(hub)) },
  });
  await ensureStores(bus);
  await verifyServer(bus, '0.1.0', systemClock);
  await bus.close();
}

interface Made {
  readonly id: string;
  readonly node: string;
  readonly token: string;
  readonly commands: readonly string[];
}

async function makeToken(...more: readonly string[]): Promise<Made> {
  const { code, stdout, stderr } = await hub.run('token', 'create', '--json', ...more);
  assert.equal(code, 0, stderr + stdout);
  return JSON.parse(stdout) as Made;
}

/** The command line as a program, with fake actors. */
function program(home: CliHome, ...argv: readonly string[]) {
  const env = { ...wholeEnvironment(), ...home.env };
  return runProgram(process.execPath, [...programOf('cli/test-cli.ts'), ...argv], {
    env,
    timeoutMs: 60_000,
  });
}

test('the life of a node: a token, joining, coming back, leaving', OPTIONS, async t => {
  await startHub(t);
  const made = await makeToken('--name', 'laptop', '--expires', '30d');
  assert.equal(made.node, 'laptop');
  assert.match(made.token, SEED);
  assert.ok(made.commands.every(line => line.endsWith(`--token ${made.token}`)));
  assert.doesNotMatch(readFileSync(join(configOf(hub), 'join-tokens.json'), 'utf8'), SEED);
  assert.doesNotMatch((await hub.run('token', 'list', '--json')).stdout, SEED);
  const twice = await hub.run('token', 'create', '--name', 'laptop');
  assert.match(twice.stderr, /there is a node laptop already/);

  const laptop = openHome(t);
  laptop.atEnd(() => program(laptop, 'down'));
  const labels = ['--labels', 'room=attic'];
  const joined = await program(laptop, 'join', server.url, '--token', made.token, ...labels, '-d');
  assert.equal(joined.failure, null, joined.stderr);
  assert.match(joined.stderr, /joined nats:.* as laptop/);
  const status = JSON.parse((await laptop.run('status', '--json')).stdout);
  assert.equal(status.bus.url, server.url);
  for (const file of ['joined.nk', 'joined.yaml']) {
    assert.equal(statSync(join(configOf(laptop), file)).mode & 0o777, 0o600, file);
  }
  const again = await laptop.run('join', server.url, '--token', made.token);
  assert.match(again.stderr, /a system runs here/);
  await program(laptop, 'down');
  assert.equal((await program(laptop, 'up', '-d')).failure, null);
  const back = JSON.parse((await laptop.run('status', '--json')).stdout);
  assert.equal(back.bus.url, server.url, 'it joins again without being told anything');

  for (const verb of ['pub', 'req']) {
    const refused = await laptop.run(verb, 'codegod.build', 'hello');
    assert.equal(refused.code, 4, verb);
    assert.match(refused.stderr, /may not (publish on|ask) codegod\.build/);
  }
  assert.match((await laptop.run('token', 'create')).stderr, /itself a node of/);

  const left = await program(laptop, 'leave', '--json');
  assert.deepEqual(JSON.parse(left.stdout), { left: server.url });
  assert.equal((await laptop.run('status')).code, 3);
  assert.ok(!existsSync(join(configOf(laptop), 'joined.nk')));
  assert.deepEqual(JSON.parse((await laptop.run('leave', '--json')).stdout), { left: null });
});

test('a token need not be an argument, and nobody who is started has it', OPTIONS, async t => {
  await startHub(t);
  const made = await makeToken('--name', 'laptop');
  const { seed } = createUserKey();
  const laptop = openHome(t);
  laptop.atEnd(() => program(laptop, 'down'));
  const env = { ...wholeEnvironment(), ...laptop.env };
  const joining = async (more: object, ...argv: string[]) =>
    await runProgram(process.execPath, [...programOf('cli/test-cli.ts'), 'join', ...argv], {
      ...{ env, timeoutMs: 60_000 },
      ...more,
    });
  const file = join(laptop.folder, 'token');
  writeFileSync(file, `${seed}\n`);
  // Each is read: the bus is asked whether it knows them.
  const unknown = /does not know this token/;
  const { url } = server;
  assert.match((await joining({ input: `${seed}\n` }, url, '--token', '-')).stderr, unknown);
  assert.match((await joining({}, url, '--token-file', file)).stderr, unknown);
  assert.match(
    (await joining({}, url, '--token-file', `${file}s`)).stderr,
    /cannot be read: ENOENT/,
  );
  assert.match((await joining({}, url)).stderr, /a token is needed/);

  const told = { env: { ...env, CODEGOD_JOIN_TOKEN: made.token } };
  const joined = await joining(told, url, '-d');
  assert.equal(joined.failure, null, joined.stderr);
  if (process.platform !== 'linux') return;
  const record = runningSystem(laptop.state);
  assert.ok(record);
  for (const pid of [record.supervisor_pid, ...record.actors.map(actor => actor.pid)]) {
    for (const of of ['environ', 'cmdline']) {
      assert.doesNotMatch(readFileSync(`/proc/${pid}/${of}`, 'utf8'), new RegExp(made.token));
    }
  }
});

test('each way in which joining fails has its own words, and keeps nothing', OPTIONS, async t => {
  await startHub(t);
  const open = server.url;
  const laptop = openHome(t);
  const fails = async (code: number, message: RegExp, ...argv: string[]): Promise<void> => {
    const result = await laptop.run('join', ...argv);
    assert.match(result.stderr, message);
    assert.equal(result.code, code, result.stderr);
    assert.doesNotMatch(result.stderr + result.stdout, SEED);
    assert.ok(!existsSync(join(configOf(laptop), 'joined.yaml')));
  };
  const { seed } = createUserKey();
  await fails(4, /does not know this token/, open, '--token', seed);
  const made = await makeToken('--name', 'laptop');
  const closed = `nats://127.0.0.1:${await freePort()}`;
  await fails(3, /nothing listens.*\n.*bus\.host/, closed, '--token', made.token);
  await fails(3, /no machine named/, 'nats://nowhere.invalid', '--token', made.token);
  await fails(3, /is no bus/, server.monitoringUrl.replace('http', 'nats'), '--token', made.token);
  await fails(2, /no address of a bus/, 'http://127.0.0.1', '--token', made.token);
  await fails(2, /not the seed/, open, '--token', 'SUABC');
  await fails(4, /does not know this token/, open, '--token', seed);
  const owner = readFileSync(join(configOf(hub), 'bus-owner.nk'), 'utf8').trim();
  await fails(4, /not one of a node/, open, '--token', owner);
  const named = ['--token', made.token, '--name', 'desktop'];
  await fails(1, /admits the node laptop, not desktop/, open, ...named);
  await fails(2, /node\.labels/, open, '--token', made.token, '--labels', 'a b=c');

  const other = await connectNats({
    servers: [open],
    name: 'other',
    clock: systemClock,
    credentials: { nkeySeed: made.token },
    isGuest: true,
  });
  const advert = new TextEncoder().encode(JSON.stringify({ epoch: 7, host: 'desktop' }));
  await other.kv('codegod_node').put('laptop.runtime', advert);
  await fails(1, /another machine \(desktop\) is the node laptop/, open, '--token', made.token);

  await hub.run('token', 'revoke', made.id);
  await other.close();
  const own = await connectNats({
    ...{ servers: [open], name: 'owner', clock: systemClock },
    credentials: { nkeySeed: ensureOwnerKey(configOf(hub)) },
  });
  assert.equal(await own.kv('codegod_node').get('laptop.runtime'), null, 'no node, at once');
  await own.close();
  await fails(4, /does not know this token/, open, '--token', made.token);
});

test('a token that cannot work is not made', OPTIONS, async t => {
  const home = openHome(t);
  const fails = async (message: RegExp, env: Record<string, string>, ...argv: string[]) => {
    const other: CliHome = { ...home };
    const result = await runWith(other, env, 'token', 'create', ...argv);
    assert.notEqual(result.code, 0);
    assert.match(result.stderr, message);
  };
  await fails(/whoever has it may do everything/, { CODEGOD_BUS_TOKEN: 'secret' });
  await fails(/is not ours/, { CODEGOD_BUS_URL: 'nats://10.0.0.1' });
  await fails(/there is a node desk already/, { CODEGOD_NODE_NAME: 'desk' }, '--name', 'desk');
  await fails(/cannot be the name/, {}, '--name', 'My Laptop');
  await fails(/no moment to come/, {}, '--expires', 'yesterday');
  const made = await runWith(home, { CODEGOD_BUS_PORT: '4333' }, 'token', 'create');
  assert.equal(made.code, 0);
  assert.match(made.stdout, /^codegod join nats:\/\/[^ ]+:4333 --token SU/m);
  assert.match(made.stderr, /no bus runs here now/);
  assert.match(made.stderr, /bus: \{host: 0\.0\.0\.0\}/);
});

async function runWith(home: CliHome, env: Record<string, string>, ...argv: string[]) {
  let stdout = '';
  let stderr = '';
  const code = await runCli(argv, {
    stdout: { write: text => (stdout += text) },
    stderr: { write: text => (stderr += text) },
    env: { ...home.env, ...env },
  });
  return { code, stdout, stderr };
}
