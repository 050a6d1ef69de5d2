/**
 * A supervised system of a real bus server and fake actors, in a folder of its own. Only tests
 * import this; run as a program with a folder as its argument it supervises until it is stopped.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { wholeEnvironment } from '../../runtime/config.ts';
import { testServerBinary } from '../../runtime/nats-server/test-server.ts';
import type { ActorCommand } from './actor-process.ts';
import { type Supervisor, type SupervisorOptions, startSupervisor } from './supervisor.ts';

/** Says what an actor says, and ends as an actor ends. */
const FAKE_ACTOR = `
const name = process.env.FAKE_NAME;
process.on('SIGTERM', () => name === 'stubborn' || process.exit(0));
process.on('disconnect', () => process.exit(0));
console.error('hello from ' + name);
if (name === 'broken') process.exit(7);
const http_url = name === 'master' ? 'http://127.0.0.1:9' : undefined;
process.on('message', ({ type }) => type === 'ping' && process.send({ type: 'pong' }));
process.send({ type: 'lifecycle', name, state: 'starting' });
process.send({ type: 'lifecycle', name, state: 'ready', http_url });
setInterval(() => {}, 1000);
process.on('SIGUSR1', () => { for (;;); });
process.on('SIGUSR2', () => process.send({ type: 'trouble', trouble: 'no bus' }));
`;

export function fakeActors(folder: string, names: readonly string[]): ActorCommand[] {
  mkdirSync(folder, { recursive: true });
  const module = join(folder, 'fake-actor.mjs');
  writeFileSync(module, FAKE_ACTOR);
  return names.map(name => ({
    name,
    module,
    execArgv: [],
    env: { ...wholeEnvironment(), FAKE_NAME: name },
    stateFolder: folder,
  }));
}

export async function startFakeSystem(
  folder: string,
  names: readonly string[],
  options: Partial<SupervisorOptions> = {},
): Promise<Supervisor> {
  const actors = fakeActors(folder, names);
  return await startSupervisor({
    stateFolder: folder,
    mode: 'foreground',
    bus: {
      kind: 'own',
      command: {
        binary: await testServerBinary(),
        configDir: join(folder, 'bus'),
        storeDir: join(folder, 'store'),
        port: await freePort(),
        monitoringPort: await freePort(),
        stateFolder: folder,
      },
    },
    actors: () => actors,
    ...options,
  });
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise(resolve => server.close(resolve));
  if (typeof address === 'object' && address) return address.port;
  throw new Error('a listening socket has a port');
}

const [, program, folder] = process.argv;
if (program === import.meta.filename && folder !== undefined) {
  const system = await startFakeSystem(folder, ['master', 'worker']);
  await system.ready();
  process.once('SIGTERM', () => void system.stop());
}
