/** A connection to the bus of the system that runs here, or of the configured one. */
import { existsSync } from 'node:fs';
import { CodeGodError } from '../protocol/errors.ts';
import type { Bus } from '../runtime/bus.ts';
import { systemClock } from '../runtime/clock.ts';
import type { Config } from '../runtime/config.ts';
import { credentialsOf, seedIn } from '../runtime/credentials.ts';
import { createMessenger, type Messenger } from '../runtime/messages.ts';
import { connectNats, type NatsCredentials } from '../runtime/nats-bus.ts';
import { ownerKeyFile } from '../runtime/nats-server/users.ts';
import { nothingRuns } from './master-client.ts';
import { runningSystem } from './supervisor/system-record.ts';

export interface BusSession {
  readonly bus: Bus;
  readonly messenger: Messenger;
}

/** How long a bus of ours, which its supervisor starts again, is waited for. */
const CONNECT_WAIT_MS = 10_000;
const PAUSE_MS = 200;

/** The address of the bus to use, or null where none runs and none is configured. */
export function busUrl(config: Config): string | null {
  if (config.origins['bus.url'] === 'flag') return config.bus.url ?? null;
  return runningSystem(config.paths.state)?.bus.url ?? config.bus.url ?? null;
}

/**
 * Runs `work` with a connection and closes it. A bus that is just starting again is waited for.
 * @throws CodeGodError `bus_unavailable`, `unauthorized`
 */
export async function withBus<T>(
  config: Config,
  work: (session: BusSession) => Promise<T>,
): Promise<T> {
  const bus = await connect(config);
  try {
    const source = `/node/${config.node.name}/cli/${process.pid}`;
    return await work({ bus, messenger: createMessenger(bus, { source, clock: systemClock }) });
  } finally {
    await bus.close();
  }
}

async function connect(config: Config): Promise<Bus> {
  const deadline = systemClock.monotonic() + CONNECT_WAIT_MS;
  for (;;) {
    const url = busUrl(config);
    if (url === null) throw nothingRuns();
    const credentials = credentialsFor(config, url);
    try {
      return await connectNats({
        servers: [url],
        name: 'codegod-cli',
        clock: systemClock,
        ...(credentials === undefined ? {} : { credentials }),
        isGuest: config.bus.joined,
      });
    } catch (error) {
      const isDown = error instanceof CodeGodError && error.code === 'bus_unavailable';
      const mayComeBack = isDown && runningSystem(config.paths.state)?.bus.url === url;
      if (!mayComeBack || systemClock.monotonic() > deadline) throw error;
      await systemClock.sleep(PAUSE_MS);
    }
  }
}

/** On the bus that runs here we are its owner, whatever the server asks of others. */
function credentialsFor(config: Config, url: string): NatsCredentials | undefined {
  const configured = credentialsOf(config);
  if (configured !== undefined) return configured;
  const running = runningSystem(config.paths.state)?.bus;
  const isOurs = running?.url === url && running.pid !== null;
  const file = ownerKeyFile(config.paths.config);
  return isOurs && existsSync(file) ? seedIn(file) : undefined;
}
