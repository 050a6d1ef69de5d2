/**
 * Where things lie: the folders of this installation, the root of the checkout and our modules.
 *
 * P1: every folder is absolute; relative XDG variables are ignored, as their specification demands.
 * P2: CODEGOD_HOME moves all folders under one, so that two installations never meet.
 * P3: folders are made private (0700): they hold tokens, prompts and projects.
 */
import { mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { readIfThere } from './read-if-there.ts';

/** Environment variables as data; `process.env` itself is read by runtime/config.ts only. */
export type Environment = Readonly<Record<string, string | undefined>>;

export interface Paths {
  /** config.yaml, the bus server's configuration. */
  readonly config: string;
  /** What must not be lost: the bus's store, projects, environments. */
  readonly data: string;
  /** What outlives a restart: journals of open work, remembered ports, logs. */
  readonly state: string;
  /** May be deleted at any time. */
  readonly cache: string;
  /** Sockets, pid files and locks of running processes. */
  readonly run: string;
}

/** The folders for an environment. Nothing is created; see {@link ensurePaths}. */
export function pathsFor(env: Environment, cwd: string): Paths {
  const home = env['CODEGOD_HOME'];
  if (home) {
    const root = resolve(cwd, home);
    return {
      config: join(root, 'config'),
      data: join(root, 'data'),
      state: join(root, 'state'),
      cache: join(root, 'cache'),
      run: join(root, 'run'),
    };
  }
  const userHome = env['HOME'] || homedir();
  const folder = (variable: string, ...fallback: string[]): string => {
    const value = env[variable];
    return join(value && isAbsolute(value) ? value : join(userHome, ...fallback), 'codegod');
  };
  const state = folder('XDG_STATE_HOME', '.local', 'state');
  const runtimeDir = env['XDG_RUNTIME_DIR'];
  return {
    config: folder('XDG_CONFIG_HOME', '.config'),
    data: folder('XDG_DATA_HOME', '.local', 'share'),
    state,
    cache: folder('XDG_CACHE_HOME', '.cache'),
    run: runtimeDir && isAbsolute(runtimeDir) ? join(runtimeDir, 'codegod') : join(state, 'run'),
  };
}

/** Creates the folders that are missing, private to the user (P3). */
export function ensurePaths(paths: Paths): void {
  for (const folder of Object.values(paths)) mkdirSync(folder, { recursive: true, mode: 0o700 });
}

let foundRoot: string | undefined;

/**
 * The checkout's root: the folder of our package.json, above this file in the sources as in dist/.
 * Files that are not TypeScript (requirements, web page, fixtures) are read from there.
 */
export function packageRoot(): string {
  if (foundRoot) return foundRoot;
  for (let folder = import.meta.dirname; ; folder = dirname(folder)) {
    if (isOurPackage(join(folder, 'package.json'))) {
      foundRoot = folder;
      return folder;
    }
    if (folder === dirname(folder)) throw new Error(`no package.json of codegod above ${folder}`);
  }
}

const isSource = import.meta.filename.endsWith('.ts');

/**
 * The absolute path of a module of ours in the form that we run in ourselves.
 * @param source its path in the sources, from the root: `cli/main.ts` is `dist/cli/main.js` in dist/
 */
export function modulePath(source: string): string {
  if (isSource) return join(packageRoot(), source);
  return join(packageRoot(), 'dist', source.replace(/\.ts$/, '.js'));
}

/** What Node needs to run our sources; nothing where we run from dist/. Any folder will do. */
export function sourceLoader(): readonly string[] {
  return isSource ? ['--import', import.meta.resolve('tsx')] : [];
}

/**
 * What Node is told for an actor. Those that pass streams on get room for four times as many young
 * objects as is usual (16 MiB): most die before they would be copied, which takes a quarter off the
 * 99th percentile of a streamed request. It is taken only under load, at most 192 MiB a process.
 */
export function actorFlags(actor: string): readonly string[] {
  return actor === 'master' || actor === 'worker' ? ['--max-semi-space-size=64'] : [];
}

function isOurPackage(file: string): boolean {
  const text = readIfThere(file);
  if (text === null) return false;
  return JSON.parse(text).name === 'codegod';
}
