/**
 * Which parts of this machine a check needs to see: the system's programs and libraries, this Node
 * and the Python of the checks environment. Found out once.
 *
 * V1: of a folder inside somebody's home only the interpreter's own prefix is shown, never the home.
 */
import { existsSync } from 'node:fs';
import { lstat, readlink, realpath } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { CodeGodError } from '../../../protocol/errors.ts';
import { runProgram } from '../../../runtime/run-program.ts';
import { isWithin } from '../sandbox-plan.ts';

export interface SandboxView {
  readonly readOnly: readonly string[];
  readonly links: readonly { readonly path: string; readonly target: string }[];
  /** The search path inside. */
  readonly path: string;
}

export interface ViewOptions {
  /** Absolute path of the node program. */
  readonly node: string;
  /** The interpreter of the checks environment; null where there is none. */
  readonly python: string | null;
  /** Further files and folders to show. */
  readonly also?: readonly string[];
}

const SYSTEM_FOLDERS = ['/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64', '/nix/store'];
const SYSTEM_FILES = ['ld.so.cache', 'ssl', 'alternatives', 'localtime', 'nsswitch.conf', 'hosts'];
const SYSTEM_PATH = ['/usr/local/bin', '/usr/bin', '/bin', '/usr/local/sbin', '/usr/sbin', '/sbin'];
const PROBE_TIMEOUT_MS = 10_000;

export async function sandboxView(options: ViewOptions): Promise<SandboxView> {
  const readOnly: string[] = [];
  const links: { path: string; target: string }[] = [];
  const show = async (path: string): Promise<void> => {
    if (!existsSync(path) || readOnly.some(shown => isWithin(path, shown))) return;
    if (!(await lstat(path)).isSymbolicLink()) readOnly.push(path);
    else links.push({ path, target: await readlink(path) });
  };
  for (const folder of SYSTEM_FOLDERS) await show(folder);
  for (const file of SYSTEM_FILES) readOnly.push(join('/etc', file));
  const path: string[] = [];
  if (options.python !== null) {
    path.push(dirname(options.python));
    for (const prefix of await pythonPrefixes(options.python)) await show(prefix);
  }
  const node = await realpath(options.node);
  const modules = join(dirname(dirname(node)), 'lib', 'node_modules');
  for (const part of [node, modules, join(dirname(node), 'npm'), join(dirname(node), 'npx')]) {
    await show(part); // V1
  }
  for (const part of options.also ?? []) await show(part);
  path.push(dirname(node), ...SYSTEM_PATH);
  return { readOnly, links, path: [...new Set(path)].join(':') };
}

/** The view for a check: with the checks environment where the command is one of Python. */
export async function viewForCheck(
  check: { readonly stack: string; readonly command: readonly string[] },
  node: string,
  checksPython: () => Promise<string>,
): Promise<SandboxView> {
  const python =
    /python|fastapi|flask|django/i.test(check.stack) ||
    /^(python|pytest)/.test(check.command[0] ?? '');
  return sandboxView({ node, python: python ? await checksPython() : null });
}

/** The environment's own folder and the installation it stands on. */
async function pythonPrefixes(python: string): Promise<string[]> {
  const script = 'import sys; print(sys.prefix); print(sys.base_prefix); print(sys.exec_prefix)';
  const { stdout, failure } = await runProgram(python, ['-I', '-c', script], {
    timeoutMs: PROBE_TIMEOUT_MS,
  });
  if (failure !== null) {
    throw new CodeGodError('dependency_missing', `${python} does not run: ${failure}`);
  }
  const prefixes = stdout.split('\n').filter(line => line !== '');
  const real = await Promise.all(prefixes.map(prefix => realpath(prefix)));
  return [...new Set([...real, ...prefixes])];
}
