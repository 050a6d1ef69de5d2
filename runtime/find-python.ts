/**
 * Finds a Python that can carry our environments: 3.10 or newer, on the search path.
 *
 * The answer is the interpreter behind the name (`sys.executable`): what version managers put on the
 * path is a script, and an environment must not depend on which version that script picks later.
 */
import { plainEnvironment } from './config-environment.ts';
import { runProgram } from './run-program.ts';

export interface Python {
  /** Absolute path of the interpreter. */
  readonly path: string;
  readonly version: string;
  readonly hasPip: boolean;
  /** Debian's bare python3 cannot make environments: `ensurepip` is a package of its own. */
  readonly hasEnsurepip: boolean;
}

const NAMES = ['python3', 'python3.14', 'python3.13', 'python3.12', 'python3.11', 'python3.10'];
const MINOR_MIN = 10;
const PROBE_TIMEOUT_MS = 10_000;
const PROBE = `
import json, sys
from importlib.util import find_spec
print(json.dumps([sys.executable, list(sys.version_info[:3]), find_spec("pip") is not None,
  find_spec("ensurepip") is not None]))`;

/** The first Python that will do; else null, with the reason for each refused one in `tried`. */
export async function findPython(
  env: Readonly<Record<string, string | undefined>>,
  tried: string[],
  signal?: AbortSignal,
): Promise<Python | null> {
  const names = process.platform === 'win32' ? ['python', 'py', ...NAMES] : NAMES;
  for (const name of names) {
    // -I: what the user's variables would put on its path is not in an environment of ours.
    const result = await runProgram(name, ['-I', '-c', PROBE], {
      env: plainEnvironment(env),
      timeoutMs: PROBE_TIMEOUT_MS,
      signal,
    });
    if (result.failure !== null) {
      if (result.failure !== 'not found' || name === 'python3') {
        tried.push(`${name}: ${lastLine(result.failure)}`);
      }
      continue;
    }
    const [path, version, hasPip, hasEnsurepip] = JSON.parse(result.stdout);
    const [major, minor] = version as number[];
    if (major === 3 && minor !== undefined && minor >= MINOR_MIN) {
      return { path, version: version.join('.'), hasPip, hasEnsurepip };
    }
    tried.push(`${name}: version ${version.join('.')} is older than 3.${MINOR_MIN}`);
  }
  return null;
}

export function lastLine(text: string): string {
  return text.trim().split('\n').at(-1)?.trim() ?? '';
}
