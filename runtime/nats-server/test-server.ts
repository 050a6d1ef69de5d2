/**
 * The real bus server for tests, found or obtained as the product does it. Only tests import this.
 */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadConfig, wholeEnvironment } from '../config.ts';
import { ensureEnvironment } from '../tools-environment.ts';
import { findNatsServer } from './find.ts';

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
