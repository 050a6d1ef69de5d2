/**
 * The bus server, really started: the binary is the one the ladder finds on this machine.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { CodeGodError } from '../../protocol/errors.ts';
import { BUCKETS, FILE_BYTES_MAX } from '../../protocol/streams.ts';
import { systemClock } from '../clock.ts';
import { connectNats } from '../nats-bus.ts';
import { modulePath, sourceLoader } from '../paths.ts';
import { identityOf } from '../process-identity.ts';
import { ensureStores } from '../stores.ts';
import { launchNatsServer, type RunningServer } from './launch.ts';
import { stopOrphan } from './orphan.ts';
import { testServerBinary } from './test-server.ts';
import { ensureOwnerKey } from './users.ts';
import { verifyBus } from './verify.ts';

let binary: string;
let root: string;
const started: RunningServer[] = [];

before(async () => {
  binary = await testServerBinary();
  root = mkdtempSync(join(tmpdir(), 'codegod launch ')); // With spaces, as users have them.
});

after(() => {
  for (const server of started) server.kill();
  rmSync(root, { recursive: true, force: true });
});

async function launch(name: string, more: { port?: number; token?: string; host?: string } = {}) {
  const lines: string[] = [];
  const server = await launchNatsServer({
    binary,
    configDir: join(root, name, 'config'),
    storeDir: join(root, name, 'store'),
    log: line => lines.push(line),
    ...more,
  });
  started.push(server);
  return { server, lines };
}

async function listenAnywhere(): Promise<{ server: Server; port: number }> {
  const server = createServer();
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  assert(typeof address === 'object' && address);
  return { server, port: address.port };
}

const exists = (pid: number): boolean => identityOf(pid) !== null;

async function goneWithin(pid: number, waitMs: number): Promise<boolean> {
  for (let waitedMs = 0; waitedMs < waitMs && exists(pid); waitedMs += 20) {
    await systemClock.sleep(20);
  }
  return !exists(pid);
}

const stranger = (url: string) =>
  connectNats({ servers: [url], name: 'stranger', clock: systemClock });

describe('launching', () => {
  it('gives a bus that is fit for durable work, and stops it', async () => {
    const { server, lines } = await launch('fit');
    const verdict = await verifyBus(server.url, server.monitoringUrl);
    assert.deepEqual(verdict.problems, []);
    assert.equal(verdict.sync_always, true);
    assert.equal(verdict.jetstream, true);
    const admin = await connectNats({
      servers: [server.url],
      name: 'owner',
      clock: systemClock,
      credentials: { nkeySeed: ensureOwnerKey(join(root, 'fit', 'config')) },
    });
    await ensureStores(admin);
    const page = await fetch(`${server.monitoringUrl}/jsz`);
    const { reserved_storage, reserved_memory } = JSON.parse(await page.text());
    assert.equal(reserved_storage, FILE_BYTES_MAX, 'whatever the size of the disk');
    const inMemory = Object.values(BUCKETS).filter(({ storage }) => storage === 'memory');
    assert.equal(
      reserved_memory,
      inMemory.reduce((sum, { max_bytes }) => sum + max_bytes, 0),
    );
    await admin.close();
    assert(lines.some(line => line.includes('Server is ready')));
    await server.stopLameDuck();
    assert.equal((await server.exited).code, 0);
    const after = await verifyBus(server.url, server.monitoringUrl);
    assert.equal(after.problems[0]?.code, 'bus_unavailable');
  });

  it('shows its monitoring only below a path that its folder keeps secret', async () => {
    const { server } = await launch('unguessed');
    const { origin, pathname } = new URL(server.monitoringUrl);
    for (const page of ['', 'varz', 'connz?subs=1', 'jsz?streams=1', 'healthz', 'subsz']) {
      const answer = await fetch(`${origin}/${page}`, { headers: { origin: 'http://a.page' } });
      assert.equal(answer.status, 404, page);
      assert.equal(answer.headers.get('access-control-allow-origin'), null, page);
      await answer.text();
    }
    assert.equal((await fetch(`${server.monitoringUrl}/varz`)).status, 200);
    const file = join(root, 'unguessed', 'config', 'nats-server.monitoring-path');
    assert.equal(pathname, `/${readFileSync(file, 'utf8').trim()}`);
    if (process.platform !== 'win32') assert.equal(statSync(file).mode & 0o777, 0o600);
    await server.stopLameDuck();
    writeFileSync(file, '../x\n');
    const next = (await launch('unguessed')).server;
    assert.match(new URL(next.monitoringUrl).pathname, /^\/[0-9a-f]{32}$/);
    await next.stopLameDuck();
  });

  it('keeps a chosen port over restarts', async () => {
    const first = (await launch('again')).server;
    first.kill();
    await first.exited;
    const second = (await launch('again')).server;
    assert.equal(second.url, first.url);
    assert.equal(second.monitoringUrl, first.monitoringUrl);
    await second.stopLameDuck();
  });

  it('chooses another port when the remembered one is taken', async () => {
    const first = (await launch('moved')).server;
    await first.stopLameDuck();
    const squatter = createServer();
    const port = Number(new URL(first.url).port);
    await new Promise<void>(resolve => squatter.listen(port, '127.0.0.1', resolve));
    const second = (await launch('moved')).server;
    assert.notEqual(second.url, first.url);
    await second.stopLameDuck();
    await new Promise(resolve => squatter.close(resolve));
  });

  it('refuses an explicit port that is taken', async () => {
    const { server: squatter, port } = await listenAnywhere();
    await assert.rejects(
      launch('taken', { port }),
      error => error instanceof CodeGodError && error.code === 'port_in_use',
    );
    await new Promise(resolve => squatter.close(resolve));
  });

  it('guards the bus with a token that only the owner of the files can read', async () => {
    const { server } = await launch('token', { token: 'se"cret\\ $HOME' });
    assert.equal(statSync(join(root, 'token', 'config', 'nats-server.conf')).mode & 0o777, 0o600);
    await assert.rejects(stranger(server.url), { code: 'unauthorized' });
    await server.stopLameDuck();
  });

  it('never listens on the network without asking who comes', async () => {
    for (const token of [undefined, 'secret']) {
      const more = token === undefined ? {} : { token };
      const { server } = await launch('open', { host: '0.0.0.0', ...more });
      assert.match(server.url, /127\.0\.0\.1/);
      await assert.rejects(stranger(server.url), { code: 'unauthorized' });
      await server.stopLameDuck();
    }
  });

  it('fails with the words of the program when that is no server', async () => {
    const launching = launchNatsServer({
      binary: '/bin/false',
      configDir: join(root, 'false', 'config'),
      storeDir: join(root, 'false', 'store'),
      log: () => undefined,
    });
    await assert.rejects(
      launching,
      error => error instanceof CodeGodError && error.code === 'bus_unavailable',
    );
  });

  it('does not wait for a store that is damaged, and says what helps', async () => {
    const { server } = await launch('damaged');
    const bus = await connectNats({
      ...{ servers: [server.url], name: 't', clock: systemClock },
      credentials: { nkeySeed: ensureOwnerKey(join(root, 'damaged', 'config')) },
    });
    await bus.streams.ensure({ name: 'KEPT', subjects: ['k.>'], storage: 'file', discard: 'old' });
    await bus.close();
    await server.stopLameDuck();
    const store = join(root, 'damaged', 'store');
    writeFileSync(join(store, 'jetstream', '$G', 'streams', 'KEPT', 'meta.inf'), 'not what it was');
    const error = await launch('damaged').catch((thrown: unknown) => thrown);
    assert(error instanceof CodeGodError);
    assert.equal(error.code, 'bus_unavailable');
    assert.match(error.message, /store of the bus in .*damaged.*store is damaged: .*KEPT/);
    assert.match(error.message, /move it away/);
  });

  it('tells what it waits for while it is not ready', async () => {
    const told: string[] = [];
    const silent = join(root, 'silent.sh');
    writeFileSync(silent, '#!/bin/sh\nexec sleep 60\n', { mode: 0o700 });
    const error = await launchNatsServer({
      binary: silent,
      configDir: join(root, 'silent', 'config'),
      storeDir: join(root, 'silent', 'store'),
      log: () => {},
      readyTimeoutMs: 6_000,
      waits: why => told.push(why),
    }).catch((thrown: unknown) => thrown);
    assert(error instanceof CodeGodError);
    assert.equal(error.code, 'timeout');
    assert.deepEqual(told, ['it does not answer yet']);
  });

  it('refuses a second server for a folder whose supervisor lives', async () => {
    const { supervisor, pid } = await launchElsewhere('second');
    await assert.rejects(
      launch('second'),
      error => error instanceof CodeGodError && error.code === 'conflict',
    );
    assert(exists(pid));
    supervisor.kill('SIGKILL');
    assert((await goneWithin(pid, 4_000)) || (await stopOrphan(join(root, 'second', 'config'))));
  });
});

describe('a supervisor that is killed', () => {
  it('takes its server along within 2 s', { skip: process.platform !== 'linux' }, async () => {
    const { supervisor, pid } = await launchElsewhere('killed');
    supervisor.kill('SIGKILL');
    assert(await goneWithin(pid, 2_000), 'the server runs on');
  });

  it('whose server runs on: the next start ends it', async () => {
    const { supervisor, pid } = await launchElsewhere('orphan', { withoutSetpriv: true });
    supervisor.kill('SIGKILL');
    await systemClock.sleep(200);
    assert(exists(pid), 'an orphan is needed for this test');
    const { server } = await launch('orphan');
    assert(!exists(pid));
    await server.stopLameDuck();
  });
});

describe('a pid file that names a foreign process', () => {
  it('leaves that process alone', async () => {
    const { server } = await launch('foreign');
    await server.stopLameDuck();
    const stranger = spawn('sleep', ['30'], { stdio: 'ignore' });
    writeFileSync(join(root, 'foreign', 'config', 'nats-server.pid'), String(stranger.pid));
    assert.equal(await stopOrphan(join(root, 'foreign', 'config')), null);
    assert(stranger.pid && exists(stranger.pid));
    stranger.kill('SIGKILL');
  });
});

/** Launches a server in another process, which then only waits. */
async function launchElsewhere(
  name: string,
  options: { withoutSetpriv?: boolean } = {},
): Promise<{ supervisor: ChildProcess; pid: number }> {
  const module = pathToFileURL(modulePath('runtime/nats-server/launch.ts'));
  const code = `
    import { launchNatsServer } from ${JSON.stringify(module)};
    const server = await launchNatsServer({
      binary: ${JSON.stringify(binary)},
      configDir: ${JSON.stringify(join(root, name, 'config'))},
      storeDir: ${JSON.stringify(join(root, name, 'store'))},
      log: () => undefined,
    });
    console.log(server.pid);
    setInterval(() => undefined, 1000);`;
  const supervisor = spawn(
    process.execPath,
    [...sourceLoader(), '--input-type=module', '-e', code],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
      ...(options.withoutSetpriv ? { env: { PATH: '/nonexistent' } } : {}),
    },
  );
  const pid = await new Promise<number>((resolve, reject) => {
    supervisor.stdout?.once('data', chunk => resolve(Number(String(chunk))));
    supervisor.once('exit', () => reject(new Error('the supervisor ended early')));
  });
  return { supervisor, pid };
}
