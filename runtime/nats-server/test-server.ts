/**
 * A real bus server for tests: found or obtained as the product does it, started in a folder of its
 * own on free ports. Only tests import this.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadConfig, wholeEnvironment } from '../config.ts';
import { ensureEnvironment } from '../tools-environment.ts';
import { findNatsServer } from './find.ts';
import { launchNatsServer } from './launch.ts';

export interface TestServer {
  readonly pid: number;
  readonly url: string;
  readonly monitoringUrl: string;
  /** Stops the server and removes what it stored. */
  stop(): Promise<void>;
}

/** The path of a nats-server on this machine. */
export async function testServerBinary(): Promise<string> {
  const { paths, nats_server } = loadConfig({ cwd: tmpdir() });
  const env = wholeEnvironment();
  const dir = join(paths.data, 'environments');
  const found = await findNatsServer({
    configured: nats_server,
    cacheDir: paths.cache,
    toolsEnvironment: () => ensureEnvironment({ name: 'tools', dir, env }),
    env,
  });
  return found.binary;
}

/** A fresh server with an empty store. */
export async function startTestServer(options: { token?: string } = {}): Promise<TestServer> {
  const folder = mkdtempSync(join(tmpdir(), 'codegod-bus-'));
  const server = await launchNatsServer({
    ...options,
    binary: await testServerBinary(),
    configDir: join(folder, 'config'),
    storeDir: join(folder, 'store'),
    port: await freePort(),
    monitoringPort: await freePort(),
    log: () => undefined,
  });
  return {
    pid: server.pid,
    url: server.url,
    monitoringUrl: server.monitoringUrl,
    stop: async () => {
      server.kill();
      await server.exited;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise(resolve => server.close(resolve));
  if (typeof address === 'object' && address) return address.port;
  throw new Error('a listening socket has a port');
}
