/**
 * From a catalog entry to a program that can be started, or to the reason why it cannot and the
 * command that mends it.
 *
 * A1: the environment of a tool server is an allow-list; nothing of ours is inherited.
 * A2: nothing goes through a shell, and nothing is downloaded: what is not installed is missing.
 */
import { readdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { CatalogEntry } from '../catalog.ts';
import { isErrno } from './disk.ts';
import { gitEnvironment } from './git.ts';
import type { RpcProgram } from './stdio-rpc.ts';

export interface ServerHost {
  /** Absolute path of the node program. */
  readonly node: string;
  /** The interpreter of the tools environment; null where there is none. */
  readonly python: string | null;
  /** The interpreter by which servers are confined; null where there is none. */
  readonly confiner: string | null;
  /** The search path of tool servers. */
  readonly path: string;
  /** Proxies and certificates of this machine, for servers with business outside. */
  readonly networkEnvironment: Readonly<Record<string, string>>;
  /** An empty folder of their own. */
  readonly home: string;
  /** What `{name}` stands for in the catalog's arguments and variables. */
  readonly places: Readonly<Record<string, string>>;
}

export type Located =
  | {
      readonly kind: 'found';
      readonly program: RpcProgram;
      readonly package: string;
      readonly version: string | null;
    }
  | {
      readonly kind: 'missing';
      readonly package: string;
      readonly reason: string;
      readonly fix: string;
    };

export async function locateServer(entry: CatalogEntry, host: ServerHost): Promise<Located> {
  const { origin } = entry;
  const environment = { ...baseEnvironment(entry, host), ...filled(entry.environment, host) };
  const args = entry.args.map(argument => fill(argument, host));
  const found = (
    program: string,
    before: string[],
    name: string,
    version: string | null,
  ): Located => ({
    kind: 'found',
    program: { program, args: [...before, ...args], cwd: host.home, environment },
    package: name,
    version,
  });
  if (origin.kind === 'command') return found(origin.command, [], origin.command, null);
  if (origin.kind === 'python') {
    const version = host.python === null ? null : await wheelVersion(host.python, origin.module);
    if (host.python === null || version === null) {
      const reason = `the Python package ${origin.package} is not in the tools environment`;
      return {
        kind: 'missing',
        package: origin.package,
        reason,
        fix: 'codegod down && codegod up',
      };
    }
    const before = ['-I', '-m', origin.module];
    return found(host.python, before, origin.package, version);
  }
  const installed = await npmPackage(origin.package);
  if (installed === null) {
    const reason = `the npm package ${origin.package} is not installed`;
    return { kind: 'missing', package: origin.package, reason, fix: 'npm ci' };
  }
  return found(host.node, [installed.main], origin.package, installed.version);
}

function baseEnvironment(entry: CatalogEntry, host: ServerHost): Record<string, string> {
  return {
    ...(entry.guard === 'git' ? gitEnvironment(host.path) : {}),
    ...(entry.network ? host.networkEnvironment : {}),
    PATH: host.path,
    HOME: host.home,
    LANG: 'C.UTF-8',
    PYTHONDONTWRITEBYTECODE: '1',
    PYTHONUNBUFFERED: '1',
  };
}

function filled(values: Readonly<Record<string, string>>, host: ServerHost) {
  const entries = Object.entries(values).map(([name, value]) => [name, fill(value, host)]);
  return Object.fromEntries(entries) as Record<string, string>;
}

function fill(text: string, host: ServerHost): string {
  return text.replace(/\{([a-z]+)\}/g, (whole, name: string) => host.places[name] ?? whole);
}

async function npmPackage(name: string): Promise<{ main: string; version: string } | null> {
  try {
    const file = createRequire(import.meta.url).resolve(`${name}/package.json`);
    const { bin, version } = JSON.parse(await readFile(file, 'utf8'));
    const program = typeof bin === 'string' ? bin : Object.values(bin ?? {})[0];
    if (typeof program !== 'string') return null;
    return { main: join(dirname(file), program), version: String(version) };
  } catch (error) {
    if (isErrno(error, 'MODULE_NOT_FOUND') || isErrno(error, 'ENOENT')) return null;
    throw error;
  }
}

/** The version of an installed wheel: part of the name of its `.dist-info` folder. */
async function wheelVersion(python: string, module: string): Promise<string | null> {
  const prefix = dirname(dirname(python));
  for (const packages of await sitePackages(prefix)) {
    const names = await listOrNone(packages);
    const found = names.find(name => name.startsWith(`${module}-`) && name.endsWith('.dist-info'));
    if (found !== undefined) return found.slice(module.length + 1, -'.dist-info'.length);
  }
  return null;
}

async function sitePackages(prefix: string): Promise<string[]> {
  const versions = (await listOrNone(join(prefix, 'lib'))).filter(name => /^python3/.test(name));
  const unix = versions.map(version => join(prefix, 'lib', version, 'site-packages'));
  return [...unix, join(prefix, 'Lib', 'site-packages')];
}

async function listOrNone(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  }
}
