/**
 * Node 24 for tests, beside the Node that runs them: the program as the npm registry has it, kept in
 * the user's cache. It is fetched in CI only; anywhere else it is used where it is.
 */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { promisify } from 'node:util';

const INSTALL_MS = 60_000;
const VERSION_MS = 10_000;

const run = promisify(execFile);

export interface Node24 {
  /** Absolute path; null where there is none. */
  readonly program: string | null;
  /** Its version, or why there is none. */
  readonly said: string;
}

/** Finds Node 24, or in CI installs the newest one of npm. Never throws. */
export async function findNode24(env: NodeJS.ProcessEnv): Promise<Node24> {
  const folder = cacheFolder(env);
  const name = `node-${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`;
  const program = join(folder, 'node_modules', name, 'bin', 'node');
  try {
    if (!existsSync(program)) {
      if (env['CI'] !== 'true') {
        const how = `CI=true fetches it, or: npm install --prefix ${folder} ${name}@24`;
        return { program: null, said: `no Node 24 is at hand (${how})` };
      }
      await install(folder, `${name}@24`);
    }
    const { stdout } = await run(program, ['--version'], { timeout: VERSION_MS });
    if (stdout.startsWith('v24.')) return { program, said: stdout.trim() };
    return { program: null, said: `${program} is ${stdout.trim()}` };
  } catch (error) {
    return { program: null, said: `Node 24 cannot be had: ${(error as Error).message}` };
  }
}

function cacheFolder(env: NodeJS.ProcessEnv): string {
  const { XDG_CACHE_HOME: configured = '' } = env;
  const cache = isAbsolute(configured) ? configured : join(homedir(), '.cache');
  return join(cache, 'codegod-test', 'node-24');
}

/** Beside its place first, so that nothing half-made is ever found there. */
async function install(folder: string, wanted: string): Promise<void> {
  mkdirSync(join(folder, '..'), { recursive: true });
  const draft = mkdtempSync(`${folder}.`);
  try {
    const flags = ['--ignore-scripts', '--no-audit', '--no-fund', '--prefix', draft];
    await run('npm', ['install', ...flags, wanted], { timeout: INSTALL_MS, cwd: draft });
    rmSync(folder, { recursive: true, force: true });
    renameSync(draft, folder);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}
