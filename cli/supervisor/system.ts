/**
 * One system of this home, from a configuration: what the supervisor must start, and with what.
 *
 * Y1  One supervisor per home: whoever holds `<state>/system.lock`. The lock of a dead one is taken
 *     over.
 * Y2  From then on the system is `starting` for everybody, whatever has to be installed first.
 */
import { join } from 'node:path';
import { CodeGodError, toWireError } from '../../protocol/errors.ts';
import { systemClock } from '../../runtime/clock.ts';
import {
  type Config,
  childEnvironment,
  secretVariables,
  wholeEnvironment,
} from '../../runtime/config.ts';
import { actorEnvironment } from '../../runtime/config-environment.ts';
import { findNatsServer } from '../../runtime/nats-server/find.ts';
import { ensureOwnerKey, ownerKeyFile } from '../../runtime/nats-server/users.ts';
import { actorFlags, ensurePaths, modulePath, sourceLoader } from '../../runtime/paths.ts';
import { withProcessLock } from '../../runtime/process-lock.ts';
import { ensureEnvironment } from '../../runtime/tools-environment.ts';
import type { ActorCommand } from './actor-process.ts';
import { type BusPlan, type Supervisor, startSupervisor, stopLeftovers } from './supervisor.ts';
import { type BusRecord, removeSystem, type SystemRecord, writeStarting } from './system-record.ts';

const ACTORS = ['resource-monitor', 'mcp-gateway', 'worker', 'master'] as const;
/** What a node of another machine's bus runs: it measures and thinks; tools and decisions are there. */
const NODE_ACTORS = ['resource-monitor', 'worker'] as const;

export interface SystemOptions {
  readonly config: Config;
  readonly mode: SystemRecord['mode'];
  readonly onProgress: (sentence: string) => void;
  /** Called when this home is ours, before anything is installed or started. */
  readonly onBegin?: () => void;
  readonly onChange?: (record: SystemRecord) => void;
  readonly signal?: AbortSignal | undefined;
  /** Default: the four actors of this installation. */
  readonly actors?: ActorsOf | undefined;
}

export type ActorsOf = (bus: BusRecord) => readonly ActorCommand[];

/** The folder of all Python environments. */
export const environmentsFolder = (config: Config): string =>
  join(config.paths.data, 'environments');

/**
 * Runs `work` with a system that starts now, and stops the system when the work is over.
 * Answers null, without running anything, where this home has a living supervisor already (Y1).
 */
export async function withSystem<T>(
  options: SystemOptions,
  work: (system: Supervisor) => Promise<T>,
): Promise<T | null> {
  ensurePaths(options.config.paths);
  const { state } = options.config.paths;
  const file = join(state, 'system.lock');
  let isOurs = false;
  try {
    return await withProcessLock(file, { waitMs: 0 }, async () => {
      isOurs = true;
      await stopLeftovers(state, systemClock);
      writeStarting(state, options.mode, systemClock.now()); // Y2
      options.onBegin?.();
      try {
        const system = await startSystem(options);
        try {
          return await work(system);
        } finally {
          await system.stop();
        }
      } finally {
        removeSystem(state);
      }
    });
  } catch (error) {
    if (!isOurs && error instanceof CodeGodError && error.code === 'timeout') return null;
    throw error;
  }
}

async function startSystem(options: SystemOptions): Promise<Supervisor> {
  const { config, mode, signal } = options;
  const plan = await planBus(options);
  signal?.throwIfAborted();
  return await startSupervisor({
    stateFolder: config.paths.state,
    mode,
    bus: plan,
    actors: options.actors ?? (bus => actorCommands(config, bus)),
    clock: systemClock,
    onProblem: options.onProgress,
    ...(options.onChange ? { onChange: options.onChange } : {}),
  });
}

/** Installs the tools that are missing, and finds the bus server where none is configured. */
async function planBus(options: SystemOptions): Promise<BusPlan> {
  const { config, onProgress, signal } = options;
  const { url, monitoring_url: monitoringUrl = null, joined } = config.bus;
  // A node needs neither: no tool server runs there.
  if (joined && url !== undefined) return { kind: 'foreign', url, monitoringUrl };
  const env = wholeEnvironment();
  const tools = ensureEnvironment({
    name: 'tools',
    dir: environmentsFolder(config),
    env,
    onProgress,
    signal,
  });
  // Without them the Python tool servers are missing, which the gateway says; the rest works.
  const withoutTools = tools.then(
    () => {},
    (error: unknown) => {
      if (signal?.aborted) return; // Whoever aborted knows why.
      onProgress(`the Python tool servers are missing: ${toWireError(error).message}`);
    },
  );
  if (url !== undefined) {
    await withoutTools;
    return { kind: 'foreign', url, monitoringUrl };
  }
  const server = await findNatsServer({
    configured: config.nats_server,
    cacheDir: config.paths.cache,
    toolsEnvironment: () => tools,
    env,
    onProgress,
    signal,
  });
  await withoutTools;
  return {
    kind: 'own',
    command: {
      binary: server.binary,
      configDir: config.paths.config,
      storeDir: join(config.paths.data, 'nats'),
      host: config.bus.host,
      port: config.bus.port,
      monitoringPort: config.bus.monitoring_port,
      token: config.bus.token,
      stateFolder: config.paths.state,
    },
  };
}

/** The actors, from dist/ or from the sources, as this file itself runs. */
function actorCommands(config: Config, bus: BusRecord): ActorCommand[] {
  const env: Record<string, string | undefined> = {
    ...childEnvironment(config),
    CODEGOD_BUS_URL: bus.url ?? '',
    CODEGOD_BUS_MONITORING_URL: bus.monitoring_url ?? '',
  };
  if (config.bus.url === undefined && config.bus.token === undefined) {
    // Presented even where nobody asks: a token may be made, and the bus guarded, at any time.
    ensureOwnerKey(config.paths.config);
    env['CODEGOD_BUS_NKEY_FILE'] = ownerKeyFile(config.paths.config);
  }
  return (config.bus.joined ? NODE_ACTORS : ACTORS).map(name => ({
    name,
    module: modulePath(`actors/${name}/main.ts`),
    execArgv: [...sourceLoader(), ...actorFlags(name)],
    env: actorEnvironment(name, env, secretVariables()),
    stateFolder: config.paths.state,
  }));
}
